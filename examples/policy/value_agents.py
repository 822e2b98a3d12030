"""Value-based agents on CartPole-v1: return, greedy evaluation, oscillation and cost at equal steps.

    python examples/policy/value_agents.py [--quick] [--seeds 5] [--steps 20000] [--only DQN,StaQ] [--resume]
    python examples/policy/value_agents.py --steps 50000 --only DQN,M-DQN:0.3,MVI:1,StaQ:20

value_agents.csv         means over seeds with 95% bootstrap intervals
value_agents_seeds.csv   one row per run
value_agents_curves.csv  greedy return of every evaluation of every run
value_agents.png         curves, and oscillation beside the last evaluations
value_agents_50000.csv   and so on: the same of another number of steps

DQN (Stable-Baselines3's), Munchausen DQN (``q = 1``) and MVI(2) share networks, buffers, learning rate, exploration and
updates: RL Zoo's settings of DQN for this environment with 64 hidden units instead of 256 and blocks of 32 updates
instead of 128, between which targets are copied. StaQ has its defaults and as many updates. All act in four
environments. Settings were chosen on seeds 101 and 102. Each evaluation plays one greedy episode from each of ten
starts, the same for all.

training    mean return of the episodes that end in the second half of training, exploration included
last        mean of the last fifth of the evaluations
solved      share of the evaluations in the second half that reach 475
late std    standard deviation of the evaluations in the second half, within a run
drawdown    largest fall of an evaluation below an earlier one, whole run
seconds     processor time without evaluations
"""

import time
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
from common import COLORS, clean, figure, options, save, show, write_csv
from report import kept_rows
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from mirrorgen.policy.agents.munchausen_dqn import MVIQ
from mirrorgen.policy.agents.staq import StaQ

SHARED = {
    "learning_rate": 2.3e-3,
    "batch_size": 64,
    "buffer_size": 100_000,
    "learning_starts": 1000,
    "gamma": 0.99,
    "target_update_interval": 64,
    "train_freq": 16,  # In each of four environments.
    "gradient_steps": 32,
    "exploration_fraction": 0.16,
    "exploration_final_eps": 0.04,
    "policy_kwargs": {"net_arch": [64, 64]},
}
STACKED = {"train_freq": 125, "gradient_steps": 250, "policy_kwargs": {"net_arch": [64, 64]}}
STEPS = 20_000
Maker = Callable[[int], BaseAlgorithm]
METRICS = ("training", "last", "solved", "late std", "drawdown", "seconds")


def poles(seed: int) -> VecEnv:
    """Four environments: each action is one evaluation for all, and no agent learns between two actions anyway."""
    return make_vec_env("CartPole-v1", 4, seed=seed)


def agents() -> dict[str, Maker]:
    """Agents by name, made from a seed."""

    def munchausen(q: float, temperature: float) -> Maker:
        return lambda seed: MVIQ("MlpPolicy", poles(seed), q=q, temperature=temperature, seed=seed, **SHARED)

    def stacked(memory: int) -> Maker:
        return lambda seed: StaQ("MlpPolicy", poles(seed), memory=memory, seed=seed, **STACKED)

    found: dict[str, Maker] = {"DQN": lambda seed: DQN("MlpPolicy", poles(seed), seed=seed, **SHARED)}
    found |= {f"M-DQN, temperature {t:g}": munchausen(1.0, t) for t in (0.03, 0.3, 3.0)}
    found |= {f"MVI(2), temperature {t:g}": munchausen(2.0, t) for t in (0.1, 1.0, 10.0)}
    return found | {f"StaQ, memory {m}": stacked(m) for m in (1, 5, 20, 50)}


def short(name: str) -> tuple[str, str]:
    """What ``--only`` calls an agent: its family, or family and number."""
    family = name.split(",")[0].removesuffix("(2)")
    return family, f"{family}:{name.split(' ')[-1]}"


class Evaluations(BaseCallback):
    """Greedy returns on the way, training returns, and the time that evaluations take."""

    def __init__(self, every: int, episodes: int = 10) -> None:
        super().__init__()
        self.every, self.spent = every, 0.0
        self.env = gym.make_vec("CartPole-v1", num_envs=episodes, vectorization_mode="vector_entry_point")
        self.greedy: list[float] = []
        self.training: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        self.training += [(self.num_timesteps, i["episode"]["r"]) for i in self.locals["infos"] if "episode" in i]
        if self.num_timesteps % self.every == 0:
            begin = time.process_time()
            self.greedy.append(self.evaluate())
            self.spent += time.process_time() - begin
        return True

    def evaluate(self) -> float:
        """Mean return of the first episode of each environment."""
        observations, _ = self.env.reset(seed=2026)
        returns, alive = np.zeros(self.env.num_envs), np.ones(self.env.num_envs, dtype=bool)
        while alive.any():
            actions, _ = self.model.predict(observations, deterministic=True)
            observations, rewards, ended, cut, _ = self.env.step(actions)
            returns += alive * rewards
            alive &= ~(ended | cut)
        return float(returns.mean())


def measure(make: Maker, seed: int, steps: int) -> tuple[dict[str, float], list[float]]:
    """Metrics and evaluations of one run."""
    seen, begin = Evaluations(steps // 40), time.process_time()
    make(seed).learn(steps, callback=seen)
    curve = np.array(seen.greedy)
    late = curve[len(curve) // 2 :]
    training = [value for step, value in seen.training if step > steps / 2]
    found = {
        "training": float(np.mean(training)) if training else float("nan"),
        "last": float(curve[-len(curve) // 5 :].mean()),
        "solved": float((late >= 475).mean()),
        "late std": float(late.std()),
        "drawdown": float((np.maximum.accumulate(curve) - curve).max()),
        "seconds": time.process_time() - begin - seen.spent,
    }
    return found, seen.greedy


def interval(values: np.ndarray) -> tuple[float, float]:
    """A 95% bootstrap interval of the mean."""
    draws = np.random.default_rng(0).choice(values, (4000, len(values))).mean(1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def summarise(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Means and intervals over the seeds of each agent."""
    table = []
    for name in dict.fromkeys(r["agent"] for r in rows):
        entry: dict[str, object] = {"agent": name, "seeds": sum(r["agent"] == name for r in rows)}
        for metric in METRICS:
            values = np.array([float(r[metric]) for r in rows if r["agent"] == name])
            low, high = interval(values)
            entry |= {metric: float(values.mean()), f"{metric} low": low, f"{metric} high": high}
        table.append(entry)
    return table


def draw(table: list[dict[str, object]], curves: list[dict[str, object]], path: Path) -> None:
    """Mean curves in three panels, and oscillation against the last evaluations."""
    made = figure(13, 3.4)
    *panels, scatter = made.subplots(1, 4)
    for axis, kind in zip(panels, ("M-DQN", "MVI(2)", "StaQ"), strict=True):
        shown = [str(e["agent"]) for e in table if str(e["agent"]).startswith(("DQN", kind))]
        for name in shown:
            color = "#444444" if name == "DQN" else COLORS[shown.index(name) % 6]
            runs = [r for r in curves if r["agent"] == name]
            steps = sorted({int(r["steps"]) for r in runs})
            values = [[float(r["greedy"]) for r in runs if int(r["steps"]) == k] for k in steps]
            ends = np.array([interval(np.array(v)) for v in values])
            axis.plot(steps, [np.mean(v) for v in values], color=color, lw=1.3, label=name)
            axis.fill_between(steps, ends[:, 0], ends[:, 1], color=color, alpha=0.12, lw=0)
        clean(axis, f"{kind} and DQN: means, 95% intervals", "steps", "greedy return")
        axis.legend(fontsize=6.5, frameon=False)
    for place, entry in enumerate(table):
        family = str(entry["agent"]).split(",")[0]
        color = {"DQN": "#444444", "M-DQN": COLORS[0], "MVI(2)": COLORS[1], "StaQ": COLORS[2]}[family]
        scatter.plot(float(entry["last"]), float(entry["late std"]), "o", color=color)
        label = str(entry["agent"]).replace("temperature ", "").replace("memory ", "")
        scatter.annotate(label, (float(entry["last"]), float(entry["late std"])), fontsize=6, xytext=(3, 2 + place % 3),
                         textcoords="offset points")  # fmt: skip
    clean(scatter, "oscillation", "mean of the last evaluations", "std of evaluations in the second half")
    save(made, path)


def main() -> None:
    args = options(__doc__, seeds=5, steps=STEPS, only="", resume=False)
    steps, seeds = (2000, 1) if args.quick else (args.steps, args.seeds)
    chosen = {k: v for k, v in agents().items() if not args.only or set(short(k)) & set(args.only.split(","))}
    stem = "value_agents" if args.quick or steps == STEPS else f"value_agents_{steps}"
    names = [args.out / f"{stem}{part}.csv" for part in ("_seeds", "_curves", "")]
    rows, curves = (kept_rows(path, args.resume) for path in names[:2])
    done = {(r["agent"], r["seed"]) for r in rows}
    curves = [r for r in curves if (r["agent"], r["seed"]) in done]
    notes = [f"CartPole-v1, {steps} steps, {seeds} seeds, one thread", "evaluations: ten greedy episodes, fixed starts"]
    # Seeds outside: what an interrupted study has is complete for fewer seeds.
    for seed in range(seeds):
        for name, make in chosen.items():
            if (name, seed) in done:
                continue
            found, greedy = measure(make, seed, steps)
            rows.append({"agent": name, "seed": seed, **found})
            every = steps // 40
            curves += [
                {"agent": name, "seed": seed, "steps": every * (i + 1), "greedy": g} for i, g in enumerate(greedy)
            ]
            for path, table in zip(names, (rows, curves), strict=False):
                write_csv(path, notes, table)
    table = summarise(rows)
    show([{k: v for k, v in entry.items() if not k.endswith(("low", "high"))} for entry in table])
    write_csv(names[2], [*notes, *(__doc__ or "").split("\n\n")[-1].splitlines()], table)
    draw(table, curves, args.out / f"{stem}.png")


if __name__ == "__main__":
    main()
