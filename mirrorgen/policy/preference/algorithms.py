"""Algorithms for preference games, all of them proximal steps on log-policies against win rates.

A learner has ``init(game)`` and ``step(game, state)``; ``run`` iterates. Compare learners per query of the oracle: one
query is one vector of win rates. Last iterates and averages are different things: plain multiplicative weights
converges in the average only.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.policy.preference.games import PreferenceGame
from mirrorgen.policy.proximal import geometric_mixture, mirror_prox_step, optimistic_gradient, proximal_step

__all__ = [
    "Learner",
    "MirrorDescent",
    "NashMD",
    "NashMirrorProx",
    "OptimisticMirrorDescent",
    "State",
    "run",
]

Oracle = Callable[[Tensor], Tensor]
"""Log-policies of opponents to (estimates of) win rates; ``PreferenceGame.win_rates`` is the exact one."""


class State(NamedTuple):
    """What a learner knows.

    ``policy`` is the one to deploy and ``anchor`` the one that the next step starts from, both as log-probabilities;
    ``gradient`` is the last vector of win rates, or None.
    """

    policy: Tensor
    anchor: Tensor
    gradient: Tensor | None
    iteration: int


@dataclass(frozen=True)
class Learner(ABC):
    """Base of the learners.

    Args:
        step_size: ``eta > 0``, one number or ``(*batch)``.

    Attributes:
        queries: Queries of the oracle per step.
    """

    queries: ClassVar[int] = 1

    def init(self, game: PreferenceGame, policy: Tensor | None = None) -> State:
        """Start at ``policy``, or at the reference."""
        start = game.reference.expand(game.preferences.shape[:-1]) if policy is None else policy
        return State(start, start, None, 0)

    @abstractmethod
    def step(self, game: PreferenceGame, state: State, oracle: Oracle | None = None) -> State:
        """One iteration; ``oracle`` is the game's exact win rates if None."""


@dataclass(frozen=True)
class MirrorDescent(Learner):
    """Mirror descent in self-play: ``argmax <p, P(. > pi_k)> - beta KL(p || ref) - KL(p || pi_k) / eta``.

    Magnetic mirror descent with the reference as magnet; multiplicative weights where ``beta = 0``, whose last iterate
    does not converge. ``linear`` linearises the penalty too, which is online IPO and INPO:
    ``pi_k^(1 - eta beta) ref^(eta beta) exp(eta P(. > pi_k))``, the step of size ``eta / (1 - eta beta)`` otherwise.

    Sources: Sokota et al., "A Unified Approach to Reinforcement Learning, Quantal Response Equilibria, and Two-Player
    Zero-Sum Games", 2023; Calandriello et al., "Human Alignment of Large Language Models through Online Preference
    Optimisation", 2024; Zhang et al., "Iterative Nash Policy Optimization: Aligning LLMs with General Preferences via
    No-Regret Learning", 2024.
    """

    step_size: float | Tensor = 0.5
    linear: bool = False

    def step(self, game: PreferenceGame, state: State, oracle: Oracle | None = None) -> State:
        """One query at the current policy."""
        size = _linear_step(self.step_size, game.beta) if self.linear else self.step_size
        g = (oracle or game.win_rates)(state.policy)
        new = _magnet_step(game, state.policy, g, size)
        return State(new, new, g, state.iteration + 1)


@dataclass(frozen=True)
class OptimisticMirrorDescent(Learner):
    """Optimistic mirror descent, one query per step; ``O(1 / T)`` for the average where ``beta = 0``.

    Two sequences: ``pi_t`` is the step from the anchor along the last win rates, the next anchor is the step from the
    same anchor along those of ``pi_t``. With ``two_sequences=False`` one sequence follows ``2 g_t - g_(t-1)`` instead,
    from ``g_(-1) = 0``; both are the same policies where ``beta = 0``. The ``policy`` of a state is the one that the
    next query is about.

    Sources: Zhang et al., "Improving LLM General Preference Alignment via Optimistic Online Mirror Descent", 2025;
    Rakhlin, Sridharan, "Online Learning with Predictable Sequences", 2013.
    """

    step_size: float | Tensor = 1.0
    two_sequences: bool = True

    def step(self, game: PreferenceGame, state: State, oracle: Oracle | None = None) -> State:
        """One query at the current policy, two proximal steps or one."""
        g = (oracle or game.win_rates)(state.policy)
        if not self.two_sequences:
            previous = torch.zeros_like(g) if state.gradient is None else state.gradient
            new = _magnet_step(game, state.policy, optimistic_gradient(g, previous), self.step_size)
            return State(new, new, g, state.iteration + 1)
        anchor = _magnet_step(game, state.anchor, g, self.step_size)
        return State(_magnet_step(game, anchor, g, self.step_size), anchor, g, state.iteration + 1)


@dataclass(frozen=True)
class NashMirrorProx(Learner):
    """Two proximal steps from one anchor, the second against the half step: linear in the last iterate.

    ``KL(pi* || pi_k) <= (1 + eta beta)^-k KL(pi* || pi_0)`` for ``eta <= 2``, after ``k`` steps of two queries.

    Source: Tiapkin et al., "Accelerating Nash Learning from Human Feedback via Mirror Prox", 2025.
    """

    step_size: float | Tensor = 2.0
    queries: ClassVar[int] = 2

    def step(self, game: PreferenceGame, state: State, oracle: Oracle | None = None) -> State:
        """Two queries, at the policy and at the half step."""
        options = {"step_size": self.step_size, "magnet": game.reference, "magnet_weight": game.beta}
        new, _ = mirror_prox_step(state.policy, oracle or game.win_rates, **options)
        return State(new, new, None, state.iteration + 1)


@dataclass(frozen=True)
class NashMD(Learner):
    """A step against, and from, the mixture ``pi_k^(1 - eta beta) ref^(eta beta)``.

    At constant ``eta`` the limit is biased, because the opponent is the mixture; its distance grows like ``eta^2``.
    ``"decreasing"`` is ``eta_t = 2 / (beta (t + 2))``, with ``KL(pi* || pi_T) <= 8 / (beta^2 (T + 1))``.

    Source: Munos et al., "Nash Learning from Human Feedback", 2023.
    """

    step_size: float | Tensor | Literal["decreasing"] = "decreasing"

    def step(self, game: PreferenceGame, state: State, oracle: Oracle | None = None) -> State:
        """One query at the mixture."""
        size = self.step_size
        if isinstance(size, str):
            if size != "decreasing" or game.beta == 0:
                raise DomainError(f"step_size must be a number, or 'decreasing' if beta > 0; got {size!r}")
            size = 2 / (game.beta * (state.iteration + 2))
        weight = torch.as_tensor(size * game.beta, dtype=state.policy.dtype)
        if bool((weight > 1).any()):
            raise DomainError("step_size times beta is a weight of the reference and must be at most 1")
        mixture = geometric_mixture(state.policy, game.reference, weight)
        g = (oracle or game.win_rates)(mixture)
        new = proximal_step(mixture, g, step_size=size)
        return State(new, mixture, g, state.iteration + 1)


def run(
    learner: Learner,
    game: PreferenceGame,
    steps: int,
    *,
    policy: Tensor | None = None,
    oracle: Oracle | None = None,
    callback: Callable[[State, Tensor], None] | None = None,
) -> tuple[State, Tensor]:
    """Iterate a learner.

    Args:
        learner: The learner.
        game: The game.
        steps: Number of iterations.
        policy: Log-policy to start from; the reference if None.
        oracle: Estimates of win rates in place of the exact ones.
        callback: Called after every step with the state and the average so far.

    Returns:
        The last state, and the log of the average of the policies that queries were about up to the last iteration
        (for mirror prox of the policies that it ends its steps at).
    """
    state = learner.init(game, policy)
    total, average = torch.zeros_like(state.policy), state.policy
    for k in range(1, steps + 1):
        played = state.policy
        state = learner.step(game, state, oracle)
        total = total + (state.policy if learner.queries == 2 else played).exp()
        average = (total / k).log()
        if callback is not None:
            callback(state, average)
    return state, average


def _magnet_step(game: PreferenceGame, prior: Tensor, g: Tensor, step_size: float | Tensor) -> Tensor:
    """The proximal step with the reference of the game as magnet."""
    return proximal_step(prior, g, step_size=step_size, magnet=game.reference, magnet_weight=game.beta)


def _linear_step(step_size: float | Tensor, beta: float) -> float | Tensor:
    """The step with exact penalty that equals the one of size ``step_size`` with linearised penalty."""
    if bool((torch.as_tensor(step_size) * beta >= 1).any()):
        raise DomainError("linear steps need step_size times beta below 1")
    return step_size / (1 - step_size * beta)
