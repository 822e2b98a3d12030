"""The one step behind policy mirror descent, regularised games and preference learning, on the simplex in log space.

``pi+ = argmax_pi <pi, g> - D(pi, pi_k) / eta - alpha D(pi, rho)`` with the Bregman divergence ``D`` of a Tsallis
potential: the Kullback-Leibler divergence for ``q = 1``, half the squared distance for ``q = 2``, the barrier's
divergence for ``q = 0``.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.numerics import eager_values, monotone_root, upcast
from mirrorgen.special import tsallis_log

__all__ = ["geometric_mixture", "mirror_prox_step", "optimistic_gradient", "proximal_step"]


def proximal_step(
    log_prior: Tensor,
    gradient: Tensor,
    *,
    step_size: float | Tensor,
    magnet: Tensor | None = None,
    magnet_weight: float | Tensor = 0.0,
    mask: Tensor | None = None,
    q: float = 1.0,
) -> Tensor:
    """``argmax_pi eta <pi, g> - D_q(pi, prior) - eta alpha D_q(pi, magnet)``, all as log-probabilities.

    ``D_q`` is ``geometry.divergences.tsallis_bregman``, the Bregman divergence of ``sum pi^q / (q (q - 1))``. With
    ``q = 1`` the step is ``log_softmax((log prior + eta g + eta alpha log magnet) / (1 + eta alpha))``; otherwise the
    normaliser is a scalar root, with exact derivatives. An infinite step with a positive weight forgets the prior:
    soft policy iteration.

    Actions without mass stay without it for ``q <= 1``; for ``q > 1`` results may be sparse, with ``-inf`` for zero.

    Args:
        log_prior: ``log pi_k``, ``(*batch, actions)``; normalised up to a constant per row if ``q = 1``.
        gradient: ``g``, broadcast against it: values of actions, win rates, advantages.
        step_size: ``eta >= 0``, one number or ``(*batch)``.
        magnet: ``log rho``, broadcast; uniform on the allowed actions if None, which is an entropy bonus.
        magnet_weight: ``alpha >= 0``, one number or ``(*batch)``.
        mask: Allowed actions, bool, broadcast; None for all.
        q: Tsallis index of the potential.

    Returns:
        Normalised log-probabilities ``(*batch, actions)`` in the dtype of ``log_prior``; ``-inf`` where masked.

    Raises:
        DomainError: If a gradient is NaN or infinite, a step or weight is negative or NaN, a row allows no action, or
            an infinite step comes without a magnet's weight.
        ShapeError: If shapes do not broadcast.

    Sources: Lan, "Policy Mirror Descent for Reinforcement Learning", 2021; with magnets: Sokota et al., "A Unified
    Approach to Reinforcement Learning, Quantal Response Equilibria, and Two-Player Zero-Sum Games", 2023; for Tsallis
    potentials: Li, Lan, "Policy Mirror Descent Inherently Explores Action Space", 2023.
    """
    logs, g, rho, allowed = _broadcast(log_prior, gradient, magnet, mask)
    eta, alpha = (torch.as_tensor(v, dtype=logs.dtype, device=logs.device) for v in (step_size, magnet_weight))
    if eager_values(logs, g, eta, alpha):
        _check(g, eta, alpha, allowed)
    eta, alpha = (v.unsqueeze(-1) if v.ndim else v for v in (eta, alpha))
    weights = step_weights(eta, alpha)
    slopes = (tsallis_log(logs, q), g, tsallis_log(rho, q))
    dual = sum(torch.where(w > 0, w * s, 0.0) for w, s in zip(weights, slopes, strict=True))
    dual = torch.where(allowed, torch.as_tensor(dual), -torch.inf)
    return (torch.log_softmax(dual, -1) if q == 1 else _normalised(dual, q)).to(log_prior.dtype)


def mirror_prox_step(log_prior: Tensor, field: Callable[[Tensor], Tensor], **options: object) -> tuple[Tensor, Tensor]:
    """Two proximal steps from the same prior: to a half step along ``field(prior)``, and along ``field(half step)``.

    Args:
        log_prior: ``log pi_k``.
        field: Log-policies to gradients.
        options: Those of ``proximal_step``.

    Returns:
        ``log pi_(k+1)`` and the half step's log-policy.

    Source: Nemirovski, "Prox-Method with Rate of Convergence O(1/t) for Variational Inequalities with Lipschitz
    Continuous Monotone Operators and Smooth Convex-Concave Saddle Point Problems", 2004.
    """
    half = proximal_step(log_prior, field(log_prior), **options)  # type: ignore[arg-type]
    return proximal_step(log_prior, field(half), **options), half  # type: ignore[arg-type]


def optimistic_gradient(gradient: Tensor, previous: Tensor | None) -> Tensor:
    """``2 g_k - g_(k-1)``, a guess of the next gradient; ``g_k`` if there is no previous one.

    Source: Rakhlin, Sridharan, "Online Learning with Predictable Sequences", 2013.
    """
    return gradient if previous is None else 2 * gradient - previous


def geometric_mixture(log_p: Tensor, log_q: Tensor, weight: float | Tensor) -> Tensor:
    """``log (p^(1 - w) q^w)``, normalised: how a moving magnet follows a policy."""
    weight = torch.as_tensor(weight, dtype=log_p.dtype, device=log_p.device)
    # A step of size w / (1 - w) with unit weight towards q and no gradient.
    return proximal_step(
        log_p, torch.zeros_like(log_p), step_size=weight / (1 - weight), magnet=log_q, magnet_weight=1.0
    )


def step_weights(eta: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(1, eta, eta alpha) / (1 + eta alpha)``: of prior, gradient and magnet, for steps from zero to infinity."""
    # In terms of 1 / eta nothing overflows as eta grows; at eta = 0 only the prior is left.
    inverse = 1 / eta
    prior = torch.where(eta > 0, 1 / (1 + eta * alpha), 1.0)
    return torch.where(torch.isinf(eta), 0.0, prior), 1 / (inverse + alpha), alpha / (inverse + alpha)


def check_step(eta: Tensor, alpha: Tensor) -> None:
    """Raise ``DomainError`` unless a step size and a magnet's weight make a step."""
    if not bool((eta >= 0).all() & (alpha >= 0).all() & torch.isfinite(alpha).all()):
        raise DomainError("step_size must be at least 0, and magnet_weight at least 0 and finite")
    if bool((torch.isinf(eta) & (alpha == 0)).any()):
        raise DomainError("an infinite step_size needs a positive magnet_weight; greedy policies are no proximal step")


def _broadcast(
    log_prior: Tensor, gradient: Tensor, magnet: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Prior, gradient, magnet and mask of one shape, numbers in float64."""
    allowed = torch.ones((), dtype=torch.bool, device=log_prior.device) if mask is None else mask
    try:
        logs, g, allowed = torch.broadcast_tensors(upcast(log_prior), upcast(gradient), allowed)
        if magnet is None:
            magnet = torch.where(allowed, 0.0, -torch.inf).to(logs).log_softmax(-1)
        rho = upcast(magnet).expand_as(logs)
    except RuntimeError as error:
        shapes = [tuple(t.shape) for t in (log_prior, gradient, magnet, mask) if t is not None]
        raise ShapeError(
            f"prior, gradient, magnet and mask must broadcast to (*batch, actions), got {shapes}"
        ) from error
    return logs, torch.where(allowed, g, 0.0), rho, allowed


def _check(g: Tensor, eta: Tensor, alpha: Tensor, allowed: Tensor) -> None:
    if not bool(torch.isfinite(g).all()):
        raise DomainError("the gradient has entries that are NaN or infinite on allowed actions")
    check_step(eta, alpha)
    if not bool(allowed.any(-1).all()):
        raise DomainError("a row of mask allows no action; leave such rows out")


def _normalised(dual: Tensor, q: float) -> Tensor:
    """``log p`` with ``p = ((1 + (q - 1) (dual + c))_+)^(1 / (q - 1))`` and ``c`` such that ``sum p = 1``."""
    live = dual > -torch.inf
    top = dual.masked_fill(~live, -torch.inf).amax(-1, keepdim=True).detach()
    gap = torch.where(live, dual - top, 0.0)
    count = torch.tensor(float(dual.shape[-1]), dtype=dual.dtype, device=dual.device)

    def base(c: Tensor) -> Tensor:
        return torch.where(live, 1 + (q - 1) * (gap + c), 0.0)

    def excess(c: Tensor) -> tuple[Tensor, Tensor]:
        inner = base(c)
        positive = inner > 0
        # A harmless base where there is no mass: powers of zero have NaN derivatives.
        logs = torch.where(positive, inner, 1.0).log() / (q - 1)
        p = torch.where(positive, logs.exp(), 0.0).sum(-1, keepdim=True)
        return p - 1, torch.where(positive, ((2 - q) * logs).exp(), 0.0).sum(-1, keepdim=True)

    # The largest probability is between 1 / actions and 1.
    lower = tsallis_log(-count.log(), q).expand_as(top)
    root = monotone_root(excess, lower, torch.zeros_like(top))
    inner = base(root)
    positive = inner > 0
    logs = torch.where(positive, torch.where(positive, inner, 1.0).log() / (q - 1), -torch.inf)
    return torch.log_softmax(logs, -1)
