"""The mirror-diffusion benchmark: discs, balls, simplices and cubes, mirror flows beside diffusions and other flows.

    python examples/mirror_flow_matching/benchmark.py [--quick] [--seeds 3] [--only ball,simplex,cube] [--resume]
        [--out DIR]

The targets are those of Liu et al.: curves and modes on a disc, normal components of deviation 0.05 on the sphere that
bounds a ball, Dirichlet laws, normal components folded into a cube. Every model trains on 10,000 points with one
recipe (a network of three layers of 128 units, 3,000 batches of 256, averaged weights) and is compared with 10,000
held-out points. Mirror flows are trained with every seed, the rest with the first one. Flows take 30 midpoint steps,
diffusions 200 ancestral ones. Mirror maps are the natural ones (``mirror_maps.default``): entropic, on balls with the
quadratic term; on balls the diffusion also takes the closed-form map of the publication.

benchmark.csv        means over seeds, floors, and ratios to floors
benchmark_seeds.csv  one row per model, as trained
benchmark.png        ratio to the floor by target

sliced_w2   sliced Wasserstein-2 distance of 10,000 samples, 500 projections; the bar is 2.5 times its floor
w2_1000     the same of 1,000 samples with 50 projections, the setting of the publication: the mean of ten such
mmd_512     five kernels summed, biased square, 512 samples: the mean of four
inside      share of samples strictly inside in float32; of the free flow before its repair

Floors are means over the pairs of three independent exact samples. Those of 1,000 samples and 50 projections are two to
three times as high, and hide what the larger setting shows; no published value is printed here.

Source: Liu, Chen, Theodorou, Tao, "Mirror Diffusion Models for Constrained and Watermarked Generation", 2023.
"""

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import (
    COLORS,
    Recipe,
    clean,
    figure,
    kept_rows,
    mean_and_spread,
    options,
    replace,
    save,
    show,
    train,
    write_csv,
)  # fmt: skip

from mirrorgen import data, metrics, mirror_maps
from mirrorgen.diffusion import Ancestral, MirrorDiffusion
from mirrorgen.errors import ConvergenceError
from mirrorgen.flows import Gaussian, MirrorFlow, ReflectedFlow, RepairedFlow, RobustStandardize, SphereFlow
from mirrorgen.geometry.domains import Ball, Domain, Simplex
from mirrorgen.geometry.mirror_maps import BallLogBarrier
from mirrorgen.nets import MLP

TARGETS = {
    **{f"ball 2, {k}": lambda k=k: data.disc(k) for k in ("moons", "spiral", "ring")},
    **{f"ball {d}": lambda d=d: data.sphere_mixture(d) for d in (6, 8, 20)},
    **{f"simplex {k}": lambda k=k: data.dirichlet(k) for k in ("3a", "3b", "7", "9", "20")},
    **{f"cube {d}": lambda d=d: data.cube_mixture(d) for d in (2, 3, 6, 8, 20)},
}
NAMES = ("sliced_w2", "w2_1000", "mmd_512")
RECIPE = Recipe((128,) * 3, 5e-3, 0.96, iterations=3000, steps=30)
BAR = 2.5
FLOW = "mirror flow"


def dual() -> RobustStandardize:
    """Standardisation by far quantiles: of d modes on the axes each coordinate sees one in d."""
    return RobustStandardize(0.02)


def methods(domain: Domain) -> dict[str, Callable[[MLP], torch.nn.Module]]:
    """How to build each model from its network."""
    found: dict[str, Callable[[MLP], torch.nn.Module]] = {
        FLOW: lambda n: MirrorFlow(mirror_maps.default(domain), n, Gaussian(), dual_transform=dual()),
        "mirror diffusion": lambda n: MirrorDiffusion(mirror_maps.default(domain), n, dual_transform=dual()),
        "reflected flow": lambda n: ReflectedFlow(domain, n),
        "free flow, projected": lambda n: RepairedFlow(domain, n),
    }
    if isinstance(domain, Ball):
        found["mirror diffusion, closed-form map"] = lambda n: MirrorDiffusion(
            BallLogBarrier(domain), n, dual_transform=dual()
        )
    if isinstance(domain, Simplex):
        found["linear flow"] = found.pop("reflected flow")
        found["sphere flow"] = lambda n: SphereFlow(domain, n)
    return found


def compared(x: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    """Distances of two samples of one size."""
    blocks = list(zip(x.split(1000), y.split(1000), strict=True))
    small = [(a[:512], b[:512]) for a, b in blocks[:4]]
    return {
        "sliced_w2": float(metrics.sliced_wasserstein(x, y)),
        "w2_1000": sum(float(metrics.sliced_wasserstein(a, b, 50)) for a, b in blocks) / len(blocks),
        "mmd_512": sum(float(metrics.mmd_multi(a, b)) for a, b in small) / len(small),
    }


def drawn(model: torch.nn.Module, num: int, seed: int, quick: bool, **how: object) -> torch.Tensor:
    """Samples."""
    generator = torch.Generator().manual_seed(seed + 1)
    if isinstance(model, MirrorDiffusion):
        return model.sample(num, steps=5 if quick else 200, method=Ancestral(), generator=generator)
    return model.sample(num, steps=3 if quick else RECIPE.steps, method=RECIPE.method, generator=generator, **how)


def one(target: str, points: data.Synthetic, name: str, seed: int, quick: bool) -> dict[str, object]:
    """Train a model and compare its samples."""
    recipe = replace(RECIPE, iterations=3, batch=64) if quick else RECIPE
    num, domain = 300 if quick else 10_000, points.domain
    torch.manual_seed(seed)
    dim = domain.dim if name == "sphere flow" else domain.dual_dim
    model = methods(domain)[name](MLP(dim, recipe.hidden))
    row: dict[str, object] = {"target": target, "method": name, "seed": seed}
    seconds = train(model, points.points("train"), recipe, seed)
    begin = time.process_time()
    try:
        x = drawn(model, num, seed, quick)
    except ConvergenceError as error:
        print(row, error)
        return row | dict.fromkeys((*NAMES, "inside"), float("nan")) | {"training": seconds, "sampling": ""}
    spent = time.process_time() - begin
    raw = drawn(model, num, seed, quick, repair="none") if isinstance(model, RepairedFlow) else x
    inside = float(domain.contains(raw).double().mean())
    return row | compared(x, points.points("test")[:num]) | {"inside": inside, "training": seconds, "sampling": spent}


def floor(target: str, points: data.Synthetic, quick: bool) -> dict[str, object]:
    """Distances of independent exact samples."""
    parts = [points.points(split)[: 300 if quick else 10_000] for split in ("train", "val", "test")]
    pairs = [compared(x, y) for x, y in itertools.combinations(parts, 2)]
    means = {name: sum(p[name] for p in pairs) / len(pairs) for name in NAMES}
    return (
        {"target": target, "method": "exact draws", "seed": 0} | means | {"inside": 1.0, "training": "", "sampling": ""}
    )


def summary(rows: list[dict]) -> list[dict]:
    """Means over seeds beside floors."""
    found = mean_and_spread(rows, ("target", "method"), (*NAMES, "inside", "training", "sampling"))
    floors = {r["target"]: r for r in found if r["method"] == "exact draws"}
    order = list(TARGETS)
    table = []
    for line in sorted((r for r in found if r["method"] != "exact draws"), key=lambda r: order.index(r["target"])):
        known = floors[line["target"]]
        row = {k: line[k] for k in ("target", "method", "seeds", "sliced_w2", "sliced_w2_sd")}
        row |= {"floor": known["sliced_w2"], "ratio": line["sliced_w2"] / known["sliced_w2"]}
        row |= {"within_bar": row["ratio"] <= BAR}
        for name in NAMES[1:]:
            row |= {name: line[name], f"{name}_floor": known[name]}
        table.append(row | {k: line[k] for k in ("inside", "training", "sampling")})
    return table


def draw(table: list[dict], path: Path) -> None:
    """Ratios by target: of the whole sample, and in the small setting."""
    targets = list(dict.fromkeys(r["target"] for r in table))
    names = list(dict.fromkeys(r["method"] for r in table))
    made = figure(11, 1.2 + 0.3 * len(targets))
    axes = made.subplots(1, 2, sharex=True, sharey=True)
    for color, name in zip(COLORS, names, strict=False):
        mine = [r for r in table if r["method"] == name]
        places = [targets.index(r["target"]) for r in mine]
        ours = name == FLOW
        style = {"color": color, "marker": "D" if ours else "o", "s": 42 if ours else 24, "zorder": 3 if ours else 2}
        axes[0].scatter([r["ratio"] for r in mine], places, label=name, **style)
        axes[1].scatter([r["w2_1000"] / r["w2_1000_floor"] for r in mine], places, **style)
    for axis, title in zip(axes, ("10,000 samples, 500 projections", "1,000 samples, 50 projections"), strict=True):
        axis.set_xscale("log")
        axis.axvline(1, color="#999999", ls=":")
        axis.set_xticks((1, 2, 5, 10, 20, 50), ("1", "2", "5", "10", "20", "50"))
        axis.minorticks_off()
        clean(axis, title, "sliced Wasserstein distance over its floor", "")
    axes[0].axvline(BAR, color="k", lw=0.8, ls="--", label=f"bar, {BAR} floors")
    axes[0].set_xlim(0.5, 1.3 * max(r["ratio"] for r in table if r["ratio"] == r["ratio"]))
    axes[0].set_yticks(range(len(targets)), targets, fontsize=8)
    axes[0].invert_yaxis()
    axes[1].legend(*axes[0].get_legend_handles_labels(), fontsize=7, frameon=False)
    save(made, path)


def jobs(families: list[str], seeds: int, quick: bool) -> list[tuple[str, str, int]]:
    """Mirror flows first, then the other methods, then the other seeds of mirror flows; quick: one target each."""
    targets = [t for f in families for t in [t for t in TARGETS if t.split()[0] == f][: 1 if quick else None]]
    others = [(t, m, 0) for t in targets for m in methods(TARGETS[t]().domain) if m != FLOW]
    return [
        *((t, "exact draws", 0) for t in targets),
        *((t, FLOW, 0) for t in targets),
        *others,
        *((t, FLOW, seed) for seed in range(1, seeds) for t in targets),
    ]


def main() -> None:
    """All models; rows are written after each."""
    chosen = options(__doc__, seeds=3, only="ball,simplex,cube", resume=False)
    rows = kept_rows(chosen.out / "benchmark_seeds.csv", chosen.resume)
    done = {(r["target"], r["method"], r["seed"]) for r in rows}
    laws = {name: data.Synthetic(build()) for name, build in TARGETS.items()}
    for target, name, seed in jobs(chosen.only.split(","), chosen.seeds, chosen.quick):
        if (target, name, seed) in done:
            continue
        exact = name == "exact draws"
        rows.append(
            floor(target, laws[target], chosen.quick) if exact else one(target, laws[target], name, seed, chosen.quick)
        )
        print({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
        write_csv(chosen.out / "benchmark_seeds.csv", ["seconds of one core; 10,000 samples"], rows)
    table = summary(rows)
    show(table)
    notes = ["against 10,000 held-out points; floors: pairs of three exact samples"]
    write_csv(chosen.out / "benchmark.csv", notes, table)
    draw(table, chosen.out / "benchmark.png")


if __name__ == "__main__":
    main()
