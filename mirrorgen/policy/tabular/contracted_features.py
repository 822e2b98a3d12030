"""Learning a linear decision process from episodes by proximal steps along optimistic values."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.numerics import inverse_cdf
from mirrorgen.policy.proximal import proximal_step
from mirrorgen.policy.tabular.linear_mdp import LinearMDP

__all__ = ["LinearRun", "contracted_feature_policy_optimization", "contraction_factors", "feature_norms"]


@dataclass(frozen=True)
class LinearRun:
    """What a run went through.

    Attributes:
        log_policy: The last policy ``(*batch, horizon, states, actions)``.
        values: Exact value of the policy of every episode, ``(episodes, *batch)``.
        epochs: How many epochs there were, ``(*batch)``.
    """

    log_policy: Tensor
    values: Tensor
    epochs: Tensor

    def regret(self, optimal: Tensor) -> Tensor:
        """``sum_(j <= k) v* - v_j`` with exact values, ``(episodes, *batch)``."""
        return (optimal - self.values).cumsum(0)


def feature_norms(features: Tensor, factor: Tensor) -> Tensor:
    """``|phi(s, a)|_(G^-1)`` with ``G = L L^T``.

    Args:
        features: ``(*batch, states, actions, dim)``.
        factor: ``L (*batch, horizon, dim, dim)``, lower triangular.

    Returns:
        ``(*batch, horizon, states, actions)``.
    """
    columns = features.flatten(-3, -2).mT.unsqueeze(-3)
    # The square root of a quadratic form by one triangular solve: it cannot become negative.
    white = torch.linalg.solve_triangular(factor, columns, upper=False)
    return white.square().sum(-2).sqrt().unflatten(-1, features.shape[-3:-1])


def contraction_factors(norms: Tensor, contraction: float | Tensor, episodes: int) -> Tensor:
    """``sigmoid(log K - b |phi|)``: close to one for features that were seen often, to zero for others."""
    return torch.sigmoid(math.log(episodes) - contraction * norms)


def contracted_feature_policy_optimization(
    mdp: LinearMDP,
    episodes: int,
    *,
    step_size: float = 1.0,
    bonus_scale: float | Tensor = 0.3,
    contraction: float | None = None,
    ridge: float = 1.0,
    generator: torch.Generator | None = None,
) -> LinearRun:
    """CFPO: ``pi_(k+1) ~ pi_k exp(eta q_k)`` with ``q_k = clip(<c phi, w> + b c |phi|_(G^-1), 0, horizon)``.

    ``w_h = G_h^-1 sum phi (r + v_(h+1)(s'))`` is ridge regression on all episodes before, backwards over the steps
    ``h``. Contraction factors ``c`` and norms are those of the matrix ``G`` at the start of the epoch; an epoch ends,
    and the policy is uniform again, when a determinant has doubled. Rewards are drawn as coin flips of the expected
    ones; the process is known to the learner by its features alone.

    The theory's constants (``eta = sqrt(2 log A / K) / horizon``, bonuses of order ``dim * horizon``) bound the regret
    by ``O(sqrt(K))`` but leave the policy nearly uniform for thousands of episodes; the defaults are what works there.

    Args:
        mdp: The process; a batch of processes is learned side by side, each from its own episodes.
        episodes: ``K``.
        step_size: ``eta``.
        bonus_scale: ``b``, one number or ``(*batch)``.
        contraction: Weight of the norm in the factor; ``log K`` if None, with which unseen unit features count half.
        ridge: What ``G`` starts with, times the identity.
        generator: Of actions, rewards and next states.

    Raises:
        DomainError: If a number is out of range.

    Source: Cassel, Rosenberg, "Warm-up Free Policy Optimization: Improved Regret in Linear Markov Decision Processes",
    2024. Values are clipped here, which the contraction makes rare.
    """
    scale = torch.as_tensor(bonus_scale, dtype=mdp.features.dtype, device=mdp.features.device)
    weight = math.log(max(episodes, 2)) if contraction is None else contraction
    if episodes < 1 or not (step_size > 0 and ridge > 0 and weight >= 0 and bool((scale >= 0).all())):
        raise DomainError(
            "episodes must be at least 1, step_size and ridge positive, bonus_scale and contraction at least 0"
        )
    learner = _Learner(mdp, ridge)
    start = mdp.uniform_policy()
    logs, factors, bonus = start, torch.ones_like(start), torch.zeros_like(start)
    volume = torch.full(start.shape[:-2], -torch.inf, dtype=start.dtype, device=start.device)
    epochs = torch.zeros(start.shape[:-3], dtype=torch.long, device=start.device)
    values, played = [], []
    for k in range(episodes):
        factor = torch.linalg.cholesky(learner.gram)
        current = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        new = (current >= volume + math.log(2)).any(-1)
        if bool(new.any()):
            rows = new[..., None, None, None]
            norms = feature_norms(mdp.features, factor)
            fresh = contraction_factors(norms, weight, episodes)
            factors, logs = torch.where(rows, fresh, factors), torch.where(rows, start, logs)
            bonus = torch.where(rows, scale[..., None, None, None] * fresh * norms, bonus)
            volume, epochs = torch.where(new.unsqueeze(-1), current, volume), epochs + new
        played.append(logs)
        optimistic = learner.action_values(logs, factor, factors, bonus)
        learner.play(logs, generator)
        logs = proximal_step(logs, optimistic, step_size=step_size)
        # Exact values are for the report alone: many policies at once cost little more than one.
        if len(played) == 100 or k == episodes - 1:
            values.append(mdp.value_of(torch.stack(played)))
            played = []
    return LinearRun(logs, torch.cat(values), epochs)


class _Learner:
    """Sums of the regressions: ``G`` of the features, and those of rewards and of next states on them."""

    def __init__(self, mdp: LinearMDP, ridge: float) -> None:
        *batch, self.horizon, states, _ = mdp.shape
        dim, dtype, device = mdp.features.shape[-1], mdp.features.dtype, mdp.features.device
        self.mdp, self.batch = mdp, tuple(batch)
        self.cumulative, self.first = mdp.transitions.cumsum(-1), mdp.first.cumsum(-1)
        self.gram = ridge * torch.eye(dim, dtype=dtype, device=device).expand(*batch, self.horizon, dim, dim)
        self.targets = torch.zeros(*batch, self.horizon, dim, 1 + states, dtype=dtype, device=device)
        self.outcomes = torch.eye(states, dtype=dtype, device=device)

    def action_values(self, log_policy: Tensor, factor: Tensor, factors: Tensor, bonus: Tensor) -> Tensor:
        """Clipped optimistic values of actions ``(*batch, horizon, states, actions)``."""
        solved = torch.cholesky_solve(self.targets, factor)
        # What the regressions predict for the reward (column 0) and for the indicator of every next state.
        predicted = self.mdp.features.flatten(-3, -2).unsqueeze(-3) @ solved
        predicted = predicted.unflatten(-2, log_policy.shape[-2:]) * factors.unsqueeze(-1)
        rewards, following = (predicted[..., 0] + bonus).unbind(-3), predicted[..., 1:].unbind(-4)
        mass, found = log_policy.exp().unbind(-3), [rewards[-1].clamp(0.0, float(self.horizon))]
        for h in range(self.horizon - 2, -1, -1):
            values = (mass[h + 1] * found[-1]).sum(-1)[..., None, :, None]
            q = rewards[h] + (following[h] @ values).squeeze(-1)
            found.append(q.clamp(0.0, float(self.horizon)))
        return torch.stack(found[::-1], -3)

    def play(self, log_policy: Tensor, generator: torch.Generator | None) -> None:
        """One episode of every process, added to the sums.

        What would happen in every state at every step is drawn at once, with one number per step for all states; the
        path through it has the right law, because it meets one state per step.
        """
        dtype, device = self.gram.dtype, self.gram.device
        u = torch.rand(4, *self.batch, self.horizon, generator=generator, dtype=dtype, device=device)
        actions = inverse_cdf(log_policy.exp().cumsum(-1), u[0].unsqueeze(-1))
        chosen = actions.unsqueeze(-1)
        rows = chosen.unsqueeze(-1).expand(*actions.shape, 1, actions.shape[-1])
        following = inverse_cdf(self.cumulative.gather(-2, rows).squeeze(-2), u[1].unsqueeze(-1))
        path = [inverse_cdf(self.first, u[3, ..., 0])]
        for step in following.unbind(-2)[:-1]:
            path.append(step.gather(-1, path[-1].unsqueeze(-1)).squeeze(-1))
        state = torch.stack(path, -1).unsqueeze(-1)
        expected = self.mdp.expected_rewards.gather(-1, chosen).squeeze(-1).gather(-1, state)
        pair = state * log_policy.shape[-1] + actions.gather(-1, state)
        features = self.mdp.features.flatten(-3, -2)
        phi = features.gather(-2, pair.expand(*pair.shape[:-1], features.shape[-1])).unsqueeze(-1)
        won = (u[2].unsqueeze(-1) < expected).to(dtype)
        outcome = torch.cat([won, self.outcomes[following.gather(-1, state).squeeze(-1)]], -1)
        self.gram, self.targets = self.gram + phi * phi.mT, self.targets + phi * outcome.unsqueeze(-2)
