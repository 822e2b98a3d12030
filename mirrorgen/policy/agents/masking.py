"""Policies for observations that say which actions are allowed."""

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from torch import Tensor

from mirrorgen.errors import DomainError

__all__ = ["MASK", "MaskedActorCriticPolicy"]

MASK = "action_mask"


class MaskedActorCriticPolicy(MultiInputActorCriticPolicy):
    """An actor-critic over dictionaries whose entry ``"action_mask"`` has a one for each allowed action.

    Forbidden actions have no mass, in rollouts, losses and ``predict``. The mask is a feature of the network as well.

    Args:
        observation_space: A dictionary with ``"action_mask"``, one number per action.
        action_space: ``Discrete``.
        arguments: Of ``MultiInputActorCriticPolicy``.
        options: Of the same.

    Raises:
        DomainError: If a space is of another kind, or a row of a mask allows nothing.

    Source: Huang, Ontanon, "A Closer Look at Invalid Action Masking in Policy Gradient Algorithms", 2022.
    """

    def __init__(
        self, observation_space: spaces.Space, action_space: spaces.Space, *arguments: Any, **options: Any
    ) -> None:
        if not isinstance(action_space, spaces.Discrete):
            raise DomainError(f"masks need a Discrete action space, got {action_space}")
        actions = (int(action_space.n),)
        entries = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {}
        if MASK not in entries or entries[MASK].shape != actions:
            raise DomainError(f"observations need an entry {MASK!r} of shape {actions}, got {observation_space}")
        super().__init__(spaces.Dict(entries), action_space, *arguments, **options)

    def extract_features(self, obs: Any, features_extractor: Any = None) -> Any:
        """Features; the mask is kept for the law of the actions that follows from them."""
        self._keep_mask(obs)
        return super().extract_features(obs, features_extractor)

    def get_distribution(self, obs: Any) -> Distribution:
        """The law of the actions; the base class reaches the features past ``extract_features``."""
        self._keep_mask(obs)
        return super().get_distribution(obs)

    def _keep_mask(self, obs: Any) -> None:
        self._mask = obs[MASK] > 0
        if not bool(self._mask.any(-1).all()):
            raise DomainError(f"a row of {MASK!r} allows no action; end the episode before that")

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Distribution:
        logits = torch.where(self._mask, self.action_net(latent_pi), -torch.inf)
        return self.action_dist.proba_distribution(action_logits=logits)
