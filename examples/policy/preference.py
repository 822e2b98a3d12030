"""Preference games: convergence of the algorithms beside the stated theory.

    python examples/policy/preference.py [--quick] [--size 50] [--games 5] [--out DIR]

Games with 50 answers, preferences uniform on [0, 1] (``rand``) or always 0 or 1 (``tourn``), a reference with normal
logits. One query is one vector of win rates; mirror prox takes two per step.

- ``preference.csv``: ``KL(pi* || pi)`` of the last iterate after numbers of queries at ``beta`` 0.1 and 0.01, geometric
  means over games; ``factor`` is the mean ratio of successive distances (per step) over the last half of the steps with
  distances above 1e-20, ``worst`` the largest ratio of all, ``bound`` the stated one. ``reference`` columns are
  measurements of an earlier program of ours, on one game.
- ``preference_average.csv``: the game without reference; duality gaps of averages and of last iterates, and the slope
  of the average's gap in logarithms from 100 steps on.
- ``preference.png``.
"""

import math

import torch
from common import COLORS, clean, figure, options, save, show, write_csv
from torch import Tensor

from mirrorgen.geometry.divergences import kl
from mirrorgen.policy import preference as pref

KINDS = {"rand": pref.random_game, "tourn": pref.tournament_game}


def sizes(*steps: float) -> Tensor:
    """Step sizes that run side by side, a batch axis before those of kinds and games."""
    return torch.tensor(steps, dtype=torch.float64).reshape(-1, 1, 1)


METHODS: dict[str, pref.Learner] = {
    "Nash mirror prox, 2": pref.NashMirrorProx(2.0),
    "optimistic, two sequences, 1": pref.OptimisticMirrorDescent(1.0),
    "optimistic, one sequence, 1": pref.OptimisticMirrorDescent(1.0, two_sequences=False),
    "mirror descent, 0.5": pref.MirrorDescent(0.5),
    "Nash-MD": pref.NashMD(sizes(0.2, 0.5, 2.0)),
    "Nash-MD, decreasing": pref.NashMD(),
}
# Distances after 20, 100, 400 and 2000 queries at beta = 0.1, "rand / tourn".
KNOWN = {
    "Nash mirror prox, 2": ("2.8e-3 / 4.7e-3", "9e-10 / 1e-9", "0", "0"),
    "optimistic, one sequence, 1": ("2.5e-3 / 4.7e-3", "5e-10", "0", "0"),
    "mirror descent, 0.5": ("1.7e-2 / 3.8e-2", "7e-6 / 2e-5", "0", "0"),
    "Nash-MD, 0.2": ("5e-2", "", "8e-6", "8e-6"),
    "Nash-MD, 0.5": ("1.6e-2", "", "5e-5", "5e-5"),
    "Nash-MD, 2": ("1e-3", "", "9e-4", "9e-4"),
    "Nash-MD, decreasing": ("5e-4 / 1.2e-3", "1.9e-5 / 6e-5", "1.2e-6 / 4e-6", "4.6e-8 / 1.6e-7"),
}
# Others stop at 400 queries: by then they have arrived, at the equilibrium or at their floor, or they are slow.
LONG = {0.1: ("Nash-MD, decreasing",), 0.01: ("Nash mirror prox, 2", "mirror descent, 0.5")}
AVERAGES: dict[str, pref.Learner] = {
    "optimistic": pref.OptimisticMirrorDescent(sizes(1.0, 2.0), two_sequences=False),
    "multiplicative weights": pref.MirrorDescent(sizes(0.1, 0.5)),
}
KNOWN_AVERAGES = {
    "optimistic, 1": "3.3e-2 / 3.3e-3",
    "optimistic, 2": "1.6e-2 / 1.6e-3",
    "multiplicative weights, 0.1": "0.16 / 0.036",
    "multiplicative weights, 0.5": "stalls at 7e-3 to 2e-2",
}


def main() -> None:
    args = options(__doc__, size=50, games=5)
    queries, steps = ((20, 100), 300) if args.quick else ((20, 100, 400, 2000), 1000)
    args.games = 2 if args.quick else args.games
    drawing = figure(11, 6.5).subplots(2, 2)
    rows = [
        row
        for axis, beta in zip(drawing[0], (0.1, 0.01), strict=True)
        for row in regularised(beta, queries, args, axis)
    ]
    averages = plain(steps, args, drawing[1])
    notes = [f"{args.size} answers, {args.games} games, geometric means"]
    write_csv(args.out / "preference.csv", notes, rows)
    write_csv(args.out / "preference_average.csv", notes, averages)
    show(rows)
    show(averages)
    save(drawing[0, 0].figure, args.out / "preference.png")


def instances(beta: float, args) -> pref.PreferenceGame:
    """All games as one batch ``(kinds, games)``."""
    generator = torch.Generator().manual_seed(0)
    made = [make(args.size, batch=(args.games,), generator=generator) for make in KINDS.values()]
    stacked = (torch.stack([getattr(game, name) for game in made]) for name in ("preferences", "reference"))
    return pref.PreferenceGame(*stacked, beta)


def regularised(beta: float, queries: tuple[int, ...], args, axis) -> list[dict[str, object]]:
    """Distances to the equilibrium of every method; those in random games are drawn."""
    game = instances(beta, args)
    star = game.nash()
    rows = []
    colors = iter(COLORS)
    for method, learner in METHODS.items():
        found = [kl(star, learner.init(game).policy)]
        note = lambda state, _, found=found: found.append(kl(star, state.policy))  # noqa: E731
        last = queries[-1] if method in LONG[beta] else min(queries[-1], 400)
        pref.run(learner, game, last // learner.queries, callback=note)
        for name, distances in split(method, found, learner.step_size):
            for i, kind in enumerate(KINDS):
                row = summary(distances[:, i], learner, beta, queries, name)
                rows.append({"game": kind, "beta": beta, "method": name, **row})
            times = learner.queries * torch.arange(1, len(distances))
            axis.loglog(times, mean(distances[1:, 0]).clamp_min(1e-17), label=name, color=next(colors), lw=1.4)
    steps = torch.arange(1, queries[-1] // 2)
    bound = mean(kl(star, game.reference)[0]) * (1 + 2 * beta) ** (-steps.double())
    axis.loglog(2 * steps, bound.clamp_min(1e-17), "k--", lw=1, label="bound of mirror prox")
    clean(axis, f"last iterates, beta = {beta}, rand", "queries", "KL to the equilibrium")
    axis.set_ylim(1e-16, 30)
    if beta == 0.1:
        axis.legend(fontsize=7, frameon=False)
    return rows


def split(method: str, found: list[Tensor], step_size) -> list[tuple[str, Tensor]]:
    """Names and values ``(steps, kinds, games)`` of the step sizes that ran side by side."""
    if not isinstance(step_size, Tensor):
        return [(method, torch.stack(found))]
    values = torch.stack([v.expand(len(step_size), *v.shape[-2:]) for v in found], 1)
    return [(f"{method}, {float(s):g}", v) for s, v in zip(step_size, values, strict=True)]


def summary(distances: Tensor, learner: pref.Learner, beta: float, queries: tuple[int, ...], name: str):
    """A row of the table."""
    known = KNOWN.get(name, ("",) * 4) if beta == 0.1 else ("",) * 4
    row: dict[str, object] = {}
    for n, value in zip(queries, known, strict=False):
        k = n // learner.queries
        row[f"KL at {n}"] = float(mean(distances[k])) if k < len(distances) else ""
        row[f"reference at {n}"] = value
    ratios = distances[1:] / distances[:-1]
    live = (distances > 1e-20).all(-1)[1:]
    last = int(live.nonzero().max()) + 1 if bool(live.any()) else 1
    row["factor"] = float(mean(ratios[last // 2 : last]).log().mean().exp())
    row["worst"] = float(ratios[live].max())
    linear = isinstance(learner, pref.NashMirrorProx)
    return {**row, "bound": 1 / (1 + 2 * beta) if linear else ""}


def plain(steps: int, args, axes) -> list[dict[str, object]]:
    """Duality gaps without reference, of averages (lines) and last iterates (dots)."""
    game = pref.PreferenceGame(instances(0.0, args).preferences)
    rows = []
    colors = iter(COLORS)
    marks, times = [100, min(steps, 1000)], torch.arange(1, steps + 1)
    for method, learner in AVERAGES.items():
        gaps: list[tuple[Tensor, Tensor]] = []
        pref.run(
            learner, game, steps,
            callback=lambda s, a, gaps=gaps: gaps.append((game.duality_gap(a), game.duality_gap(s.policy))),
        )  # fmt: skip
        averages, lasts = (split(method, list(v), learner.step_size) for v in zip(*gaps, strict=True))
        for (name, average), (_, last) in zip(averages, lasts, strict=True):
            color = next(colors)
            for i, (kind, axis) in enumerate(zip(KINDS, axes, strict=True)):
                row: dict[str, object] = {"game": kind, "method": name}
                row |= {f"average at {n}": float(mean(average[n - 1, i])) for n in marks}
                row |= {"reference at 100 / 1000": KNOWN_AVERAGES[name], "slope": slope(average[:, i], steps)}
                # The largest of a stretch of iterates: they come near and leave again.
                row |= {f"last before {n}": float(mean(last[n - 50 : n, i].amax(0))) for n in marks}
                rows.append(row)
                axis.loglog(times, mean(average[:, i]), color=color, lw=1.4, label=name)
                axis.loglog(times[::7], mean(last[:, i])[::7], ".", color=color, ms=1.5)
    for kind, axis in zip(KINDS, axes, strict=True):
        axis.loglog(times, 3.3 / times, "k--", lw=1, label="3.3 / steps")
        clean(axis, f"no reference, {kind}: averages (lines), last iterates (dots)", "steps", "duality gap")
        axis.legend(fontsize=7, frameon=False)
    return rows


def slope(gaps: Tensor, steps: int) -> float:
    """Of ``log gap`` against ``log steps`` from 100 steps on, mean over games."""
    times = torch.logspace(2, math.log10(steps), 60).long()
    x = times.double().log()
    x = (x - x.mean()).unsqueeze(-1)
    return float(((x * gaps[times - 1].log()).sum(0) / x.square().sum()).mean())


def mean(values: Tensor) -> Tensor:
    """Geometric mean over games, the last axis."""
    return values.clamp_min(1e-300).log().mean(-1).exp()


if __name__ == "__main__":
    main()
