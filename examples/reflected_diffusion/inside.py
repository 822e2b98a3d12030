"""Are reverse steps inside after every step, without atoms on the walls, and does the billiard keep the uniform law?

    python examples/reflected_diffusion/inside.py [--quick] [--steps 5e7] [--num 40000] [--out DIR]

Reverse steps of every method in float32, on six domains, with fixed random fields in place of trained scores: smooth
waves and a push away from the centre. ``tangent``: ``sigma * score`` at most one per coordinate, as scores have it, and
without the component normal to the walls, as models have it; ``pushing``: with that component; ``huge``: so large that
a step crosses the domain many times. After every step all states are judged by formulas written here, in float32 and in
float64 on the same numbers. ``atom`` is the largest share of states at one and the same distance from the walls;
next to a wall a bounded density has ten times as many states within 1e-3 as within 1e-4. Projection, which has atoms,
stands beside: it leaves states up to 2e-5 from the wall, where they are safe in float32.

``billiard.csv``: uniform points of the corner simplex ``{x > 0, sum x < 1}`` after specular steps with normal
displacements; z-scores of all first and second moments against those of the Dirichlet law, beside projected steps.
Writes ``inside.csv`` and ``billiard.csv``.
"""

import math
import time
from collections.abc import Callable
from itertools import combinations_with_replacement, product

import torch
from common import options, show, write_csv
from torch import Tensor

import mirrorgen as mg
from mirrorgen.data import polytope10_domain
from mirrorgen.diffusion import (
    Ancestral,
    EulerMaruyama,
    Heun,
    OdeEuler,
    PredictorCorrector,
    ReverseStep,
    extent,
    ordered_simplex,
    reverse,
    sigma_grid,
)
from mirrorgen.errors import ConvergenceError

Domain = mg.domains.Domain
LEVELS = 40
POLYTOPE = polytope10_domain()
CENTER = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)


def box_margin(x: Tensor) -> Tensor:
    """Of the box ``[-1, 1]^d``."""
    return (1 - x.abs()).amin(-1)


def ball_margin(x: Tensor, radius: float = 1.0) -> Tensor:
    """Of a ball at the origin."""
    return radius - x.square().sum(-1).sqrt()


def ordered_margin(x: Tensor) -> Tensor:
    """Of ``1 > x_1 > ... > x_d > 0``."""
    gaps = (x[:, :-1] - x[:, 1:]) / math.sqrt(2)
    return torch.cat([1 - x[:, :1], gaps, x[:, -1:]], -1).amin(-1)


def polytope_margin(x: Tensor) -> Tensor:
    """Of the polytope with 30 rows."""
    return (POLYTOPE.b.to(x.dtype) - x @ POLYTOPE.A.to(x.dtype).mT).amin(-1)


def product_margin(x: Tensor) -> Tensor:
    """Of a box times a ball."""
    return torch.minimum(box_margin(x[:, :3]), ball_margin(x[:, 3:] - CENTER.to(x.dtype), 2.0))


def simplex_margin(x: Tensor) -> Tensor:
    """Of the probability simplex; minus infinity off its plane."""
    return torch.where((x.sum(-1) - 1).abs() <= 1e-6, x.amin(-1), -torch.inf)


# Domain, distance to the nearest wall (zero on it, negative outside), size of the large fields. Where paths are
# followed bounce by bounce a step of hundreds of widths takes long; elsewhere it is one formula.
DOMAINS: dict[str, tuple[Domain, Callable[[Tensor], Tensor], float]] = {
    "Box(10)": (mg.domains.Box(-1.0, 1.0, dim=10), box_margin, 1e4),
    "Ball(6)": (mg.domains.Ball(6), ball_margin, 1e4),
    "Product(Box, Ball)": (
        mg.domains.Product(mg.domains.Box(-1.0, 1.0, dim=3), mg.domains.Ball(3, 2.0, CENTER)), product_margin, 1e4,
    ),
    "Simplex(10)": (mg.domains.Simplex(10), simplex_margin, 30.0),
    "ordered_simplex(5)": (ordered_simplex(5), ordered_margin, 30.0),
    "polytope10": (POLYTOPE, polytope_margin, 30.0),
}  # fmt: skip
METHODS: dict[str, ReverseStep] = {
    "EulerMaruyama": EulerMaruyama(),
    "Ancestral": Ancestral(),
    "PredictorCorrector": PredictorCorrector(),
    "OdeEuler": OdeEuler(),
    "Heun": Heun(),
    "EulerMaruyama, project": EulerMaruyama("project"),
}


def field(domain: Domain, width: float, size: float, tangent: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """``size / sigma`` times waves plus a push away from the centre, at most one per coordinate."""
    generator = torch.Generator().manual_seed(2)
    d = domain.dual_dim
    weight, phase = (torch.randn(*shape, generator=generator) for shape in ((d, d), (d,)))
    center = domain.to_chart(domain.interior_point()).float()

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        u = 2 * (domain.to_chart(x) - center) / width
        vector = domain.from_tangent(0.5 * (torch.cos(u @ weight + phase) + torch.tanh(u)))
        return (domain.no_flux(x, vector, sigma) if tangent else vector) * (size / sigma)

    return score


class Case:
    """A domain with what its rows share.

    Args:
        name: A key of ``DOMAINS``.
        chains: States at a time.
        levels: Steps per run.
    """

    def __init__(self, name: str, chains: int, levels: int) -> None:
        self.domain, self.margin, self.large = DOMAINS[name]
        self.chains, self.levels, self.width = chains, levels, extent(self.domain)
        generator = torch.Generator().manual_seed(5)
        self.starts = self.domain.sample_uniform(25 * chains, generator=generator, dtype=torch.float32)

    def uniform(self) -> float:
        """Share of the uniform law within 1e-6 of a wall: a thousandth of that within 1e-3."""
        return 1e-3 * float((self.margin(self.starts.double()) <= 1e-3).double().mean())


def count(x: Tensor, margin: Callable[[Tensor], Tensor]) -> Tensor:
    """Not finite, outside and on a wall in float32, likewise in float64."""
    bad = ~torch.isfinite(x).all(-1)
    narrow, wide = margin(x), margin(x.double())
    return torch.stack([f.sum() for f in (bad, ~(narrow >= 0), narrow == 0, ~(wide >= 0), wide == 0)])


def near(distance: Tensor) -> dict[str, float]:
    """How distances from the walls are spread next to zero."""
    found = {f"within_{h}": float((distance <= float(h)).double().mean()) for h in ("1e-6", "1e-4", "1e-3")}
    return found | {"atom": int(distance.unique(return_counts=True)[1].max()) / len(distance)}


def run(case: Case, step: ReverseStep, kind: str, steps: float) -> dict[str, object]:
    """Half a row: all levels from uniform points, again and again until there are enough steps."""
    sigmas = sigma_grid(1.5 * case.width, 0.01 * case.width, case.levels, "log")
    score = field(case.domain, case.width, case.large if kind == "huge" else 1.0, kind == "tangent")
    generator = torch.Generator().manual_seed(4)
    counts: list[Tensor] = []
    distances: list[Tensor] = []
    failed, begin = 0, time.process_time()

    def judge(_: int, x: Tensor) -> None:
        counts.append(count(x, case.margin))
        distances.append(case.margin(x.double()))

    while len(counts) * case.chains < steps:
        x = case.starts[torch.randint(len(case.starts), (case.chains,), generator=generator)]
        try:
            reverse(case.domain, score, x, sigmas, step, generator=generator, callback=judge)
        except ConvergenceError:
            failed += 1
    names = ["nonfinite", "outside_float32", "on_wall_float32", "outside_float64", "on_wall_float64"]
    seconds = round(time.process_time() - begin, 1)
    return {"steps": len(counts) * case.chains, **dict(zip(names, torch.stack(counts).sum(0).tolist(), strict=True)),
            "raised": failed, **near(torch.cat(distances)), "seconds": seconds}  # fmt: skip


def inside(steps: float, chains: int, levels: int) -> list[dict[str, object]]:
    """The table, about ``steps`` in all; a tenth as many projected ones."""
    share = steps / (3 * (len(METHODS) - 1) * len(DOMAINS))
    rows = []
    for name in DOMAINS:
        case = Case(name, chains, levels)
        for method, kind in product(METHODS, ("tangent", "pushing", "huge")):
            found = run(case, METHODS[method], kind, share / 10 if "project" in method else share)
            row = {"domain": name, "method": method, "field": kind, **found}
            rows.append(row | {"uniform_within_1e-6": case.uniform()})
            print(*(f"{v:.3g}" if isinstance(v, float) else v for v in rows[-1].values()), sep=", ", flush=True)
    return rows


def dirichlet(powers: list[int]) -> float:
    """``E prod x_i^powers_i`` of the uniform law on the corner simplex of ``len(powers)`` coordinates."""
    d = len(powers)
    return math.factorial(d) * math.prod(map(math.factorial, powers)) / math.factorial(d + sum(powers))


def largest_z(x: Tensor) -> float:
    """The largest z-score of first and second moments, with exact means and variances."""
    n, d = x.shape
    worst = 0.0
    for chosen in [*((i,) for i in range(d)), *combinations_with_replacement(range(d), 2)]:
        powers = [chosen.count(i) for i in range(d)]
        mean = dirichlet(powers)
        deviation = math.sqrt((dirichlet([2 * p for p in powers]) - mean**2) / n)
        worst = max(worst, abs(float(x[:, list(chosen)].prod(-1).mean()) - mean) / deviation)
    return worst


def billiard(dim: int, deviation: float, dtype: torch.dtype, n: int, steps: int) -> dict[str, object]:
    """A row: uniform points after some steps."""
    domain = mg.domains.Polytope(torch.cat([-torch.eye(dim), torch.ones(1, dim)]), torch.eye(dim + 1)[-1])
    generator = torch.Generator().manual_seed(dim)
    draws = torch.empty(n, dim + 1, dtype=torch.float64).exponential_(generator=generator)
    x = (draws / draws.sum(-1, keepdim=True))[:, :dim].to(dtype)
    first, begin = largest_z(x.double()), time.process_time()
    slack = {dtype: math.inf, torch.float64: math.inf}
    for _ in range(steps):
        step = deviation * torch.randn(x.shape, generator=generator, dtype=dtype)
        projected = domain.project(x[: n // 10] + step[: n // 10])
        x = domain.reflect(x, step)
        for kind, least in slack.items():
            y = x.to(kind)
            slack[kind] = min(least, float(torch.cat([y, 1 - y.sum(-1, keepdim=True)], -1).min()))
    return {"dim": dim, "deviation": deviation, "dtype": str(dtype).removeprefix("torch."), "points": n,
            "steps": steps, "z_start": first, "z": largest_z(x.double()), "smallest_slack": slack[dtype],
            "smallest_slack_float64": slack[torch.float64], "z_projected": largest_z(projected.double()),
            "seconds": round(time.process_time() - begin, 1)}  # fmt: skip


def main() -> None:
    """Both tables."""
    parsed = options(__doc__, steps=5e7, num=40_000)
    steps, chains, levels, num = (5e3, 32, 5, 400) if parsed.quick else (parsed.steps, 4096, LEVELS, parsed.num)
    rows = inside(steps, chains, levels)
    walks = [
        billiard(dim, deviation, dtype, num, 5)
        for dim, deviation, dtype in product((2, 3, 10), (0.1, 0.5, 2.0), (torch.float32, torch.float64))
    ]
    reflected = [r for r in rows if "project" not in str(r["method"])]
    columns = ("nonfinite", "outside_float32", "on_wall_float32", "outside_float64", "on_wall_float64", "raised")
    totals = {c: sum(int(str(r[c])) for r in reflected) for c in columns}
    notes = [
        f"{sum(int(str(r['steps'])) for r in reflected)} reflected steps in float32, {levels} levels per run; "
        + ", ".join(f"{k} {v}" for k, v in totals.items()),
        "counts of states after each step; raised: runs that ended with an error",
        "huge: sigma * score of about " + ", ".join(f"{large:g} on {name}" for name, (_, _, large) in DOMAINS.items()),
        "within: shares by distance to the nearest wall, the uniform law's beside",
        "steps of the flow have no noise: under a lasting push distances shrink like powers of sigma, and what float32 "
        "cannot tell from the wall is put at the nearest distance that is safe",
    ]
    print(notes[0])
    write_csv(parsed.out / "inside.csv", notes, rows)
    show(walks)
    notes = [
        "z: largest of all first and second moments; start: of the uniform draws; projected: a tenth of the points "
        "after one projected step",
        "smallest_slack: over all states after a step, in the dtype of the points and in float64 on the same numbers; "
        "positive: all are inside",
    ]
    write_csv(parsed.out / "billiard.csv", notes, walks)


if __name__ == "__main__":
    main()
