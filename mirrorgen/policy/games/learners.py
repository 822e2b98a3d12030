"""Methods that solve a game by proximal steps at every infoset, and the loop that runs them.

They ask a game for ``mask``, ``uniform``, ``action_values``, ``plan`` and ``policy`` only, so that normal-form games
and extensive-form games share them: a normal-form game has one infoset per player. All players move at once.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.policy.proximal import geometric_mixture, mirror_prox_step, optimistic_gradient, proximal_step

__all__ = [
    "Game",
    "Learner",
    "MagneticMirrorDescent",
    "MirrorProx",
    "OptimisticMirrorDescent",
    "Schedule",
    "State",
    "run",
]

Schedule = float | Tensor | Callable[[int], float | Tensor]


class Game(Protocol):
    """What the methods here need to know about a game."""

    mask: Tensor

    def uniform(self, *batch: int) -> Tensor:
        """Uniform log-policies ``(*batch, infosets, actions)``."""

    def action_values(self, log_policy: Tensor) -> Tensor:
        """The owner's values of all actions, in the shape of ``log_policy``."""

    def plan(self, log_policy: Tensor) -> Tensor:
        """A form of the policy whose averages are policies."""

    def policy(self, plan: Tensor) -> Tensor:
        """The inverse of ``plan``."""


@dataclass(frozen=True)
class State:
    """Where a method stands.

    Args:
        log_policy: The last iterate.
        magnet: Log-policy that the regulariser pulls to.
        played: The policy whose values the last step used: the one to average.
        previous: The last step's values, for optimism.
        step: Number of steps done.
        weight: Of ``played`` in the average.
    """

    log_policy: Tensor
    magnet: Tensor
    played: Tensor
    previous: Tensor | None = None
    step: int = 0
    weight: float = 1.0


AnyGame = TypeVar("AnyGame", bound=Game)
Kind = TypeVar("Kind", bound=Game, contravariant=True)


class Learner(Protocol[Kind]):
    """A method: one step at all infosets."""

    def step(self, game: Kind, state: State) -> State:
        """The next state."""


@dataclass(frozen=True)
class MagneticMirrorDescent:
    """``pi+ = argmax <pi, Q> - KL(pi, pi_k) / eta - alpha KL(pi, rho)`` at every infoset; MWU for ``alpha = 0``.

    In a normal-form game the last iterate converges linearly to the quantal response equilibrium of temperature
    ``alpha`` if ``eta <= alpha / L^2``, ``L`` the largest absolute payoff. With annealed ``alpha`` or a moving magnet
    it is a solver for equilibria; averages of plans converge without magnet (multiplicative weights).

    Args:
        step_size: ``eta``: a number, one per game of a batch, or a function of the step 1, 2, ...
        magnet_weight: ``alpha``, likewise.
        magnet_rate: The magnet follows as ``rho <- rho^(1 - rate) pi^rate``.
        floor: Least probability of allowed actions in policies and magnets before they are normalised; keeps
            infosets reachable, so that their values mean something. 0 for none.

    Source: Sokota et al., "A Unified Approach to Reinforcement Learning, Quantal Response Equilibria, and Two-Player
    Zero-Sum Games", 2023.
    """

    step_size: Schedule
    magnet_weight: Schedule = 0.0
    magnet_rate: float = 0.0
    floor: float = 1e-10

    def __post_init__(self) -> None:
        if not (0 <= self.magnet_rate <= 1 and 0 <= self.floor < 1):
            raise DomainError("magnet_rate must be in [0, 1] and floor in [0, 1)")

    def step(self, game: Game, state: State) -> State:
        options = _options(self.step_size, self.magnet_weight, game, state)
        new = proximal_step(state.log_policy, game.action_values(state.log_policy), **options)
        new, magnet = _floored(new, game.mask, self.floor), state.magnet
        if self.magnet_rate > 0:
            magnet = _floored(geometric_mixture(magnet, new, self.magnet_rate), game.mask, self.floor)
        return State(new, magnet, played=state.log_policy, step=state.step + 1)


@dataclass(frozen=True)
class OptimisticMirrorDescent:
    """Magnetic mirror descent along ``2 Q_k - Q_(k-1)``; optimistic multiplicative weights without magnet.

    One evaluation per step. In a normal-form game the duality gap of the average plan is of order one over the number
    of steps.

    Args:
        step_size: See ``MagneticMirrorDescent``.
        magnet_weight: See there.
        floor: See there.

    Source: Rakhlin, Sridharan, "Optimization, Learning, and Games with Predictable Sequences", 2013.
    """

    step_size: Schedule
    magnet_weight: Schedule = 0.0
    floor: float = 0.0

    def step(self, game: Game, state: State) -> State:
        values = game.action_values(state.log_policy)
        options = _options(self.step_size, self.magnet_weight, game, state)
        new = proximal_step(state.log_policy, optimistic_gradient(values, state.previous), **options)
        new = _floored(new, game.mask, self.floor)
        return State(new, state.magnet, played=state.log_policy, previous=values, step=state.step + 1)


@dataclass(frozen=True)
class MirrorProx:
    """Two evaluations per step: a half step along the values here, a step from the same prior along those there.

    Args:
        step_size: See ``MagneticMirrorDescent``.
        magnet_weight: See there.
        floor: See there.

    Source: Nemirovski, "Prox-Method with Rate of Convergence O(1/t) for Variational Inequalities with Lipschitz
    Continuous Monotone Operators and Smooth Convex-Concave Saddle Point Problems", 2004.
    """

    step_size: Schedule
    magnet_weight: Schedule = 0.0
    floor: float = 0.0

    def step(self, game: Game, state: State) -> State:
        options = _options(self.step_size, self.magnet_weight, game, state)
        new, half = mirror_prox_step(state.log_policy, game.action_values, **options)
        return replace(state, log_policy=_floored(new, game.mask, self.floor), played=half, step=state.step + 1)


@torch.no_grad()
def run(
    learner: Learner[AnyGame],
    game: AnyGame,
    iterations: int,
    *,
    start: Tensor | None = None,
    magnet: Tensor | None = None,
    callback: Callable[[State], None] | None = None,
) -> tuple[State, Tensor]:
    """Iterate a method.

    Args:
        learner: The method.
        game: The game.
        iterations: Number of steps.
        start: First log-policy ``(*batch, infosets, actions)``; uniform if None.
        magnet: First magnet's log-policy; uniform if None.
        callback: Called with the state after every step.

    Returns:
        The last state, and the log-policy of the average plan of all policies that were played. Averages are taken of
        plans, never of probabilities at infosets.

    Raises:
        DomainError: If ``iterations`` is less than one.
    """
    if iterations < 1:
        raise DomainError(f"iterations must be at least 1, got {iterations}")
    start = game.uniform() if start is None else start
    state = State(start, game.uniform() if magnet is None else magnet, played=start)
    total, weight = torch.zeros_like(game.plan(start)), 0.0
    for _ in range(iterations):
        state = learner.step(game, state)
        total, weight = total + state.weight * game.plan(state.played), weight + state.weight
        if callback is not None:
            callback(state)
    return state, game.policy(total / weight)


def _options(step_size: Schedule, magnet_weight: Schedule, game: Game, state: State) -> dict:
    """The keywords of the proximal step number ``state.step + 1``."""
    eta, alpha = (_at(s, state.step + 1) for s in (step_size, magnet_weight))
    return {"step_size": eta, "magnet": state.magnet, "magnet_weight": alpha, "mask": game.mask}


def _at(schedule: Schedule, step: int) -> float | Tensor:
    """The schedule's value; one per game of a batch gets an axis for infosets."""
    value = schedule(step) if callable(schedule) else schedule
    return value.unsqueeze(-1) if isinstance(value, Tensor) and value.ndim else value


def _floored(log_policy: Tensor, mask: Tensor, floor: float) -> Tensor:
    """Allowed actions raised to at least ``floor``, then normalised."""
    if floor == 0:
        return log_policy
    least = torch.full((), floor, dtype=log_policy.dtype, device=log_policy.device).log()
    return torch.where(mask, torch.maximum(log_policy, least), -torch.inf).log_softmax(-1)
