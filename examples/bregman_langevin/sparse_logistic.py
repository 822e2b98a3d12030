"""Bayesian sparse logistic regression: distance to the truth rewards a wrong posterior.

    python examples/bregman_langevin/sparse_logistic.py [--quick] [--out DIR]

The experiment of Lau and Liu, "Bregman proximal Langevin Monte Carlo via Bregman-Moreau envelopes", 2022, on its data
(100 coefficients, 1,000 observations, elastic-net prior): smoothing 1e-2, step 5e-4, 4,000 steps, 30 chains of their
own start. The published metric is the distance of a draw to the coefficients that made the labels. A sampler should
come close to the posterior instead: beside it stand the distance of the posterior mean to that of a long reference run
(Hamiltonian Monte Carlo, Metropolis-adjusted, on the non-smooth target) and the ratio of total variances. The first
row is an independent run of that sampler: what exact draws score.
Writes ``sparse_logistic.csv`` and ``sparse_logistic.png``.
"""

import argparse
import csv
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mirrorgen.geometry.mirror_maps import Hypentropy, MirrorMap, Quadratic
from mirrorgen.metrics import effective_sample_size, rhat
from mirrorgen.samplers import MYULA, BregmanMoreauLangevin, Kernel, MirroredHMC, MirrorLangevin, run
from mirrorgen.targets import SparseLogistic

STEP, SMOOTHING, SEEDS = 5e-4, 1e-2, 30
PUBLISHED = {("MYULA", "Moreau"): "2.01 +- 0.16", ("mirror, unadjusted", "hypentropy, left"): "1.77 +- 0.13"}


def methods(target: SparseLogistic, start: Tensor, warmup: int) -> dict[tuple[str, str], Kernel]:
    """Kernels by name and envelope; adjusted ones are tuned on posterior draws ``start``."""
    space, weight = target.domain, target.nonsmooth.weight
    scale = 2 * torch.arange(1.0, 11.0, dtype=torch.float64).repeat_interleave(target.domain.dim // 10) ** 0.25
    dynamics = Hypentropy(space, scale)
    options = {"nonsmooth": target.nonsmooth, "smoothing": SMOOTHING}

    def smoothed(envelope_map: MirrorMap, side: str = "left", adjusted: bool = False) -> Kernel:
        more = {**options, "envelope_map": envelope_map, "side": side}
        return BregmanMoreauLangevin(target.smooth, dynamics, STEP, adjusted, **more)

    wide = Hypentropy(space, weight**2)
    return {
        ("MYULA", "Moreau"): MYULA(target.smooth, space, STEP, **options),
        ("mirror, unadjusted", "hypentropy, left"): smoothed(wide),
        ("mirror, unadjusted", "hypentropy, right"): smoothed(wide, "right"),
        ("mirror, unadjusted", "Moreau"): smoothed(Quadratic(space)),
        ("mirror, unadjusted", "none"): MirrorLangevin(target, dynamics, STEP, adjusted=False),
        ("mirror, adjusted", "hypentropy, left"): tuned(smoothed(wide, adjusted=True), start, warmup),
        ("mirror, adjusted", "Moreau"): tuned(smoothed(Quadratic(space), adjusted=True), start, warmup),
        ("mirror, adjusted", "none"): tuned(MirrorLangevin(target, dynamics, STEP), start, warmup),
    }


def tuned(kernel: Kernel, start: Tensor, warmup: int) -> Kernel:
    """With the step size that warm-up finds from draws of the posterior, on a seed that no result uses."""
    warm = run(kernel, start, 1, num_warmup=warmup, generator=torch.Generator().manual_seed(1)).kernel
    return replace(warm, step_size=float(f"{float(warm.step_size):.2g}"))


def reference(target: SparseLogistic, draws: int, chains: int) -> tuple[Tensor, str]:
    """Draws of the posterior ``(draws, chains, dim)``, and what is known of their quality."""
    generator = torch.Generator().manual_seed(77)
    start = 0.5 * torch.randn(chains, target.domain.dim, generator=generator, dtype=torch.float64)
    kernel = MirroredHMC(target, Quadratic(target.domain))
    x = run(kernel, start, draws, num_warmup=min(500, draws), generator=generator).positions
    halves = (x[:, ::2].mean((0, 1)) - x[:, 1::2].mean((0, 1))).norm()
    size = float(effective_sample_size(x).min())
    quality = f"R-hat {float(rhat(x).max()):.4f}, least effective size {size:.0f}, "
    return x, quality + f"distance between the means of its two halves {float(halves):.4f}"


def measure(positions: Tensor, target: SparseLogistic, mean: Tensor, variance: Tensor) -> dict[str, str]:
    """Per chain: distance to the truth at the end, and of its mean over the last three quarters to ``mean``."""
    last = (positions[-1] - target.truth).norm(dim=-1)
    kept = positions[len(positions) // 4 :]
    single, pooled = (kept.mean(0) - mean).norm(dim=-1), (kept.mean((0, 1)) - mean).norm()
    ratio = kept.flatten(0, 1).var(0).sum() / variance.sum()
    return {
        "distance_to_truth": f"{last.mean():.3f} +- {last.std():.3f}",
        "mean_error_one_chain": f"{single.mean():.3f} +- {single.std():.3f}",
        "mean_error_pooled": f"{pooled:.3f}",
        "variance_ratio": f"{ratio:.3f}",
    }


def main() -> None:
    """Run every method and write table and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps, to see that everything runs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="output folder")
    options = parser.parse_args()
    steps, draws = (40, 40) if options.quick else (4000, 3000)
    options.out.mkdir(parents=True, exist_ok=True)
    target = SparseLogistic.synthetic()
    both, quality = reference(target, draws, 2 * SEEDS)
    exact, other = both.chunk(2, 1)
    mean, variance = exact.mean((0, 1)), exact.flatten(0, 1).var(0)
    traces, means = {}, {"reference": mean}
    first = {"method": "Hamiltonian, adjusted", "envelope": "none", "step_size": "", "acceptance": "", "published": ""}
    # As many chains of the same kind, independent of the reference: what exact draws score.
    rows = [{**first, **measure(other, target, mean, variance)}]
    for (name, envelope), kernel in methods(target, exact[-1], min(500, steps)).items():
        generator = torch.Generator().manual_seed(2022)
        start = torch.randn(SEEDS, target.domain.dim, generator=generator, dtype=torch.float64)
        chain = run(kernel, start, steps, generator=generator)
        traces[f"{name}, envelope: {envelope}"] = (chain.positions - target.truth).norm(dim=-1)
        means[f"{name}, envelope: {envelope}"] = chain.positions[steps // 4 :].mean((0, 1))
        row = {
            "method": name,
            "envelope": envelope,
            "step_size": f"{float(kernel.step_size):.2g}",
            "acceptance": f"{chain.stats['acceptance'].mean():.3f}",
            "published": PUBLISHED.get((name, envelope), ""),
            **measure(chain.positions, target, mean, variance),
        }
        rows.append(row)
        print(row, flush=True)
    with (options.out / "sparse_logistic.csv").open("w", newline="") as file:
        file.write(f"# command: python examples/bregman_langevin/sparse_logistic.py{' --quick' * options.quick}\n")
        file.write(
            f"# {SEEDS} chains of {steps} steps, mean +- standard deviation over chains; published: distance to "
        )
        file.write("the truth; mean error: distance of the posterior mean to the reference's, exact 0 when pooled\n")
        file.write(f"# reference and first row: {quality}\n")
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    expected = float((exact - target.truth).norm(dim=-1).mean())
    draw(options.out / "sparse_logistic.png", traces, expected, means, target.truth)


def draw(path: Path, traces: dict[str, Tensor], expected: float, means: dict[str, Tensor], truth: Tensor) -> None:
    """Distances to the truth along the chains, and posterior means beside the reference's."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    colors = {
        "MYULA, envelope: Moreau": "C7",
        "mirror, unadjusted, envelope: hypentropy, left": "C3",
        "mirror, unadjusted, envelope: none": "C0",
        "mirror, adjusted, envelope: none": "C2",
    }
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name, color in colors.items():
        trace = traces[name].mean(1)
        axes[0].plot(torch.arange(1, len(trace) + 1), trace, color=color, lw=1.2, label=name)
    axes[0].axhline(expected, color="k", ls="--", lw=1.2, label="exact draws (reference)")
    axes[0].set(xlabel="step", ylabel="distance to the truth", xscale="log", title="published metric", ylim=(1.5, 4))
    axes[0].legend(fontsize=8)
    for name, color in list(colors.items())[1:]:
        axes[1].plot(means["reference"], means[name], ".", color=color, ms=5, label=name)
    ends = [float(means["reference"].min()), float(means["reference"].max())]
    axes[1].plot(ends, ends, "k--", lw=1, zorder=0, label="exact")
    axes[1].plot(means["reference"], truth, "+", color="0.7", ms=4, zorder=0, label="truth")
    axes[1].set(xlabel="posterior mean of a coefficient, reference", ylabel="posterior mean, method")
    axes[1].set_title("posterior means against the reference")
    axes[1].legend(fontsize=8)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
