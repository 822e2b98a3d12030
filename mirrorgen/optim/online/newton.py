"""Optimistic online Newton steps: mirror descent whose metric is what gradients have shown so far."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Ball
from mirrorgen.geometry.validation import check_shape, should_check
from mirrorgen.numerics import bisect_then_newton
from mirrorgen.optim.online.base import squared_norm

__all__ = ["OptimisticNewton"]


class NewtonState(NamedTuple):
    """State of ``OptimisticNewton``.

    Attributes:
        point: Points ``z_t (*batch, dim)`` of the second sequence.
        hint: The guess of the next gradient, ``(*batch, dim)``.
        metric: ``H_t (*batch, dim, dim)``.
    """

    point: Tensor
    hint: Tensor
    metric: Tensor


@dataclass(frozen=True, eq=False)
class OptimisticNewton:
    """``x_t = argmin <m_t, x> + |x - z_t|_H^2 / 2``, ``z_(t+1) = argmin <g_t, x> + |x - z_t|_H^2 / 2`` on a ball.

    ``H_t = (1 + b G^2 / 2) I + (b / 2) sum_(s<t) g_s g_s^T`` with ``b = min(1 / (4 G D), a) / 2`` and ``D`` the
    diameter; the hint ``m_t`` is the last gradient unless ``hint`` gives another. For losses that are ``a``-exp-concave
    (``exp(-a l)`` is concave: squared and logistic losses on a ball) every run keeps, for every ``u``,

    ``sum l_t(x_t) - l_t(u) <= (1 + b G^2 / 2) |u - z_1|^2 / 2 + (3 / 2) sum |g_t - g_(t-1)|^2`` in the norm of
    ``H_t^-1`` with ``g_0 = 0``, which grows like ``(dim / b) log T`` at most.

    A step costs an eigenvalue decomposition. State is points and not dual ones: nothing here is lost near the wall.

    Args:
        ball: The set.
        gradient_bound: ``G``, of the Euclidean norm of gradients.
        exp_concavity: ``a``.

    Raises:
        DomainError: If a number is not positive, or a gradient longer than its bound.
        ShapeError: If a last axis is not that of the ball.

    Sources: Hazan, Agarwal, Kale, "Logarithmic Regret Algorithms for Online Convex Optimization", 2007; Chen, Zhang,
    Tu, Zhao, Zhang, "Optimistic Online Mirror Descent for Bridging Stochastic and Adversarial Online Convex
    Optimization", 2024.
    """

    ball: Ball
    gradient_bound: float
    exp_concavity: float

    def __post_init__(self) -> None:
        if not (self.gradient_bound > 0 and self.exp_concavity > 0):
            raise DomainError("gradient_bound and exp_concavity must be positive")

    @property
    def curvature(self) -> float:
        """``b``."""
        diameter = 2 * float(self.ball.radius)
        return 0.5 * min(1 / (4 * self.gradient_bound * diameter), self.exp_concavity)

    def init(self, start: Tensor) -> NewtonState:
        """The state before the first round, at points ``start (*batch, dim)`` of the ball."""
        check_shape(start, self.ball.dim, "start")
        self.ball.check(start, "start")
        unit = torch.eye(self.ball.dim, dtype=start.dtype, device=start.device)
        metric = (1 + self.curvature * self.gradient_bound**2 / 2) * unit
        return NewtonState(start, torch.zeros_like(start), metric.expand(*start.shape, -1))

    def hint(self, state: NewtonState, gradient: Tensor) -> NewtonState:
        """The state whose ``predict`` expects ``gradient (*batch, dim)`` in this round."""
        return state._replace(hint=gradient)

    def predict(self, state: NewtonState) -> Tensor:
        """The points ``x_t (*batch, dim)``, strictly inside the ball."""
        return self._stepped(state, state.hint)

    def update(self, state: NewtonState, gradient: Tensor) -> NewtonState:
        """The state of the next round, given gradients ``(*batch, dim)`` at the points of this one."""
        check_shape(gradient, self.ball.dim, "gradient")
        longest = (1 + 1e-5) * self.gradient_bound
        if should_check(gradient) and bool((squared_norm(gradient) > longest**2).any()):
            raise DomainError(f"a gradient is longer than gradient_bound={self.gradient_bound}; raise the bound")
        outer = gradient.unsqueeze(-1) * gradient.unsqueeze(-2)
        metric = state.metric + self.curvature / 2 * outer
        return NewtonState(self._stepped(state, gradient), gradient, metric)

    def _stepped(self, state: NewtonState, gradient: Tensor) -> Tensor:
        """``z - H^-1 g``, projected in the norm of ``H``: ``H (H + m)^-1`` of it for the smallest ``m >= 0``."""
        values, vectors = torch.linalg.eigh(state.metric)
        center, radius = self.ball.center.to(gradient.dtype), self.ball.radius.to(gradient.dtype)
        turned = (vectors.mT @ torch.stack([state.point - center, gradient], -1)).unbind(-1)
        w = turned[0] - turned[1] / values
        length = torch.linalg.vector_norm(w, dim=-1)

        def excess(shift: Tensor) -> tuple[Tensor, Tensor]:
            moved = values + shift.unsqueeze(-1)
            part = values / moved * w
            norm = torch.linalg.vector_norm(part, dim=-1).clamp_min(torch.finfo(w.dtype).tiny)
            return radius - norm, (part.square() / moved).sum(-1) / norm

        most = values[..., -1] * (length / radius - 1).clamp_min(0)
        shift = bisect_then_newton(excess, torch.zeros_like(most), most)
        part = values / (values + shift.unsqueeze(-1)) * w
        return self.ball.pull_inside(center + (vectors @ part.unsqueeze(-1)).squeeze(-1))[0]
