"""Mirror descent policy optimisation from replayed transitions."""

import copy
import math
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.sac.policies import Actor
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import mse_loss, softplus

from mirrorgen.errors import DomainError
from mirrorgen.policy.agents.checks import check_number
from mirrorgen.special import tsallis_log

__all__ = ["SoftMDPO"]


class SoftMDPO(SAC):
    """``min E[c log pi(a | s) + (lambda - c) log pi_old(a | s) - Q(s, a)]`` with ``c = 1 / step_size``, ``a ~ pi``.

    ``KL(pi, pi_old) / step_size`` and the entropy of weight ``lambda = ent_coef``, linearised at the old policy;
    critics, target networks and replay are those of SAC, and ``step_size = 1 / ent_coef`` is SAC itself. With ``q``
    other than 1 logarithms are Tsallis', ``(p^(q-1) - 1) / (q - 1)`` of each coordinate's density, summed, and that of
    the old policy counts ``q`` times, as in the divergence of the potential. Actions are drawn from the policy.

    Args:
        policy: As in SAC, like all arguments but these.
        env: Environment with a bounded ``Box`` of actions.
        step_size: Positive; infinite for no penalty.
        old_policy_interval: Gradient steps for which the old policy stays.
        q: Tsallis index, in ``[1, 2]``.
        ent_coef: ``lambda``, a number, or ``"auto"`` as in SAC.
        magnitude_penalty: Weight of ``mean^2 + log_deviation^2`` of the actions before ``tanh``.
        options: Of SAC.

    Raises:
        DomainError: If a number is out of range, or actions are not continuous and bounded.

    Source: Tomar, Shani, Efroni, Ghavamzadeh, "Mirror Descent Policy Optimization", 2022.
    """

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        step_size: float = 1.0,
        old_policy_interval: int = 1000,
        q: float = 1.0,
        ent_coef: str | float = 0.2,
        magnitude_penalty: float = 1e-3,
        _init_setup_model: bool = True,
        **options: Any,
    ) -> None:
        self.step_size, self.old_policy_interval, self.q = step_size, old_policy_interval, q
        self.magnitude_penalty = magnitude_penalty
        if not step_size > 0:
            raise DomainError(f"step_size must be positive, infinite for no penalty, got {step_size}")
        check_number("old_policy_interval", old_policy_interval, 1)
        check_number("q", q, 1.0, 2.0)
        check_number("magnitude_penalty", magnitude_penalty, 0.0)
        space = getattr(env, "action_space", None)
        if options.get("use_sde"):
            raise DomainError("use_sde=True gives no density before tanh; SoftMDPO explores by its own noise")
        if space is not None and not isinstance(space, spaces.Box):
            raise DomainError(f"SoftMDPO needs a Box of actions, got {space}; use MDPO or MVIQ for discrete ones")
        super().__init__(policy, env, ent_coef=ent_coef, _init_setup_model=False, **options)
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        super()._setup_model()
        self.old_actor: Actor = copy.deepcopy(self.actor).requires_grad_(False)

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """``gradient_steps`` steps of critics, policy and targets."""
        self.policy.set_training_mode(True)
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer])
        losses = torch.zeros(2)
        buffer: Any = self.replay_buffer
        for step in range(gradient_steps):
            if self._n_updates % self.old_policy_interval == 0:
                self.old_actor.load_state_dict(self.actor.state_dict())
            batch = buffer.sample(batch_size, env=self._vec_normalize_env)
            critic = _descend(self.critic.optimizer, self.critic_loss(batch))
            actor = _descend(self.actor.optimizer, self.actor_loss(batch))
            losses += torch.stack([critic, actor]).cpu()
            if step % self.target_update_interval == 0:
                polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
                polyak_update(self.batch_norm_stats, self.batch_norm_stats_target, 1.0)
            self._n_updates += 1
        for name, value in zip(("critic_loss", "actor_loss"), losses / gradient_steps, strict=True):
            self.logger.record(f"train/{name}", float(value))
        self.logger.record("train/ent_coef", float(self._entropy_weight()))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def critic_loss(self, batch: ReplayBufferSamples) -> Tensor:
        """Half the squared error of both critics towards ``r + gamma (min Q' - lambda log pi')``."""
        with torch.no_grad():
            actions, logs, _ = self._draw(batch.next_observations)
            values = torch.cat(self.critic_target(batch.next_observations, actions), 1).amin(1, keepdim=True)
            soft = values - self._entropy_weight() * tsallis_log(logs, self.q).sum(-1, keepdim=True)
            discounts = self.gamma if batch.discounts is None else batch.discounts
            targets = batch.rewards + (1 - batch.dones) * discounts * soft
        found = self.critic(batch.observations, batch.actions)
        return 0.5 * torch.stack([mse_loss(q, targets) for q in found]).sum()

    def actor_loss(self, batch: ReplayBufferSamples) -> Tensor:
        """See the class; updates the weight of the entropy where that is learned."""
        actions, logs, gaussian = self._draw(batch.observations)
        mean, log_std, _ = self.old_actor.get_action_dist_params(batch.observations)
        old = _squashed_log_prob(mean, log_std, gaussian)
        weight, sharpness = self._entropy_weight(), 1 / self.step_size
        penalty = sharpness * tsallis_log(logs, self.q) + (weight - sharpness) * self.q * tsallis_log(old, self.q)
        values = torch.cat(self.critic(batch.observations, actions), 1).amin(1)
        if self.ent_coef_optimizer is not None and self.log_ent_coef is not None:
            gap = (logs.sum(-1) + float(self.target_entropy)).detach()
            _descend(self.ent_coef_optimizer, -(self.log_ent_coef * gap).mean())
        return (penalty.sum(-1) - values).mean() + self._magnitude(batch.observations)

    def _magnitude(self, observations: Any) -> Tensor | float:
        if not self.magnitude_penalty:
            return 0.0
        law = self.actor.action_dist.distribution
        return self.magnitude_penalty * (law.mean.square() + law.stddev.log().square()).sum(-1).mean()

    def _draw(self, observations: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Actions, log-densities of their coordinates, and the actions before ``tanh``."""
        mean, log_std, _ = self.actor.get_action_dist_params(observations)
        law: Any = self.actor.action_dist
        actions = law.actions_from_params(mean, log_std)
        gaussian = law.gaussian_actions
        return actions, _squashed_log_prob(mean, log_std, gaussian), gaussian

    def _entropy_weight(self) -> Tensor:
        return self.ent_coef_tensor if self.log_ent_coef is None else self.log_ent_coef.detach().exp()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "old_actor"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        names, variables = super()._get_torch_save_params()
        return [*names, "old_actor"], variables


def _squashed_log_prob(mean: Tensor, log_std: Tensor, gaussian: Tensor) -> Tensor:
    """Log-density of each coordinate of ``tanh(gaussian)``; at the sample before ``tanh``, which that loses."""
    # log(1 - tanh(u)^2) without the rounding of tanh(u) to one.
    return Normal(mean, log_std.exp()).log_prob(gaussian) - 2 * (math.log(2) - gaussian - softplus(-2 * gaussian))


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()
