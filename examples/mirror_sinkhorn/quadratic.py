"""Quadratically regularised transport: Mirror Sinkhorn with its options against Frank and Wolfe's method.

    python examples/mirror_sinkhorn/quadratic.py [--quick] [--n 500] [--out DIR]

``min <C, P> + (weight n / 2) |P|^2`` with weight 0.2. The quadratic is smooth relative to the entropy with the constant
``weight`` (entries of plans are at most about 1 / n), hence constant steps ``1 / weight``; with one half step per
gradient they stall at a violation of the marginals, with 20 they do not. Frank and Wolfe's method is ``ot.optim.cg``.
Writes ``quadratic.csv`` and ``quadratic.png``.
"""

from functools import partial

import ot
import torch
from common import COLORS, clean, clouds, figure, options, save, show, timed, watched, write_csv
from torch import Tensor

from mirrorgen.transport import exact_plan, marginal_error, round_to_polytope

WEIGHT = 0.2


def main() -> None:
    chosen = options(__doc__, n=500)
    n, longest = (30, 20) if chosen.quick else (chosen.n, 500)
    cost, mu, nu = clouds(n)
    rows = [*frank_wolfe(cost, mu, nu, 10 if chosen.quick else 400), *mirror(cost, mu, nu, longest)]
    best = min(r["value"] for r in rows)
    for r in rows:
        r["relative gap"] = r["value"] / best - 1
    show(rows)
    notes = [
        f"n = {n}, weight {WEIGHT}; seconds: processor time, one thread; values are those of rounded plans",
        "relative gap: to the best value of the table; certified: upper bound on the gap, that of Frank and Wolfe",
    ]
    write_csv(chosen.out / "quadratic.csv", notes, rows)
    draw(rows, chosen.out / "quadratic.png")


def row(
    method: str, steps: int, seconds: float, plan: Tensor, problem: tuple[Tensor, Tensor, Tensor]
) -> dict[str, object]:
    """Value of the rounded plan, and the most that it can be above the optimum."""
    cost, mu, nu = problem
    rounded = round_to_polytope(plan, mu, nu)
    gradient = cost + WEIGHT * len(mu) * rounded
    value = float((cost * rounded).sum() + WEIGHT * len(mu) / 2 * rounded.square().sum())
    excess = float((gradient * (rounded - exact_plan(gradient, mu, nu).plan)).sum())
    violation = float(marginal_error(plan, mu, nu))
    return {"method": method, "steps": steps, "seconds": seconds, "value": value, "certified": excess / value,
            "violation": violation}  # fmt: skip


def frank_wolfe(cost: Tensor, mu: Tensor, nu: Tensor, longest: int) -> list[dict[str, object]]:
    """Runs of increasing length; the longest is the reference."""
    parts = (mu.numpy(), nu.numpy(), cost.numpy(), WEIGHT * len(mu) / 2, lambda g: (g**2).sum(), lambda g: 2 * g)
    rows = []
    for k in (k for k in (1, 3, 10, 20, 30, 50, 100, 200, 400) if k <= longest):
        solve = partial(ot.optim.cg, *parts, numItermax=k, stopThr=0, stopThr2=0)
        plan, seconds = timed(solve)
        rows.append(row("Frank-Wolfe (ot.optim.cg)", k, seconds, torch.as_tensor(plan), (cost, mu, nu)))
    return rows


def mirror(cost: Tensor, mu: Tensor, nu: Tensor, longest: int) -> list[dict[str, object]]:
    """Theory steps, and constant ones with more and more half steps."""

    def gradient(plan: Tensor) -> Tensor:
        return cost + WEIGHT * len(mu) * plan

    settings = {"theory steps": {}}
    for k in (1, 4, 20, 50):
        settings[f"constant, {k} half step{'s' * (k > 1)}"] = {
            "schedule": "constant",
            "step_size": 1 / WEIGHT,
            "half_steps": k,
        }
    return [
        row(name, point.steps, point.seconds, point.plan, (cost, mu, nu))
        for name, options_of in settings.items()
        for point in watched(gradient, mu, nu, steps=longest, **options_of)
    ]


def draw(rows: list[dict[str, object]], path) -> None:
    """Gaps and violations against time."""
    made = figure(10, 3.9)
    panels = made.subplots(1, 2)
    for k, name in enumerate(dict.fromkeys(r["method"] for r in rows)):
        mine = [r for r in rows if r["method"] == name]
        seconds = [r["seconds"] for r in mine]
        panels[0].loglog(seconds, [max(r["relative gap"], 1e-6) for r in mine], "o-", ms=3, color=COLORS[k], label=name)
        if not name.startswith("Frank"):
            panels[1].loglog(seconds, [r["violation"] for r in mine], "o-", ms=3, color=COLORS[k], label=name)
    clean(panels[0], "Rounded plans, quadratic regularisation", "processor seconds", "relative gap to the best found")
    clean(panels[1], "Violation of the marginals before rounding", "processor seconds", "1-norm over the mass")
    panels[0].set_ylim(bottom=1e-5)
    panels[0].legend(fontsize=7, frameon=False)
    save(made, path)


if __name__ == "__main__":
    main()
