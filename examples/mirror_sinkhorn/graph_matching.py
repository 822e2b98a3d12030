"""Matching graphs on Birkhoff's polytope: the convex relaxation by Mirror Sinkhorn and by Frank and Wolfe's method.

    python examples/mirror_sinkhorn/graph_matching.py [--quick] [--n 100] [--steps 500] [--out DIR]

``min |A P - P B|^2 / 2`` over doubly stochastic matrices, for random graphs ``B`` and permuted copies ``A`` of which a
share of the pairs is redrawn. All graphs are one batch of Mirror Sinkhorn; Frank and Wolfe's method (``ot.optim.cg``)
takes one after another. A solution is rounded to a permutation by linear assignment and judged by the share of vertices
that it matches. Writes ``graph_matching.csv``, ``graph_matching_recovery.csv`` and ``graph_matching.png``.
"""

import ot
import torch
from common import COLORS, F64, Marked, clean, figure, options, save, show, timed, watched, write_csv
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mirrorgen.transport import round_to_polytope

NOISE = (0.0, 0.02, 0.05, 0.1)


def graphs(n: int, copies: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Adjacency matrices ``A``, ``B`` and true matches ``(noise levels * copies, ...)``, and the noise of each pair."""
    generator = torch.Generator().manual_seed(0)
    firsts, seconds, truths, levels = [], [], [], []
    for level in NOISE:
        for _ in range(copies):
            b, redrawn = (_symmetric(torch.rand(n, n, generator=generator, dtype=F64) < 0.2) for _ in range(2))
            changed = _symmetric(torch.rand(n, n, generator=generator, dtype=F64) < level)
            truth = torch.randperm(n, generator=generator)
            a = torch.where(changed > 0, redrawn, b)[truth][:, truth]
            firsts, seconds, truths, levels = [*firsts, a], [*seconds, b], [*truths, truth], [*levels, level]
    return torch.stack(firsts), torch.stack(seconds), torch.stack(truths), torch.tensor(levels)


def _symmetric(edges: Tensor) -> Tensor:
    upper = edges.to(F64).triu(1)
    return upper + upper.mT


def value(a: Tensor, b: Tensor, plan: Tensor) -> Tensor:
    return (a @ plan - plan @ b).square().sum((-2, -1)) / 2


def gradient(a: Tensor, b: Tensor, plan: Tensor) -> Tensor:
    residual = a @ plan - plan @ b
    return a.mT @ residual - residual @ b.mT


def matched(plan: Tensor, truth: Tensor) -> Tensor:
    """Share of vertices of each pair whose match is the true one."""
    found = [torch.as_tensor(linear_sum_assignment(-p.numpy())[1]) for p in plan]
    return (torch.stack(found) == truth).to(F64).mean(-1)


def mirror(a: Tensor, b: Tensor, steps: int) -> dict[str, list[Marked]]:
    """Theory steps times ten, and constant steps, on the whole batch."""
    ones = torch.ones(a.shape[-1], dtype=F64)
    start = torch.full_like(a, -float(torch.tensor(a.shape[-1]).log()))
    # Entries of A P and P B are at most one, hence those of gradients at most twice the largest degree.
    bound = 2 * torch.maximum(a.sum(-1).amax(-1), b.sum(-1).amax(-1))
    runs = {
        "Mirror Sinkhorn, theory steps": {"bound": bound},
        "Mirror Sinkhorn, 10 x theory steps": {"bound": bound, "step_size": 10.0},
        "Mirror Sinkhorn, constant steps, 20 half steps": {"schedule": "constant", "step_size": 0.1, "half_steps": 20},
    }
    return {
        name: watched(lambda p: gradient(a, b, p), ones, ones, steps=steps, start=start, **settings)
        for name, settings in runs.items()
    }


def frank_wolfe(a: Tensor, b: Tensor, iterations: int) -> Marked:
    """One graph after another, from the uniform matrix."""
    n = a.shape[-1]
    uniform = torch.ones(n, dtype=F64).numpy() / n

    def one(first: Tensor, second: Tensor) -> Tensor:
        x, y = first.numpy(), second.numpy()
        parts = (uniform, uniform, 0 * x, 1.0)
        # Plans of mass one are doubly stochastic matrices over n.
        found = ot.optim.cg(
            *parts,
            lambda p: ((x @ p - p @ y) ** 2).sum() / 2,
            lambda p: x.T @ (x @ p - p @ y) - (x @ p - p @ y) @ y.T,
            numItermax=iterations, stopThr=0, stopThr2=0,
        )  # fmt: skip
        return n * torch.as_tensor(found)

    plans, seconds = timed(lambda: torch.stack([one(x, y) for x, y in zip(a, b, strict=True)]))
    return Marked(iterations, seconds, plans)


def main() -> None:
    chosen = options(__doc__, n=100, steps=500)
    n, steps, copies = (12, 20, 1) if chosen.quick else (chosen.n, chosen.steps, 3)
    a, b, truth, level = graphs(n, copies)
    curves = mirror(a, b, steps)
    lengths = (2, 5) if chosen.quick else (5, 20, 60, 200)
    curves["Frank-Wolfe (ot.optim.cg)"] = [frank_wolfe(a, b, k) for k in lengths]
    ones, rows, recovery = torch.ones(n, dtype=F64), [], []
    for name, points in curves.items():
        for point in points:
            plan = round_to_polytope(point.plan, ones, ones)
            values, shares = value(a, b, plan), matched(plan, truth)
            for noise in NOISE:
                here = level == torch.tensor(noise)
                rows.append(
                    {"method": name, "noise": noise, "steps": point.steps, "seconds": point.seconds,
                     "value over n": float(values[here].mean()) / n, "matched": float(shares[here].mean())}
                )  # fmt: skip
        recovery += [r for r in rows if r["method"] == name and r["steps"] == points[-1].steps]
    show(recovery)
    notes = [
        f"n = {n}, {copies} pairs of graphs per noise level, edges with probability 0.2, all pairs in one batch",
        "seconds: processor time for the whole batch, one thread; means over pairs of rounded plans",
    ]
    write_csv(chosen.out / "graph_matching.csv", notes, rows)
    write_csv(chosen.out / "graph_matching_recovery.csv", notes, recovery)
    draw(rows, chosen.out / "graph_matching.png")


def draw(rows: list[dict[str, object]], path) -> None:
    """Values against time at one noise level, and matches against noise."""
    made = figure(10, 3.9)
    panels = made.subplots(1, 2)
    for k, name in enumerate(dict.fromkeys(r["method"] for r in rows)):
        mine = [r for r in rows if r["method"] == name]
        shown = [r for r in mine if r["noise"] == NOISE[1]]
        panels[0].loglog(
            [r["seconds"] for r in shown], [r["value over n"] for r in shown], "o-", ms=3, color=COLORS[k], label=name
        )
        last = [r for r in mine if r["steps"] == mine[-1]["steps"]]
        panels[1].plot([r["noise"] for r in last], [r["matched"] for r in last], "o-", ms=4, color=COLORS[k])
    clean(panels[0], f"Relaxation, {NOISE[1]:.0%} of the pairs redrawn", "processor seconds, whole batch", "value / n")
    clean(panels[1], "Vertices matched after the longest run", "share of pairs redrawn", "share of vertices")
    panels[1].set_ylim(-0.02, 1.04)
    panels[0].legend(fontsize=7, frameon=False)
    save(made, path)


if __name__ == "__main__":
    main()
