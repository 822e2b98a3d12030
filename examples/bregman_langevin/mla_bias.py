"""The bias of mirror Langevin algorithms against the step size, and what Metropolis' test makes of it.

    python examples/bregman_langevin/mla_bias.py [--quick] [--replicates 5] [--chains 64] [--steps 500] [--out DIR]

Target: Dirichlet(4, ..., 4) in dimension 5 and 20, with the logarithmic barrier and the entropic map. Total variance in
units of the exact one for MLA (gradients taken afresh at every step), the forward discretisation of Ahn and Chewi (the
noise in 3 Euler steps) and MAMLA. Chains start from exact draws, a third of the steps is dropped; a replicate is a
group of chains, and error bars are the spread over replicates. Writes ``mla_bias.csv`` and ``mla_bias.png``.
"""

import argparse
import csv
import math
import time
from pathlib import Path

import torch

from mirrorgen.geometry.mirror_maps import LogBarrier, MirrorMap, SimplexEntropy
from mirrorgen.samplers import Kernel, MirrorLangevin, run
from mirrorgen.targets import Dirichlet

# Step sizes in units of d^-3/2 (logarithmic barrier) and 1/d (entropic map).
UNITS = (0.12, 0.25, 0.56, 1.1, 2.2)
ENTROPIC_UNITS = (0.01, 0.02, 0.05, 0.1, 0.2)
# An earlier study of ours with other code, for MLA: (dimension, map, step size) -> ratio; NaN: the chain blew up.
EARLIER = {
    (5, "log-barrier", 0.022): 1.085,
    (5, "log-barrier", 0.05): 1.25,
    (5, "log-barrier", 0.2): 5.98,
    (20, "log-barrier", 0.0125): 1.05,
    (20, "log-barrier", 0.05): 1.56,
    (5, "entropic", 0.004): 1.04,
    (5, "entropic", 0.02): math.nan,
    (20, "entropic", 0.001): 1.04,
    (20, "entropic", 0.005): math.nan,
}
METHODS = ("MLA (unadjusted)", "forward (unadjusted)", "MAMLA")


def step_sizes(d: int, name: str) -> list[float]:
    """The grid, with the step sizes of the earlier study."""
    units = [u * d**-1.5 for u in UNITS] if name == "log-barrier" else [u / d for u in ENTROPIC_UNITS]
    earlier = [h for (dim, kind, h) in EARLIER if (dim, kind) == (d, name)]
    return sorted({*earlier, *(float(f"{h:.2g}") for h in units if all(abs(h / e - 1) > 0.1 for e in earlier))})


def kernel(method: str, target: Dirichlet, mirror_map: MirrorMap, h: float) -> Kernel:
    """One of ``METHODS``."""
    if method == "MAMLA":
        return MirrorLangevin(target, mirror_map, h)
    kind = "forward" if method.startswith("forward") else "euler"
    return MirrorLangevin(target, mirror_map, h, adjusted=False, discretization=kind, inner_steps=3)


def measure(method: str, target: Dirichlet, mirror_map: MirrorMap, h: float, options: argparse.Namespace) -> dict:
    """One row of the table."""
    generator = torch.Generator().manual_seed(2024)
    start = target.sample(options.replicates * options.chains, generator=generator)
    begin = time.process_time()
    chain = run(kernel(method, target, mirror_map, h), start, options.steps, thin=2, generator=generator)
    draws = chain.positions[chain.num_draws // 3 :]
    square = (draws - target.mean).square().sum(-1).mean(0).reshape(options.replicates, options.chains).mean(1)
    ratio = square / target.variance.sum()
    return {
        "variance_ratio": f"{ratio.mean():.4f}",
        "standard_error": f"{ratio.std() / math.sqrt(len(ratio)):.4f}",
        "acceptance": f"{chain.stats['acceptance'].mean():.3f}",
        "nonfinite": int(chain.stats["nonfinite"].sum()),
        "cpu_seconds": f"{time.process_time() - begin:.1f}",
    }


def main() -> None:
    """Run the grid and write table and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps and one dimension, to see that it runs")
    parser.add_argument("--replicates", type=int, default=5, help="groups of chains (default: %(default)s)")
    parser.add_argument("--chains", type=int, default=64, help="chains per group (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=500, help="steps per chain (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="output folder")
    options = parser.parse_args()
    if options.quick:
        options.replicates, options.chains, options.steps = 2, 16, 30
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    rows = []
    for d in (5,) if options.quick else (5, 20):
        target = Dirichlet([4.0] * (d + 1))
        maps = {"log-barrier": LogBarrier(target.domain), "entropic": SimplexEntropy(target.domain)}
        for name, mirror_map in maps.items():
            for h in step_sizes(d, name):
                for method in METHODS:
                    row = {"d": d, "map": name, "method": method, "step_size": h}
                    row |= measure(method, target, mirror_map, h, options)
                    earlier = EARLIER.get((d, name, h)) if method == METHODS[0] else None
                    rows.append(row | {"earlier": "" if earlier is None else earlier, "published": "", "exact": 1})
                    print(rows[-1], flush=True)
    write(options.out / "mla_bias.csv", rows, options)
    draw(options.out / "mla_bias.png", rows)


def write(path: Path, rows: list[dict], options: argparse.Namespace) -> None:
    """The table under a note."""
    with path.open("w", newline="") as file:
        file.write(
            f"# command: python examples/bregman_langevin/mla_bias.py --replicates {options.replicates} "
            f"--chains {options.chains} --steps {options.steps}\n"
            "# variance_ratio: ours, total variance about the exact mean over the exact one; standard_error over "
            "replicates;\n# earlier: ours, an earlier study with other code (nan: the chain blew up); published: the "
            "papers give no variance ratios\n"
        )
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw(path: Path, rows: list[dict]) -> None:
    """A panel per dimension and map."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    dims, maps = sorted({r["d"] for r in rows}), ("log-barrier", "entropic")
    figure, axes = plt.subplots(len(dims), 2, figsize=(9, 3.4 * len(dims)), squeeze=False, layout="constrained")
    styles = dict(zip(METHODS, (("C3", "o"), ("C1", "s"), ("C0", "^")), strict=True))
    for i, d in enumerate(dims):
        for j, name in enumerate(maps):
            axis = axes[i, j]
            axis.axhline(1.0, color="0.4", lw=1, ls="--", label="exact")
            for method, (color, marker) in styles.items():
                part = [r for r in rows if (r["d"], r["map"], r["method"]) == (d, name, method)]
                h, ratio = [r["step_size"] for r in part], [float(r["variance_ratio"]) for r in part]
                bars = [2 * float(r["standard_error"]) for r in part]
                axis.errorbar(h, ratio, bars, color=color, marker=marker, ms=4, lw=1.2, label=method)
            known = [(r["step_size"], r["earlier"]) for r in rows if (r["d"], r["map"]) == (d, name)]
            known = [(h, e) for h, e in known if e != "" and not math.isnan(e)]
            axis.plot(*zip(*known, strict=True), "o", mfc="none", mec="k", ms=9, label="MLA, earlier study of ours")
            axis.set(xscale="log", yscale="log", title=f"d = {d}, {name}", xlabel="step size h")
            top = axis.get_ylim()[1]
            values = (1, 2, 5, 10, 20, 50) if top > 10 else (1, 1.1, 1.25, 1.5, 2, 3, 4, 6)
            ticks = [t for t in values if t <= top]
            axis.set_yticks(ticks, [f"{t:g}" for t in ticks])
            axis.set_xticks(sorted({r["step_size"] for r in rows if (r["d"], r["map"]) == (d, name)}))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.minorticks_off()
            axis.grid(alpha=0.25)
        axes[i, 0].set_ylabel("variance / exact variance")
    axes[0, 0].legend(fontsize=8)
    figure.suptitle("Dirichlet(4, ..., 4): bias of mirror Langevin steps (bars: 2 standard errors)", fontsize=11)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
