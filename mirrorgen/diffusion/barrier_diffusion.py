"""Diffusion in the metric of a barrier: noise that shrinks towards the walls and never meets them."""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from mirrorgen.diffusion.objectives import ScaledScore
from mirrorgen.diffusion.reverse import resolve_step
from mirrorgen.diffusion.schedules import GeometricSchedule, Schedule
from mirrorgen.diffusion.score_model import ScoreModel
from mirrorgen.diffusion.steps import ReverseStep, Score
from mirrorgen.errors import ConvergenceError, DomainError
from mirrorgen.geometry.domains import Ball, Domain
from mirrorgen.geometry.mirror_maps import BallLogBarrier, LogBarrier, MirrorMap
from mirrorgen.geometry.mirror_maps.local import LocalGeometry
from mirrorgen.integrate import Adaptive, divergence_named
from mirrorgen.nets import Net

__all__ = ["BarrierDiffusion", "MirrorStep", "mirror_move"]


def mirror_move(
    local: LocalGeometry, variance: Tensor, natural: Tensor | None = None, *, generator: torch.Generator | None = None
) -> LocalGeometry:
    """A step of ``dX = H^-1 g dv + (1/2) div(H^-1) dv + H^(-1/2) dB_v`` for a time ``variance``.

    In the dual, ``y + v H n + sqrt(v) H^(1/2) z`` with ``n = H^-1 g``: without a drift the uniform law is invariant up
    to the error of the step. One Hessian and one inverse of ``grad phi``, which starts from the last one.

    Args:
        local: A map at ``n`` points, whose Hessian ``H`` is the metric.
        variance: ``v``, ``()`` or ``(n, 1)``.
        natural: ``n``, tangent to the domain, ``(n, dim)``.
        generator: Source of noise.

    Returns:
        The map at the next points, which are strictly inside.

    Source: Zhang, Peyre, Fadili, Pereyra, "Wasserstein control of mirror Langevin Monte Carlo", 2020.
    """
    hessian, y = local.hessian, local.y
    noise = torch.randn(y.shape, generator=generator, dtype=y.dtype, device=y.device)
    move = variance.sqrt() * hessian.sqrt_mv(noise)
    if natural is not None:
        move = move + variance * hessian.mv(local.mirror_map.domain.to_tangent(natural))
    return local.mirror_map.local(y + move, local.start)


def _parts(variance: float, max_step: float) -> int:
    """Into how many steps of deviation at most ``max_step`` to split a variance."""
    return max(1, math.ceil(variance / max_step**2))


@dataclass(frozen=True, eq=False)
class MirrorStep(ReverseStep):
    """The reversed motion of ``BarrierDiffusion``: ``mirror_move`` along the natural gradient of ``log p``.

    Args:
        mirror_map: The map.
        max_step: Longer steps, by their deviation in the metric, are split: dual noise of deviation above about a
            third throws points near one wall to the opposite one.
    """

    mirror_map: MirrorMap
    max_step: float = 0.25

    def step(
        self, domain: Domain, score: Score, x: Tensor, high: Tensor, low: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        whole = high.square() - low.square()
        parts = _parts(float(whole), self.max_step)
        local = self.mirror_map.local(self.mirror_map.to_dual(x))
        for k in range(parts):
            sigma = (high.square() - k / parts * whole).sqrt()
            local = mirror_move(local, whole / parts, score(local.x, sigma), generator=generator)
        return local.x


class BarrierDiffusion(ScoreModel):
    """Diffusion ``dX = (1/2) div(H^-1) dv + H^(-1/2) dB`` with the Hessian ``H`` of the logarithmic barrier.

    Lengths are measured by ``H``, in which the walls are infinitely far: no reflection is needed, the uniform law is
    invariant, and implicit score matching has no boundary term. The price is that the kernel is not known and paths
    are simulated, in many steps. A baseline for ``ReflectedDiffusion`` on polyhedra, boxes, simplices and balls.

    ``score`` here is the natural gradient ``H^-1 grad log p``, and the network predicts ``sigma H^(-1/2) grad log p``.

    Args:
        domain: A bounded domain that has a logarithmic barrier.
        net: Network ``net(u, t, condition)`` on ``domain.dual_dim`` coordinates.
        schedule: Noise levels in lengths of ``H``, without unit; if None, geometric from 0.01 to 3.
        condition_dropout: Probability of forgetting the condition in training, which guidance needs.
        levels: Noise levels per path.
        divergence: ``"exact"`` or ``"hutchinson"``.
        max_step: Largest deviation of a step of the path.

    Raises:
        DomainError: If the domain has no logarithmic barrier, or a parameter is out of range.

    Source: Fishman, Klarner, De Bortoli, Mathieu, Hutchinson, "Diffusion Models for Constrained Domains", 2023; there
    with retractions in the domain and push-backs instead of steps in the dual.
    """

    default_method: ClassVar[str] = "em"

    def __init__(
        self,
        domain: Domain,
        net: Net,
        schedule: Schedule | None = None,
        condition_dropout: float = 0.1,
        levels: int = 8,
        divergence: str = "hutchinson",
        max_step: float = 0.25,
    ) -> None:
        super().__init__(domain, net, schedule, condition_dropout)
        if levels < 1 or not 0 < max_step < math.inf:
            raise DomainError(f"levels must be at least 1 and max_step positive, got {levels} and {max_step}")
        self.levels, self.divergence, self.max_step = levels, divergence, max_step
        self.mirror_map: MirrorMap = BallLogBarrier(domain) if isinstance(domain, Ball) else LogBarrier(domain)

    @staticmethod
    def default_schedule(width: float) -> Schedule:
        return GeometricSchedule(0.01, 3.0)

    def resolve(self, method: str | ReverseStep | Adaptive) -> ReverseStep | Adaptive:
        """``"em"`` is ``MirrorStep``; of the others those make sense that follow the probability flow."""
        return (
            MirrorStep(self.mirror_map, self.max_step) if method in ("em", "ancestral", "pc") else resolve_step(method)
        )

    def errors(self, f: ScaledScore, x: Tensor, sigmas: Tensor, generator: torch.Generator | None) -> Tensor:
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            noisy = self.motion(x, sigmas, generator)
        return self.implicit_errors(f, noisy.flatten(0, 1), sigmas.flatten(), generator).reshape(sigmas.shape)

    def motion(self, x: Tensor, sigmas: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Paths from ``x (n, dim)``, points ``(levels, n, dim)`` at increasing deviations ``sigmas (levels, n)``.

        Raises:
            ConvergenceError: If a dual point has no inverse.
        """
        states, before = [], torch.zeros_like(sigmas[0])
        local = self.mirror_map.local(self.mirror_map.to_dual(x))
        for sigma in sigmas:
            variance = sigma.square() - before.square()
            parts = _parts(float(variance.max()), self.max_step)
            for _ in range(parts):
                local = mirror_move(local, variance.unsqueeze(-1) / parts, generator=generator)
            states.append(local.x)
            before = sigma
        path = torch.stack(states)
        if not bool(torch.isfinite(path).all()):
            raise ConvergenceError("a path left the range of the inverse; lower max_step, or use float64", math.inf)
        return path

    def implicit_errors(self, f: ScaledScore, x: Tensor, sigma: Tensor, generator: torch.Generator | None) -> Tensor:
        """``|f|^2 + 2 sigma div(H^(-1/2) f)`` at points ``(n, dim)`` of paths, ``(n,)``."""
        z = self.domain.to_chart(x)
        rate = divergence_named(self.divergence, z, generator)
        value, divergence = rate(lambda u: self._whitened(f, self.domain.from_chart(u), sigma), z)
        return (value * self.mirror_map.hessian(x).mv(value)).sum(-1) + 2 * sigma * divergence

    def _whitened(self, f: ScaledScore, x: Tensor, sigma: Tensor) -> Tensor:
        return self.mirror_map.hessian(x).inv_sqrt_mv(f(x, sigma))

    def _from_output(self, x: Tensor, value: Tensor, sigma: Tensor) -> Tensor:
        return value

    def score(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None, guidance_scale: float = 1.0) -> Tensor:
        """The natural gradient ``H^-1 grad log p_sigma``, ``(n, dim)``; arguments as in ``scaled_score``."""
        f = partial(self.scaled_score, condition=condition, guidance_scale=guidance_scale)
        return self.domain.from_tangent(self._whitened(f, x, sigma)) / (sigma.unsqueeze(-1) if sigma.ndim else sigma)
