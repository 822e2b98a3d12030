"""Mirror Sinkhorn on linear transport, beside its bound, annealed Sinkhorn, POT and the linear programme.

    python examples/mirror_sinkhorn/linear.py [--quick] [--n 500] [--steps 2000] [--out DIR]

Two costs: squared distances of point clouds (gaps relative to the optimum) and independent uniform ones (absolute gaps,
since the optimum is next to zero). Frank and Wolfe's method solves a linear programme in one step, which is ``ot.emd``.
Writes ``linear_steps.csv`` (Mirror Sinkhorn by steps: gaps of the weighted average and its bound, rounded gaps,
marginal violations of the uniform average and of the last iterate), ``linear_solvers.csv`` (every solver's rounded gap,
certified gap and processor time) and ``linear.png``.
"""

from functools import partial

import ot
import torch
from common import COLORS, clean, clouds, figure, marks, options, save, show, timed, watched, write_csv
from torch import Tensor

from mirrorgen.transport import (
    duality_gap,
    exact_plan,
    log_spread,
    marginal_error,
    mirror_sinkhorn,
    round_to_polytope,
    sinkhorn,
)

Case = tuple[Tensor, Tensor, Tensor]


def larger_side(plan: Tensor, mu: Tensor, nu: Tensor) -> float:
    """The larger of both marginal violations in the 1-norm."""
    return max(float((plan.sum(-1) - mu).abs().sum()), float((plan.sum(-2) - nu).abs().sum()))


def by_steps(title: str, problem: Case, steps: int, stochastic: bool) -> list[dict[str, object]]:
    """Averages and the last iterate at the marks, from one run."""
    cost, mu, nu = problem
    best = exact_plan(cost, mu, nu).plan
    optimum, entropy = (
        float((best * cost).sum()),
        float((best * (best / (mu[:, None] * nu)).log().nan_to_num(neginf=0)).sum()),
    )
    generator, wanted, rows = torch.Generator().manual_seed(1), set(marks(steps)), []
    sums = {"eta": torch.zeros_like(cost), "uniform": torch.zeros_like(cost)}
    total = squares = 0.0

    def noisy(_: Tensor) -> Tensor:
        """Costs in [0, 1] as coins: unbiased, and as noisy as entries within the bound can be."""
        return (torch.rand(cost.shape, generator=generator, dtype=cost.dtype) < cost).to(cost.dtype)

    def gap(plan: Tensor) -> float:
        return float((round_to_polytope(plan, mu, nu) * cost).sum()) - optimum

    def look(step) -> None:
        nonlocal total, squares
        eta, t = float(step.step_size), step.number
        total, squares = total + eta, squares + eta**2
        sums["eta"] += eta * step.plan
        sums["uniform"] += step.plan
        if t not in wanted:
            return
        weighted, uniform = sums["eta"] / total, sums["uniform"] / t
        rows.append(
            {
                "cost": title, "gradient": "stochastic" if stochastic else "exact", "steps": t, "optimum": optimum,
                "weighted average, gap": float((weighted * cost).sum()) - optimum,
                "bound": (entropy + squares / 2) / total,
                "weighted average, rounded": gap(weighted), "uniform average, rounded": gap(uniform),
                "last, rounded": gap(step.plan), "uniform average, violation": larger_side(uniform, mu, nu),
                "last, violation": larger_side(step.plan, mu, nu),
                "0.3 sqrt(delta / steps)": 0.3 * (float(log_spread((mu, nu))) / t) ** 0.5,
            }
        )  # fmt: skip

    mirror_sinkhorn(noisy if stochastic else cost, mu, nu, steps=steps, bound=1.0, callback=look)
    return rows


def solvers(title: str, problem: Case, steps: int) -> list[dict[str, object]]:
    """Rounded gap and time of everything, and the gap that potentials certify without the optimum."""
    cost, mu, nu = problem
    best, seconds = timed(lambda: exact_plan(cost, mu, nu))
    optimum, rows = float((best.plan * cost).sum()), []

    def note(solver: str, setting: object, seconds: float, plan: Tensor, certified: object = "") -> None:
        value = float((round_to_polytope(plan, mu, nu) * cost).sum())
        rows.append(
            {
                "cost": title, "solver": solver, "setting": setting, "seconds": seconds, "gap": value - optimum,
                "relative gap": (value - optimum) / optimum, "certified gap": certified,
                "violation": float(marginal_error(plan, mu, nu)),
            }
        )  # fmt: skip

    note("ot.emd", "", seconds, best.plan, float(duality_gap(cost, best.plan, best.f, mu, nu)))
    for exponent in range(4, 14, 2):
        epsilon = 2.0**-exponent
        for method in ("newton", "absorbed"):
            solve = partial(
                sinkhorn, cost, mu, nu, epsilon=epsilon, tolerance=1e-3, method=method, max_iterations=50_000
            )
            r, seconds = timed(solve)
            note(f"sinkhorn, {method}", epsilon, seconds, r.plan, float(duality_gap(cost, r.plan, r.f, mu, nu)))
        if exponent <= 10:
            parts = (mu.numpy(), nu.numpy(), cost.numpy(), epsilon)
            plan, seconds = timed(lambda p=parts: ot.sinkhorn(*p, stopThr=1e-6, numItermax=50_000, warn=False))
            note("ot.sinkhorn", epsilon, seconds, torch.as_tensor(plan))
    for point in watched(cost, mu, nu, steps=steps, bound=1.0):
        note("mirror_sinkhorn, theory step", point.steps, point.seconds, point.plan)
    for last in range(2, 10):
        run = partial(mirror_sinkhorn, cost, mu, nu, steps=last, schedule="anneal", half_steps=200, bound=1.0)
        r, seconds = timed(run)
        certified = float(duality_gap(cost, r.plan, r.potentials[0], mu, nu))
        note("mirror_sinkhorn, annealed", last, seconds, r.plan, certified)
    return rows


def draw(made_by_steps: list[dict[str, object]], solved: list[dict[str, object]], path) -> None:
    """Gaps and violations by steps; gaps by time."""
    made = figure(13, 3.9)
    panels = made.subplots(1, 3)
    chosen = [r for r in made_by_steps if r["cost"] == "clouds" and r["gradient"] == "exact"]
    noisy = [r for r in made_by_steps if r["cost"] == "clouds" and r["gradient"] == "stochastic"]
    steps = [r["steps"] for r in chosen]
    for k, key in enumerate(("weighted average, gap", "weighted average, rounded", "last, rounded")):
        panels[0].loglog(steps, [r[key] for r in chosen], color=COLORS[k], label=key)
    panels[0].loglog(
        steps, [r["last, rounded"] for r in noisy], ":", color=COLORS[2], label="last, rounded, stochastic"
    )
    panels[0].loglog(steps, [r["bound"] for r in chosen], "--", color=COLORS[6], label="bound")
    for k, key in enumerate(("uniform average, violation", "last, violation")):
        panels[1].loglog(steps, [r[key] for r in chosen], color=COLORS[k + 1], label=key)
    panels[1].loglog(
        steps, [r["0.3 sqrt(delta / steps)"] for r in chosen], "--", color=COLORS[6], label="0.3 sqrt(delta / steps)"
    )
    # The first step is a product of the marginals and violates neither.
    panels[1].set_ylim(bottom=1e-3)
    here = [r for r in solved if r["cost"] == "clouds"]
    for k, name in enumerate(dict.fromkeys(r["solver"] for r in here)):
        rows = [r for r in here if r["solver"] == name and r["gap"] > 0]
        if name == "ot.emd":
            panels[2].axvline(next(r["seconds"] for r in here), color=COLORS[6], linestyle="--", label="ot.emd (exact)")
            continue
        panels[2].loglog(
            [r["seconds"] for r in rows], [r["relative gap"] for r in rows], "o-", ms=3, color=COLORS[k], label=name
        )
    clean(panels[0], "Gap of Mirror Sinkhorn, theory step", "steps", "gap in units of the largest cost")
    clean(panels[1], "Violation of the marginals", "steps", "1-norm")
    clean(panels[2], "Rounded plans against time", "processor seconds", "relative gap")
    for panel in panels:
        panel.legend(fontsize=7, frameon=False)
    save(made, path)


def main() -> None:
    chosen = options(__doc__, n=500, steps=2000)
    n, steps = (30, 50) if chosen.quick else (chosen.n, chosen.steps)
    cost, mu, nu = clouds(n)
    uniform = torch.rand(n, n, generator=torch.Generator().manual_seed(3), dtype=cost.dtype)
    cases = {"clouds": (cost, mu, nu), "uniform": (uniform, mu, nu)}
    made = [r for k, c in cases.items() for noise in (False, True) for r in by_steps(k, c, steps, noise)]
    solved = [r for k, c in cases.items() for r in solvers(k, c, steps)]
    show(solved)
    notes = [f"n = {n}; gaps are absolute, in units of the largest cost, unless they are called relative"]
    write_csv(chosen.out / "linear_steps.csv", notes, made)
    write_csv(chosen.out / "linear_solvers.csv", [*notes, "seconds: processor time, one thread"], solved)
    draw(made, solved, chosen.out / "linear.png")


if __name__ == "__main__":
    main()
