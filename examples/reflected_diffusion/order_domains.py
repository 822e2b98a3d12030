"""Weak orders of the ways to respect a wall where walls are curved or meet at odd angles.

    python examples/reflected_diffusion/order_domains.py [--quick] [--particles 200000] [--out DIR]

Reflected motion with constant drift ``g`` and unit noise has the stationary density ``exp(2 g.x)``. Particles start
from exact draws of it and take steps of length ``h`` up to time 1, with one noise for all treatments; what they drift
away from the law is the error of the scheme: in the mean of ``g.x / |g|`` and in the share of the outer shell (the
points within .05 of a wall), averaged over the second half of the time. On the disc, with a curved wall, and on the
corner simplex in three dimensions, whose reflections do not tile the space. Exact values by quadrature. Writes
``order_domains.csv`` and ``order_domains.png``.
"""

import math
from typing import get_args

import numpy as np
import torch
from common import COLORS, clean, figure, options, save, show, write_csv
from torch import Tensor

from mirrorgen.diffusion import Gaps, move
from mirrorgen.diffusion.steps import Boundary
from mirrorgen.geometry.domains import Ball, Domain, Simplex

F64 = torch.float64
SHELL, PULL = 0.05, 1.5
WALLS = [b for b in get_args(Boundary) if b != "none"]
STEPS = (8, 16, 32, 64, 128)


def sets() -> dict[str, tuple[Domain, Tensor]]:
    """Domains with the direction of the drift."""
    return {
        "disc": (Ball(2), torch.tensor([1.0, 0.0], dtype=F64)),
        "corner simplex": (Gaps(3, corner=True).target, torch.tensor([1.0, 0.0, 0.0], dtype=F64)),
    }


def exact_draws(domain: Domain, direction: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """``n`` points of density ``exp(2 PULL direction.x)``, by rejection from uniform ones (``direction.x <= 1``)."""
    found: list[Tensor] = []
    # The probability simplex has uniform draws in closed form, and is the corner simplex with one coordinate more.
    source = domain if isinstance(domain, Ball) else Simplex(domain.dim + 1)
    while sum(map(len, found)) < n:
        x = source.sample_uniform(n, generator=generator, dtype=F64)[:, : domain.dim]
        u = torch.rand(n, generator=generator, dtype=F64)
        found.append(x[u < torch.exp(2 * PULL * (x @ direction - 1))])
    return torch.cat(found)[:n]


def marks(domain: Domain, x: Tensor, direction: Tensor) -> Tensor:
    """The two quantities of every particle, ``(2, n)``."""
    return torch.stack([x @ direction, (domain.slack(x).amin(-1) < SHELL).double()])


def exact_values(name: str) -> list[float]:
    """Means of ``marks`` under the stationary law, by quadrature along the drift."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    if name == "disc":
        inner = 1 - SHELL

        def mass(radius: float, power: int) -> float:
            u = radius * nodes
            return float((weights * radius * u**power * np.exp(2 * PULL * u) * 2 * np.sqrt(radius**2 - u**2)).sum())

        return [mass(1, 1) / mass(1, 0), 1 - mass(inner, 0) / mass(1, 0)]

    def triangle(start: float, side: float, power: int) -> float:
        # Sections of a corner simplex of this side at x_1 = start + u: triangles of legs side - u.
        u = 0.5 * side * (nodes + 1)
        return float(
            (weights * 0.5 * side * (start + u) ** power * np.exp(2 * PULL * (start + u)) * (side - u) ** 2).sum()
        )

    # Moving every wall in by SHELL leaves a smaller simplex.
    side = 1 - 3 * SHELL - math.sqrt(3) * SHELL
    whole = triangle(0, 1, 0)
    return [triangle(0, 1, 1) / whole, 1 - triangle(SHELL, side, 0) / whole]


def errors(
    domain: Domain, direction: Tensor, exact: list[float], steps: int, n: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Errors of the two quantities and their standard errors, per treatment of the wall."""
    generator, h = torch.Generator().manual_seed(steps), 1 / steps
    start = exact_draws(domain, direction, n, generator)
    x = dict.fromkeys(WALLS, start)
    sums = {wall: torch.zeros(2, n, dtype=F64) for wall in WALLS}
    for k in range(steps):
        noise = h * PULL * direction + math.sqrt(h) * torch.randn(start.shape, generator=generator, dtype=F64)
        x = {wall: move(domain, y, noise, wall) for wall, y in x.items()}
        if k >= steps // 2:
            for wall, y in x.items():
                sums[wall] += marks(domain, y, direction)
    values = {wall: 2 * total / steps for wall, total in sums.items()}
    true = torch.tensor(exact, dtype=F64)
    return {wall: (v.mean(1) - true, v.std(1) / math.sqrt(n)) for wall, v in values.items()}


def study(name: str, counts: tuple[int, ...], n: int) -> list[dict[str, object]]:
    """Rows of one domain, with the order fitted where errors are above three standard errors."""
    domain, direction = sets()[name]
    exact = exact_values(name)
    found = {steps: errors(domain, direction, exact, steps, n) for steps in counts}
    rows: list[dict[str, object]] = []
    for wall in WALLS:
        for i, quantity in enumerate(("mean along the drift", f"share within {SHELL} of a wall")):
            error, spread = ({s: float(found[s][wall][j][i]) for s in counts} for j in (0, 1))
            clear = [s for s in counts if abs(error[s]) > 3 * spread[s]]
            order = math.nan
            if len(clear) > 1:
                order = -float(np.polyfit(np.log(clear), np.log([abs(error[s]) for s in clear]), 1)[0])
            rows += [
                {"domain": name, "boundary": wall, "quantity": quantity, "steps": s, "error": error[s],
                 "standard_error": spread[s], "exact": exact[i], "order": order}
                for s in counts
            ]  # fmt: skip
    return rows


def draw(rows: list[dict], path) -> None:
    """A panel per domain and quantity."""
    made = figure(11, 7.5)
    panels = list(dict.fromkeys((r["domain"], r["quantity"]) for r in rows))
    for axis, (domain, quantity) in zip(made.subplots(2, 2).flatten(), panels, strict=False):
        for wall, color in zip(WALLS, COLORS, strict=False):
            mine = [r for r in rows if (r["domain"], r["quantity"], r["boundary"]) == (domain, quantity, wall)]
            order = mine[0]["order"]
            label = f"{wall} (below the noise)" if math.isnan(order) else f"{wall} (order {order:.2f})"
            heights, bars = [abs(r["error"]) for r in mine], [r["standard_error"] for r in mine]
            axis.errorbar([r["steps"] for r in mine], heights, bars, fmt="-o", ms=4, color=color, label=label)
        axis.set(xscale="log", yscale="log")
        axis.legend(fontsize=8, frameon=False)
        clean(axis, f"{domain}: {quantity}", "steps per unit of time", "absolute error")
    save(made, path)


def main() -> None:
    """Both domains, table, figure."""
    chosen = options(__doc__, particles=200_000)
    counts, n = ((4, 8), 500) if chosen.quick else (STEPS, chosen.particles)
    rows = [row for name in sets() for row in study(name, counts, n)]
    show(rows)
    notes = [f"{n} particles; order: fitted to the errors above three standard errors"]
    write_csv(chosen.out / "order_domains.csv", notes, rows)
    draw(rows, chosen.out / "order_domains.png")


if __name__ == "__main__":
    main()
