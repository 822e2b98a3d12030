"""Orders of steps with reflection, projection and rejection, and of the reverse process, in one dimension.

    python examples/reflected_diffusion/order.py [--quick] [--particles 200000] [--out DIR]

Forward: reflected motion on [0, 1] with drift ``-3 + 6 sin 7x`` and unit noise from 0.3, at time 1/4. Laws of the
schemes come from transition probabilities on a fine grid, the exact one from the generator's eigenvectors; nothing is
sampled. Particles moved by ``mirrorgen.diffusion.move``, with one noise for all treatments of the wall, check them.
Reverse: data of density ``1 + 0.9 cos(pi x)``, whose scores are known, from deviation 1.5. Total variation of the law
of Euler-Maruyama steps to 0.01 (logarithmic grid, cells of 1/50, in the same way), and the largest error of Heun's and
Euler's steps of the probability flow to 0.001 over the interval.
``reference`` is an earlier program of ours with other code, whose starting point in the forward example is not
recorded; 0.3 reproduces its numbers. Writes ``order.csv`` and ``order.png``.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from common import COLORS, clean, figure, options, save, show, write_csv
from scipy.linalg import eigh_tridiagonal
from scipy.special import ndtr
from torch import Tensor

from mirrorgen.diffusion import move, reverse, sigma_grid
from mirrorgen.geometry.domains import Box

Array = np.ndarray
TIME, START, NEAR = 0.25, 0.3, 0.1
STEPS = (16, 32, 64, 128, 256)
FORWARD = {  # steps: W1 and the error of P(x < 0.1)
    "project": {16: (0.0513, 0.123), 64: (0.0186, 0.047), 128: (0.0118, 0.031)},
    "reflect": {16: (0.0182, 0.0154), 64: (0.0042, 0.0025), 128: (0.0021, 0.0013)},
    "reject": {16: (0.0233, 0.035), 64: (0.0057, 0.0086), 128: (0.0029, 0.0043)},
}
BACKWARD = {
    "reflect": {25: 0.0417, 50: 0.0218, 100: 0.0111, 200: 0.0056},
    "project": {25: 0.1236, 50: 0.0788, 100: 0.0512, 200: 0.0340},
}
FLOW = {
    ("heun", "log"): {10: 2.1e-2, 20: 4.0e-3, 40: 9.2e-4, 80: 2.3e-4},
    ("heun", "rho"): {10: 5.9e-3, 20: 1.3e-3, 40: 2.9e-4, 80: 6.9e-5},
    ("euler", "log"): {10: 9.6e-2, 20: 5.7e-2, 40: 3.2e-2, 80: 1.7e-2},
}
ORDER = {"project": 0.5, "reflect": 1, "reject": 1, "heun": 2, "euler": 1}


class Line:
    """Laws on ``[0, 1]``: masses of ``cells`` equal cells between atoms at both ends (first and last entry)."""

    def __init__(self, cells: int) -> None:
        self.count, self.width = cells, 1 / cells
        self.edges = np.linspace(0, 1, cells + 1)
        self.centers = 0.5 * (self.edges[1:] + self.edges[:-1])
        self.points = np.concatenate([[0.0], self.centers, [1.0]])

    def step(self, mean: Array, deviation: float, wall: str) -> Callable[[Array], Array]:
        """The law after a normal step from ``points`` to ``mean`` that meets the walls, as a map of laws.

        Normal masses of the cells of the whole line within 7 deviations; the wall says where each of them ends up.
        """
        reach = math.ceil(7 * deviation / self.width)
        cell = np.floor(mean / self.width).astype(int)[:, None] + np.arange(-reach, reach + 1)
        below = ndtr((cell * self.width - mean[:, None]) / deviation)
        mass = np.diff(below, axis=1, append=1.0)
        inside = (cell >= 0) & (cell < self.count)
        if wall == "reflect":
            around = cell % (2 * self.count)
            end = np.where(around < self.count, around, 2 * self.count - 1 - around) + 1
        elif wall == "project":
            end = np.clip(cell, -1, self.count) + 1
        else:
            end = np.where(inside, cell + 1, np.arange(len(mean))[:, None])
        flat = end.ravel()
        return lambda law: np.bincount(flat, (law[:, None] * mass).ravel(), minlength=self.count + 2)

    def cells(self, law: Array) -> Array:
        """Masses of cells alone, atoms added to the outer ones."""
        inner = law[1:-1].copy()
        inner[0] += law[0]
        inner[-1] += law[-1]
        return inner


def drift(x: Array | Tensor) -> Array | Tensor:
    """``-3 + 6 sin 7x``."""
    return -3 + 6 * (torch if isinstance(x, Tensor) else np).sin(7 * x)


def start_law(line: Line) -> Array:
    """A point mass on an edge between cells, as half a mass on either side."""
    law = np.zeros(len(line.points))
    i = round(START * len(line.centers))
    law[i : i + 2] = 0.5
    return law


def exact_law(line: Line) -> Array:
    """The law at the end, by the eigenvectors of the generator: jumps between cells in detailed balance.

    With ``V' = -2 drift`` the stationary density is ``e^-V``; the error is of second order in the width of cells.
    """
    x, width = line.centers, 1 / len(line.centers)
    potential = 2 * (3 * x + 6 / 7 * np.cos(7 * x))
    half = 0.5 * np.diff(potential)
    up, down = (0.5 / width**2 * np.exp(sign * half) for sign in (-1, 1))
    out = np.zeros(len(x))
    out[:-1] += up
    out[1:] += down
    rates, vectors = eigh_tridiagonal(-out, np.sqrt(up * down))
    weight = np.exp(-0.5 * (potential - potential.mean()))
    law = weight * (vectors @ (np.exp(rates * TIME) * (vectors.T @ (start_law(line)[1:-1] / weight))))
    return np.concatenate([[0.0], law, [0.0]])


def distances(line: Line, law: Array, true: Array) -> tuple[float, float]:
    """``W1`` and the error of ``P(x < 0.1)``."""
    gap = np.cumsum(line.cells(law)) - np.cumsum(line.cells(true))
    return float(np.abs(gap[:-1]).sum() / len(gap)), float(gap[round(NEAR * len(gap)) - 1])


def scheme(line: Line, steps: int, wall: str) -> Array:
    """The law of a scheme at the end of the forward example."""
    h, law = TIME / steps, start_law(line)
    step = line.step(line.points + h * drift(line.points), math.sqrt(h), wall)
    for _ in range(steps):
        law = step(law)
    return law


def forward(line: Line, steps: tuple[int, ...]) -> list[dict[str, object]]:
    """Rows of the forward example."""
    true, rows = exact_law(line), []
    for wall, known in FORWARD.items():
        errors = [distances(line, scheme(line, n, wall), true) for n in steps]
        for i, quantity in enumerate(("W1", f"P(x < {NEAR})")):
            rows += table("forward", wall, quantity, {n: e[i] for n, e in zip(steps, errors, strict=True)},
                          {n: v[i] for n, v in known.items()})  # fmt: skip
    return rows


def particles(line: Line, steps: int, n: int) -> list[dict[str, object]]:
    """``P(x < 0.1)`` by moved particles, and differences between treatments, against the grid: z-scores."""
    generator, domain, h = torch.Generator().manual_seed(0), Box(0.0, 1.0), TIME / steps
    x = {wall: torch.full((n, 1), START, dtype=torch.float64) for wall in FORWARD}
    for _ in range(steps):
        noise = math.sqrt(h) * torch.randn(n, 1, generator=generator, dtype=torch.float64)
        x = {wall: move(domain, y, h * drift(y) + noise, wall) for wall, y in x.items()}
    near = {wall: (y < NEAR).double() for wall, y in x.items()}
    first = round(NEAR * line.count)
    expected = {wall: float(line.cells(scheme(line, steps, wall))[:first].sum()) for wall in FORWARD}
    rows = []
    checks = [(wall, near[wall], expected[wall]) for wall in FORWARD]
    for wall in ("project", "reject"):
        gap = expected[wall] - expected["reflect"]
        checks.append((f"{wall} minus reflect", near[wall] - near["reflect"], gap))
    for what, sample, value in checks:
        z = (float(sample.mean()) - value) / (float(sample.std()) / math.sqrt(n))
        rows.append({"part": "particles", "method": what, "quantity": f"P(x < {NEAR})", "steps": steps,
                     "ours": float(sample.mean()), "reference": "", "exact": value, "order": "", "expected_order": "",
                     "z": z})  # fmt: skip
    return rows


def amplitude(sigma: float) -> float:
    """The law at deviation ``sigma`` is ``1 + amplitude cos(pi x)``."""
    return 0.9 * math.exp(-0.5 * (math.pi * sigma) ** 2)


def score(x: Tensor, sigma: Tensor) -> Tensor:
    """``d/dx log(1 + a cos(pi x))``."""
    a = amplitude(float(sigma))
    return -a * math.pi * torch.sin(math.pi * x) / (1 + a * torch.cos(math.pi * x))


def cdf(x: Tensor, sigma: float) -> Tensor:
    """``x + a sin(pi x) / pi``."""
    return x + amplitude(sigma) / math.pi * torch.sin(math.pi * x)


def backward(line: Line, steps: tuple[int, ...]) -> list[dict[str, object]]:
    """Rows of the reverse process: total variation over cells of 1/50."""
    rows, edges = [], torch.from_numpy(line.edges)
    coarse = torch.linspace(0, 1, 51, dtype=torch.float64)
    for wall, known in BACKWARD.items():
        errors = {}
        for n in steps:
            levels = sigma_grid(1.5, 0.01, n, "log").tolist()
            law = np.concatenate([[0.0], cdf(edges, 1.5).diff().numpy(), [0.0]])
            for high, low in pairwise(levels):
                variance = high**2 - low**2
                pull = score(torch.from_numpy(line.points), torch.tensor(high)).numpy()
                law = line.step(line.points + variance * pull, math.sqrt(variance), wall)(law)
            found = line.cells(law).reshape(50, -1).sum(1)
            errors[n] = float(0.5 * np.abs(found - cdf(coarse, 0.01).diff().numpy()).sum())
        rows += table("reverse", wall, "total variation", errors, known)
    return rows


def inverse_cdf(u: Tensor, sigma: float) -> Tensor:
    """By bisection."""
    low, high = torch.zeros_like(u), torch.ones_like(u)
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (torch.where(cdf(middle, sigma) < u, *pair) for pair in ((middle, low), (high, middle)))
    return 0.5 * (low + high)


def flow(steps: tuple[int, ...]) -> list[dict[str, object]]:
    """Rows of the probability flow: the largest error of its map."""
    x = torch.linspace(0.001, 0.999, 999, dtype=torch.float64).unsqueeze(-1)
    true = inverse_cdf(cdf(x, 1.5), 1e-3)
    rows = []
    for (method, grid), known in FLOW.items():
        ends = {n: reverse(Box(0.0, 1.0), score, x, sigma_grid(1.5, 1e-3, n, grid), method) for n in steps}
        errors = {n: float((end - true).abs().max()) for n, end in ends.items()}
        rows += table("flow", f"{method}, {grid} grid", "largest error", errors, known)
    return rows


def table(part: str, method: str, quantity: str, errors: dict[int, float], known: dict[int, float]) -> list[dict]:
    """One row per number of steps, with the order between the last two and the fitted one."""
    n, e = (np.log(np.abs(list(v))) for v in (errors.keys(), errors.values()))
    fitted = -float(np.polyfit(n[-3:], e[-3:], 1)[0]) if len(errors) > 1 else math.nan
    return [{"part": part, "method": method, "quantity": quantity, "steps": k, "ours": v,
             "reference": known.get(k, ""), "exact": 0, "order": fitted,
             "expected_order": ORDER[method.split(",")[0]], "z": ""} for k, v in errors.items()]  # fmt: skip


def curve(axis, rows: list[dict], label: str, color: str, style: str) -> None:
    """One line of the figure, with the reference as circles."""
    label = f"{label} (order {rows[0]['order']:.2f})"
    axis.plot([r["steps"] for r in rows], [r["ours"] for r in rows], style, color=color, ms=4, label=label)
    known = [(r["steps"], r["reference"]) for r in rows if r["reference"] != ""]
    axis.plot(*zip(*known, strict=True), "o", mfc="none", mec="#444444", ms=8, lw=0)


def draw(rows: list[dict], path) -> None:
    """Three panels: forward, reverse, flow."""
    made = figure(13.5, 4.4)
    made.get_layout_engine().set(wspace=0.06)
    panels = {
        "forward": ("Forward: drift -3 + 6 sin 7x, time 1/4", "error", 25),
        "reverse": ("Reverse, exact score: Euler-Maruyama", "total variation", 4),
        "flow": ("Probability flow, exact score", "largest error", 6),
    }
    names = {"project": "projection", "reflect": "reflection", "reject": "rejection"}
    colors = {"project": COLORS[1], "reflect": COLORS[0], "reject": COLORS[3], "heun, log grid": COLORS[2],
              "heun, rho grid": COLORS[0], "euler, log grid": COLORS[1]}  # fmt: skip
    for axis, (part, (title, label, room)) in zip(made.subplots(1, 3), panels.items(), strict=True):
        groups: dict[tuple, list[dict]] = {}
        for row in rows:
            if row["part"] == part:
                groups.setdefault((row["method"], row["quantity"]), []).append(row)
        for (method, quantity), group in groups.items():
            name = names.get(method, method.capitalize()) + (f", {quantity}" if part == "forward" else "")
            curve(axis, group, name, colors[method], "--^" if quantity.startswith("P") else "-s")
        axis.plot([], [], "o", mfc="none", mec="#444444", ms=8, label="earlier program")
        axis.set(xscale="log", yscale="log")
        ticks = [r["steps"] for r in group]
        axis.set_xticks(ticks, [str(t) for t in ticks])
        axis.xaxis.minorticks_off()
        clean(axis, title, "steps", label)
        low, high = axis.get_ylim()
        axis.set_ylim(low / room, high)
        axis.legend(fontsize=8, loc="lower left")
    save(made, path)


def main() -> None:
    """All parts, table, figure."""
    chosen = options(__doc__, particles=200_000)
    cells, n = (200, 5000) if chosen.quick else (1000, chosen.particles)
    line = Line(cells)
    rows = forward(line, STEPS[:2] if chosen.quick else STEPS) + particles(line, 16, n)
    rows += backward(line, (25,) if chosen.quick else (25, 50, 100, 200)) + flow(
        (10, 20) if chosen.quick else (10, 20, 40, 80)
    )
    show(rows)
    notes = [f"{cells} cells; order: fitted to the last three numbers of steps",
             "particles: same noise for all treatments; z: (ours - exact) / standard error, exact from the grid",
             "reference: an earlier program of ours with other code"]  # fmt: skip
    write_csv(chosen.out / "order.csv", notes, rows)
    draw(rows, chosen.out / "order.png")


if __name__ == "__main__":
    main()
