"""Policy mirror descent with exact evaluation, and its step sizes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.divergences import tsallis_bregman
from mirrorgen.policy.proximal import proximal_step
from mirrorgen.policy.tabular.mdp import TabularMDP

__all__ = ["PolicyRun", "adaptive_steps", "geometric_steps", "policy_mirror_descent", "softmax_mirror_ascent"]

StepSize = Callable[[int, Tensor, Tensor], float | Tensor]
"""``(k, log_policy, action values) -> eta_k``, one number or one per state."""

PolicyStep = Callable[[Tensor, Tensor, float | Tensor], Tensor]
"""``(log_policy, action values, eta_k) -> log_policy``."""


@dataclass(frozen=True)
class PolicyRun:
    """What a run went through.

    Attributes:
        log_policy: The last policy ``(*batch, states, actions)``.
        values: State values of all policies, the first included, ``(iterations + 1, *batch, states)``; with the
            entropy bonus if there was one.
    """

    log_policy: Tensor
    values: Tensor

    def gaps(self, optimal: Tensor) -> Tensor:
        """``max_s |v*(s) - v_k(s)|``, ``(iterations + 1, *batch)``."""
        return (optimal - self.values).abs().amax(-1)


def policy_mirror_descent(
    mdp: TabularMDP,
    iterations: int,
    step_size: float | StepSize = 1.0,
    *,
    entropy_weight: float = 0.0,
    q: float = 1.0,
    log_policy: Tensor | None = None,
    step: PolicyStep | None = None,
) -> PolicyRun:
    """``pi_(k+1)(s) = argmax eta_k <pi, q_k(s)> - D_q(pi, pi_k(s)) - eta_k tau D_q(pi, uniform)`` in every state.

    ``q_k`` are exact values of actions under ``pi_k``, with the bonus ``- tau D_q(pi, uniform)`` per step counted as a
    reward (for ``q = 1`` the entropy less its largest value).

    Args:
        mdp: The process.
        iterations: Number of steps.
        step_size: ``eta``, constant or a rule.
        entropy_weight: ``tau``.
        q: Tsallis index of the potential, see ``proximal_step``.
        log_policy: Where to start; uniform if None.
        step: A step instead of ``proximal_step``: another potential, as ``MixedPotential.step``, or noisy values.

    Raises:
        DomainError: If a number is negative, or ``step`` comes with an entropy weight or ``q``.

    Sources: Xiao, "On the Convergence Rates of Policy Gradient Methods", 2022; Lan, "Policy Mirror Descent for
    Reinforcement Learning", 2021; Cen, Cheng, Chen, Wei, Chi, "Fast Global Convergence of Natural Policy Gradient
    Methods with Entropy Regularization", 2022.
    """
    if iterations < 0 or entropy_weight < 0:
        raise DomainError(f"iterations and entropy_weight must not be negative, got {iterations} and {entropy_weight}")
    if step is not None and (entropy_weight or q != 1):
        raise DomainError("entropy_weight and q are options of the proximal step; leave them out with a step of yours")
    uniform = mdp.uniform_policy()
    logs = uniform if log_policy is None else log_policy
    values = []
    for k in range(iterations + 1):
        bonus = entropy_weight * tsallis_bregman(logs, uniform, q).unsqueeze(-1) if entropy_weight else 0.0
        values.append(mdp.state_values(logs, mdp.rewards - bonus))
        if k < iterations:
            # The bonus of the state itself is the step's own business.
            actions = mdp.action_values(values[-1])
            eta = step_size(k, logs, actions) if callable(step_size) else step_size
            if step is None:
                logs = proximal_step(logs, actions, step_size=eta, magnet_weight=entropy_weight, q=q)
            else:
                logs = step(logs, actions, eta)
    return PolicyRun(logs, torch.stack(values))


def geometric_steps(mdp: TabularMDP) -> StepSize:
    """``eta_k = discount^-(k+1)``: linear convergence. Source: Xiao, 2022."""
    return lambda k, logs, actions: mdp.discount ** -(k + 1)


def adaptive_steps(mdp: TabularMDP) -> StepSize:
    """``eta_k(s) = D(greedy, pi_k)(s) / discount^(2 (k+1))``: the gap is at most a constant times ``discount^k``.

    Source: Johnson, Pike-Burke, Rebeschini, "Optimal Convergence Rate for Exact Policy Mirror Descent in Discounted
    Markov Decision Processes", 2023.
    """

    def rule(k: int, logs: Tensor, actions: Tensor) -> Tensor:
        best = actions.argmax(-1, keepdim=True)
        # KL of a point mass from the policy.
        return -logs.gather(-1, best).squeeze(-1) / mdp.discount ** (2 * (k + 1))

    return rule


def softmax_mirror_ascent(mdp: TabularMDP, iterations: int, step_size: float) -> PolicyRun:
    """``pi_(k+1) = pi_k (1 + eta A_k)`` with exact advantages: mirror ascent in the logits of a softmax.

    Raises:
        DomainError: If a step makes a probability negative; ``step_size <= 1 - discount`` is safe for rewards in
            ``[0, 1]``.

    Source: Asad, Babanezhad, Laradji, Le Roux, Vaswani, "Fast Convergence of Softmax Policy Mirror Ascent", 2025.
    """
    logs, values = mdp.uniform_policy(), []
    for k in range(iterations + 1):
        values.append(mdp.state_values(logs))
        if k < iterations:
            advantages = mdp.action_values(values[-1]) - values[-1].unsqueeze(-1)
            factor = 1 + step_size * advantages
            if not bool((factor > 0).all()):
                raise DomainError(f"step_size={step_size} makes a probability negative; use at most 1 - discount")
            logs = torch.log_softmax(logs + factor.log(), -1)
    return PolicyRun(logs, torch.stack(values))
