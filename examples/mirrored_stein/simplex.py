"""Convergence of mirrored particles on the simplex: a sparse Dirichlet law and an ill-conditioned quadratic one.

    python examples/mirrored_stein/simplex.py [--quick] [--seeds 5] [--out DIR]

Settings of Shi, Liu, Mackey, "Sampling with mirrored Stein operators", 2022: 20 coordinates, 50 particles that start
from a Dirichlet(5, ..., 5) law, 500 steps, inverse multiquadric kernel, median of all squared distances, RMSprop
with step size 0.1 (1e-4 and larger for the projected baseline), additive coordinates. Besides: step size falling to
zero, coin betting, the dual kernel, other truncations of SVMD and isometric coordinates. The measure is the energy
distance on the first 19 coordinates to 1000 exact draws (Dirichlet) or the end points of 2000 chains of Hamiltonian
Monte Carlo in the dual (quadratic), as V-statistic (the publication's) and as U-statistic. The V-statistic of 50 exact
draws is not zero: it is given as floor. Writes ``simplex.csv`` (every tenth step: mean and range over seeds),
``simplex_summary.csv`` (a few steps beside published values) and ``simplex.png``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from common import COLORS, clean, figure, floor, options, show, trajectories, write_csv
from torch import Tensor

from mirrorgen import mirror_maps
from mirrorgen.metrics import energy_distance
from mirrorgen.samplers import MirroredHMC, run
from mirrorgen.samplers.stein import MSVGD, SVMD, Coin, ProjectedSVGD, RMSprop
from mirrorgen.targets import Dirichlet, SimplexQuadratic, Target

PARTICLES, STEPS, EVERY = 50, 500, 10
SPARSE = [90.1, 5.1, 5.1] + [0.1] * 17
# Read off the published figures; "" where there is no such curve.
PUBLISHED = {
    ("sparse Dirichlet", "MSVGD", 60): "about 0",
    ("sparse Dirichlet", "SVMD 0.998", 200): "about 0 (from 180)",
    ("sparse Dirichlet", "projected SVGD 0.0001", 500): "about 1.5",
    ("quadratic", "MSVGD", 60): "about 0.34",
    ("quadratic", "MSVGD", 200): "drops by 200",
    ("quadratic", "SVMD 0.98", 60): "about 0 (from 40-60)",
    ("quadratic", "projected SVGD 0.001", 500): "0.01-0.02 at best",
}


@dataclass(frozen=True)
class Law:
    """A target with what it is compared to."""

    name: str
    target: Target
    reference: list[Tensor]
    exact_draws: Tensor
    variance: float


def dirichlet_law(seeds: int) -> Law:
    """The publication's sparse Dirichlet law, 1000 new exact draws per seed."""
    target = Dirichlet(SPARSE)
    reference = [target.sample(1000, generator=torch.Generator().manual_seed(1000 + s)) for s in range(seeds)]
    draws = target.sample(5000, generator=torch.Generator().manual_seed(1))
    return Law("sparse Dirichlet", target, reference, draws, float(target.variance.sum()))


def quadratic_law(seeds: int, chains: int, steps: int) -> Law:
    """The quadratic law and the end points of many chains; more end points of the same chains stand for draws."""
    target = SimplexQuadratic()
    x = Dirichlet([5.0] * 20).sample(chains, generator=torch.Generator().manual_seed(0))
    kernel = MirroredHMC(target, mirror_maps.SimplexEntropy(target.domain), 0.05, 8)
    options = {"num_warmup": steps, "thin": steps // 4, "generator": torch.Generator().manual_seed(1)}
    chain = run(kernel, x, steps, **options)
    end = chain.positions[-1]
    half, other = reduced(end).chunk(2)
    halves = [float(energy_distance(half, other, unbiased=u)) for u in (False, True)]
    print(f"quadratic reference: {chains} chains, acceptance {chain.stats['acceptance'].mean():.2f}, "
          f"halves differ by V {halves[0]:.1e}, U {halves[1]:.1e}")  # fmt: skip
    return Law("quadratic", target, [end] * seeds, chain.positions[0], float(end.var(0).sum()))


def methods(target: Target) -> dict[str, Callable]:
    """Kernels by name, for sets of ``n`` particles."""
    alr, ilr = mirror_maps.SimplexEntropy(target.domain, chart="alr"), mirror_maps.SimplexEntropy(target.domain)
    decayed = RMSprop(0.1, total_steps=STEPS)
    return {
        "MSVGD": lambda **o: MSVGD(target, alr, **o),
        "MSVGD decay": lambda **o: MSVGD(target, alr, optimizer=decayed, **o),
        "MSVGD coin": lambda **o: MSVGD(target, alr, optimizer=Coin(), **o),
        "MSVGD dual kernel": lambda **o: MSVGD(target, alr, space="dual", **o),
        "SVMD 0.98": lambda **o: SVMD(target, alr, truncation=0.98, **o),
        "SVMD 0.998": lambda **o: SVMD(target, alr, truncation=0.998, **o),
        "SVMD 1": lambda **o: SVMD(target, alr, truncation=1.0, **o),
        "SVMD 0.998 decay": lambda **o: SVMD(target, alr, truncation=0.998, optimizer=decayed, **o),
        "MSVGD decay ilr": lambda **o: MSVGD(target, ilr, optimizer=decayed, **o),
        "SVMD 0.998 decay ilr": lambda **o: SVMD(target, ilr, truncation=0.998, optimizer=decayed, **o),
        **{
            f"projected SVGD {size}": lambda size=size, **o: ProjectedSVGD(
                target, target.domain, optimizer=RMSprop(size), **o
            )
            for size in (1e-4, 1e-3, 1e-2)
        },
    }


def reduced(x: Tensor) -> Tensor:
    """The first ``K - 1`` coordinates, where the publication measures."""
    return x[..., :-1]


def study(law: Law, seeds: int, steps: int) -> list[dict[str, object]]:
    """Every method on every seed: mean and range over seeds, a row per recorded step."""
    start = Dirichlet([5.0] * 20)
    starts = [start.sample(PARTICLES, generator=torch.Generator().manual_seed(s)) for s in range(seeds)]
    rows: list[dict[str, object]] = []
    for method, build in methods(law.target).items():
        paths = trajectories(build(set_size=PARTICLES), starts, steps, EVERY)
        for i in range(paths.shape[1]):
            pairs = [(reduced(path[i]), reduced(law.reference[seed])) for seed, path in enumerate(paths)]
            v, u = ([float(energy_distance(*pair, unbiased=kind)) for pair in pairs] for kind in (False, True))
            ratio = [float(path[i].var(0).sum()) / law.variance for path in paths]
            rows.append({
                "target": law.name, "method": method, "iteration": i * EVERY,
                "ours_v": sum(v) / seeds, "ours_v_min": min(v), "ours_v_max": max(v), "ours_u": sum(u) / seeds,
                "ours_ratio": sum(ratio) / seeds, "ours_ratio_min": min(ratio), "ours_ratio_max": max(ratio),
            })  # fmt: skip
    return rows


def summary(law: Law, rows: list[dict[str, object]], at: list[int]) -> list[dict[str, object]]:
    """Some rows beside published values, the floor and the exact ratio."""
    mean, spread = floor(reduced(law.exact_draws), PARTICLES, reduced(law.reference[0]))
    return [
        {**row, "published_v": PUBLISHED.get((law.name, str(row["method"]), row["iteration"]), ""),
         "floor_v": mean, "floor_v_sd": spread, "exact_ratio": 1.0}
        for row in rows if row["iteration"] in at
    ]  # fmt: skip


def draw(laws: list[Law], rows: list[dict[str, object]], table: list[dict[str, object]], path: Path) -> None:
    """Energy distance above, variance ratio below, a column per law; bands span the seeds."""
    shown = ["MSVGD", "MSVGD decay", "MSVGD coin", "MSVGD dual kernel", "SVMD 0.98", "SVMD 0.998 decay"]
    shown += ["projected SVGD 0.001", "MSVGD decay ilr"]
    made = figure(11, 7.4)
    axes = made.subplots(2, len(laws), sharex=True)
    for (top, bottom), law in zip(axes.T, laws, strict=True):
        exact = next(float(r["floor_v"]) for r in table if r["target"] == law.name)
        top.axhline(exact, color="black", linestyle=":", linewidth=1, label="50 exact draws")
        bottom.axhline(1, color="black", linestyle=":", linewidth=1)
        for method, color in zip(shown, COLORS, strict=True):
            here = [r for r in rows if r["target"] == law.name and r["method"] == method]
            x = [r["iteration"] for r in here]
            for axis, key in ((top, "ours_v"), (bottom, "ours_ratio")):
                low, middle, high = ([r[k] for r in here] for k in (f"{key}_min", key, f"{key}_max"))
                dashes = "--" if method.endswith("ilr") else "-"
                axis.plot(x, middle, dashes, color=color, label=method, linewidth=1.5)
                axis.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
        top.set_yscale("log")
        bottom.set_yscale("log")
        clean(top, law.name, "", "energy distance (V)")
        clean(bottom, "", "iteration", "variance / exact variance")
        bottom.set_ylim(0.02, 80)
    made.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    made.savefig(path, dpi=150)
    print(f"wrote {path}")


def main() -> None:
    """Run both laws, write tables and figure."""
    chosen = options(__doc__, seeds=5)
    seeds, steps = (2, 60) if chosen.quick else (chosen.seeds, STEPS)
    laws = [dirichlet_law(seeds), quadratic_law(seeds, *((200, 40) if chosen.quick else (2000, 600)))]
    rows, table = [], []
    at = [60] if chosen.quick else [60, 100, 200, 500]
    for law in laws:
        here = study(law, seeds, steps)
        rows += here
        table += summary(law, here, at)
    show([{k: v for k, v in r.items() if k not in ("published_v", "exact_ratio")} for r in table])
    notes = ["published: read off figures of the publication", "floor: V-statistic of 50 exact draws, 100 repeats",
             f"{seeds} seeds, {PARTICLES} particles"]  # fmt: skip
    write_csv(chosen.out / "simplex.csv", notes, rows)
    write_csv(chosen.out / "simplex_summary.csv", notes, table)
    draw(laws, rows, table, chosen.out / "simplex.png")


if __name__ == "__main__":
    main()
