"""Policy mirror descent without a policy network: the softmax of a stack of frozen value networks."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import LinearSchedule
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.policy.agents.checks import check_number, discrete_environment
from mirrorgen.policy.agents.staq_policy import StaQPolicy
from mirrorgen.policy.munchausen import tsallis_entropy

__all__ = ["StaQ", "entropy_sarsa_targets"]


def entropy_sarsa_targets(
    rewards: Tensor,
    next_values: Tensor,
    next_log_policy: Tensor,
    discounts: Tensor | float,
    temperature: float,
    next_actions: Tensor | None = None,
) -> Tensor:
    """``r + discount (Q(s', a') + temperature H(pi(s')))``, the entropy exact.

    Args:
        rewards: ``(*batch)``.
        next_values: ``Q(s', .)``, ``(*batch, actions)``.
        next_log_policy: ``log pi(. | s')``, ``(*batch, actions)``.
        discounts: Zero where the episode terminated; ``(*batch)`` or a number.
        temperature: Of the entropy.
        next_actions: ``a'``, drawn from ``pi``; None for the expectation over it.

    Returns:
        Targets ``(*batch)``.
    """
    if next_actions is None:
        following = (next_log_policy.exp() * next_values).sum(-1)
    else:
        following = next_values.gather(-1, next_actions.unsqueeze(-1)).squeeze(-1)
    return rewards + discounts * (following + temperature * tsallis_entropy(next_log_policy))


@dataclass(frozen=True)
class _Transitions:
    """The replay buffer of one iteration as tensors, with the policy's logits at the next states."""

    inputs: Tensor
    actions: Tensor
    rewards: Tensor
    discounts: Tensor
    next_inputs: Tensor
    next_logits: Tensor
    next_log_policy: Tensor


@dataclass(frozen=True)
class _Followed:
    """Logits at the next states of a buffer, moved on by every push, and the time when they were all of them."""

    buffer: ReplayBuffer
    timesteps: int
    logits: Tensor


class StaQ(OffPolicyAlgorithm):
    """Entropy-regularised policy mirror descent whose policy is a softmax of the last ``memory`` value functions.

    Mirror descent with weights ``kappa`` of the Kullback-Leibler divergence from the last policy and ``tau`` of the
    entropy, in closed form: ``xi_(k+1) = beta xi_k + alpha Q_k`` for the logits, ``alpha = 1 / (kappa + tau)``,
    ``beta = kappa / (kappa + tau)``; ``QStack`` keeps the last ``memory`` of them. No policy is fitted. One iteration
    collects ``train_freq`` steps with the present policy, of which a share ``exploration_eps`` is uniform; evaluates
    the policy by regressions on ``entropy_sarsa_targets``, an ensemble of value networks against the mean of its
    delayed copy; and pushes the ensemble on the stack. The policy rests within an iteration, and its logits at all
    replayed next states are evaluated once, after collection: by the recursion where they are known from the last
    iteration, by the whole stack where transitions are new, or where a wrapper normalises observations.

    ``predict(deterministic=True)`` is greedy in the logits. Until the first iteration ends the policy is uniform.

    Defaults are of a size for one core and short runs, for rewards of about one per step; ``paper_settings`` has the
    publication's. Values reach back one step per copy to the target networks: short runs need frequent ones. Choose
    ``memory`` such that ``(kappa / (kappa + tau)) ** memory`` is well below one. ``memory=1`` is soft policy iteration
    without a proximal term. Weights are in units of values after ``reward_scale``.

    Args:
        policy: ``"MlpPolicy"`` or a subclass of ``StaQPolicy``.
        env: An environment with discrete actions, or its registered name.
        learning_rate: A number or a schedule.
        buffer_size: Transitions to replay.
        learning_starts: Steps of uniform actions before the first iteration's training.
        batch_size: Transitions per gradient step.
        gamma: Discount.
        train_freq: Steps per environment and iteration.
        gradient_steps: Per iteration; -1 for as many as steps were collected.
        memory: ``M``.
        ensemble: Networks per value function.
        kl_weight: ``kappa`` times ``log`` of the number of actions, at least 0.
        temperature: ``tau`` times ``log`` of the number of actions, positive; a number, or a schedule of the progress
            that remains.
        reward_scale: Factor of rewards in targets.
        exploration_eps: Share of uniform actions in behaviour.
        target_update_interval: Gradient steps between copies to the target networks.
        expected_values: Whether targets take the expectation over next actions rather than one draw.
        policy_kwargs: Of ``StaQPolicy``, such as ``net_arch``.
        options: All others of ``OffPolicyAlgorithm`` but for custom replay buffers: ``seed``, ``verbose``, ``device``,
            ``stats_window_size``, ``tensorboard_log``.

    Raises:
        DomainError: If a number is out of range, actions are not ``Discrete``, or observations are dictionaries.

    Source: Shilova, Davey, Driss, Akrour, "StaQ: a Finite Memory Approach to Discrete Action Policy Mirror Descent",
    2025.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": StaQPolicy}
    policy: StaQPolicy
    action_space: spaces.Discrete

    def __init__(
        self,
        policy: str | type[StaQPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 2e-3,
        buffer_size: int = 20_000,
        learning_starts: int = 0,
        batch_size: int = 128,
        gamma: float = 0.99,
        train_freq: int = 500,
        gradient_steps: int = -1,
        *,
        memory: int = 50,
        ensemble: int = 2,
        kl_weight: float = 0.3,
        temperature: float | Schedule = 0.05,
        reward_scale: float = 1.0,
        exploration_eps: float = 0.05,
        target_update_interval: int = 25,
        expected_values: bool = True,
        policy_kwargs: dict[str, Any] | None = None,
        _init_setup_model: bool = True,
        **options: Any,
    ) -> None:
        self.memory, self.ensemble, self.kl_weight = memory, ensemble, kl_weight
        self.temperature, self.reward_scale, self.exploration_eps = temperature, reward_scale, exploration_eps
        self.target_update_interval, self.expected_values = target_update_interval, expected_values
        self._followed: _Followed | None = None
        self._check()
        super().__init__(
            policy,
            discrete_environment(env, type(self).__name__, options.get("verbose", 0)),  # type: ignore[arg-type]
            learning_rate,
            buffer_size,
            learning_starts,
            batch_size,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            policy_kwargs=policy_kwargs,
            sde_support=False,
            supported_action_spaces=(spaces.Discrete,),
            support_multi_env=True,
            **options,
        )
        if _init_setup_model:
            self._setup_model()

    def _check(self) -> None:
        for name in ("memory", "ensemble", "target_update_interval"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise DomainError(f"{name} must be a positive integer, got {value!r}")
        check_number("kl_weight", self.kl_weight, 0.0)
        if not callable(self.temperature):
            check_number("temperature", self.temperature, 0.0, above=True)
        check_number("reward_scale", self.reward_scale, 0.0, above=True)
        check_number("exploration_eps", self.exploration_eps, 0.0, 1.0)

    @classmethod
    def paper_settings(cls, total_timesteps: int = 5_000_000) -> dict[str, Any]:
        """The publication's options for classic control, to pass on: ``StaQ("MlpPolicy", env, **paper_settings())``.

        Args:
            total_timesteps: Those that ``learn`` will be called with: the temperature falls over the first 500,000.
        """
        return {
            "learning_rate": 1e-4,
            "buffer_size": 50_000,
            "batch_size": 256,
            "gamma": 0.99,
            "train_freq": 5000,
            "gradient_steps": -1,
            "memory": 300,
            "ensemble": 2,
            "kl_weight": 20.0,
            "temperature": LinearSchedule(2.0, 0.4, min(1.0, 500_000 / total_timesteps)),
            "reward_scale": 10.0,
            "exploration_eps": 0.05,
            "target_update_interval": 200,
            "expected_values": False,
            "policy_kwargs": {"net_arch": [256, 256]},
        }

    def _setup_model(self) -> None:
        sizes = {"memory": self.memory, "ensemble": self.ensemble, "exploration_eps": self.exploration_eps}
        self.policy_kwargs = {**self.policy_kwargs, **sizes}
        super()._setup_model()

    def weights(self) -> tuple[float, float]:
        """``kappa`` and ``tau`` now, both divided by ``log`` of the number of actions."""
        scheduled = self.temperature
        tau = float(scheduled(self._current_progress_remaining)) if callable(scheduled) else scheduled
        check_number("temperature", tau, 0.0, above=True)
        log_actions = math.log(self.action_space.n)
        return self.kl_weight / log_actions, tau / log_actions

    def train(self, gradient_steps: int, batch_size: int) -> None:
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        kappa, tau = self.weights()
        data, losses = self._replayed(), []
        for _ in range(gradient_steps):
            rows = torch.randint(len(data.rewards), (batch_size,), device=self.device)
            losses.append(self._descend(data, rows, tau))
            self._n_updates += 1
            if self._n_updates % self.target_update_interval == 0:
                self.policy.q_net_target.load_state_dict(self.policy.q_net.state_dict())
        push = (self.policy.q_net, 1 / (kappa + tau), kappa / (kappa + tau))
        logits = self.policy.stack.follow(data.next_inputs, data.next_logits, *push)
        self._followed = _Followed(cast(ReplayBuffer, self.replay_buffer), self.num_timesteps, logits)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", float(torch.stack(losses).mean()))
        self.logger.record("train/entropy", float(tsallis_entropy(data.next_log_policy).mean()))
        self.logger.record("train/temperature", tau)
        self.logger.record("train/stacked", len(self.policy.stack))

    def _descend(self, data: _Transitions, rows: Tensor, temperature: float) -> Tensor:
        """One step of the optimiser on the transitions ``rows``; the mean loss of a network."""
        log_policy = data.next_log_policy[rows]
        drawn = None if self.expected_values else torch.multinomial(log_policy.exp(), 1).squeeze(-1)
        with torch.no_grad():
            next_values = self.policy.q_net_target(data.next_inputs[rows]).mean(0)
            targets = entropy_sarsa_targets(
                data.rewards[rows], next_values, log_policy, data.discounts[rows], temperature, drawn
            )
        values = self.policy.q_net(data.inputs[rows])
        chosen = values.gather(-1, data.actions[rows].expand(self.ensemble, -1).unsqueeze(-1)).squeeze(-1)
        # Summed over networks, whose gradients have nothing in common: each learns as if it were alone.
        loss = torch.nn.functional.smooth_l1_loss(chosen, targets.expand_as(chosen)) * self.ensemble
        self.policy.optimizer.zero_grad()
        loss.backward()
        self.policy.optimizer.step()
        return loss.detach() / self.ensemble

    @torch.no_grad()
    def _replayed(self) -> _Transitions:
        """All replayed transitions, normalised by what the environment's wrapper knows now."""
        buffer, env = cast(ReplayBuffer, self.replay_buffer), self._vec_normalize_env
        size = buffer.size()

        def rows(array: np.ndarray) -> Tensor:
            return torch.as_tensor(array[:size].reshape(-1, *array.shape[2:]), device=self.device)

        def inputs(array: np.ndarray) -> Tensor:
            return self.policy.features(rows(cast(np.ndarray, buffer._normalize_obs(array[:size], env))))

        next_inputs = inputs(buffer.next_observations)
        next_logits = self._next_logits(buffer, next_inputs)
        return _Transitions(
            inputs(buffer.observations),
            rows(buffer.actions).long().squeeze(-1),
            self.reward_scale * rows(buffer._normalize_reward(buffer.rewards[:size], env)),
            self.gamma * (1 - rows(buffer.dones) * (1 - rows(buffer.timeouts))),
            next_inputs,
            next_logits,
            next_logits.log_softmax(-1),
        )

    def _next_logits(self, buffer: ReplayBuffer, next_inputs: Tensor) -> Tensor:
        """The stack's logits at all next states, those of transitions that are not new from the last iteration."""
        known, env = self._followed, self._vec_normalize_env
        if known is None or known.buffer is not buffer or (env is not None and env.norm_obs):
            return self.policy.stack(next_inputs)
        added = min((self.num_timesteps - known.timesteps) // self.n_envs, buffer.size())
        positions = (buffer.pos - 1 - torch.arange(added)) % buffer.buffer_size
        new = (positions.unsqueeze(-1) * self.n_envs + torch.arange(self.n_envs)).flatten().to(self.device)
        logits = torch.cat(
            (known.logits, known.logits.new_zeros(len(next_inputs) - len(known.logits), int(self.action_space.n)))
        )
        logits[new] = self.policy.stack(next_inputs[new])
        return logits

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "StaQ",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        self._followed = None  # What happened to stack and buffer since the last call is not known.
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_followed"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []
