"""Value learning with a share of the action gap, or of the log-policy, in the reward: MVI(q) and Munchausen DQN."""

from typing import Any, Self

import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, PyTorchObs, ReplayBufferSamples, Schedule
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor
from torch.nn import functional as F

from mirrorgen.errors import DomainError
from mirrorgen.policy.agents.checks import check_number, discrete_environment
from mirrorgen.policy.munchausen import munchausen_targets, tsallis_greedy

__all__ = ["MVIQ"]

# Numbers in observations per evaluation of the target network: what bounds the memory of one evaluation.
_NUMBERS = 2**21


class MVIQ(DQN):
    """DQN whose policies are Tsallis policies of its values, and whose rewards gain a share of the action gap.

    The regression's target is ``munchausen_targets`` on the target network,

        ``r + share (Q(s, a) - <pi(s), Q(s)>) + gamma (<pi(s'), Q(s')> + temperature S_q(pi(s')))``,

    with ``pi = argmax_pi <pi, Q> + temperature S_q(pi)``: an implicit Kullback-Leibler penalty between successive
    policies, and its Tsallis form for ``q != 1``. ``q = 1`` is Munchausen DQN, where the bonus is
    ``share [temperature log pi(a | s)]`` cut at ``lowest``; as ``q`` tends to one, the bonus above differs from that
    one by ``share temperature H(pi(s))``. ``share = 0`` is soft (sparse) value learning.

    Behaviour is DQN's: greedy in the values, the policy's mode, but for a random action with probability
    ``exploration_rate``. Small temperatures make the Tsallis policy almost greedy, and large ones would leave its
    exploration to the scale of rewards; ``log_policy`` gives it to those who want to act by it.

    Temperatures are in units of values: scale rewards, or the temperature, together. With ``n_steps > 1`` only the
    first step of a return gains the bonus.

    Args:
        policy: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"`` or a class.
        env: An environment, or its registered name.
        learning_rate: As in DQN.
        q: Entropic index, positive: 1 for the softmax, 2 for the sparsemax. Far from 1 and 2 the recursion is further
            from exact regularised iteration.
        share: ``alpha`` in [0, 1].
        temperature: ``tau``, positive.
        lowest: ``l0 <= 0``, of ``temperature log pi`` in the bonus of ``q = 1``.
        options: All others of DQN.

    Raises:
        DomainError: If a number is out of range, or actions are not ``Discrete``.

    Sources: Zhu, Chen, Schlegel, White, "General Munchausen Reinforcement Learning with Tsallis Kullback-Leibler
    Divergence", 2023; Vieillard, Pietquin, Geist, "Munchausen Reinforcement Learning", 2020.
    """

    def __init__(
        self,
        policy: str | type[DQNPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-4,
        *,
        q: float = 2.0,
        share: float = 0.9,
        temperature: float = 1.0,
        lowest: float = -1.0,
        **options: Any,
    ) -> None:
        check_number("q", q, 0.0, above=True)
        check_number("share", share, 0.0, 1.0)
        check_number("temperature", temperature, 0.0, above=True)
        if not lowest <= 0:
            raise DomainError(f"lowest bounds temperature log pi from below and must be at most 0, got {lowest!r}")
        self.q, self.share, self.temperature, self.lowest = q, share, temperature, lowest
        checked = discrete_environment(env, type(self).__name__, options.get("verbose", 0))
        super().__init__(policy, checked, learning_rate, **options)  # type: ignore[arg-type]

    def log_policy(self, observations: PyTorchObs) -> Tensor:
        """Log-probabilities ``(batch, actions)`` of the Tsallis policy at normalised observations."""
        return tsallis_greedy(self.q_net(observations), self.temperature, self.q)

    def targets(self, batch: ReplayBufferSamples) -> Tensor:
        """The regression's targets ``(batch)``, all values from the target network."""
        discounts = self.gamma if batch.discounts is None else batch.discounts.flatten()
        with torch.no_grad():
            return munchausen_targets(
                batch.rewards.flatten(),
                batch.actions.long().flatten(),
                self.q_net_target(batch.observations),
                self.q_net_target(batch.next_observations),
                discounts * (1 - batch.dones.flatten()),
                share=self.share,
                temperature=self.temperature,
                q=self.q,
                lowest=self.lowest,
            )

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        # The target network rests while this runs, so that targets of many steps are one evaluation.
        together = max(1, _NUMBERS // (batch_size * spaces.flatdim(self.observation_space)))
        losses, values = [], []
        for done in range(0, gradient_steps, together):
            steps = min(together, gradient_steps - done)
            batch = self.replay_buffer.sample(steps * batch_size, env=self._vec_normalize_env)  # type: ignore[union-attr]
            targets, actions = self.targets(batch), batch.actions.long()
            for begin in range(0, steps * batch_size, batch_size):
                rows = slice(begin, begin + batch_size)
                chosen = self.q_net(_take(batch.observations, rows)).gather(1, actions[rows]).squeeze(1)
                losses.append(self._descend(F.smooth_l1_loss(chosen, targets[rows])))
                values.append(chosen.detach().mean())
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", float(torch.stack(losses).mean()))
        self.logger.record("train/values", float(torch.stack(values).mean()))

    def _descend(self, loss: Tensor) -> Tensor:
        """One step of the optimiser."""
        self.policy.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()
        return loss.detach()

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "MVIQ",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)


def _take(observations: PyTorchObs, rows: slice) -> PyTorchObs:
    """Rows of observations, or of each of their parts."""
    if isinstance(observations, dict):
        return {name: part[rows] for name, part in observations.items()}
    return observations[rows]
