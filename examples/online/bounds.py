"""Mirror descent, dual averaging, mirror prox and Hedge beside the constants of their bounds.

    python examples/online/bounds.py [--quick] [--out DIR]

``max_i (A x - b)_i`` on the simplex, matrix games, and Hedge against four kinds of opponents, five seeds each (the
bounds hold for every one; the largest is shown beside the mean). ``reference`` is another implementation's number for
one draw of such a problem. Writes ``bounds.csv`` and ``bounds.png``.

Bounds: Bubeck, "Convex Optimization: Algorithms and Complexity", 2015; Cesa-Bianchi, Lugosi, "Prediction, Learning, and
Games", 2006.
"""

import math
from collections.abc import Callable

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
from scipy.optimize import linprog
from torch import Tensor

from mirrorgen.geometry.domains import Simplex
from mirrorgen.geometry.mirror_maps import SimplexEntropy
from mirrorgen.optim.online import FollowRegularizedLeader, OnlineMirrorDescent, OptimisticMirrorDescent

SEEDS = 5
# Gaps of one draw each, by an implementation that shares no code with this one.
REFERENCE = {
    ("mirror descent", 200): 0.0287, ("mirror descent", 2000): 0.0088,
    ("dual averaging", 200): 0.0394, ("dual averaging", 2000): 0.0142,
    ("saddle point, mirror descent", 100): 0.132, ("saddle point, mirror descent", 1000): 0.0526,
    ("saddle point, mirror prox", 100): 0.0735, ("saddle point, mirror prox", 1000): 0.00696,
    ("saddle point, optimistic", 100): 0.0735, ("saddle point, optimistic", 1000): 0.00696,
}  # fmt: skip


def worst_rows(n: int = 40, rows: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    """``A (seeds, rows, n)`` in [-1, 1], ``b (seeds, rows)``, and the minima over the simplex."""
    A, b = normal(SEEDS, rows, n).clamp(-1, 1), 0.1 * normal(SEEDS, rows, seed=1)
    best = [
        linprog(
            [*[0.0] * n, 1.0],
            A_ub=torch.cat([a, -torch.ones(rows, 1, dtype=F64)], 1).numpy(), b_ub=shift.numpy(),
            A_eq=[[*[1.0] * n, 0.0]], b_eq=[1.0], bounds=[*[(0, None)] * n, (None, None)],
        ).fun
        for a, shift in zip(A, b, strict=True)
    ]  # fmt: skip
    return A, b, torch.tensor(best, dtype=F64)


def minimum(steps: int) -> list[dict[str, object]]:
    """Mirror descent and dual averaging with the steps of their bounds; the gap of the average."""
    A, b, best = worst_rows()
    n, largest = A.shape[-1], A.abs().amax((-2, -1))
    width = math.sqrt(math.log(n))
    rules = {
        "mirror descent": (OnlineMirrorDescent, math.sqrt(2 / steps), 1.0),
        "dual averaging": (FollowRegularizedLeader, math.sqrt(1 / (2 * steps)), 2.0),
    }
    rows = []
    for name, (rule, factor, constant) in rules.items():
        learner = rule(SimplexEntropy(Simplex(n)), step_size=width / largest * factor)
        state, mean = learner.init(uniform(n, SEEDS)), torch.zeros(SEEDS, n, dtype=F64)
        for _ in range(steps):
            x = learner.predict(state)
            mean += x / steps
            worst = ((A @ x.unsqueeze(-1)).squeeze(-1) - b).argmax(-1)
            state = learner.update(state, A[torch.arange(SEEDS), worst])
        gap = ((A @ mean.unsqueeze(-1)).squeeze(-1) - b).amax(-1) - best
        rows.append(row(name, steps, gap, constant * width * largest * math.sqrt(2 / steps)))
    return rows


def games(steps: int, n: int = 50) -> list[dict[str, object]]:
    """Duality gaps of averages on matrices of uniform numbers in (-1, 1); players are rows of one batch."""
    A = 2 * torch.rand(SEEDS, n, n, generator=generator(0), dtype=F64) - 1
    largest = A.abs().amax((-2, -1))

    def slopes(x: Tensor) -> Tensor:
        first, second = x.unsqueeze(-1).unbind(0)
        return torch.stack([(A @ second).squeeze(-1), -(A.mT @ first).squeeze(-1)])

    def gap(mean: Tensor) -> Tensor:
        found = slopes(mean)
        return (-found[1]).amax(-1) - found[0].amin(-1)

    def play(learner: OnlineMirrorDescent | OptimisticMirrorDescent, extra: bool) -> Tensor:
        state, mean = learner.init(uniform(n, 2, SEEDS)), torch.zeros(2, SEEDS, n, dtype=F64)
        for _ in range(steps):
            if extra:  # Mirror prox: the hint is the gradient at the point before the half step.
                state = learner.hint(state, slopes(learner.mirror_map.to_primal(state.y)))
            x = learner.predict(state)
            mean += x / steps
            state = learner.update(state, slopes(x))
        return gap(mean)

    entropy, width = SimplexEntropy(Simplex(n)), math.log(n)
    plain = OnlineMirrorDescent(entropy, step_size=(math.sqrt(2 * width / steps) / largest).expand(2, -1))
    smooth = OptimisticMirrorDescent(entropy, step_size=(1 / (2 * largest)).expand(2, -1))
    fast = 4 * width * largest / steps
    return [
        row("saddle point, mirror descent", steps, play(plain, False), 2 * largest * math.sqrt(2 * width / steps)),
        row("saddle point, mirror prox", steps, play(smooth, True), fast),
        row("saddle point, optimistic", steps, play(smooth, False), fast),
    ]


def opponents(rounds: int, n: int) -> dict[str, Tensor]:
    """Losses in [0, 1], ``(rounds, seeds, n)``."""
    t = torch.arange(rounds).reshape(-1, 1, 1)
    one = torch.rand(rounds, SEEDS, n, generator=generator(2), dtype=F64)
    good = 0.5 + 0.5 * one
    good[..., 3] = 0.2
    turning = torch.ones(rounds, SEEDS, n, dtype=F64)
    turning[: rounds // 2, :, 0] = 0
    turning[rounds // 2 :, :, 1] = 0
    alternating = ((t + torch.arange(n)) % 2).double().expand(rounds, SEEDS, n)
    return {"coins": one.round(), "one good expert": good, "alternating": alternating, "turning": turning}


def hedge(rounds: int, n: int = 10) -> list[dict[str, object]]:
    """Regret for ``step = sqrt(8 log n / T)``."""
    bound = torch.full((SEEDS,), math.sqrt(rounds * math.log(n) / 2), dtype=F64)
    learner = OnlineMirrorDescent(SimplexEntropy(Simplex(n)), step_size=math.sqrt(8 * math.log(n) / rounds))
    rows = []
    for name, losses in opponents(rounds, n).items():
        state, paid = learner.init(uniform(n, SEEDS)), torch.zeros(SEEDS, dtype=F64)
        for loss in losses:
            paid += (learner.predict(state) * loss).sum(-1)
            state = learner.update(state, loss)
        rows.append(row(f"Hedge, {name}", rounds, paid - losses.sum(0).amin(-1), bound))
    return rows


def row(case: str, steps: int, values: Tensor, bounds: Tensor) -> dict[str, object]:
    """Mean and interval over seeds, the largest share of the bound, and the reference."""
    mean, half = interval(values)
    return {
        "case": case, "steps": steps, "value": mean, "+-": half, "largest": float(values.max()),
        "bound": float(bounds.mean()), "largest over bound": float((values / bounds).max()),
        "reference": REFERENCE.get((case, steps), ""), "kept": bool((values <= bounds).all()),
    }  # fmt: skip


def main() -> None:
    chosen = options(__doc__)
    last = 200 if chosen.quick else 5000
    studies: list[Callable[[int], list[dict[str, object]]]] = [minimum, games, hedge]
    rows = [r for study in studies for steps in marks(last, 100) for r in study(steps)]
    show([r for r in rows if r["steps"] in (100, 1000, 200, 2000)])
    ratios = {
        c: next(r["value"] for r in rows if r["case"] == c and r["steps"] == last)
        / next(r["value"] for r in rows if r["case"] == c and r["steps"] == last // 10)
        for c in ("saddle point, mirror prox", "saddle point, optimistic")
        if not chosen.quick
    }
    notes = [
        f"{SEEDS} seeds: mean and half width of its 95 % interval; value: gap of the average, for Hedge regret",
        *(f"{c}: ten times the steps, {r:.4f} times the gap" for c, r in ratios.items()),
    ]
    write_csv(chosen.out / "bounds.csv", notes, rows)
    draw(rows, chosen.out / "bounds.png")


def draw(rows: list[dict[str, object]], path) -> None:
    """Values and bounds against steps."""
    made = figure(12, 3.8)
    panels = made.subplots(1, 3)
    cases = list(dict.fromkeys(r["case"] for r in rows))
    groups = [cases[:2], [c for c in cases if c.startswith("saddle")], [c for c in cases if c.startswith("Hedge")]]
    titles = ("Largest of affine functions on a simplex", "Matrix games, 50 x 50", "Hedge, 10 experts")
    for panel, group, title in zip(panels, groups, titles, strict=True):
        for k, case in enumerate(group):
            mine = [r for r in rows if r["case"] == case]
            steps, style = [r["steps"] for r in mine], {"color": COLORS[k], "markersize": 3}
            panel.loglog(steps, [max(r["value"], 1e-3) for r in mine], "o-", label=case.split(", ")[-1], **style)
            if k == 0 or panel is not panels[2]:  # All opponents of Hedge have one bound.
                color = COLORS[k] if panel is not panels[2] else "0.4"
                panel.loglog(steps, [r["bound"] for r in mine], "--", color=color)
        clean(panel, title, "steps", "gap of the average" if panel is not panels[2] else "regret")
        panel.legend(fontsize=7, frameon=False, title="dashed: bounds", title_fontsize=7)
    save(made, path)


if __name__ == "__main__":
    main()
