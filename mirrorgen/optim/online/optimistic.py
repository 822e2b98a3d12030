"""Optimistic mirror descent with two sequences, and step sizes that follow the variation of gradients."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.optim.online.base import OnlineLearner, StepSize, squared_norm, step_size_at

__all__ = ["OptimisticMirrorDescent", "StronglyConvexStepSize", "VariationStepSize"]


@dataclass(frozen=True)
class VariationStepSize:
    """``step_t = D / sqrt(10 D^2 L^2 + 4 G^2 + sum_(s<t) |g_s - g_(s-1)|^2)`` with ``g_0 = 0``.

    For convex losses with ``L``-smooth means in the model between stochastic and adversarial ones: regret is constant
    where losses stay as they are, and grows with the root of what varies.

    Args:
        diameter: ``D``, of the feasible set in the Euclidean norm.
        smoothness: ``L``.
        gradient_bound: ``G``.

    Raises:
        DomainError: If a number is not positive (``smoothness`` may be zero).

    Source: Chen, Zhang, Tu, Zhao, Zhang, "Optimistic Online Mirror Descent for Bridging Stochastic and Adversarial
    Online Convex Optimization", 2024.
    """

    diameter: float
    smoothness: float
    gradient_bound: float

    def __post_init__(self) -> None:
        if not (self.diameter > 0 and self.gradient_bound > 0 and self.smoothness >= 0):
            raise DomainError("diameter and gradient_bound must be positive, smoothness at least zero")

    def __call__(self, variation: Tensor) -> Tensor:
        """Step sizes ``(*batch, 1)`` after squared variations ``(*batch)``."""
        floor = 10 * (self.diameter * self.smoothness) ** 2 + 4 * self.gradient_bound**2
        return (self.diameter / torch.sqrt(floor + variation)).unsqueeze(-1)


@dataclass(frozen=True)
class StronglyConvexStepSize:
    """``step_t = 2 / (c t)``, for losses that are ``c``-strongly convex and the Euclidean map.

    ``OptimisticMirrorDescent`` then keeps, in every run and for every ``u`` of the set,
    ``sum l_t(x_t) - l_t(u) <= sum_t |g_t - g_(t-1)|^2 / (c t)`` with ``g_0 = 0``: the step sizes' own sums
    ``(c / 4) |u - z_t|^2`` are what strong convexity and the terms ``|x_t - z_t|^2`` give back. Regret is logarithmic.

    Args:
        strong_convexity: ``c``.

    Raises:
        DomainError: If it is not positive.

    Source: Chen, Zhang, Tu, Zhao, Zhang, "Optimistic Online Mirror Descent for Bridging Stochastic and Adversarial
    Online Convex Optimization", 2024.
    """

    strong_convexity: float

    def __post_init__(self) -> None:
        if not self.strong_convexity > 0:
            raise DomainError(f"strong_convexity must be positive, got {self.strong_convexity}")

    def __call__(self, round: int) -> float:
        """The step size of ``round = 1, 2, ...``."""
        return 2 / (self.strong_convexity * round)


class OptimisticState(NamedTuple):
    """State of ``OptimisticMirrorDescent``.

    Attributes:
        y: Dual points ``(*batch, dual_dim)`` of the second sequence.
        hint: The guess of the next gradient, in the coordinates that pair with dual points.
        previous: The last gradient, in the same coordinates; zero before the first.
        variation: ``sum |g_s - g_(s-1)|^2`` so far, ``(*batch)``.
        round: Number of the round, from one.
    """

    y: Tensor
    hint: Tensor
    previous: Tensor
    variation: Tensor
    round: int


@dataclass(frozen=True, eq=False)
class OptimisticMirrorDescent(OnlineLearner):
    """``x_t = argmin <m_t, x> + D(x, z_t) / step_t``, ``z_(t+1) = argmin <g_t, x> + D(x, z_t) / step_t``.

    The hint ``m_t`` is the last gradient unless ``hint`` gives another. Every run keeps
    ``sum <g_t, x_t - u> <= sum [D(u, z_t) - D(u, z_(t+1))] / step_t + <g_t - m_t, x_t - z_(t+1)>
    - [D(z_(t+1), x_t) + D(x_t, z_t)] / step_t``, with equality where nothing is projected: good hints cost nothing, and
    two such learners reach a saddle point of a smooth game at the rate ``1 / T``.

    Args:
        mirror_map: The geometry.
        constraint: See ``OnlineLearner``.
        step_size: As in ``OnlineMirrorDescent``, among them a ``StronglyConvexStepSize``, or a ``VariationStepSize``.

    Raises:
        DomainError: As ``OnlineMirrorDescent``.

    Sources: Rakhlin, Sridharan, "Online Learning with Predictable Sequences", 2013; Chen, Zhang, Tu, Zhao, Zhang,
    "Optimistic Online Mirror Descent for Bridging Stochastic and Adversarial Online Convex Optimization", 2024.
    """

    step_size: StepSize | VariationStepSize = 1.0

    def init(self, start: Tensor) -> OptimisticState:
        y = self._keep(self._start(start))
        return OptimisticState(y, torch.zeros_like(y), torch.zeros_like(y), torch.zeros_like(y[..., 0]), 1)

    def hint(self, state: OptimisticState, gradient: Tensor) -> OptimisticState:
        """The state whose ``predict`` expects ``gradient (*batch, dim)`` in this round."""
        return state._replace(hint=self._pull(gradient))

    def predict(self, state: OptimisticState) -> Tensor:
        return self.mirror_map.to_primal(self._keep(state.y - self.step(state) * state.hint))

    def update(self, state: OptimisticState, gradient: Tensor) -> OptimisticState:
        g = self._pull(gradient)
        y = self._keep(state.y - self.step(state) * g)
        return OptimisticState(y, g, g, state.variation + squared_norm(g - state.previous), state.round + 1)

    def step(self, state: OptimisticState) -> float | Tensor:
        """The step size of this round: a number, or a tensor that broadcasts against dual points."""
        if isinstance(self.step_size, VariationStepSize):
            return self.step_size(state.variation)
        return step_size_at(self.step_size, state.round)
