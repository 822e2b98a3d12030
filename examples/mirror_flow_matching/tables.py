"""The tables of Mirror Flow Matching: a polytope in ten dimensions and a ball in six, all methods in one harness.

    python examples/mirror_flow_matching/tables.py [--quick] [--seeds 3] [--only paper,ours] [--resume] [--out DIR]

Every method trains on the same 10,000 points and is compared with the 10,000 held-out points of the target, which is
the honest reference, and with the training points, which is the publication's protocol and rewards memorising. Each
seed trains anew; from the third seed on only mirror flows of regularised maps do. Recipes: "paper" is the harness of
the publication (three layers of 128 units, decaying learning rate, last weights, raw dual, 99 Euler steps); "ours" has
four layers of 256, averaged weights, a constant learning rate, a standardised dual and 50 midpoint steps. Diffusions
take 200 ancestral steps. Noise of the reflected flow is normal with deviation 2, folded into the domain.

tables_seeds.csv   one row per model, as trained
tables.csv         means and deviations over seeds, beside the published numbers and the floor of two exact samples
tables.png         divergence and MMD to held-out points

mmd        Gaussian kernel of width 1, root of the unbiased square (0 where that is negative)
knn_kl     Kullback-Leibler divergence from samples, k = 3
sliced_w2  sliced Wasserstein-2 distance, 500 projections
inside     share of samples strictly inside in float32; of the free flow before its repair

The published polytope is not public as text and ours is a seeded twin; the published ball (radius 12 in the first
version, 5 in the second) has other means. Published numbers are context, not the same experiment.

Source: Guan, Balasubramanian, Ma, "Mirror Flow Matching with Heavy-Tailed Priors for Generative Modeling on Convex
Domains", 2025 (arXiv version 1, and the version of ICLR 2026).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from common import (
    COLORS,
    OURS,
    PAPER,
    Recipe,
    clean,
    distances,
    figure,
    kept_rows,
    mean_and_spread,
    options,
    replace,
    save,
    show,
    train,
    write_csv,
)

from mirrorgen import data
from mirrorgen.diffusion import Ancestral, MirrorDiffusion
from mirrorgen.errors import ConvergenceError
from mirrorgen.flows import (
    GaugeFlow,
    Gaussian,
    MirrorFlow,
    ReflectedFlow,
    RepairedFlow,
    RobustStandardize,
    StudentT,
)  # fmt: skip
from mirrorgen.geometry.domains import Ball, Domain
from mirrorgen.geometry.mirror_maps import BallLogBarrier, LogBarrier, RegularizedBarrier
from mirrorgen.nets import MLP

TARGETS = {"polytope10": data.polytope10, "ball6": data.ball6}
NAMES = ("mmd", "knn_kl", "sliced_w2")
OURS_ROWS = {
    "polytope10": (
        "mirror, t", "mirror, normal", "entropic, normal", "entropic, t", "entropic, normal, batch 512", "reflected",
        "free", "mirror diffusion",
    ),
    "ball6": ("mirror, t", "mirror, normal", "entropic, normal"),
}  # fmt: skip
FIT = [f"{name}_{kind}" for kind in ("held_out", "training") for name in NAMES]

# Published: MMD and KL against training points, arXiv version 1 | ICLR version.
PUBLISHED = {
    ("polytope10", "mirror, t"): (0.5552e-2, 0.339, 0.995e-2, 1.424),
    ("polytope10", "mirror, normal"): (0.5774e-2, 0.379, 1.006e-2, 1.447),
    ("polytope10", "reflected"): (0.5868e-2, 0.360, 1.217e-2, 2.034),
    ("polytope10", "gauge"): (0.7527e-2, 0.860, 1.830e-2, 5.057),
    ("polytope10", "mirror diffusion"): ("", "", 1.258e-2, 1.708),
    ("ball6", "mirror, t"): (1.153e-2, 0.06944, 5.329e-2, 0.162),
    ("ball6", "mirror, normal"): (1.221e-2, 0.09644, 6.244e-2, 0.176),
    ("ball6", "reflected"): (1.393e-2, 0.14827, 5.935e-2, 0.285),
    ("ball6", "mirror diffusion, closed-form map"): ("", "", 36.156e-2, 8.017),
}


@dataclass(frozen=True)
class Method:
    """How to build a model, and how to train it."""

    build: Callable[[Domain, MLP], torch.nn.Module]
    recipe: Recipe


def mirror(kappa: float, prior: Callable, tail: float | None, **options: object) -> Callable:
    """A mirror flow of the regularised barrier."""

    def build(domain: Domain, net: MLP) -> MirrorFlow:
        transform = None if tail is None else RobustStandardize(tail)
        return MirrorFlow(RegularizedBarrier(domain, kappa), net, prior(), dual_transform=transform, **options)

    return build


def log_barrier(domain: Domain) -> BallLogBarrier | LogBarrier:
    """The closed-form map of a ball, the logarithmic barrier of a polytope."""
    return BallLogBarrier(domain) if isinstance(domain, Ball) else LogBarrier(domain)


def methods(target: str, name: str) -> dict[str, Method]:
    """The rows of one recipe."""
    recipe, tail = (PAPER, None) if name == "paper" else (OURS, 0.03 if target == "polytope10" else 0.25)
    transform = None if tail is None else "standardize"
    build: dict[str, Callable] = {
        "mirror, t": mirror(0.3, StudentT, tail),
        "mirror, normal": mirror(0.3, Gaussian, tail),
        "entropic, normal": mirror(0.0, Gaussian, tail),
        "entropic, t": mirror(0.0, StudentT, tail),
        "log barrier, normal": lambda d, n: MirrorFlow(log_barrier(d), n, Gaussian(), dual_transform=transform),
        "reflected": lambda d, n: ReflectedFlow(d, n, spread=2.0),
        "gauge": GaugeFlow,
        "free": RepairedFlow,
        "mirror diffusion": lambda d, n: MirrorDiffusion(RegularizedBarrier(d, 0.3), n, dual_transform=transform),
    }
    if target == "ball6":
        del build["gauge"]  # Of a ball it is the reflected flow.
        build["mirror diffusion, closed-form map"] = lambda d, n: MirrorDiffusion(
            BallLogBarrier(d), n, dual_transform=transform
        )
    found = {k: Method(b, recipe) for k, b in build.items()}
    if name == "ours":
        bigger = replace(recipe, batch=512)
        found["entropic, normal, batch 512"] = Method(build["entropic, normal"], bigger)
        kept = OURS_ROWS[target]
        found = {k: m for k, m in found.items() if k in kept}
    return found


def drawn(model: torch.nn.Module, num: int, recipe: Recipe, seed: int, quick: bool) -> dict[str, torch.Tensor]:
    """Samples by the name that is appended to the method's."""
    generator = torch.Generator().manual_seed(seed + 1)
    if isinstance(model, MirrorDiffusion):
        return {"": model.sample(num, steps=5 if quick else 200, method=Ancestral(), generator=generator)}
    how = {"steps": 3 if quick else recipe.steps, "method": recipe.method}
    if not isinstance(model, RepairedFlow):
        return {"": model.sample(num, generator=generator, **how)}
    found = {}
    for repair in ("none", "project", "reject"):
        generator.manual_seed(seed + 1)
        found[repair] = model.sample(num, repair=repair, generator=generator, **how)
    return found


def rows_of(target: str, recipe: str, name: str, method: Method, seed: int, quick: bool) -> list[dict]:
    """Train one model and compare its samples."""
    points = data.Synthetic(TARGETS[target]())
    num = 300 if quick else 10_000
    how = replace(method.recipe, iterations=3, batch=64) if quick else method.recipe
    torch.manual_seed(seed)
    model = method.build(points.domain, MLP(points.domain.dual_dim, how.hidden))
    head = {"target": target, "recipe": recipe, "method": name, "seed": seed}
    seconds = train(model, points.points("train"), how, seed)
    begin = time.process_time()
    try:
        samples = drawn(model, num, how, seed, quick)
    except ConvergenceError as error:  # Heavy tails: the weights are NaN, or the flow explodes.
        print(head, error)
        return [head | dict.fromkeys(FIT, float("nan")) | {"inside": "", "training": seconds, "sampling": ""}]
    spent = (time.process_time() - begin) / len(samples)
    rows, free = [], samples.pop("none", None)
    for repair, x in samples.items():
        line = head | {"method": f"free, {repair}ed" if repair else name}
        for kind, split in (("held_out", "test"), ("training", "train")):
            line |= {f"{k}_{kind}": v for k, v in distances(x, points.points(split)[:num]).items()}
        inside = float(points.domain.contains(x if free is None else free).double().mean())
        rows.append(line | {"inside": inside, "training": seconds, "sampling": spent})
    return rows


def floors(target: str, quick: bool) -> dict:
    """Two exact samples."""
    points = data.Synthetic(TARGETS[target]())
    num = 300 if quick else 10_000
    found = distances(points.points("val")[:num], points.points("test")[:num])
    return {"target": target, "recipe": "", "method": "exact draws", "seeds": ""} | {
        f"{k}_{kind}": v for kind in ("held_out", "training") for k, v in found.items()
    }


def summary(rows: list[dict], quick: bool) -> list[dict]:
    """Means over seeds, published numbers, floors."""
    found = []
    for target in dict.fromkeys(r["target"] for r in rows):
        mine = mean_and_spread(
            [r for r in rows if r["target"] == target],
            ("target", "recipe", "method"),
            (*FIT, "inside", "training", "sampling"),
        )
        for line in mine:
            known = PUBLISHED.get((target, line["method"]), ("",) * 4) if line["recipe"] == "paper" else ("",) * 4
            names = ("v1_mmd", "v1_kl", "iclr_mmd", "iclr_kl")
            line |= {f"published_{k}": v for k, v in zip(names, known, strict=True)}
        found += [dict.fromkeys(mine[0], "") | floors(target, quick), *mine]
    return found


def draw(found: list[dict], path: Path) -> None:
    """Two panels per target."""
    targets = list(dict.fromkeys(r["target"] for r in found))
    made = figure(11, 3.9 * len(targets))
    axes = made.subplots(len(targets), 2, squeeze=False)
    for pair, target in zip(axes, targets, strict=True):
        mine = [r for r in found if r["target"] == target]
        names = list(dict.fromkeys(r["method"] for r in mine if r["recipe"]))
        for axis, metric, title in zip(pair, ("knn_kl", "mmd"), ("k-NN divergence", "MMD"), strict=True):
            for color, recipe in zip(COLORS, ("paper", "ours"), strict=False):
                here = [r for r in mine if r["recipe"] == recipe]
                places = [names.index(r["method"]) for r in here]
                values = [r[f"{metric}_held_out"] for r in here]
                spread = [r[f"{metric}_held_out_sd"] or 0.0 for r in here]
                axis.errorbar(values, places, xerr=spread, fmt="o", color=color, label=f"recipe: {recipe}", ms=4)
            floor = next(r for r in mine if not r["recipe"])[f"{metric}_held_out"]
            axis.axvline(max(floor, 1e-3 if metric == "knn_kl" else 1e-4), color="#999999", ls=":", label="floor")
            axis.set_xscale("log")
            axis.set_yticks(range(len(names)), names, fontsize=8)
            axis.invert_yaxis()
            axis.legend(fontsize=7, frameon=False)
            clean(axis, f"{target}: {title} to held-out points", "", "")
    save(made, path)


def main() -> None:
    """All models, seed by seed; rows are written after each."""
    chosen = options(__doc__, seeds=3, only="paper,ours", resume=False)
    rows = kept_rows(chosen.out / "tables_seeds.csv", chosen.resume)
    done = {(r["target"], r["recipe"], str(r["method"]).split(", project")[0], r["seed"]) for r in rows}
    for seed in range(chosen.seeds):
        for recipe in chosen.only.split(","):
            for target in TARGETS:
                for name, method in methods(target, recipe).items():
                    if (target, recipe, name, seed) in done or (seed > 1 and not name.startswith(("mirror,", "entr"))):
                        continue
                    made = rows_of(target, recipe, name, method, seed, chosen.quick)
                    rows += made
                    show(made)
                    write_csv(chosen.out / "tables_seeds.csv", ["seconds of one core; 10,000 samples"], rows)
    found = summary(rows, chosen.quick)
    write_csv(chosen.out / "tables.csv", ["published: against training points, other data"], found)
    draw(found, chosen.out / "tables.png")


if __name__ == "__main__":
    main()
