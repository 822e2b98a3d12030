"""The one loop over noise levels, and the table of method names."""

from collections.abc import Callable

import torch
from torch import Tensor

from mirrorgen.diffusion.steps import Ancestral, EulerMaruyama, Heun, OdeEuler, PredictorCorrector, ReverseStep, Score
from mirrorgen.errors import ConvergenceError, DomainError
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.validation import validation
from mirrorgen.integrate import Adaptive, integrate_with_logdet
from mirrorgen.integrate.adaptive import ADAPTIVE_METHODS
from mirrorgen.integrate.divergence import Divergence

__all__ = ["METHODS", "flow_log_det", "resolve_step", "reverse"]

METHODS: dict[str, ReverseStep | Adaptive] = {
    "em": EulerMaruyama(),
    "ancestral": Ancestral(),
    "pc": PredictorCorrector(),
    "ode": Heun(),
    "heun": Heun(),
    "euler": OdeEuler(),
    **{name: Adaptive(name) for name in ADAPTIVE_METHODS},
}
"""Methods by the name that configurations use: stochastic ones, fixed steps of the flow, torchdiffeq's solvers."""


def resolve_step(method: str | ReverseStep | Adaptive) -> ReverseStep | Adaptive:
    """The method called ``method``, or ``method`` itself if it is one.

    Raises:
        DomainError: If the name is unknown; the message lists the candidates.
    """
    if not isinstance(method, str):
        return method
    if method not in METHODS:
        raise DomainError(f"unknown sampling method {method!r}; choose one of {', '.join(METHODS)}")
    return METHODS[method]


@torch.no_grad()
def reverse(
    domain: Domain,
    score: Score,
    x: Tensor,
    sigmas: Tensor,
    method: str | ReverseStep | Adaptive = "pc",
    *,
    generator: torch.Generator | None = None,
    callback: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Run the motion backwards through the levels ``sigmas``.

    Args:
        domain: The set.
        score: ``grad log p_sigma``, see ``Score``.
        x: Points ``(n, dim)`` at deviation ``sigmas[0]``, strictly inside.
        sigmas: Decreasing deviations ``(steps + 1,)``. Adaptive methods take only the ends from it.
        method: A name from ``METHODS``, a ``ReverseStep`` or an ``Adaptive``.
        generator: Source of noise.
        callback: Called as ``callback(k, x)`` after step ``k = 1, 2, ...``.

    Returns:
        Points ``(n, dim)`` at deviation ``sigmas[-1]``, strictly inside in their own dtype.

    Raises:
        ConvergenceError: If the score became infinite or NaN, or an adaptive method gave up.
    """
    method = resolve_step(method)
    levels = sigmas.to(device=x.device, dtype=x.dtype)
    with validation(False):
        if isinstance(method, Adaptive):
            times = levels.log()[[0, -1]]
            x = method.solve(lambda t, y: _velocity(domain, score, t, y), x, times)[-1]
            x = _guarded(domain, x)
        else:
            for k in range(len(levels) - 1):
                x = method.step(domain, score, x, levels[k], levels[k + 1], generator)
                if callback is not None:
                    callback(k + 1, x)
    if not bool(torch.isfinite(x).all()):
        bad = int((~torch.isfinite(x)).any(-1).sum())
        raise ConvergenceError(
            f"{bad} of {len(x)} samples are not finite: the score returned NaN or infinity, or steps are too long for "
            "it; take more steps, lower guidance_scale, or check the network's weights",
            residual=float("inf"),
        )
    return x


def flow_log_det(
    domain: Domain,
    score: Score,
    x: Tensor,
    sigmas: Tensor,
    divergence: Divergence,
    method: str = "heun",
) -> tuple[Tensor, Tensor]:
    """The probability flow from ``sigmas[0]`` to ``sigmas[-1]`` (in either direction), with its log-determinant.

    The equation in ``log sigma`` is ``dx / d log sigma = -sigma^2 score(x, sigma)``.

    Args:
        domain: The set.
        score: ``grad log p_sigma`` with vanishing normal component at the walls: only then does the flow stay inside.
        x: Points ``(n, dim)``.
        sigmas: Levels ``(steps + 1,)``.
        divergence: See ``integrate.divergence_named``.
        method: A method of ``integrate``.

    Returns:
        End points ``(n, dim)`` and ``log |det d end / d x|`` along the domain's affine hull, ``(n,)``.
    """
    grid = sigmas.to(device=x.device, dtype=x.dtype).log()
    with validation(False):
        return integrate_with_logdet(
            lambda t, y: _velocity(domain, score, t, y), x, t_grid=grid, method=method, divergence=divergence
        )


def _velocity(domain: Domain, score: Score, log_sigma: Tensor, y: Tensor) -> Tensor:
    sigma = log_sigma.exp()
    return -sigma.square() * score(_guarded(domain, y), sigma)


def _guarded(domain: Domain, y: Tensor) -> Tensor:
    """``y``, or the nearest point inside: stages of a solver overshoot the walls by their error."""
    inside = domain.contains(y).unsqueeze(-1)
    return torch.where(inside, y, domain.pull_inside(domain.project(y))[0])
