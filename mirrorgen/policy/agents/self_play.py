"""Extensive-form games as environments: one seat learns, chance and the other seat are played by tables."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.numerics import inverse_cdf
from mirrorgen.policy.agents.laws import action_law
from mirrorgen.policy.agents.masking import MASK
from mirrorgen.policy.games import ExtensiveGame

__all__ = ["SelfPlay", "SelfPlayEnv", "infoset_features"]


class SelfPlayEnv(VecEnv):
    """Many plays of a game at once; every play seats the learner anew, at random, against ``opponent``.

    Observations are dictionaries: ``"observation"``, the features of the infoset, and ``"action_mask"``. The reward is
    the learner's payoff at the end of a play.

    Args:
        game: A compiled game.
        num_envs: Plays at once.
        features: Of the infosets ``(infosets, d)``; None for ``infoset_features(game.keys)``.

    Attributes:
        opponent: Log-policy ``(infosets, actions)`` of the other seat, uniform at first; may be set at any time.

    Raises:
        DomainError: If a player never moves: there is nothing to learn in that seat.
    """

    render_mode = None  # Read by the base class.

    def __init__(self, game: ExtensiveGame, num_envs: int = 64, *, features: Tensor | None = None) -> None:
        self.game = game
        features = infoset_features(game.keys) if features is None else features
        self.features = features.float().numpy()
        if len({int(p) for p in game.owner}) < 2:
            raise DomainError("one of the players never moves; self-play needs two who do")
        self.mask = game.mask.numpy()
        actions = self.mask.shape[1]
        entries: dict[str, spaces.Space] = {
            "observation": spaces.Box(-np.inf, np.inf, (self.features.shape[1],), np.float32),
            MASK: spaces.Box(0.0, 1.0, (actions,), np.float32),
        }
        super().__init__(num_envs, spaces.Dict(entries), spaces.Discrete(actions))
        tree = game.histories
        self._row, self._child, self._payoff = (t.numpy() for t in (tree.row, tree.child, tree.payoff))
        # Nobody, chance and the ends of plays have no owner.
        self._mover = np.append(game.owner.numpy(), -1)[self._row]
        self._over = (self._mover < 0) & (tree.chance.sum(-1) == 0).numpy()
        self.random = np.random.default_rng()
        self.opponent = game.mask.double().log().log_softmax(-1)

    @property
    def opponent(self) -> Tensor:
        """Log-policy of the other seat."""
        return self._opponent

    @opponent.setter
    def opponent(self, log_policy: Tensor) -> None:
        self._opponent = log_policy
        self._cumulative = self.game.histories.cumulative(log_policy)

    def reset(self) -> dict[str, np.ndarray]:
        self.random = np.random.default_rng(next((s for s in self._seeds if s is not None), None))
        self._reset_seeds()
        self._node, self._seat = np.zeros(self.num_envs, dtype=int), np.zeros(self.num_envs, dtype=int)
        self._deal(np.arange(self.num_envs))
        return self._observe(self._node)

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, list[dict[str, Any]]]:
        every = np.arange(self.num_envs)
        if not self.mask[self._row[self._node], self._actions].all():
            raise DomainError("an action is not allowed at its infoset; policies must respect 'action_mask'")
        self._node = self._child[self._node, self._actions]
        self._advance(every)
        done = self._over[self._node]
        rewards = np.where(done, np.where(self._seat == 0, 1, -1) * self._payoff[self._node], 0.0).astype(np.float32)
        ended = np.flatnonzero(done)
        infos: list[dict[str, Any]] = [{} for _ in every]
        for i in ended:
            infos[i] = {"episode": {"r": float(rewards[i]), "l": 1, "t": 0.0}, "TimeLimit.truncated": False}
        self._deal(ended)
        return self._observe(self._node), rewards, done, infos

    def _deal(self, index: np.ndarray) -> None:
        """New plays, until the learner has a move in each."""
        while len(index):
            self._node[index] = 0
            self._seat[index] = self.random.integers(2, size=len(index))
            self._advance(index)
            index = index[self._over[self._node[index]]]

    def _advance(self, index: np.ndarray) -> None:
        """Moves of chance and of the other seat, up to the learner's next move or the end."""
        while True:
            node = self._node[index]
            index = index[~self._over[node] & (self._mover[node] != self._seat[index])]
            if not len(index):
                return
            node = self._node[index]
            move = inverse_cdf(self._cumulative[node], torch.from_numpy(self.random.random(len(index))))
            self._node[index] = self._child[node, move.numpy()]

    def _observe(self, node: np.ndarray) -> dict[str, np.ndarray]:
        row = self._row[node]
        return {"observation": self.features[row], MASK: self.mask[row].astype(np.float32)}

    def log_policy(self, agent: OnPolicyAlgorithm) -> Tensor:
        """The agent's log-policy at all infosets ``(infosets, actions)``, float64."""
        rows = {"observation": torch.from_numpy(self.features), MASK: torch.from_numpy(self.mask.astype(np.float32))}
        with torch.no_grad():
            law = action_law(agent.policy.get_distribution({k: v.to(agent.device) for k, v in rows.items()}))
        return law.tensors[0].double().cpu().log_softmax(-1)

    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        return [getattr(self, method_name)(*method_args, **method_kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


class SelfPlay(BaseCallback):
    """Before every rollout the other seat takes over the agent's policy; exploitability is measured now and then.

    Args:
        every: Updates between measurements, logged as ``game/exploitability`` and kept in ``history`` as pairs of
            steps and value; 0 for none.
    """

    def __init__(self, every: int = 10) -> None:
        super().__init__()
        self.every = every
        self.history: list[tuple[int, float]] = []
        self._updates = 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        env = self.training_env.unwrapped
        if not isinstance(env, SelfPlayEnv):
            raise DomainError(f"SelfPlay needs a SelfPlayEnv, got {type(env).__name__}")
        env.opponent = env.log_policy(self.model)  # type: ignore[arg-type]
        if self.every and self._updates % self.every == 0:
            value = float(env.game.exploitability(env.opponent))
            self.history.append((self.num_timesteps, value))
            self.logger.record("game/exploitability", value)
        self._updates += 1


def infoset_features(keys: Sequence[Hashable]) -> Tensor:
    """One-hot features ``(infosets, d)``: of every character of names that are strings, else of the infoset itself."""
    if not all(isinstance(k, str) for k in keys):
        return torch.eye(len(keys))
    names = [str(k) for k in keys]
    letters = {c: i for i, c in enumerate(sorted(set("".join(names))))}
    features = torch.zeros(len(names), max(map(len, names)), len(letters))
    for i, name in enumerate(names):
        features[i, torch.arange(len(name)), torch.tensor([letters[c] for c in name])] = 1.0
    return features.flatten(1)
