"""Gymnasium's vector environments as those of Stable-Baselines3."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv

from mirrorgen.errors import DomainError

__all__ = ["GymnasiumVecEnv"]


class GymnasiumVecEnv(VecEnv):
    """A ``gymnasium.vector.VectorEnv`` that begins the next episode in the step that ends one.

    Gymnasium's default begins it one step later, in a step whose action is ignored; such a step is no transition, and
    algorithms that store it learn from noise. The other two modes are understood.

    Args:
        env: Vector environment made with ``autoreset_mode=AutoresetMode.SAME_STEP`` or ``DISABLED``.

    Raises:
        DomainError: If ``env`` begins episodes one step later.
    """

    def __init__(self, env: VectorEnv) -> None:
        self.env: Any = env
        self.mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        if self.mode == AutoresetMode.NEXT_STEP:
            raise DomainError(
                "this environment resets in the step after an episode, whose action it ignores; make it with "
                "vector_kwargs={'autoreset_mode': gymnasium.vector.AutoresetMode.SAME_STEP}"
            )
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._returns, self._lengths = np.zeros(self.num_envs), np.zeros(self.num_envs, dtype=int)

    def reset(self) -> Any:
        seeds = self._seeds if any(s is not None for s in self._seeds) else None
        observations, _ = self.env.reset(seed=seeds)
        self._reset_seeds()
        self._returns[:], self._lengths[:] = 0.0, 0
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observations, rewards, terminated, truncated, info = self.env.step(self._actions)
        done = terminated | truncated
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if done.any():
            last = observations if self.mode == AutoresetMode.DISABLED else info["final_obs"]
            for i in np.flatnonzero(done).tolist():
                infos[i] = {
                    "terminal_observation": _row(last, i),
                    "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                    "episode": {"r": float(self._returns[i]), "l": int(self._lengths[i]), "t": 0.0},
                }
            self._returns[done], self._lengths[done] = 0.0, 0
            if self.mode == AutoresetMode.DISABLED:
                observations, _ = self.env.reset(options={"reset_mask": done})
        return observations, np.asarray(rewards, dtype=np.float32), done, infos

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        # Gymnasium's own vector environments differ in whether they hold many or are one.
        values = self.env.get_attr(attr_name) if hasattr(self.env, "get_attr") else getattr(self.env, attr_name)
        values = list(values) if isinstance(values, list | tuple) else [values] * self.num_envs
        return [values[i] for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise DomainError("attributes can be set on all environments at once only")
        self.env.set_attr(attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        results = self.env.call(method_name, *method_args, **method_kwargs)
        return [results[i] for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        self._seeds = [None if seed is None else seed + i for i in range(self.num_envs)]
        return self._seeds


def _row(batch: Any, i: int) -> Any:
    return {k: _row(v, i) for k, v in batch.items()} if isinstance(batch, dict) else batch[i]
