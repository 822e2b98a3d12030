"""Normal laws cut off far from their mean: are the draws right, and how many a second?

    python examples/polytopes/truncated_normal.py [--quick] [--seeds 3] [--chains 1024] [--out DIR]

``N(mu, I)`` on the box ``(-1, 1)^d`` with ``mu`` a ramp from 0 to 10, up to nine standard deviations outside: the test
by which Noble, De Bortoli and Durmus, "Unbiased constrained sampling with self-concordant barrier Hamiltonian Monte
Carlo", 2023, find bias in implicit integrators. Moments are exact products of one-dimensional ones. All chains start at
the centre. The errors are z-scores of the means and variances of all coordinates, with standard errors from the spread
between chains: the largest of a correct sampler is about 3. Writes ``truncated_normal.csv`` and
``truncated_normal.png``.
"""

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mirrorgen import domains, mirror_maps, samplers, targets
from mirrorgen.metrics import effective_sample_size

KERNELS: dict[str, tuple[Callable[[targets.TruncatedNormal], samplers.Kernel], int]] = {
    "TruncatedGaussianGibbs": (samplers.TruncatedGaussianGibbs, 1),
    "LinearEllipticalSlice": (samplers.LinearEllipticalSlice, 20),
    "CoordinateHitAndRun (slices)": (lambda t: samplers.CoordinateHitAndRun(t, t.domain), 1),
    "HitAndRun (slices)": (lambda t: samplers.HitAndRun(t, t.domain), 3),
    "MirroredHMC": (lambda t: samplers.MirroredHMC(t, mirror_maps.default(t.domain), num_steps=4), 1),
}
"""Kernel and steps per draw."""


def ramp(dim: int) -> targets.TruncatedNormal:
    """The target."""
    return targets.TruncatedNormal(domains.Box(-1.0, 1.0, dim=dim), torch.linspace(0, 10, dim, dtype=torch.float64))


def measure(target: targets.TruncatedNormal, name: str, chains: int, seed: int, quick: bool) -> dict[str, float]:
    """One timed run."""
    build, thin = KERNELS[name]
    warm_up, draws = (10, 8) if quick else (60 * thin, 60)
    generator = torch.Generator().manual_seed(seed)
    start = target.domain.interior_point().expand(chains, -1).clone()
    warm = samplers.run(build(target), start, thin, num_warmup=warm_up, thin=thin, generator=generator)
    begin = time.process_time()
    chain = samplers.run(warm.kernel, warm.positions[-1], draws * thin, thin=thin, generator=generator)
    seconds = time.process_time() - begin
    x = chain.positions.double()
    deviation = torch.cat([x - target.mean, (x - target.mean).square() - target.variance], -1).mean(0)
    z = deviation.mean(0) / (deviation.std(0) / chains**0.5)
    part = x[:, :256]
    ess = min(float(effective_sample_size(v).min()) for v in (part, part.square())) * chains / part.shape[1]
    ratio = float(((x - target.mean).square() / target.variance).mean())
    return {"rate": ess / seconds, "z": float(z.abs().max()), "ratio": ratio, "per_step": ess / (draws * thin * chains)}


def draw(rows: list[dict[str, str | int]], path: Path) -> None:
    """Bars of effective draws per second."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names, dims = list(KERNELS), list(dict.fromkeys(r["dim"] for r in rows))
    figure, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
    colors = plt.get_cmap("viridis")([0.1, 0.5, 0.85])
    for j, dim in enumerate(dims):
        picked = {r["sampler"]: r for r in rows if r["dim"] == dim}
        y = [i + (j - (len(dims) - 1) / 2) * 0.26 for i in range(len(names))]
        value = [float(picked[n]["ess_per_second_ours"]) for n in names]
        axis.barh(y, value, 0.24, color=colors[j], label=f"d = {dim}")
        for height, width, n in zip(y, value, names, strict=True):
            axis.text(width * 1.08, height, f"largest |z| {picked[n]['largest_z_ours']}", va="center", fontsize=7)
    axis.set_xscale("log")
    axis.set_xlim(right=3 * max(float(r["ess_per_second_ours"]) for r in rows))
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel("effective draws per CPU second, one thread (median of seeds)")
    axis.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Run every sampler in every dimension and write table and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few chains and draws, to see that everything runs")
    parser.add_argument("--seeds", type=int, default=3, help="runs per sampler (default: %(default)s)")
    parser.add_argument("--chains", type=int, default=1024, help="chains (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="output folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds, chains = (1, 64) if options.quick else (options.seeds, options.chains)
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, str | int]] = []
    for dim in (5, 10):
        for name in KERNELS:
            runs = [measure(ramp(dim), name, chains, 200 + seed, options.quick) for seed in range(seeds)]
            middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            rows.append(
                {
                    "dim": dim,
                    "sampler": name,
                    "seeds": seeds,
                    "ess_per_second_ours": f"{middle['rate']:.0f}",
                    "lowest": f"{min(run['rate'] for run in runs):.0f}",
                    "highest": f"{max(run['rate'] for run in runs):.0f}",
                    "ess_per_step": f"{middle['per_step']:.4f}",
                    "largest_z_ours": f"{middle['z']:.1f}",
                    "variance_ratio_ours": f"{middle['ratio']:.4f}",
                    "variance_ratio_exact": "1",
                }
            )
            print("  ".join(str(v) for v in rows[-1].values()), flush=True)
    with (options.out / "truncated_normal.csv").open("w", newline="") as file:
        file.write(f"# command: python examples/polytopes/truncated_normal.py --seeds {seeds} --chains {chains}\n")
        file.write(f"# torch {torch.__version__}, one thread, float64\n")
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, options.out / "truncated_normal.png")


if __name__ == "__main__":
    main()
