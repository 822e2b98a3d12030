"""Constrained decision processes: optimistic ascent-descent on the Lagrangian, and the exact optimum."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.policy.proximal import optimistic_gradient, proximal_step
from mirrorgen.policy.tabular.mdp import TabularMDP, garnet

__all__ = ["ConstrainedMDP", "ConstrainedRun", "constrained_garnet", "lagrangian_ascent_descent"]


@dataclass(frozen=True, eq=False)
class ConstrainedMDP:
    """Maximise the value of rewards subject to ``value of costs <= limits``, both from the law of the first state.

    Args:
        mdp: The process, without batch.
        costs: ``(constraints, states, actions)``.
        limits: ``(constraints,)``, in units of discounted sums.

    Raises:
        ShapeError: If shapes do not fit.
        DomainError: If no policy keeps the limits.
    """

    mdp: TabularMDP
    costs: Tensor
    limits: Tensor

    def __post_init__(self) -> None:
        if self.mdp.rewards.ndim != 2 or self.costs.shape[1:] != self.mdp.shape:
            raise ShapeError(f"costs must have shape (constraints, {', '.join(map(str, self.mdp.shape))})")
        if self.limits.shape != self.costs.shape[:1]:
            raise ShapeError(f"limits must have one entry per constraint, got {tuple(self.limits.shape)}")

    def cost_values(self, log_policy: Tensor) -> Tensor:
        """Values of the costs from the first state, ``(constraints,)``."""
        return torch.stack([self.mdp.value_of(log_policy, cost) for cost in self.costs])

    def optimum(self) -> tuple[float, Tensor]:
        """The largest value of the rewards, and the multipliers ``(constraints,)``: a linear program in occupancies.

        Raises:
            DomainError: If no policy keeps the limits.
        """
        from scipy.optimize import linprog

        states, actions = self.mdp.shape
        leave = torch.eye(states, dtype=torch.float64).repeat_interleave(actions, 0)
        flow = (leave - self.mdp.discount * self.mdp.transitions.flatten(0, 1)).mT
        found = linprog(
            -self.mdp.rewards.flatten().numpy(),
            A_ub=self.costs.flatten(1).numpy(),
            b_ub=self.limits.numpy(),
            A_eq=flow.numpy(),
            b_eq=self.mdp.first.numpy(),
            method="highs",
        )
        if not found.success:
            raise DomainError(f"no policy keeps the limits {self.limits.tolist()}; raise them")
        return -float(found.fun), torch.from_numpy(-found.ineqlin.marginals)


@dataclass(frozen=True)
class ConstrainedRun:
    """What a run went through, one entry per iteration.

    Attributes:
        log_policy: The last policy.
        multipliers: The last multipliers ``(constraints,)``.
        rewards: Values of the rewards ``(iterations,)``.
        excess: Values of the costs less the limits ``(iterations, constraints)``.
    """

    log_policy: Tensor
    multipliers: Tensor
    rewards: Tensor
    excess: Tensor


def lagrangian_ascent_descent(
    problem: ConstrainedMDP,
    iterations: int,
    *,
    policy_step: float = 0.5,
    multiplier_step: float = 0.25,
    optimistic: bool = True,
) -> ConstrainedRun:
    """Mirror ascent of the policy and projected descent of the multipliers on the Lagrangian, from ``l = 0``.

    The policy moves along values of actions for ``r - sum_i l_i c_i``, the multipliers along the excess of the costs.
    With ``optimistic`` both move along ``2 g_k - g_(k-1)``, and the last iterate converges; without, it circles and
    only averages do.

    Args:
        problem: The process with its costs.
        iterations: Number of steps.
        policy_step: ``eta`` of the policy.
        multiplier_step: That of the multipliers.
        optimistic: Whether gradients are extrapolated.

    Source: Moskovitz, O'Donoghue, Veeriah, Flennerhag, Singh, Zahavy, "ReLOAD: Reinforcement Learning with Optimistic
    Ascent-Descent for Last-Iterate Convergence in Constrained MDPs", 2023.
    """
    mdp = problem.mdp
    logs, multipliers = mdp.uniform_policy(), torch.zeros_like(problem.limits)
    last_q: Tensor | None = None
    last_excess: Tensor | None = None
    rewards, excesses = [], []
    for _ in range(iterations):
        mixed = mdp.rewards - torch.einsum("i,isa->sa", multipliers, problem.costs)
        q = mdp.action_values(mdp.state_values(logs, mixed), mixed)
        excess = problem.cost_values(logs) - problem.limits
        rewards.append(mdp.value_of(logs))
        excesses.append(excess)
        logs = proximal_step(logs, optimistic_gradient(q, last_q), step_size=policy_step)
        multipliers = (multipliers + multiplier_step * optimistic_gradient(excess, last_excess)).clamp_min(0.0)
        if optimistic:
            last_q, last_excess = q, excess
    return ConstrainedRun(logs, multipliers, torch.stack(rewards), torch.stack(excesses))


def constrained_garnet(
    states: int = 20, actions: int = 4, *, tightness: float = 0.3, seed: int = 0, discount: float = 0.9
) -> ConstrainedMDP:
    """A random process with one random cost, whose limit is between the least cost and that of the best policy.

    Args:
        states: Number of states.
        actions: Number of actions.
        tightness: 0 for the limit that the best unconstrained policy just keeps, 1 for the least cost there is.
        seed: Of rewards, costs and transitions.
        discount: In ``[0, 1)``.
    """
    if not 0 <= tightness <= 1:
        raise DomainError(f"tightness must lie in [0, 1], got {tightness}")
    both = garnet(states, actions, discount=discount, batch=1, seed=seed)
    mdp = TabularMDP(both.transitions[0], both.rewards[0], discount)
    generator = torch.Generator().manual_seed(seed + 1)
    costs = torch.rand(1, states, actions, generator=generator, dtype=torch.float64)
    best = mdp.action_values(mdp.optimal_values).argmax(-1)
    greedy = torch.nn.functional.one_hot(best, actions).double().log()
    frugal = TabularMDP(mdp.transitions, -costs[0], discount)
    least = -(mdp.first * frugal.optimal_values).sum()
    limit = mdp.value_of(greedy, costs[0]) * (1 - tightness) + tightness * least
    return ConstrainedMDP(mdp, costs, limit.reshape(1))
