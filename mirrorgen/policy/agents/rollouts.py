"""All transitions of one update as tensors, with the old policy's law; minibatches are rows of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from mirrorgen.policy.agents.laws import ActionLaw, action_law

__all__ = ["Rollouts"]

Observations = Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class Rollouts:
    """``n`` transitions.

    Args:
        observations: ``(n, ...)``, or a dictionary of such.
        actions: ``(n, ...)``.
        values: Of the old network ``(n)``.
        log_prob: Of the actions under the old policy ``(n)``.
        advantages: ``(n)``.
        returns: Targets of the values ``(n)``.
        law: Of the actions under the old policy, constant.
        magnet: The law that a penalty pulls to, constant; None for none.
    """

    observations: Observations
    actions: Tensor
    values: Tensor
    log_prob: Tensor
    advantages: Tensor
    returns: Tensor
    law: ActionLaw
    magnet: ActionLaw | None = None

    @classmethod
    def of(cls, buffer: RolloutBuffer, policy: ActorCriticPolicy, action_space: spaces.Space) -> "Rollouts":
        """Those of a full buffer, while ``policy`` is the one that acted."""
        data = next(iter(buffer.get(None)))
        actions = data.actions.long().flatten() if isinstance(action_space, spaces.Discrete) else data.actions
        with torch.no_grad():
            law = action_law(policy.get_distribution(data.observations)).detach()
        values = (data.old_values, data.old_log_prob, data.advantages, data.returns)
        return cls(data.observations, actions, *values, law)

    def __len__(self) -> int:
        return len(self.advantages)

    def standardized(self) -> "Rollouts":
        """Advantages of mean zero and unit deviation."""
        a = self.advantages
        return replace(self, advantages=(a - a.mean()) / (a.std() + 1e-8))

    def rows(self, index: Tensor) -> "Rollouts":
        """Some of the transitions."""
        x = self.observations
        observations = {k: v[index] for k, v in x.items()} if isinstance(x, dict) else x[index]
        names = ("actions", "values", "log_prob", "advantages", "returns")
        numbers = {name: getattr(self, name)[index] for name in names}
        magnet = None if self.magnet is None else self.magnet.rows(index)
        return Rollouts(observations, law=self.law.rows(index), magnet=magnet, **numbers)

    def batches(self, size: int) -> Iterator["Rollouts"]:
        """One pass in random order; what is left over joins the last batch, so that none is tiny."""
        order = torch.randperm(len(self), device=self.advantages.device)
        count = max(1, len(self) // size)
        for index in order.tensor_split(count) if len(self) % size else order.split(size):
            yield self.rows(index)
