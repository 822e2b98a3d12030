"""Self-play with networks: magnetic mirror descent on Kuhn and Leduc poker, exploitability by steps.

    python examples/policy/neural_games.py [--quick] [--seeds 3] [--only kuhn,leduc] [--resume] [--out DIR]

The agent is ``MMD`` (the last policy and a magnet, new policy first in both divergences) or PPO's clip (``DriftPO``)
with the same entropy bonus, network, rollouts and schedules, each playing against itself: the other seat takes over its
policy before every rollout. Features of an infoset are the characters of its name. Exploitability is that of the last
policy, exact. ``neural_games.csv`` has a row per measurement, ``neural_games_ends.csv`` the last ones with their cost,
``neural_games.png`` the curves.
"""

import time
from typing import Any

import torch
from common import COLORS, clean, figure, kept_rows, options, save, show, write_csv
from stable_baselines3.common.utils import LinearSchedule

from mirrorgen.policy import ClipDrift
from mirrorgen.policy.agents import MMD, DriftPO, SelfPlay, SelfPlayEnv
from mirrorgen.policy.agents.actor_critic import ProximalActorCritic
from mirrorgen.policy.games import kuhn_poker, leduc_poker

GAMES = {"kuhn": (kuhn_poker, 1_200_000), "leduc": (leduc_poker, 2_000_000)}


def agent(name: str, game: str, seed: int, quick: bool) -> ProximalActorCritic:
    """An agent in its environment."""
    env = SelfPlayEnv(GAMES[game][0](), 16 if quick else 256)
    env.seed(seed)
    settings: dict[str, Any] = {
        "n_steps": 32 if game == "kuhn" else 64, "batch_size": 2048, "n_epochs": 4,
        "learning_rate": LinearSchedule(1e-3, 1e-4, 1.0), "gamma": 1.0, "gae_lambda": 0.9 if game == "kuhn" else 0.5,
        "policy_kwargs": {"net_arch": [128, 128]}, "seed": seed, "device": "cpu", "normalize_advantage": False,
    }  # fmt: skip
    start, end = (0.2, 0.05) if game == "kuhn" else (1.0, 0.2)
    if name == "MMD":
        step = LinearSchedule(0.5, 0.05, 1.0) if game == "kuhn" else LinearSchedule(0.3, 0.05, 1.0)
        return MMD("MaskedPolicy", env, **settings, step_size=step, magnet_weight=LinearSchedule(start, end, 1.0))
    return DriftPO("MaskedPolicy", env, **settings, drift=ClipDrift(0.2), ent_coef=0.5 * (start + end))


def main() -> None:
    """All games, agents and seeds."""
    chosen = options(__doc__, seeds=3, only="kuhn,leduc", resume=False)
    rows, ends = (kept_rows(chosen.out / f"neural_games{s}.csv", chosen.resume) for s in ("", "_ends"))
    for game in (g for g in chosen.only.split(",") if g not in {r["game"] for r in rows}):
        for name in ("MMD", "PPO's clip"):
            for seed in range(1 if chosen.quick else chosen.seeds):
                callback, begin = SelfPlay(10), time.process_time()
                agent(name, game, seed, chosen.quick).learn(1000 if chosen.quick else GAMES[game][1], callback=callback)
                seconds = time.process_time() - begin
                rows += [
                    {"game": game, "agent": name, "seed": seed, "steps": s, "exploitability": v}
                    for s, v in callback.history
                ]
                ends.append(rows[-1] | {"seconds": seconds})
                print(ends[-1], flush=True)
    show(ends)
    write_csv(chosen.out / "neural_games.csv", [], rows)
    write_csv(chosen.out / "neural_games_ends.csv", ["seconds: processor, whole training"], ends)
    games = list(dict.fromkeys(r["game"] for r in rows))
    made = figure(5 * len(games), 3.6)
    for axis, game in zip(made.subplots(1, len(games), squeeze=False)[0], games, strict=True):
        for color, name in zip(COLORS, ("MMD", "PPO's clip"), strict=False):
            for seed in {r["seed"] for r in rows}:
                mine = [r for r in rows if (r["game"], r["agent"], r["seed"]) == (game, name, seed)]
                label = name if seed == 0 else None
                axis.plot(
                    [r["steps"] for r in mine], [r["exploitability"] for r in mine], color=color, lw=1, label=label
                )
        axis.set_yscale("log")
        axis.ticklabel_format(axis="x", scilimits=(0, 0))
        axis.legend(frameon=False)
        clean(axis, game, "steps", "exploitability")
    save(made, chosen.out / "neural_games.png")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
