"""Actor-critics at equal steps: MDPO by both inner solvers, other drifts, PPO, TRPO and SAC.

    python examples/policy/agents.py [--quick] [--seeds 10] [--only classic,inner,soft,mujoco] [--resume] [--out DIR]

classic   CartPole-v1, Acrobot-v1, Pendulum-v1, 100,000 steps: MDPO on whole batches (the published solver) and in
          minibatches, DriftPO, and PPO and TRPO with settings like those of RL Zoo; half the seeds for all but MDPO
          in minibatches (on Pendulum-v1 also on whole batches)
inner     MDPO on whole batches with 1, 5, 10 and 20 inner steps: CartPole-v1 and Pendulum-v1, three tenths of the seeds
soft      Pendulum-v1, 20,000 steps: SoftMDPO by index and SAC, three tenths of the seeds
mujoco    Hopper-v5 and HalfCheetah-v5, 100,000 steps, three tenths: a look at early learning, on the budget of
          one core; published curves have ten to a hundred times the steps

agents_seeds.csv   one row per run; an evaluation is 20 episodes (mujoco: 8) with the most likely action
agents.csv         interquartile means over seeds of the last evaluation and of the mean of all, 95% intervals
agents_trpo.csv    what they are above those of TRPO, 95% intervals
agents.png         learning curves, a panel per environment and section

Settings were tried on seeds 100 and 101, those of mujoco on 100 (agent_settings.py); neither is reported.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from agents_report import Row, differences, draw, summary
from common import kept_rows, options, show, write_csv
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.utils import LinearSchedule

from mirrorgen.policy.agents import MDPO, DriftPO, SoftMDPO
from mirrorgen.policy.agents.training import AgentRun

try:
    from sb3_contrib import TRPO
except ImportError:  # A peer of the extra "peers": its rows are left out.
    TRPO = None

DOWN = {"lr": LinearSchedule(1e-3, 0.0, 1.0), "clip": LinearSchedule(0.2, 0.0, 1.0)}


@dataclass(frozen=True)
class Contender:
    """An agent and its environments."""

    cls: type
    settings: dict[str, Any]
    num_envs: int = 8
    normalize: bool = False
    share: float = 0.5


@dataclass(frozen=True)
class Task:
    """An environment of a section, its budget and who competes."""

    section: str
    environment: str
    steps: int
    contenders: dict[str, Contender] = field(default_factory=dict)
    every: int = 20_000
    episodes: int = 20


def classic() -> list[Task]:
    """Three environments."""
    whole = {"n_steps": 128, "n_epochs": 20, "full_batch": True, "batch_size": 128, "learning_rate": 1e-3}
    mini = {"n_steps": 128, "n_epochs": 10, "batch_size": 128, "learning_rate": DOWN["lr"]}
    trpo = {"n_steps": 512, "batch_size": 512, "gae_lambda": 0.98, "cg_damping": 1e-3, "n_critic_updates": 20}
    cartpole = {
        "MDPO, whole batch": Contender(MDPO, whole),
        "MDPO, minibatches": Contender(MDPO, mini, share=1.0),
        "DriftPO": Contender(DriftPO, mini),
        "PPO": Contender(
            PPO,
            {"n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 20,
             "learning_rate": DOWN["lr"], "clip_range": DOWN["clip"]},
        ),
        "TRPO": Contender(TRPO, trpo | {"learning_rate": 1e-3}, 2),
    }  # fmt: skip
    acrobot = {k: Contender(c.cls, c.settings, c.num_envs, True, c.share) for k, c in cartpole.items() if k != "PPO"}
    acrobot["PPO"] = Contender(PPO, {"n_steps": 256, "gae_lambda": 0.94, "n_epochs": 4}, 16, True)
    change = {"n_steps": 512, "gamma": 0.9}
    ours = {k: c for k, c in cartpole.items() if k not in ("PPO", "TRPO")}
    pendulum = {k: Contender(c.cls, c.settings | change, 4, False, 0.5) for k, c in ours.items()}
    pendulum["MDPO, whole batch"] = replace(pendulum["MDPO, whole batch"], share=1.0)
    noise = {"use_sde": True, "sde_sample_freq": 4, "gamma": 0.9, "n_steps": 1024}
    pendulum["PPO"] = Contender(PPO, noise | {"learning_rate": 1e-3}, 4)
    pendulum["TRPO"] = Contender(TRPO, noise | {"learning_rate": 1e-3, "n_critic_updates": 15}, 2)
    names = {"CartPole-v1": cartpole, "Acrobot-v1": acrobot, "Pendulum-v1": pendulum}
    return [Task("classic", name, 100_000, who) for name, who in names.items()]


def inner() -> list[Task]:
    """The number of inner steps."""
    base = {"full_batch": True, "batch_size": 128, "learning_rate": 1e-3}
    where = {"CartPole-v1": (8, False, {"n_steps": 128}), "Pendulum-v1": (4, True, {"n_steps": 512, "gamma": 0.9})}
    return [
        Task("inner", name, 100_000,
             {f"m = {m}": Contender(MDPO, base | more | {"n_epochs": m}, envs, norm, 0.3) for m in (1, 5, 10, 20)})
        for name, (envs, norm, more) in where.items()
    ]  # fmt: skip


def soft() -> list[Task]:
    """Off-policy agents."""
    base = {"learning_rate": 1e-3, "learning_starts": 1000, "buffer_size": 50_000}
    old = base | {"old_policy_interval": 250}
    who = {f"SoftMDPO, q = {q:g}": Contender(SoftMDPO, old | {"q": q}, 1, share=0.3) for q in (1.0, 1.5, 2.0)}
    who["SAC"] = Contender(SAC, base | {"ent_coef": 0.2}, 1, share=0.3)
    return [Task("soft", "Pendulum-v1", 20_000, who, 2000)]


def mujoco() -> list[Task]:
    """Locomotion: 2048 steps an update for all.

    MDPO's rates do not fall and its step size is 1: at smaller ones the divergence of an update stays far below TRPO's.
    """
    step = {"learning_rate": 1e-3, "step_size": 1.0}
    settings: dict[str, tuple[type, dict[str, Any]]] = {
        "MDPO, whole batch": (MDPO, step | {"full_batch": True, "n_epochs": 20, "batch_size": 128}),
        "MDPO, minibatches": (MDPO, step | {"n_epochs": 10, "batch_size": 256}),
        "PPO": (PPO, {"learning_rate": LinearSchedule(3e-4, 0.0, 1.0)}),
        "TRPO": (TRPO, {"n_critic_updates": 20}),
    }
    who = {k: Contender(cls, more | {"n_steps": 256}, 8, True, 0.3) for k, (cls, more) in settings.items()}
    return [Task("mujoco", name, 100_000, who, 20_000, 8) for name in ("Hopper-v5", "HalfCheetah-v5")]


SECTIONS: dict[str, Callable[[], list[Task]]] = {"classic": classic, "inner": inner, "soft": soft, "mujoco": mujoco}


def plan(tasks: list[Task], seeds: int) -> list[tuple[Task, str, int]]:
    """All runs, those of contenders with many seeds first, then seed by seed, so that a stopped study compares all."""
    runs = [(t, name, s) for s in range(seeds) for t in tasks for name in t.contenders]
    runs = [r for r in runs if r[0].contenders[r[1]].cls is not None]
    wanted = [r for r in runs if r[2] < max(3, r[0].contenders[r[1]].share * seeds)]
    return sorted(wanted, key=lambda r: -r[0].contenders[r[1]].share)


def run(task: Task, name: str, seed: int, quick: bool) -> Row:
    """Train one agent."""
    who = task.contenders[name]
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        one = AgentRun(
            lambda policy, env: who.cls(policy, env, device="cpu", **who.settings),
            task.environment,
            Path(folder),
            num_envs=who.num_envs,
            normalize=who.normalize,
            total_timesteps=300 if quick else task.steps,
            seed=seed,
            eval_every=task.every,
            eval_episodes=1 if quick else task.episodes,
        )
        one.train()
        curve = one.curve()
    pairs = zip(curve["timesteps"], curve["mean_return"], strict=True)
    return {
        "section": task.section, "environment": task.environment, "agent": name, "seed": seed,
        "last": float(curve["mean_return"][-1]), "mean": float(curve["mean_return"].mean()),
        "seconds": time.process_time() - begin, "curve": " ".join(f"{int(t)}:{r:.1f}" for t, r in pairs),
    }  # fmt: skip


def main() -> None:
    """Sections, tables, figure; rows are written after every run."""
    chosen = options(__doc__, seeds=10, only="classic,inner,soft,mujoco", resume=False)
    rows = kept_rows(chosen.out / "agents_seeds.csv", chosen.resume)
    done = {(r["section"], r["environment"], r["agent"], r["seed"]) for r in rows}
    tasks = [t for name in chosen.only.split(",") for t in SECTIONS[name]()]
    torch.set_num_threads(1)
    for task, name, seed in plan(tasks, 1 if chosen.quick else chosen.seeds):
        if (task.section, task.environment, name, seed) not in done:
            rows.append(run(task, name, seed, chosen.quick))
            print({k: v for k, v in rows[-1].items() if k != "curve"}, flush=True)
            rows.sort(key=lambda r: list(SECTIONS).index(r["section"]))
            write_csv(chosen.out / "agents_seeds.csv", ["seconds: processor, evaluations included"], rows)
    found = summary(rows)
    show(found)
    write_csv(chosen.out / "agents.csv", ["iqm: interquartile mean; low, high: 95% bootstrap interval"], found)
    if apart := differences(rows, "TRPO"):
        note = "difference of interquartile means from TRPO's; low, high: 95% bootstrap interval"
        show(apart)
        write_csv(chosen.out / "agents_trpo.csv", [note], apart)
    draw(rows, chosen.out / "agents.png")


if __name__ == "__main__":
    main()
