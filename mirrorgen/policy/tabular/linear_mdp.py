"""Finite-horizon decision processes whose rewards and transitions are linear in known features, with exact values."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError

__all__ = ["LinearMDP", "one_hot_mdp", "random_linear_mdp"]


@dataclass(frozen=True, eq=False)
class LinearMDP:
    """``r_h(s, a) = <phi(s, a), theta_h>`` and ``P_h(t | s, a) = <phi(s, a), mu_h(t)>`` for steps ``h < horizon``.

    Policies are log-probabilities ``(*batch, horizon, states, actions)``; values are sums of expected rewards.

    Args:
        features: ``phi (*batch, states, actions, dim)``.
        rewards: ``theta (*batch, horizon, dim)``; all rewards in ``[0, 1]``.
        measures: ``mu (*batch, horizon, dim, states)``.
        start: Law of the first state ``(*batch, states)``; the first one if None.

    Raises:
        ShapeError: If shapes do not fit.
        DomainError: If transitions are no probabilities, or a reward is outside ``[0, 1]``.

    Source: Jin, Yang, Wang, Jordan, "Provably Efficient Reinforcement Learning with Linear Function Approximation",
    2020.
    """

    features: Tensor
    rewards: Tensor
    measures: Tensor
    start: Tensor | None = None

    def __post_init__(self) -> None:
        phi, theta, mu = self.features, self.rewards, self.measures
        fits = phi.ndim >= 3 and mu.ndim == phi.ndim and mu.shape[:-1] == theta.shape
        if not fits or (mu.shape[-1], mu.shape[-2]) != (phi.shape[-3], phi.shape[-1]):
            raise ShapeError(
                "features are (*batch, states, actions, dim), rewards (*batch, horizon, dim) and measures "
                f"(*batch, horizon, dim, states), got {tuple(phi.shape)}, {tuple(theta.shape)} and {tuple(mu.shape)}"
            )
        P, r = self.transitions, self.expected_rewards
        if not bool((P >= -1e-12).all()) or float((P.sum(-1) - 1).abs().max()) > 1e-8:
            raise DomainError("features times measures must be probabilities: not negative, of sum one over states")
        if not bool(((r >= -1e-12) & (r <= 1 + 1e-12)).all()):
            raise DomainError("features times rewards must lie in [0, 1]; divide rewards by the largest")

    @property
    def shape(self) -> torch.Size:
        """``(*batch, horizon, states, actions)``."""
        return self.expected_rewards.shape

    @cached_property
    def expected_rewards(self) -> Tensor:
        """``r_h(s, a)``, ``(*batch, horizon, states, actions)``."""
        return torch.einsum("...sad,...hd->...hsa", self.features, self.rewards)

    @cached_property
    def transitions(self) -> Tensor:
        """``P_h(t | s, a)``, ``(*batch, horizon, states, actions, states)``."""
        return torch.einsum("...sad,...hdt->...hsat", self.features, self.measures)

    @cached_property
    def first(self) -> Tensor:
        """Law of the first state ``(*batch, states)``."""
        shape = (*self.shape[:-3], self.shape[-2])
        if self.start is not None:
            return self.start.expand(shape)
        zero = torch.zeros(shape[:-1], dtype=torch.long, device=self.features.device)
        return torch.nn.functional.one_hot(zero, shape[-1]).to(self.features)

    def uniform_policy(self) -> Tensor:
        """Log-probabilities of the policy that draws every action equally at every step."""
        return torch.zeros_like(self.expected_rewards).log_softmax(-1)

    def state_values(self, log_policy: Tensor | None = None) -> Tensor:
        """Values of the states at every step ``(*batch, horizon, states)``, of the best policy if None is given.

        ``v_h(s) = sum_a pi_h(a | s) q_h(s, a)`` or ``max_a q_h(s, a)`` with ``q_h = r_h + P_h v_(h+1)``, from the last
        step backwards.
        """
        values = torch.zeros_like(self.expected_rewards[..., 0, :, 0])
        mass, found = None if log_policy is None else log_policy.exp(), []
        for h in range(self.shape[-3] - 1, -1, -1):
            following = (self.transitions[..., h, :, :, :] @ values[..., None, :, None]).squeeze(-1)
            q = self.expected_rewards[..., h, :, :] + following
            values = q.amax(-1) if mass is None else (mass[..., h, :, :] * q).sum(-1)
            found.append(values)
        return torch.stack(found[::-1], -2)

    def value_of(self, log_policy: Tensor | None = None) -> Tensor:
        """Value from the first state ``(*batch)``, the largest there is if no policy is given."""
        return (self.first * self.state_values(log_policy)[..., 0, :]).sum(-1)


def one_hot_mdp(states: int = 3, actions: int = 2, horizon: int = 5, *, batch: int = 1, seed: int = 0) -> LinearMDP:
    """``batch`` random processes without structure: one feature per pair, uniform rewards, sparse random transitions.

    Args:
        states: Number of states.
        actions: Number of actions; ``dim = states * actions``.
        horizon: Number of steps.
        batch: Number of processes.
        seed: Of rewards and transitions.
    """
    pairs = states * actions
    features = torch.eye(pairs, dtype=torch.float64).reshape(states, actions, pairs).expand(batch, -1, -1, -1)
    return _random(features, horizon, torch.Generator().manual_seed(seed))


def random_linear_mdp(
    states: int = 20, actions: int = 4, dim: int = 6, horizon: int = 5, *, batch: int = 1, seed: int = 0
) -> LinearMDP:
    """``batch`` random processes with features on the simplex: every pair is a mixture of ``dim`` latent ones.

    Args:
        states: Number of states.
        actions: Number of actions.
        dim: Number of features.
        horizon: Number of steps.
        batch: Number of processes.
        seed: Of features, rewards and transitions.
    """
    generator = torch.Generator().manual_seed(seed)
    return _random(_sparse((batch, states, actions, dim), generator), horizon, generator)


def _random(features: Tensor, horizon: int, generator: torch.Generator) -> LinearMDP:
    if horizon < 1:
        raise DomainError(f"horizon must be at least 1, got {horizon}")
    batch, states, _, dim = features.shape
    rewards = torch.rand(batch, horizon, dim, generator=generator, dtype=torch.float64)
    return LinearMDP(features, rewards, _sparse((batch, horizon, dim, states), generator))


def _sparse(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Points of the simplex over the last axis, most of the mass in few coordinates."""
    weights = torch.rand(shape, generator=generator, dtype=torch.float64).pow(6)
    return weights / weights.sum(-1, keepdim=True)
