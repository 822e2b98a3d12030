"""Solving two-player zero-sum games by proximal steps: Kuhn poker, Leduc poker, liar's dice, normal form.

games_behavioural.csv  exploitability by steps: magnetic mirror descent at infosets, annealed or with a moving magnet,
                       and CFR+, beside references
games_dilated.csv      the same on plans with dilated entropy: gap of the regularised game, exploitability of its limit
games_qre.csv          exploitability of quantal response equilibria by temperature, behavioural form
games_normal.csv       duality gaps of multiplicative weights, its optimistic form and mirror prox in normal form
games_search.csv       one step of search from the uniform blueprint, values exact or from plays
games_speed.csv        processor time per step
games.png              the curves of games_behavioural.csv
games_normal.png       those of games_normal.csv

Some of them only: --only normal,qre.

Reference columns: dilated entropy and CFR+ by OpenSpiel's implementations, the other two by an independent one in NumPy
(the official code's schedules: Sokota et al., "A Unified Approach to Reinforcement Learning, Quantal Response
Equilibria, and Two-Player Zero-Sum Games", 2023).
"""

import time
from pathlib import Path

import torch
from common import COLORS, clean, figure, options, save, show, write_csv
from torch import Tensor

from mirrorgen.policy.games import (
    DilatedMirrorDescent,
    ExtensiveGame,
    MagneticMirrorDescent,
    MatrixGame,
    MirrorProx,
    OptimisticMirrorDescent,
    RegretMatchingPlus,
    State,
    dilated_gap,
    kuhn_poker,
    leduc_poker,
    liars_dice,
    mirror_descent_search,
    run,
)

F64 = torch.float64
GAMES = {"Kuhn poker": kuhn_poker, "Leduc poker": leduc_poker, "liar's dice": liars_dice}
# Numerators of the official schedules of weight and step size over sqrt(t).
ANNEALED = {"Kuhn poker": (1, 1), "Leduc poker": (5, 1), "liar's dice": (1, 2)}
REFERENCE = {
    ("Kuhn poker", "annealed"): {100: 0.029, 1000: 0.0051, 10_000: 0.0012},
    ("Leduc poker", "annealed"): {100: 0.235, 1000: 0.0669, 10_000: 0.0171},
    ("Kuhn poker", "moving magnet"): {1000: 0.0038},
    ("Leduc poker", "CFR+"): {100: 0.0134, 1000: 2.6e-4},
}
# Marks of the curves.
MARKS = [1, 3, 10, 30, 100, 300, 1000, 3000, 10_000]


def ranks_only() -> ExtensiveGame:
    """Leduc poker for players who see ranks: a third of the infosets, and the same behaviour from a uniform start."""
    return leduc_poker(merge_suits=True)


def annealed(weight: float, step: float) -> MagneticMirrorDescent:
    return MagneticMirrorDescent(lambda t: step / t**0.5, lambda t: weight / t**0.5)


def curves(game, learner, last: int) -> dict[int, tuple[Tensor, Tensor]]:
    """Exploitability of the last iterate and of the average plan at the marks."""
    total, weight, found = 0.0, 0.0, {}

    def keep(state: State) -> None:
        nonlocal total, weight
        total, weight = total + state.weight * game.plan(state.played), weight + state.weight
        if state.step in MARKS:
            average = game.policy(total / weight)
            found[state.step] = game.exploitability(state.log_policy), game.exploitability(average)

    run(learner, game, last, callback=keep)
    return found


def behavioural(title: str, game: ExtensiveGame, limits: dict[str, int]) -> list[dict[str, object]]:
    """Curves of three methods on one game."""
    rows = []
    methods = {
        "annealed": annealed(*ANNEALED[title]),
        "moving magnet": MagneticMirrorDescent(0.1, 1.0, 0.05),
        "CFR+": RegretMatchingPlus(),
    }
    found = {name: curves(game, method, limits[name]) for name, method in methods.items()}
    for name, values in found.items():
        reference = REFERENCE.get((title, name), {})
        rows += [
            {
                "game": title, "method": name, "steps": k, "last iterate": float(end), "average": float(mean),
                "reference": reference.get(k, ""),
            }
            for k, (end, mean) in values.items()
        ]  # fmt: skip
    return rows


def dilated(quick: bool) -> list[dict[str, object]]:
    """The regularised game's gap after 10 and 100 steps, and the exploitability of its saddle point."""
    references = {
        ("Kuhn poker", 0.5): (9.8e-10, 3e-17, 0.26393),
        ("Kuhn poker", 0.2): (8.0e-4, 0.0, 0.15923),
        ("Kuhn poker", 0.1): (5.070e-2, 2.289e-8, 0.10369),
        ("Kuhn poker", 0.05): (0.2033, 4.936e-3, 0.04623),
        ("Leduc poker", 0.1): (1.143e-4, "", 2.04458),
        ("Leduc poker", 0.05): ("", "", 1.63400),
    }
    rows = []
    for title, last, alphas in (
        ("Kuhn poker", 1000, (0.5, 0.2, 0.1, 0.05)),
        ("Leduc poker", 300, (0.1, 0.05)),
        ("liar's dice", 300, (0.1, 0.05)),
    ):
        game, alpha = GAMES[title](), torch.tensor(alphas, dtype=F64)
        gaps = {}

        def look(state: State, game=game, alpha=alpha, gaps=gaps) -> None:
            if state.step in (10, 100):
                gaps[state.step] = dilated_gap(game, state.log_policy, alpha).tolist()

        steps = 10 if quick else last
        state, _ = run(DilatedMirrorDescent(alpha), game, steps, start=game.uniform(len(alpha)), callback=look)
        limit = game.exploitability(state.log_policy).tolist()
        for i, a in enumerate(alphas):
            ours = (*(gaps[k][i] if k in gaps else "" for k in (10, 100)), limit[i])
            names = ("gap at 10", "gap at 100", f"exploitability at {steps}")
            theirs = references.get((title, a), ("", "", ""))
            rows += [
                {"game": title, "alpha": a, "quantity": n, "value": v, "reference": r}
                for n, v, r in zip(names, ours, theirs, strict=True)
                if v != ""
            ]
    return rows


def equilibria(quick: bool) -> list[dict[str, object]]:
    """Constant temperatures, all in one batch: policies that are softmaxes of their own values over ``alpha``."""
    references = {
        "Kuhn poker": {0.5: 0.11241, 0.2: 0.04357, 0.1: 0.01890, 0.05: 0.0072},
        "Leduc poker": {0.5: 0.22482, 0.2: 0.08366, 0.1: 0.03715, 0.05: 0.021},
    }
    rows = []
    for title, game, last in (("Kuhn poker", kuhn_poker(), 10_000), ("Leduc poker", ranks_only(), 6000)):
        alpha, (weight, step) = torch.tensor(list(references[title]), dtype=F64), ANNEALED[title]
        steps = 20 if quick else last

        def temperature(t: int, alpha=alpha, weight=weight) -> Tensor:
            """Annealed down to the goal: from a uniform start steps of the goal's size are slow or erratic."""
            return alpha.clamp_min(weight / t**0.5)

        learner = MagneticMirrorDescent(lambda t, s=step / weight, a=temperature: s * a(t), temperature)
        state, _ = run(learner, game, steps, start=game.uniform(len(alpha)))
        soft = torch.where(game.mask, game.action_values(state.log_policy) / alpha[:, None, None], -torch.inf)
        residual = (soft.log_softmax(-1).exp() - state.log_policy.exp()).abs().amax((-1, -2)).tolist()
        found = game.exploitability(state.log_policy).tolist()
        rows += [
            {"game": title, "alpha": a, "exploitability": e, "reference": references[title][a], "residual": r}
            for a, e, r in zip(references[title], found, residual, strict=True)
        ]
    return rows


def normal(quick: bool) -> list[dict[str, object]]:
    """Fifty actions with antisymmetric payoffs, uniform in (-1/2, 1/2) or of either sign: gaps of averages and ends."""
    upper = (torch.rand(50, 50, generator=torch.Generator().manual_seed(0), dtype=F64) - 0.5).triu(1)
    game = MatrixGame(torch.stack([a - a.mT for a in (upper, upper.sign() / 2)]))
    methods = {
        "optimistic, step 1": OptimisticMirrorDescent(1.0),
        "multiplicative weights, step 0.1": MagneticMirrorDescent(0.1, floor=0.0),
        "optimistic, step 2": OptimisticMirrorDescent(2.0),
        "mirror prox, step 1": MirrorProx(1.0),
        "multiplicative weights, step 0.5": MagneticMirrorDescent(0.5, floor=0.0),
    }
    rows = []
    for name, method in methods.items():
        last = 30 if quick else 10_000 if name in list(methods)[:2] else 3000
        rows += [
            {
                "game": kind, "method": name, "steps": k, "gap of average": 2 * float(mean[i]),
                "gap of last iterate": 2 * float(end[i]),
            }
            for k, (end, mean) in curves(game, method, last).items()
            for i, kind in enumerate(("uniform", "signs"))
        ]  # fmt: skip
    return rows


def search(quick: bool) -> list[dict[str, object]]:
    """One step of search at every infoset of Leduc poker from the uniform blueprint: mean of ten draws of particles."""
    game, generator = ranks_only(), torch.Generator().manual_seed(0)
    rows, every = [], torch.arange(game.num_infosets)
    for particles in (1, 10, 100, None):
        values = [
            float(
                game.exploitability(
                    mirror_descent_search(
                        game, game.uniform(), every, step_size=0.5, magnet_weight=0.05, num_particles=particles,
                        generator=generator,
                    )
                )
            )
            for _ in range(2 if quick else 10 if particles else 1)
        ]  # fmt: skip
        rows.append({"particles": particles or "exact", "exploitability": sum(values) / len(values)})
    return [{"particles": "blueprint", "exploitability": float(game.exploitability(game.uniform()))}, *rows]


def speed(quick: bool) -> list[dict[str, object]]:
    """Milliseconds of one processor per step: best of several short runs, alone and per policy in a batch of 32."""
    numpy = {"Kuhn poker": 0.066, "Leduc poker": 0.25}
    rows = []
    for title, make in GAMES.items():
        game, row = make(), {"game": title, "infosets": 0}
        row["infosets"] = game.num_infosets
        for name, learner in (("behavioural", MagneticMirrorDescent(0.1, 0.1)), ("dilated", DilatedMirrorDescent(0.1))):
            for batch in ((), (32,)):
                start = game.uniform(*batch)
                state = State(start, start, start)
                spent = min(_time(learner, game, state) for _ in range(2 if quick else 12))
                row[name + (" in a batch" if batch else "")] = 1000 * spent / (32 if batch else 1)
        row["numpy"] = numpy.get(title, "")
        rows.append(row)
    return rows


@torch.no_grad()
def _time(learner, game, state: State, repeats: int = 5) -> float:
    begin = time.process_time()
    for _ in range(repeats):
        learner.step(game, state)
    return (time.process_time() - begin) / repeats


def draw_behavioural(rows: list[dict[str, object]], path: Path) -> None:
    """One panel per game."""
    made = figure(10, 3.2)
    for axis, title in zip(made.subplots(1, 3), GAMES, strict=True):
        for color, (name, kind) in zip(COLORS, SHOWN.items(), strict=False):
            points = [r for r in rows if r["game"] == title and r["method"] == name]
            axis.loglog([r["steps"] for r in points], [r[kind] for r in points], color=color, label=f"{name}, {kind}")
            known = [r for r in points if r["reference"] != ""]
            axis.plot([r["steps"] for r in known], [r["reference"] for r in known], "o", mfc="none", color=color)
        clean(axis, title, "steps", "exploitability")
        axis.legend(fontsize=7, frameon=False, loc="lower left", title="circles: reference", title_fontsize=7)
    save(made, path)


def draw_normal(rows: list[dict[str, object]], path: Path) -> None:
    """One panel per kind of payoffs."""
    made = figure(8, 3.2)
    for axis, kind in zip(made.subplots(1, 2), ("uniform", "signs"), strict=True):
        for color, name in zip(COLORS, dict.fromkeys(r["method"] for r in rows), strict=False):
            points = [r for r in rows if r["game"] == kind and r["method"] == name]
            steps = [r["steps"] for r in points]
            axis.loglog(steps, [r["gap of average"] for r in points], color=color, label=name)
            axis.loglog(steps, [r["gap of last iterate"] for r in points], color=color, lw=0.9, ls=":")
        clean(axis, f"payoffs: {kind}", "steps", "duality gap (dotted: last iterate)")
        axis.legend(fontsize=7, frameon=False, loc="lower left")
    save(made, path)


def all_behavioural(quick: bool) -> list[dict[str, object]]:
    """The three games."""
    rows = []
    for title, make in (*list(GAMES.items())[:1], ("Leduc poker", ranks_only), *list(GAMES.items())[2:]):
        long = {"annealed": 10_000, "moving magnet": 10_000 if title == "Kuhn poker" else 3000, "CFR+": 1000}
        rows += behavioural(title, make(), dict.fromkeys(long, 10) if quick else long)
    return rows


SHOWN = {"annealed": "last iterate", "moving magnet": "last iterate", "CFR+": "average"}
TABLES = {
    "speed": (speed, "milliseconds of processor time per step and policy; numpy: the behavioural step in NumPy"),
    "dilated": (dilated, "gap: of the game with dilated entropy times alpha; default step size"),
    "search": (search, "Leduc poker, ranks only; step size 0.5, weight 0.05 of a uniform magnet"),
    "normal": (normal, "gaps: max_a (A y)_a - min_b (A^T x)_b"),
    "behavioural": (all_behavioural, "exploitability; references: last iterates, the average for CFR+"),
    "qre": (equilibria, "residual: largest deviation of a probability from the softmax of values over alpha"),
}


def main() -> None:
    args = options(__doc__, only="")
    for name in args.only.split(",") if args.only else TABLES:
        make, note = TABLES[name]
        rows = make(args.quick)
        print(f"\n{name}")
        show(rows)
        write_csv(args.out / f"games_{name}.csv", [note], rows)
        if name == "behavioural":
            draw_behavioural(rows, args.out / "games.png")
        if name == "normal":
            draw_normal(rows, args.out / "games_normal.png")


if __name__ == "__main__":
    main()
