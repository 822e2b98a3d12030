"""Implicit follow-the-regularised-leader on truncated linear models of the losses."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.validation import should_check
from mirrorgen.numerics import bisect_then_newton
from mirrorgen.optim.online.base import StepSize, step_size_at
from mirrorgen.optim.online.descent import FollowRegularizedLeader, LeaderState

__all__ = ["ImplicitFTRL"]


@dataclass(frozen=True, eq=False)
class ImplicitFTRL(FollowRegularizedLeader):
    """Follow the regularised leader that knows how low a loss can fall: ``max(l_t + <g_t, x - x_t>, m_t)``.

    Of the gradient a part ``z_t = a_t g_t``, ``0 <= a_t <= 1``, is added to the sum: the one that minimises
    ``H_t(z) = psi_(t+1)*(theta_t - z) + l_t*(z)`` with ``l_t`` the model, ``psi_t = D(., x_1) / step_t`` and
    ``theta_t = -sum_(s<t) z_s``. The next point then does not go beyond where the model reaches its minimum:
    ``<g_t, x_t - x_(t+1)> = l_t - m_t`` unless the whole gradient goes less far. With ``Quadratic`` and a constant step
    size this is ``x+ = x - min(step, (l - m) / |g|^2) g``. Too large a step size does little harm; linear models
    diverge with it. Every run keeps

    ``sum l_t(x_t) - l_t(u) <= psi_(T+1)(u) + sum [H_t(z_t) - psi_t*(theta_t) + l_t(x_t)]``.

    Args:
        mirror_map: The geometry.
        constraint: Not available here.
        step_size: As in ``FollowRegularizedLeader``.

    Raises:
        DomainError: If a step size is not positive, a loss is below its lower bound, or a constraint is given.

    Sources: Chen, Orabona, "Generalized Implicit Follow-The-Regularized-Leader", 2023; the model: Asi, Duchi,
    "Stochastic (Approximate) Proximal Point Methods: Convergence, Optimality, and Adaptivity", 2019.
    """

    step_size: StepSize = 1.0

    def __post_init__(self) -> None:
        if self.constraint is not None:
            raise DomainError("ImplicitFTRL takes no constraint; choose a mirror map whose domain is the set")

    def update(  # type: ignore[override]
        self, state: LeaderState, gradient: Tensor, loss: Tensor, lower_bound: float | Tensor = 0.0
    ) -> LeaderState:
        """The state of the next round.

        Args:
            state: Of this round.
            gradient: ``(*batch, dim)``, at ``predict(state)``.
            loss: ``l_t(x_t)``, ``(*batch)``.
            lower_bound: ``m_t``, a number or ``(*batch)``: no value of the loss is below.

        Raises:
            ShapeError: If shapes do not fit.
            DomainError: If a loss is below its lower bound.
        """
        g, drop = self._pull(gradient), loss - lower_bound
        if drop.shape != state.total.shape[:-1]:
            raise ShapeError(f"loss must have shape {tuple(state.total.shape[:-1])}, got {tuple(drop.shape)}")
        if should_check(drop) and not bool((drop >= 0).all()):
            raise DomainError(f"a loss is {-float(drop.min()):.4g} below lower_bound; pass a bound that holds")
        part = self._part(state, g, drop).unsqueeze(-1)
        return LeaderState(state.start, state.total + part * g, state.round + 1)

    def _part(self, state: LeaderState, g: Tensor, drop: Tensor) -> Tensor:
        """``a_t (*batch)``: the root of ``H'(a) = <g, x_t - x(a)> - drop``, or the nearer end."""
        size = step_size_at(self.step_size, state.round + 1)
        coordinates = self.mirror_map.coordinates
        here = coordinates(self.predict(state))

        def slope(part: Tensor) -> tuple[Tensor, Tensor]:
            y = state.start - size * (state.total + part.unsqueeze(-1) * g)
            gone = (g * (here - coordinates(self.mirror_map.to_primal(y)))).sum(-1) - drop
            bent = self.mirror_map.hessian_dual(y).solve(g)
            return gone, (g * size * bent).sum(-1)

        none, whole = torch.zeros_like(drop), torch.ones_like(drop)
        low, high = slope(none)[0] >= 0, slope(whole)[0] <= 0
        # Rows whose minimum is at an end get a bracket of one point.
        return bisect_then_newton(slope, torch.where(high, whole, none), torch.where(low & ~high, none, whole))
