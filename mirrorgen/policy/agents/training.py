"""Training runs of agents: environments, evaluations on the way, files, and going on where a run stopped."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, sync_envs_normalization

from mirrorgen.errors import DomainError, MissingExtraError

__all__ = ["AgentRun", "Evaluation"]

MakeAgent = Callable[[Any, VecEnv], BaseAlgorithm]


@dataclass
class AgentRun:
    """One seed of an experiment and its folder.

    Args:
        agent: Makes the agent from policy and environment.
        environment: Registered name.
        folder: For ``evaluations.csv``, the logger's ``progress.csv``, ``model.zip``, ``normalizer.pkl``.
        policy: As in Stable-Baselines3.
        num_envs: Copies of the environment.
        normalize: Standardise observations and scale rewards by running deviations.
        total_timesteps: Steps of all copies together.
        seed: Of agent and environments; evaluations take environments of their own.
        eval_every: Steps between evaluations; the model is saved with each.
        eval_episodes: Episodes of an evaluation, with the most likely action.
        environment_options: Arguments of the environment.
    """

    agent: MakeAgent
    environment: str
    folder: Path
    policy: str = "MlpPolicy"
    num_envs: int = 8
    normalize: bool = False
    total_timesteps: int = 100_000
    seed: int = 0
    eval_every: int = 10_000
    eval_episodes: int = 20
    environment_options: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("num_envs", "total_timesteps", "eval_every", "eval_episodes"):
            if getattr(self, name) < 1:
                raise DomainError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def model_path(self) -> Path:
        """The last model saved."""
        return self.folder / "model.zip"

    @property
    def _normalizer_path(self) -> Path:
        return self.folder / "normalizer.pkl"

    def environments(self, seed: int, *, training: bool) -> VecEnv:
        """Copies of the environment, normalised with the run's statistics where it has some.

        Raises:
            DomainError: If no environment has this name.
            MissingExtraError: If it needs a package that is not installed.
        """
        try:
            env = make_vec_env(self.environment, self.num_envs, seed=seed, env_kwargs=self.environment_options)
        except gymnasium.error.DependencyNotInstalled as error:
            raise MissingExtraError(f"{self.environment} needs another package: {error}") from error
        except gymnasium.error.Error as error:
            raise DomainError(f"no environment is made from {self.environment!r}: {error}") from error
        if not self.normalize:
            return env
        if self._normalizer_path.exists():
            normalized = VecNormalize.load(str(self._normalizer_path), env)
            normalized.training, normalized.norm_reward = training, training
            return normalized
        return VecNormalize(env, training=training, norm_reward=training)

    def train(self, *, resume: bool = False, progress: bool = False) -> BaseAlgorithm:
        """Train, evaluate, save.

        Args:
            resume: Go on from ``model.zip``, with the steps that are left; replayed transitions start anew.
            progress: Show a bar.

        Raises:
            DomainError: If the folder holds a run and ``resume`` is not set.
        """
        found = self.model_path.exists()
        if found and not resume:
            raise DomainError(f"{self.folder} holds a run; pass resume=true to go on, or another name")
        self.folder.mkdir(parents=True, exist_ok=True)
        env = self.environments(self.seed, training=True)
        torch.manual_seed(self.seed)
        agent = self.agent(self.policy, env)
        if isinstance(env, VecNormalize):
            # Rewards are scaled by the deviation of discounted returns.
            env.gamma = agent.gamma  # type: ignore[attr-defined]
        if found:
            agent = type(agent).load(self.model_path, env=env, device=agent.device)
        else:
            agent.set_random_seed(self.seed)
        left = self.total_timesteps - agent.num_timesteps
        if left > 0:
            agent.set_logger(configure(str(self.folder / f"log_{agent.num_timesteps}"), ["csv"]))
            callback = Evaluation(self, self.environments(self.seed + 10_000, training=False))
            agent.learn(left, callback=callback, reset_num_timesteps=False, progress_bar=progress)
            agent.logger.close()
        env.close()
        return agent

    def save(self, agent: BaseAlgorithm) -> None:
        """Model and statistics, under a temporary name first: an interrupted write leaves the last one."""
        partial = self.folder / "partial.zip"
        agent.save(partial)
        normalizer = agent.get_vec_normalize_env()
        if normalizer is not None:
            normalizer.save(str(self.folder / "partial.pkl"))
            (self.folder / "partial.pkl").replace(self._normalizer_path)
        partial.replace(self.model_path)

    def curve(self) -> dict[str, np.ndarray]:
        """Columns of ``evaluations.csv``."""
        with (self.folder / "evaluations.csv").open() as file:
            rows = list(csv.DictReader(file))
        return {k: np.array([float(r[k]) for r in rows]) for k in Evaluation.COLUMNS}

    def summary(self) -> dict[str, Any]:
        """Last, best and mean evaluation, and the largest fall from a peak; also written to ``summary.json``."""
        curve = self.curve()
        returns = curve["mean_return"]
        drop = float((np.maximum.accumulate(returns) - returns).max())
        values = {
            "environment": self.environment, "seed": self.seed, "timesteps": int(curve["timesteps"][-1]),
            "final_return": float(returns[-1]), "best_return": float(returns.max()),
            "mean_return": float(returns.mean()), "max_drawdown": drop,
        }  # fmt: skip
        (self.folder / "summary.json").write_text(json.dumps(values, indent=2) + "\n")
        return values


class Evaluation(BaseCallback):
    """Evaluate every ``eval_every`` steps and at the end, append a row, save the model.

    Args:
        run: The run.
        env: Environments of its own.
    """

    COLUMNS = ("timesteps", "mean_return", "std_return", "mean_length")

    def __init__(self, run: AgentRun, env: VecEnv) -> None:
        super().__init__()
        self.run, self.env, self._last = run, env, 0

    def _on_training_start(self) -> None:
        self._last = self.num_timesteps
        if not self._path.exists():
            self._write(self.COLUMNS, "w")

    @property
    def _path(self) -> Path:
        return self.run.folder / "evaluations.csv"

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps - self._last >= self.run.eval_every:
            self._evaluate()

    def _on_training_end(self) -> None:
        if self.num_timesteps > self._last:
            self._evaluate()
        self.env.close()

    def _evaluate(self) -> None:
        self._last = self.num_timesteps
        if isinstance(self.env, VecNormalize):
            sync_envs_normalization(self.training_env, self.env)
        returns, lengths = evaluate_policy(
            self.model, self.env, self.run.eval_episodes, return_episode_rewards=True, warn=False
        )
        row = (self.num_timesteps, np.mean(returns), np.std(returns), np.mean(lengths))
        # The model first: a run that stops in between goes on without writing a row twice.
        self.run.save(self.model)
        self._write(row, "a")
        self.logger.record("eval/mean_reward", float(row[1]))

    def _write(self, row: Any, mode: str) -> None:
        with self._path.open(mode, newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(row)
