"""The two-dimensional example of the publication: which barrier, which prior, standardised or not.

    python examples/mirror_flow_matching/toy.py [--quick] [--seeds 3] [--out DIR]

Three normal components cut by a pentagon, two of them against a facet. Flows of the logarithmic barrier, of the
regularised barrier (kappa .5 as published, .3) and of the regularised entropic map train 3,000 iterations with the
network of the publication, under a normal prior and under Student's t with 10 degrees of freedom, on the raw dual, on
the dual standardised by median and quantiles, and, where it has heavy margins, on its soft logarithm.

toy.csv        means and deviations over seeds: distances to 10,000 held-out points, Hill's index of the dual data
toy_seeds.csv  one row per model
toy.png        samples of seed 0 beside the target, and near a facet: two barriers by two priors on the raw dual, and
               the soft logarithm of the heavy one

Source: Guan, Balasubramanian, Ma, "Mirror Flow Matching with Heavy-Tailed Priors for Generative Modeling on Convex
Domains", 2025, appendix A, whose comparison is a picture.
"""

from pathlib import Path

import torch
from common import PAPER, clean, distances, figure, mean_and_spread, options, replace, save, show, train, write_csv

from mirrorgen import data
from mirrorgen.errors import ConvergenceError
from mirrorgen.flows import Gaussian, MirrorFlow, SoftLog, StudentT, tail_report
from mirrorgen.geometry.mirror_maps import LogBarrier, RegularizedBarrier
from mirrorgen.nets import MLP

NAMES = ("mmd", "knn_kl", "sliced_w2")
MAPS = {
    "log barrier": LogBarrier,
    "regularised, kappa .5": lambda d: RegularizedBarrier(d, 0.5),
    "regularised, kappa .3": lambda d: RegularizedBarrier(d, 0.3),
    "regularised entropic": lambda d: RegularizedBarrier(d, 0.0),
}
PRIORS = {"normal": Gaussian, "t(10)": StudentT}
DUALS = {"raw": lambda: None, "standardised": lambda: "standardize", "soft log": SoftLog}
RECIPE = replace(PAPER, iterations=3000)
SHOWN = {
    ("log barrier", "normal", "raw"): "log barrier, normal",
    ("log barrier", "t(10)", "raw"): "log barrier, t(10)",
    ("log barrier", "normal", "soft log"): "its soft logarithm, normal",
    ("regularised, kappa .5", "normal", "raw"): "kappa .5, normal",
    ("regularised, kappa .5", "t(10)", "raw"): "kappa .5, t(10)",
}


def one(barrier: str, prior: str, dual: str, seed: int, quick: bool) -> tuple[dict, torch.Tensor | None]:
    """A row and the samples."""
    points = data.Synthetic(data.toy2d())
    num = 300 if quick else 10_000
    torch.manual_seed(seed)
    flow = MirrorFlow(MAPS[barrier](points.domain), MLP(2), PRIORS[prior](), dual_transform=DUALS[dual]())
    seconds = train(flow, points.points("train"), replace(RECIPE, iterations=3) if quick else RECIPE, seed)
    row = {"map": barrier, "prior": prior, "dual": dual, "seed": seed}
    report = tail_report(flow, points.points("train"))
    row |= {"tail_index": report.tail_index, "largest_norm": float(report.norms.max())}
    try:
        x = flow.sample(num, steps=99, method="euler", generator=torch.Generator().manual_seed(seed + 1))
    except ConvergenceError:  # The flow of a dual without variance may explode.
        return row | dict.fromkeys((*NAMES, "inside"), float("nan")) | {"seconds": seconds}, None
    row |= distances(x, points.points("test")[:num])
    return row | {"inside": float(points.domain.contains(x).double().mean()), "seconds": seconds}, x


def draw(samples: dict[str, torch.Tensor], path: Path) -> None:
    """Scatter plots."""
    from matplotlib.ticker import MaxNLocator

    made = figure(2.7 * len(samples), 5.2)
    axes = made.subplots(2, len(samples))
    for column, (name, x) in zip(axes.T, samples.items(), strict=True):
        for axis, window in zip(column, (None, ((-14, -12), (0, 2))), strict=True):
            axis.scatter(*x.T.numpy(), s=1.2 if window is None else 4, lw=0, alpha=0.35, color="#1b6ca8")
            axis.set_xlim(*((-21, 7) if window is None else window[0]))
            axis.set_ylim(*((-15, 8) if window is None else window[1]))
            axis.xaxis.set_major_locator(MaxNLocator(4))
            clean(axis, name if window is None else "near a facet", "", "")
            axis.tick_params(labelsize=6)
    save(made, path)


def main() -> None:
    """All combinations, tables, figure."""
    chosen = options(__doc__, seeds=3)
    rows, samples = [], {"target": data.Synthetic(data.toy2d()).points("test")}
    for seed in range(1 if chosen.quick else chosen.seeds):
        for barrier in MAPS:
            for prior in PRIORS:
                # The other duals have no heavy margins: their soft logarithm is the standardised dual.
                for dual in DUALS if barrier == "log barrier" else ("raw", "standardised"):
                    row, x = one(barrier, prior, dual, seed, chosen.quick)
                    rows.append(row)
                    if x is not None and seed == 0 and (barrier, prior, dual) in SHOWN:
                        samples[SHOWN[barrier, prior, dual]] = x
                    write_csv(chosen.out / "toy_seeds.csv", ["seconds: of the processor"], rows)
    found = mean_and_spread(rows, ("map", "prior", "dual"), (*NAMES, "tail_index", "inside"))
    points = data.Synthetic(data.toy2d())
    floor = {"map": "exact draws"} | distances(points.points("val"), points.points("test"))
    found = [dict.fromkeys(found[0], "") | floor, *found]
    show(found)
    write_csv(chosen.out / "toy.csv", ["against 10,000 held-out points"], found)
    draw(samples, chosen.out / "toy.png")


if __name__ == "__main__":
    main()
