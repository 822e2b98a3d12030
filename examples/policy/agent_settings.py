"""Settings of MDPO for Hopper-v5 and HalfCheetah-v5, tried on a seed that the study of agents does not report.

    python examples/policy/agent_settings.py [--quick] [--seeds 1] [--resume] [--out DIR]

100,000 steps in 8 copies, 2048 steps an update; seeds from 100 on.

agent_settings.csv, a row per run:

last         return of 8 episodes after the last update, with the most likely action
middle       the same after half of the steps
training     mean return of the last 100 episodes of training
divergence   KL(new, old) of an update, of the joint action: median of six updates evenly over the run
first, final the same of the first and the last update
deviation    of the policy's noise, last update
explained    share of the variance of returns that values explain: median of three updates of the second half

Divergences of TRPO are means over the coordinates of an action in its log, and are multiplied by their number.
"""

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from agents import TRPO
from agents_report import Row
from common import kept_rows, options, show, write_csv
from stable_baselines3.common.utils import LinearSchedule

from mirrorgen.policy.agents import MDPO
from mirrorgen.policy.agents.training import AgentRun

COORDINATES = {"Hopper-v5": 3, "HalfCheetah-v5": 6}
FALLING = LinearSchedule(1e-3, 0.0, 1.0)
WHOLE = {"full_batch": True, "n_epochs": 20, "batch_size": 128, "learning_rate": 1e-3}
MINI = {"n_epochs": 10, "batch_size": 256, "learning_rate": 1e-3}
SETTINGS: dict[str, tuple[type | None, dict[str, Any]]] = {
    "MDPO, whole batch, step size 1 to .1": (MDPO, WHOLE),
    "MDPO, whole batch, step size 1": (MDPO, WHOLE | {"step_size": 1.0}),
    "MDPO, whole batch, step size .5": (MDPO, WHOLE | {"step_size": 0.5}),
    "MDPO, minibatches, step size 1 to .1, rate to 0": (MDPO, MINI | {"learning_rate": FALLING}),
    "MDPO, minibatches, step size 1": (MDPO, MINI | {"step_size": 1.0}),
    "MDPO, minibatches, step size .3": (MDPO, MINI | {"step_size": 0.3}),
    "TRPO": (TRPO, {"n_critic_updates": 20}),
}


def run(environment: str, name: str, seed: int, steps: int) -> Row:
    """Train one agent and read its log."""
    cls, settings = SETTINGS[name]
    assert cls is not None
    with tempfile.TemporaryDirectory() as folder:
        one = AgentRun(
            lambda policy, env: cls(policy, env, device="cpu", n_steps=256, **settings),
            environment,
            Path(folder),
            normalize=True,
            total_timesteps=steps,
            seed=seed,
            eval_every=steps // 2,
            eval_episodes=8,
        )
        one.train()
        returns = one.curve()["mean_return"]
        with next(Path(folder).glob("log_*/progress.csv")).open() as file:
            log = list(csv.DictReader(file))
    row = {"environment": environment, "agent": name, "seed": seed,
           "last": float(returns[-1]), "middle": float(returns[0])}  # fmt: skip
    return row | diagnostics(log, COORDINATES.get(environment, 1))


def diagnostics(log: list[dict[str, str]], coordinates: int) -> Row:
    """What the module's head describes."""

    def evenly(column: str) -> np.ndarray:
        values = np.array([float(line[column]) for line in log if line.get(column)] or [np.nan])
        return values[np.linspace(0, len(values) - 1, 6).astype(int)]

    ours = any(line.get("train/approx_kl") for line in log)
    moved = evenly("train/approx_kl") if ours else evenly("train/kl_divergence_loss") * coordinates
    return {
        "training": float(evenly("rollout/ep_rew_mean")[-1]),
        "divergence": float(np.median(moved)), "first": float(moved[0]), "final": float(moved[-1]),
        "deviation": float(evenly("train/std")[-1]),
        "explained": float(np.median(evenly("train/explained_variance")[3:])),
    }  # fmt: skip


def main() -> None:
    """Environments by settings; rows are written after every run."""
    chosen = options(__doc__, seeds=1, resume=False)
    rows = kept_rows(chosen.out / "agent_settings.csv", chosen.resume)
    done = {(r["environment"], r["agent"], r["seed"]) for r in rows}
    usable = [name for name, (cls, _) in SETTINGS.items() if cls is not None]
    names = usable[:1] if chosen.quick else usable
    for seed in range(100, 100 + (1 if chosen.quick else chosen.seeds)):
        for key in [(e, n, seed) for e in (["Pendulum-v1"] if chosen.quick else COORDINATES) for n in names]:
            if key not in done:
                rows.append(run(*key, steps=2048 if chosen.quick else 100_000))
                write_csv(chosen.out / "agent_settings.csv", ["returns of one seed differ by hundreds"], rows)
    show(rows)


if __name__ == "__main__":
    main()
