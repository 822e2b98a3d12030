"""On-policy actor-critics whose update is a proximal step on a network: what their losses share."""

from abc import abstractmethod
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import FloatSchedule, explained_variance
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.policy.agents.checks import check_number
from mirrorgen.policy.agents.laws import ActionLaw, action_law, divergence
from mirrorgen.policy.agents.masking import MaskedActorCriticPolicy
from mirrorgen.policy.agents.rollouts import Rollouts

__all__ = ["ProximalActorCritic"]


class ProximalActorCritic(OnPolicyAlgorithm):
    """Rollouts of Stable-Baselines3, then inner steps on ``policy_loss`` and regression of the values.

    With ``full_batch`` an update is ``n_epochs`` steps of the policy on the whole batch, then ``n_epochs`` passes of
    regression of the values in minibatches; otherwise ``n_epochs`` passes in minibatches over the sum of both losses.
    Episodes cut by a time limit bootstrap from the value of their last observation.

    Args:
        policy: As in Stable-Baselines3; ``"MaskedPolicy"`` for observations that name the allowed actions.
        env: Environment, or its registered name.
        learning_rate: Of Adam; number, or function of the remaining share of training.
        n_steps: Steps per environment and update.
        batch_size: Of a minibatch.
        n_epochs: Inner steps ``m``, or passes.
        gamma: Discount.
        gae_lambda: Decay of the advantages.
        full_batch: See above; whole-batch steps need networks of policy and values that share nothing.
        normalize_advantage: Standardise advantages over the batch; step sizes then count in their deviations.
        clip_range_vf: Bound on the change of a value, number or function; None for none.
        ent_coef: Weight of the entropy.
        vf_coef: Weight of the values' loss in the sum.
        max_grad_norm: Bound on the norm of the gradient.
        target_kl: Stop an update when ``KL(new, old)`` is beyond 1.5 times this; None for never.
        options: Of ``OnPolicyAlgorithm``: ``use_sde``, ``policy_kwargs``, ``seed``, ``device``, ...

    Raises:
        DomainError: If a number is out of range, or ``full_batch`` and shared features do not go together.
    """

    policy_aliases = {  # noqa: RUF012 (the base class declares it so)
        "MlpPolicy": ActorCriticPolicy,
        "CnnPolicy": ActorCriticCnnPolicy,
        "MultiInputPolicy": MultiInputActorCriticPolicy,
        "MaskedPolicy": MaskedActorCriticPolicy,
    }

    def __init__(
        self,
        policy: Any,
        env: Any,
        learning_rate: float | Schedule = 3e-4,
        n_steps: int = 2048,
        batch_size: int = 64,
        n_epochs: int = 10,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        full_batch: bool = False,
        normalize_advantage: bool = True,
        clip_range_vf: float | Schedule | None = None,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        target_kl: float | None = None,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        _init_setup_model: bool = True,
        **options: Any,
    ) -> None:
        self.batch_size, self.n_epochs, self.full_batch = batch_size, n_epochs, full_batch
        self.normalize_advantage, self.clip_range_vf, self.target_kl = normalize_advantage, clip_range_vf, target_kl
        supported = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=gae_lambda,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            supported_action_spaces=supported,
            _init_setup_model=False,
            **options,
        )
        if _init_setup_model:
            self._setup_model()

    def _check(self) -> None:
        """Raise ``DomainError`` for settings that cannot train; subclasses add theirs."""
        for name, low in (("batch_size", 2), ("n_epochs", 1), ("n_steps", 1)):
            check_number(name, getattr(self, name), low)
        for name in ("gamma", "gae_lambda"):
            check_number(name, getattr(self, name), 0.0, 1.0)
        if self.n_steps * self.n_envs < 2:
            raise DomainError("one transition is no batch: raise n_steps or the number of environments")

    def _setup_model(self) -> None:
        if "optimizer_class" not in self.policy_kwargs:
            # Stable-Baselines3's Adam with one kernel for all weights, a tenth of an update with small networks.
            self.policy_kwargs = {"optimizer_kwargs": {"eps": 1e-5, "fused": True}, **self.policy_kwargs}
        self._check()
        super()._setup_model()
        shared = self.policy.share_features_extractor and any(True for _ in self.policy.features_extractor.parameters())
        if self.full_batch and shared:
            raise DomainError(
                "full_batch=True regresses the values after the policy's step, which shared features would move: "
                "pass policy_kwargs={'share_features_extractor': False}, or full_batch=False"
            )

    @abstractmethod
    def policy_loss(self, new: ActionLaw, log_ratio: Tensor, rows: Rollouts) -> Tensor:
        """What inner steps minimise, entropy bonus excluded.

        Args:
            new: Law of the actions under the network.
            log_ratio: ``log pi(a | s) - log pi_old(a | s)``.
            rows: The transitions, with the old law.
        """

    def train(self) -> None:
        """One update from the rollouts at hand."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        rollouts = Rollouts.of(self.rollout_buffer, self.policy, self.action_space)
        if self.normalize_advantage:
            rollouts = rollouts.standardized()
        rollouts = self.prepared(rollouts)
        for epoch in range(self.n_epochs):
            for rows in [rollouts] if self.full_batch else rollouts.batches(self.batch_size):
                self._policy_step(rows)
            self._n_updates += 1
            if self._too_far(rollouts, epoch):
                break
        if self.full_batch:
            self._fit_values(rollouts)
        self._log(rollouts)
        self.end_update()

    def prepared(self, rollouts: Rollouts) -> Rollouts:
        """What an update adds to the transitions, once."""
        return rollouts

    def end_update(self) -> None:
        """Called after the inner steps."""

    def evaluate(self, rows: Rollouts) -> tuple[ActionLaw, Tensor, Tensor, Tensor]:
        """Law, ``log pi / pi_old``, entropy and values of the network at ``rows``."""
        values, log_prob, entropy = self.policy.evaluate_actions(rows.observations, rows.actions)
        law = action_law(self.policy.action_dist)
        return law, log_prob - rows.log_prob, -log_prob if entropy is None else entropy, values.flatten()

    def _policy_step(self, rows: Rollouts) -> None:
        law, log_ratio, entropy, values = self.evaluate(rows)
        # Ratios beyond e^20 are as good as infinite, and overflow in float32 soon after.
        loss = self.policy_loss(law, log_ratio.clamp(-20, 20), rows)
        if self.ent_coef:
            loss = loss - self.ent_coef * entropy.mean()
        if not self.full_batch:
            loss = loss + self.vf_coef * self._value_loss(values, rows)
        self._descend(loss)

    def _value_loss(self, values: Tensor, rows: Rollouts) -> Tensor:
        if self.clip_range_vf is not None:
            bound = FloatSchedule(self.clip_range_vf)(self._current_progress_remaining)
            values = rows.values + (values - rows.values).clamp(-bound, bound)
        return (values - rows.returns).square().mean()

    def _fit_values(self, rollouts: Rollouts) -> None:
        for _ in range(self.n_epochs):
            for rows in rollouts.batches(self.batch_size):
                self._descend(self._value_loss(self.policy.predict_values(rows.observations).flatten(), rows))

    def _descend(self, loss: Tensor) -> None:
        self.policy.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()

    def _too_far(self, rollouts: Rollouts, epoch: int) -> bool:
        if self.target_kl is None or epoch == self.n_epochs - 1:
            return False
        return self._diagnostics(rollouts)["approx_kl"] > 1.5 * self.target_kl

    def _diagnostics(self, rollouts: Rollouts) -> dict[str, float]:
        with torch.no_grad():
            law, log_ratio, entropy, _ = self.evaluate(rollouts)
            loss = self.policy_loss(law, log_ratio.clamp(-20, 20), rollouts)
            moved = divergence(law, rollouts.law)
        return {
            "approx_kl": float(moved.mean()),
            "policy_gradient_loss": float(loss),
            "entropy_loss": -float(entropy.mean()),
        }

    def _log(self, rollouts: Rollouts) -> None:
        for key, value in self._diagnostics(rollouts).items():
            self.logger.record(f"train/{key}", value)
        buffer = self.rollout_buffer
        self.logger.record(
            "train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        )
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", float(self.policy.log_std.detach().exp().mean()))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
