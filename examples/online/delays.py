"""Feedback that comes late: the inequality of every run with full information, and bandits beside their bounds.

    python examples/online/delays.py [--quick] [--rounds 2000] [--out DIR]

Full information: entropy, Tsallis' entropy and log barrier, random delays up to 20, five seeds. Bandits with five arms:
a log barrier whose scales follow the losses seen, for losses of two units, and Tsallis' entropy that is told the unit.
Linear bandits on the unit ball in three dimensions: actions at the axes of the local norm. Twenty seeds, three delays.
Bounds are the right sides of the inequality of each run, means over runs. Writes ``delays.csv``,
``delays_bandits.csv`` and ``delays.png``.

Method: Huang, Dai, Huang, "Banker Online Mirror Descent: A Universal Approach for Delayed Online Bandit Learning",
2023.
"""

import math

import torch
from common import (
    COLORS,
    F64,
    clean,
    figure,
    generator,
    interval,
    marks,
    normal,
    options,
    save,
    show,
    uniform,
    write_csv,
)
from torch import Tensor

from mirrorgen.geometry.domains import Ball, Simplex
from mirrorgen.geometry.mirror_maps import BallLogBarrier, LogBarrier, MirrorMap, SimplexEntropy, TsallisEntropy
from mirrorgen.optim.online import (
    BankerOMD,
    axis_action,
    axis_gradient,
    banker_scale,
    draw_actions,
    importance_weighted,
    scale_free,
)

DELAYS, UNITS, SEEDS, ARMS, DIM = (0, 5, 20), (1.0, 1000.0), 20, 5, 3
REFERENCE = {"SimplexEntropy": (58, 129), "TsallisEntropy": (56, 152), "LogBarrier": (70, 912)}


def full_information(mirror_map: MirrorMap, rounds: int, largest: int = 20) -> dict[str, object]:
    """Losses in [0, 1], one action better by a tenth; the comparator is a thousandth from its vertex."""
    n, seeds = mirror_map.domain.dim, 5
    losses = torch.rand(rounds, seeds, n, generator=generator(1), dtype=F64)
    losses[..., 1] *= 0.8
    delays = torch.randint(0, largest + 1, (rounds, seeds), generator=generator(2))
    delays = torch.minimum(delays, torch.arange(rounds - 1, -1, -1).unsqueeze(-1))
    learner = BankerOMD(mirror_map, banker_scale(math.log(n)), capacity=largest + 1)
    state, paid, right = learner.init(uniform(n, seeds)), 0.0, torch.zeros(seeds, dtype=F64)
    for t in range(rounds):
        x = learner.predict(state)
        paid = paid + (losses[t] * x).sum(-1)
        right, fresh = right + stability(mirror_map, state, x, losses[t]), state.fresh
        due = (t - torch.arange(largest + 1)).expand(seeds, -1)
        due = torch.where((due >= 0) & (delays.T.gather(-1, due.clamp_min(0)) == t - due), due, -1)
        arrived = losses.transpose(0, 1).gather(1, due.clamp_min(0).unsqueeze(-1).expand(-1, -1, n))
        state = learner.update(state, arrived, due)
    u = torch.full((seeds, n), 1e-3 / n, dtype=F64)
    u[:, 1] += 1 - 1e-3
    regret = paid - (losses.sum(0) * u).sum(-1)
    bound = fresh * mirror_map.divergence(u, uniform(n, seeds)) + right
    (mean, half), name = interval(regret), type(mirror_map).__name__
    theirs = REFERENCE[name]
    return {"map": name, "rounds": rounds, "regret": mean, "+-": half, "bound": float(bound.mean()),
            "violations": int((regret > bound + 1e-9).sum()), "reference regret": theirs[0],
            "reference bound": theirs[1]}  # fmt: skip


def stability(mirror_map: MirrorMap, state, x: Tensor, gradient: Tensor) -> Tensor:
    """``sigma D(x, z)`` with ``z`` a step along ``gradient``."""
    z = mirror_map.to_primal(state.y - mirror_map.pull_back(gradient) / state.scale.unsqueeze(-1))
    return state.scale * mirror_map.divergence(x, z)


def bandit(name: str, mirror_map: MirrorMap, rounds: int) -> list[dict[str, object]]:
    """All delays, units and seeds as one batch; feedback of a round comes a fixed number of rounds later."""
    linear = isinstance(mirror_map.domain, Ball)
    units = torch.tensor(UNITS if "follow" in name else UNITS[:1], dtype=F64)
    # Seeds vary fastest, and all delays and units have the same draws.
    unit = units.repeat_interleave(SEEDS).repeat(len(DELAYS))
    delay = torch.tensor(DELAYS).repeat_interleave(SEEDS * len(units))
    batch, copies = len(unit), len(unit) // SEEDS
    width = {LogBarrier: ARMS * math.log(rounds), BallLogBarrier: math.log(rounds), TsallisEntropy: 2 * ARMS**0.5}
    told, origin = width[type(mirror_map)], DIM if linear else 1
    scale = banker_scale(told / origin**2) if "follow" not in name else lambda t, waiting: 1e-9 + 0.0 * waiting
    learner = BankerOMD(mirror_map, scale, capacity=max(DELAYS) + 1)
    start = torch.zeros(batch, DIM, dtype=F64) if linear else uniform(ARMS, batch)
    state, means = learner.init(start), arm_means(batch)
    theta = torch.nn.functional.normalize(normal(SEEDS, DIM, seed=8), dim=-1).repeat(copies, 1)
    draws = torch.rand(2, rounds, SEEDS, generator=generator(5), dtype=F64).repeat(1, 1, copies)
    noise = normal(rounds, SEEDS, seed=6).repeat(1, copies)
    late = torch.zeros(rounds, batch, mirror_map.domain.dim, dtype=F64)
    squares, seen = torch.full((batch,), 1e-20, dtype=F64), torch.zeros(rounds, batch, dtype=F64)
    regret, right, total, rows = torch.zeros(batch, dtype=F64), torch.zeros(batch, dtype=F64), 0.0, []
    for t in range(rounds):
        x = learner.predict(state)
        if linear:
            axis, sign = (draws[0, t] * DIM).long(), torch.where(draws[1, t] < 0.5, -1, 1)
            action = axis_action(mirror_map, x, axis, sign)
            mean = (theta * action).sum(-1)
            loss = (mean + 0.1 * noise[t].clamp(-1, 1)) / 1.1
            late[t], lost = axis_gradient(mirror_map, x, axis, sign, loss), mean + 1
        else:
            arm = draw_actions(x, draws[0, t])
            mean = means.gather(-1, arm.unsqueeze(-1)).squeeze(-1)
            loss = unit * (draws[1, t] < mean)
            late[t], lost = importance_weighted(loss, arm, x), mean - means.amin(-1)
        seen[t], regret, total = loss, regret + lost, total + late[t]
        right, fresh = right + stability(mirror_map, state, x, late[t]), state.fresh
        due = t - delay
        came = torch.where(due >= 0, due, -1).unsqueeze(-1)
        index = due.clamp_min(0)
        arrived = late[index, torch.arange(batch)]
        squares = squares + seen[index, torch.arange(batch)].square() * (due >= 0)
        rule = scale_free(told, squares) if "follow" in name else None
        state = learner.update(state, arrived.unsqueeze(-2), came, rule)
        if t + 1 in marks(rounds, 100):
            u = (1 - 1 / (t + 1)) * (
                -theta if linear else torch.nn.functional.one_hot(means.argmin(-1), ARMS)
            ) + start / (t + 1)
            bound = fresh * mirror_map.divergence(u, start) + right
            rows += summaries(name, t + 1, delay, unit, regret, bound / unit)
    return rows


def arm_means(batch: int) -> Tensor:
    """Chances of a loss: one arm 0.2, the others 0.6; the place of the best is drawn."""
    best = torch.randint(0, ARMS, (SEEDS,), generator=generator(9)).repeat(batch // SEEDS)
    return 0.6 - 0.4 * torch.nn.functional.one_hot(best, ARMS).double()


def summaries(
    name: str, rounds: int, delay: Tensor, unit: Tensor, regret: Tensor, bound: Tensor
) -> list[dict[str, object]]:
    """One row a delay and unit; regret in units."""
    rows = []
    for d in DELAYS:
        for size in sorted(set(unit.tolist())):
            mine = (delay == d) & (unit == size)
            mean, half = interval(regret[mine])
            root = rounds**0.5 + (d * rounds) ** 0.5
            order = DIM * root if name.startswith("linear") else ARMS**0.5 * root
            rows.append(
                {"bandit": name, "rounds": rounds, "delay": d, "unit": size, "regret over unit": mean, "+-": half,
                 "mean bound": float(bound[mine].mean()), "regret over order": mean / order}
            )  # fmt: skip
    return rows


def main() -> None:
    chosen = options(__doc__, rounds=2000)
    rounds = 120 if chosen.quick else chosen.rounds
    maps = (SimplexEntropy(Simplex(4)), TsallisEntropy(Simplex(4), q=0.5), LogBarrier(Simplex(4)))
    full = [full_information(m, 100 if chosen.quick else 1000) for m in maps]
    show(full)
    write_csv(chosen.out / "delays.csv", ["five seeds, delays up to 20; reference: other losses"], full)
    cases = {
        "log barrier, scales follow losses": LogBarrier(Simplex(ARMS)),
        "Tsallis, unit told": TsallisEntropy(Simplex(ARMS), q=0.5),
        "linear, log barrier of the ball": BallLogBarrier(Ball(DIM)),
    }
    rows = [r for name, mirror_map in cases.items() for r in bandit(name, mirror_map, rounds)]
    show([r for r in rows if r["rounds"] == max(x["rounds"] for x in rows)])
    notes = [
        f"{SEEDS} seeds: mean regret of the actions' expected losses and half width of its 95 % interval",
        "order: sqrt(arms) (sqrt(T) + sqrt(total delay)); for linear bandits the dimension is in the place of the root",
        "mean bound: of the right sides of runs, for estimated losses, and of a comparator 1 / T from the best action",
    ]
    write_csv(chosen.out / "delays_bandits.csv", notes, rows)
    draw(rows, chosen.out / "delays.png")


def draw(rows: list[dict[str, object]], path) -> None:
    """Regret against rounds, one panel a bandit."""
    made = figure(12, 3.8)
    names = list(dict.fromkeys(r["bandit"] for r in rows))
    for panel, name in zip(made.subplots(1, len(names)), names, strict=True):
        for k, d in enumerate(DELAYS):
            mine = [r for r in rows if r["bandit"] == name and r["delay"] == d and r["unit"] == 1.0]
            steps, style = [r["rounds"] for r in mine], {"color": COLORS[k]}
            values, halves = [r["regret over unit"] for r in mine], [r["+-"] for r in mine]
            panel.errorbar(steps, values, halves, fmt="o-", ms=3, capsize=2, label=f"delay {d}", **style)
            panel.plot(steps, [r["mean bound"] for r in mine], "--", **style)
            other = [r for r in rows if r["bandit"] == name and r["delay"] == d and r["unit"] != 1.0]
            panel.plot([r["rounds"] for r in other], [r["regret over unit"] for r in other], "x", ms=5, **style)
        panel.set_xscale("log")
        panel.set_yscale("log")
        clean(panel, name, "rounds (dashed: bounds; crosses: unit 1000)", "regret over unit")
        panel.legend(fontsize=7, frameon=False)
    save(made, path)


if __name__ == "__main__":
    main()
