"""Online mirror descent and follow the regularised leader."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.optim.online.base import OnlineLearner, StepSize, step_size_at

__all__ = ["FollowRegularizedLeader", "OnlineMirrorDescent"]


class DescentState(NamedTuple):
    """State of ``OnlineMirrorDescent``.

    Attributes:
        y: Dual points ``(*batch, dual_dim)`` of this round.
        round: Its number, from one.
    """

    y: Tensor
    round: int


@dataclass(frozen=True, eq=False)
class OnlineMirrorDescent(OnlineLearner):
    """``x_(t+1) = argmin <g_t, x> + D(x, x_t) / step_t``: ``y+ = y - step_t g``, then a projection if constrained.

    With ``SimplexEntropy`` and linear losses in ``[0, 1]`` this is Hedge, whose regret from the uniform start is at
    most ``sqrt(T log(n) / 2)`` for ``step_size = sqrt(8 log(n) / T)``. With step sizes that fall, regret needs a
    bounded ``D``; ``FollowRegularizedLeader`` does not.

    Args:
        mirror_map: The geometry.
        constraint: See ``OnlineLearner``.
        step_size: A positive number, a tensor ``(*batch)``, or a function of the round ``t = 1, 2, ...`` that gives
            one.

    Raises:
        DomainError: If a step size is not positive, or the constraint has no projection for the map.

    Sources: Nemirovski, Yudin, "Problem Complexity and Method Efficiency in Optimization", 1983; Cesa-Bianchi, Lugosi,
    "Prediction, Learning, and Games", 2006.
    """

    step_size: StepSize = 1.0

    def init(self, start: Tensor) -> DescentState:
        return DescentState(self._keep(self._start(start)), 1)

    def predict(self, state: DescentState) -> Tensor:
        return self.mirror_map.to_primal(state.y)

    def update(self, state: DescentState, gradient: Tensor) -> DescentState:
        step = step_size_at(self.step_size, state.round)
        return DescentState(self._keep(state.y - step * self._pull(gradient)), state.round + 1)


class LeaderState(NamedTuple):
    """State of ``FollowRegularizedLeader``.

    Attributes:
        start: Dual points ``(*batch, dual_dim)`` of the start.
        total: Sums of gradients ``(*batch, dual_dim)`` in the coordinates that pair with dual points.
        round: Number of the round, from one.
    """

    start: Tensor
    total: Tensor
    round: int


@dataclass(frozen=True, eq=False)
class FollowRegularizedLeader(OnlineLearner):
    """``x_t = argmin sum_(s<t) <g_s, x> + D(x, x_1) / step_t``: dual averaging, ``y_t = y_1 - step_t sum_(s<t) g_s``.

    For step sizes that do not grow, every run keeps
    ``sum <g_t, x_t - u> <= D(u, x_1) / step_T + sum D(x_t, x'_t) / step_t`` with ``x'_t`` of dual point
    ``y_t - step_t g_t``.

    Args:
        mirror_map: The geometry.
        constraint: See ``OnlineLearner``.
        step_size: As in ``OnlineMirrorDescent``; that of round ``t`` weighs all gradients before it.

    Raises:
        DomainError: As ``OnlineMirrorDescent``.

    Source: Nesterov, "Primal-Dual Subgradient Methods for Convex Problems", 2009.
    """

    step_size: StepSize = 1.0

    def init(self, start: Tensor) -> LeaderState:
        y = self._start(start)
        return LeaderState(y, torch.zeros_like(y), 1)

    def predict(self, state: LeaderState) -> Tensor:
        y = state.start - step_size_at(self.step_size, state.round) * state.total
        return self.mirror_map.to_primal(self._keep(y))

    def update(self, state: LeaderState, gradient: Tensor) -> LeaderState:
        return LeaderState(state.start, state.total + self._pull(gradient), state.round + 1)
