"""Magnetic mirror descent as an actor-critic: a penalty towards the last policy and one towards a magnet."""

import copy
from dataclasses import replace
from typing import Any, Literal

import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import FloatSchedule, polyak_update
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.policy.agents.actor_critic import ProximalActorCritic
from mirrorgen.policy.agents.checks import check_number
from mirrorgen.policy.agents.laws import ActionLaw, action_law, divergence
from mirrorgen.policy.agents.rollouts import Rollouts

__all__ = ["MMD"]


class MMD(ProximalActorCritic):
    """``max E[A(s, a)] - KL(pi, pi_old) / eta - alpha KL(pi, magnet)``, new policy first in both.

    In self-play of a two-player zero-sum game the last policy, not an average, approaches the equilibrium that the
    magnet regularises. Advantages keep their scale, because step and weight are meant in units of the payoffs.

    Args:
        policy: As in ``ProximalActorCritic``, like all arguments but these.
        env: Environment.
        step_size: ``eta``, number or function of the remaining share of training.
        magnet_weight: ``alpha``, likewise.
        magnet: ``"uniform"`` on the allowed actions, which is an entropy bonus; ``"moving"``, a copy of the network
            that follows it.
        magnet_rate: Share of the way that the moving magnet's weights go after an update; 1 copies them.
        normalize_advantage: See ``ProximalActorCritic``.
        options: Of ``ProximalActorCritic``.

    Raises:
        DomainError: See there; and if a step size or weight is out of range, or actions are continuous and the magnet
            uniform.

    Source: Sokota et al., "A Unified Approach to Reinforcement Learning, Quantal Response Equilibria, and Two-Player
    Zero-Sum Games", 2023.
    """

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        step_size: float | Schedule = 0.1,
        magnet_weight: float | Schedule = 0.05,
        magnet: Literal["uniform", "moving"] = "uniform",
        magnet_rate: float = 0.05,
        normalize_advantage: bool = False,
        **options: Any,
    ) -> None:
        self.step_size, self.magnet_weight = step_size, magnet_weight
        self.magnet, self.magnet_rate = magnet, magnet_rate
        super().__init__(policy, env, normalize_advantage=normalize_advantage, **options)

    def _check(self) -> None:
        super()._check()
        for share in (1.0, 0.0):
            if not FloatSchedule(self.step_size)(share) > 0 or not FloatSchedule(self.magnet_weight)(share) >= 0:
                raise DomainError("step_size must be positive and magnet_weight at least 0, until the end of training")
        if self.magnet not in ("uniform", "moving"):
            raise DomainError(f"magnet must be 'uniform' or 'moving', got {self.magnet!r}")
        check_number("magnet_rate", self.magnet_rate, 0.0, 1.0, above=True)
        if self.magnet == "uniform" and isinstance(self.action_space, spaces.Box):
            raise DomainError("no uniform law exists on a continuous action space; use magnet='moving'")

    def _setup_model(self) -> None:
        super()._setup_model()
        self.magnet_policy = copy.deepcopy(self.policy).requires_grad_(False) if self.magnet == "moving" else None

    def policy_loss(self, new: ActionLaw, log_ratio: Tensor, rows: Rollouts) -> Tensor:
        eta, alpha = (FloatSchedule(s)(self._current_progress_remaining) for s in (self.step_size, self.magnet_weight))
        magnet = rows.magnet or self._magnet_law(rows)
        moved, pulled = divergence(new, rows.law).mean(), divergence(new, magnet).mean()
        return moved / eta + alpha * pulled - (log_ratio.exp() * rows.advantages).mean()

    def prepared(self, rollouts: Rollouts) -> Rollouts:
        """With the magnet's law at all observations: it stays through the update."""
        return replace(rollouts, magnet=self._magnet_law(rollouts))

    def _magnet_law(self, rows: Rollouts) -> ActionLaw:
        if self.magnet_policy is None:
            return rows.law.uniform()
        with torch.no_grad():
            return action_law(self.magnet_policy.get_distribution(rows.observations)).detach()

    def end_update(self) -> None:
        """The moving magnet follows."""
        if self.magnet_policy is not None:
            polyak_update(self.policy.parameters(), self.magnet_policy.parameters(), self.magnet_rate)
            polyak_update(self.policy.buffers(), self.magnet_policy.buffers(), 1.0)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "magnet_policy"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        names, variables = super()._get_torch_save_params()
        return ([*names, "magnet_policy"] if self.magnet == "moving" else names), variables
