"""One update of our actor-critics against one of Stable-Baselines3's PPO: the same rollouts, batches and epochs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.timing import interleaved

TITLE = "Updates of agents: seconds of train() on one buffer, ten passes in minibatches unless said"
NOTES = (
    "ratio: seconds over those of PPO of Stable-Baselines3 with as many updates, timed in turn in this process",
    "full batch: ten steps on the whole batch and ten passes over the values",
    "error: largest difference of weights to PPO's after one update by DriftPO with PPO's clip in one batch",
)
REQUIRES = ("stable_baselines3",)
FORMATS = {"seconds": ".3e", "ratio": ".3f", "error": ".1e"}
CASES = {"CartPole-v1, 8 x 128, batches of 128": ("CartPole-v1", 8, 128, 128),
         "Pendulum-v1, 4 x 512, batches of 64": ("Pendulum-v1", 4, 512, 64)}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One agent."""

    case: str
    contender: str
    threads: int
    seconds: float
    ratio: float
    error: float | None


def filled(cls: type, environment: str, num_envs: int, n_steps: int, batch_size: int, **options: Any) -> Any:
    """An agent with a full buffer of its first policy."""
    from stable_baselines3.common.env_util import make_vec_env

    env = make_vec_env(environment, num_envs, seed=0)
    settings = {"n_steps": n_steps, "batch_size": batch_size, "n_epochs": 10, "seed": 0, "device": "cpu"}
    agent = cls("MlpPolicy", env, **(settings | options))
    agent.train = lambda: None
    agent.learn(num_envs * n_steps)
    del agent.train
    return agent


def clip_error(environment: str) -> float:
    """See ``NOTES``: that the same work is timed."""
    from stable_baselines3 import PPO

    from mirrorgen.policy import ClipDrift, DriftPO

    settings = {"n_epochs": 3, "policy_kwargs": {"optimizer_kwargs": {"eps": 1e-5}}}
    theirs = filled(PPO, environment, 4, 32, 128, **settings)
    ours = filled(DriftPO, environment, 4, 32, 128, **settings, drift=ClipDrift(0.2))
    ours.policy.load_state_dict(theirs.policy.state_dict())
    ours.rollout_buffer = theirs.rollout_buffer
    theirs.train()
    ours.train()
    pairs = zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def case(name: str, threads: int, quick: bool) -> list[Row]:
    """All agents on one environment."""
    from stable_baselines3 import PPO

    from mirrorgen.policy import MDPO, MMD, DriftPO

    environment, num_envs, n_steps, batch_size = CASES[name]
    contenders: dict[str, tuple[type, dict[str, Any]]] = {
        "PPO": (PPO, {}), "MDPO": (MDPO, {}), "MDPO, full batch": (MDPO, {"full_batch": True}),
        "DriftPO": (DriftPO, {}), "MMD, moving magnet": (MMD, {"magnet": "moving"}),
    }  # fmt: skip
    n_steps = 32 if quick else n_steps
    agents = {k: filled(c, environment, num_envs, n_steps, batch_size, **o) for k, (c, o) in contenders.items()}
    functions: dict[str, Callable[[], object]] = {k: agent.train for k, agent in agents.items()}
    seconds = interleaved(functions, 1 if quick else 3, 1 if quick else 5)
    error = clip_error(environment)
    return [Row(name, k, threads, s, s / seconds["PPO"], error if k == "DriftPO" else None) for k, s in seconds.items()]


def run(quick: bool = False) -> list[Row]:
    """Classic control, with the number of threads in force."""
    return [row for name in CASES for row in case(name, torch.get_num_threads(), quick)]
