"""Finite Markov decision processes as batched tensors: exact values, occupancies and optima."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError

__all__ = ["TabularMDP", "garnet", "grid_world"]


@dataclass(frozen=True, eq=False)
class TabularMDP:
    """Transitions ``P (*batch, states, actions, states)`` and rewards ``(*batch, states, actions)`` in float64.

    Policies are log-probabilities ``(*batch, states, actions)``; values are discounted sums of rewards.

    Args:
        transitions: Probabilities of the next state, rows of the last axis.
        rewards: Expected rewards.
        discount: In ``[0, 1)``.
        start: Law of the first state ``(*batch, states)``; uniform if None.

    Raises:
        ShapeError: If shapes do not fit.
        DomainError: If rows are no probabilities, or a number is out of range.
    """

    transitions: Tensor
    rewards: Tensor
    discount: float
    start: Tensor | None = None

    def __post_init__(self) -> None:
        P, r = self.transitions, self.rewards
        if P.ndim < 3 or P.shape[:-1] != r.shape or P.shape[-1] != P.shape[-3]:
            raise ShapeError(
                "transitions are (*batch, states, actions, states) and rewards (*batch, states, actions), "
                f"got {tuple(P.shape)} and {tuple(r.shape)}"
            )
        if not 0 <= self.discount < 1:
            raise DomainError(f"discount must lie in [0, 1), got {self.discount}")
        if not bool((P >= 0).all()) or float((P.sum(-1) - 1).abs().max()) > 1e-8:
            raise DomainError("rows of transitions must be probabilities: not negative, of sum one")
        if not bool(torch.isfinite(r).all()):
            raise DomainError("rewards must be finite")

    @property
    def shape(self) -> torch.Size:
        """``(*batch, states, actions)``."""
        return self.rewards.shape

    @cached_property
    def first(self) -> Tensor:
        """Law of the first state ``(*batch, states)``."""
        states = self.shape[-2]
        uniform = torch.full(self.shape[:-1], 1 / states, dtype=self.rewards.dtype, device=self.rewards.device)
        return uniform if self.start is None else self.start.expand(self.shape[:-1])

    def uniform_policy(self) -> Tensor:
        """Log-probabilities of the policy that draws every action equally."""
        return torch.zeros_like(self.rewards).log_softmax(-1)

    def state_transitions(self, log_policy: Tensor) -> Tensor:
        """``P_pi (*batch, states, states)``."""
        return torch.einsum("...sa,...sat->...st", log_policy.exp(), self.transitions)

    def state_values(self, log_policy: Tensor, rewards: Tensor | None = None) -> Tensor:
        """``v = (I - discount P_pi)^-1 r_pi``, ``(*batch, states)``; of other rewards if they are given."""
        r = (log_policy.exp() * (self.rewards if rewards is None else rewards)).sum(-1)
        return torch.linalg.solve(self._resolvent(log_policy), r.unsqueeze(-1)).squeeze(-1)

    def action_values(self, values: Tensor, rewards: Tensor | None = None) -> Tensor:
        """``q = r + discount P v``, ``(*batch, states, actions)``."""
        following = torch.einsum("...sat,...t->...sa", self.transitions, values)
        return (self.rewards if rewards is None else rewards) + self.discount * following

    def occupancy(self, log_policy: Tensor) -> Tensor:
        """Normalised discounted state occupancy from ``start``, ``(*batch, states)``."""
        total = torch.linalg.solve(self._resolvent(log_policy).mT, self.first.unsqueeze(-1)).squeeze(-1)
        return (1 - self.discount) * total

    def value_of(self, log_policy: Tensor, rewards: Tensor | None = None) -> Tensor:
        """Value from the first state, ``(*batch)``."""
        return (self.first * self.state_values(log_policy, rewards)).sum(-1)

    @cached_property
    def optimal_values(self) -> Tensor:
        """``v* (*batch, states)``, by Howard's policy iteration: exact in finitely many steps.

        Raises:
            ConvergenceError: If it does not settle, which rounding could cause between equal actions.
        """
        actions = self.rewards.argmax(-1)
        for _ in range(1000):
            greedy = torch.nn.functional.one_hot(actions, self.shape[-1]).to(self.rewards).log()
            values = self.state_values(greedy)
            q = self.action_values(values)
            # An action is left only for one that is better beyond rounding.
            better = q.amax(-1) > q.gather(-1, actions.unsqueeze(-1)).squeeze(-1) + 1e-12 * (1 + q.abs().amax())
            if not bool(better.any()):
                return values
            actions = torch.where(better, q.argmax(-1), actions)
        raise ConvergenceError("policy iteration did not settle after 1000 steps", float("nan"))

    def _resolvent(self, log_policy: Tensor) -> Tensor:
        P = self.state_transitions(log_policy)
        return torch.eye(P.shape[-1], dtype=P.dtype, device=P.device) - self.discount * P


def garnet(
    states: int = 50, actions: int = 4, branching: int = 3, discount: float = 0.9, *, batch: int = 1, seed: int = 0
) -> TabularMDP:
    """``batch`` random processes: from every pair ``branching`` successors with uniform shares, rewards uniform.

    Source: Bhatnagar, Sutton, Ghavamzadeh, Lee, "Natural Actor-Critic Algorithms", 2009.

    Raises:
        DomainError: Unless ``1 <= branching <= states``.
    """
    if not 1 <= branching <= states:
        raise DomainError(f"branching must be between 1 and states = {states}, got {branching}")
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, states, actions)
    successors = torch.rand(*shape, states, generator=generator, dtype=torch.float64).argsort(-1)[..., :branching]
    cuts = torch.rand(*shape, branching - 1, generator=generator, dtype=torch.float64).sort(-1).values
    shares = torch.diff(torch.nn.functional.pad(torch.nn.functional.pad(cuts, (1, 0)), (0, 1), value=1.0), dim=-1)
    transitions = torch.zeros(*shape, states, dtype=torch.float64).scatter(-1, successors, shares)
    return TabularMDP(transitions, torch.rand(shape, generator=generator, dtype=torch.float64), discount)


def grid_world(size: int = 5, discount: float = 0.95, slip: float = 0.1) -> TabularMDP:
    """A square of ``size * size`` cells, four moves, a goal of reward one in a corner that restarts at the other.

    With probability ``slip`` the move is one of the four at random; walls keep one where one is.
    """
    if size < 2 or not 0 <= slip <= 1:
        raise DomainError(f"a grid world needs size >= 2 and slip in [0, 1], got {size} and {slip}")
    cell = torch.arange(size * size)
    row, column = cell // size, cell % size
    moves = torch.tensor([[-1, 0], [1, 0], [0, -1], [0, 1]])
    rows = (row.unsqueeze(-1) + moves[:, 0]).clamp(0, size - 1)
    columns = (column.unsqueeze(-1) + moves[:, 1]).clamp(0, size - 1)
    sure = torch.nn.functional.one_hot(rows * size + columns, size * size).double()
    transitions = (1 - slip) * sure + slip * sure.mean(1, keepdim=True)
    transitions[-1] = torch.nn.functional.one_hot(torch.tensor(0), size * size).double()
    rewards = torch.zeros(size * size, 4, dtype=torch.float64)
    rewards[-1] = 1.0
    return TabularMDP(transitions, rewards, discount)
