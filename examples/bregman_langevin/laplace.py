"""What an envelope contributes to Langevin sampling of an anisotropic Laplace law in 100 dimensions.

    python examples/bregman_langevin/laplace.py [--quick] [--steps 100000] [--replicates 4] [--out DIR]

The experiment of Lau and Liu, "Bregman proximal Langevin Monte Carlo via Bregman-Moreau envelopes", 2022: the law
``exp(-sum_i i |t_i|)``, smoothing 1e-5, step 5e-6, start N(0, I); the publication shows histograms only. Here: the
relative error of ``E|t_i|``, whose exact value is ``1 / i``, after a burn-in of a fifth. Beside the published methods
run the same dynamics with a plain subgradient in place of the envelope, with a wider envelope (1e-2), the
Metropolis-adjusted forms of all three, and a quadratic map whose metric has the scales of the target. All methods
share their noise, so that their differences are those of the method. A replicate is four chains.
Writes ``laplace.csv``, ``laplace_coordinates.csv`` and ``laplace.png``.
"""

import argparse
import csv
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mirrorgen.geometry.mirror_maps import Hypentropy, Quadratic
from mirrorgen.samplers import MYULA, BregmanMoreauLangevin, Kernel, MirrorLangevin, run
from mirrorgen.targets import AnisotropicLaplace

SHOWN = (1, 2, 5, 10, 25, 50, 75, 100)
CHAINS = 4
STEP, SMOOTHING, WIDE = 5e-6, 1e-5, 1e-2


@dataclass(frozen=True)
class Method:
    """A kernel and what is said of it; ``earlier`` is our own mean error of an earlier study, with other code."""

    name: str
    envelope: str
    kernel: Kernel
    earlier: float | None = None

    @property
    def smoothing(self) -> str:
        """``lambda``, where there is an envelope."""
        return f"{self.kernel.smoothing:g}" if hasattr(self.kernel, "smoothing") else ""

    @property
    def label(self) -> str:
        """Name for the legend."""
        return f"{self.name}, {self.envelope} {self.smoothing}".strip()


def methods(target: AnisotropicLaplace, warmup: int) -> list[Method]:
    """Those of the publication first."""
    space, rates = target.domain, target.rates
    dynamics = Hypentropy(space, 2 * (101 - rates).sqrt())

    def tuned(kernel: Kernel) -> Kernel:
        return with_step_size(kernel, target, warmup)

    def smoothed(adjusted: bool, envelope_map: Quadratic | Hypentropy, smoothing: float = SMOOTHING) -> Kernel:
        options = {"nonsmooth": target.nonsmooth, "envelope_map": envelope_map, "smoothing": smoothing}
        return BregmanMoreauLangevin(target.smooth, dynamics, STEP, adjusted=adjusted, **options)

    myula = MYULA(target.smooth, space, STEP, nonsmooth=target.nonsmooth, smoothing=SMOOTHING)
    norm, hyp = Quadratic(space, rates / 2), Hypentropy(space, 101 - rates)
    return [
        Method("MYULA", "Moreau", myula, 0.102),
        Method("mirror, unadjusted", "M-norm", smoothed(False, norm), 0.088),
        Method("mirror, unadjusted", "hypentropy", smoothed(False, hyp), 0.141),
        Method("mirror, unadjusted", "none", MirrorLangevin(target, dynamics, STEP, adjusted=False), 0.088),
        Method("mirror, unadjusted", "M-norm", smoothed(False, norm, WIDE)),
        Method("mirror, adjusted", "M-norm", tuned(smoothed(True, norm))),
        Method("mirror, adjusted", "M-norm", tuned(smoothed(True, norm, WIDE))),
        Method("mirror, adjusted", "none", tuned(MirrorLangevin(target, dynamics, STEP))),
        Method("scaled metric, adjusted", "none", tuned(MirrorLangevin(target, Quadratic(space, rates**2)))),
    ]


def with_step_size(kernel: Kernel, target: AnisotropicLaplace, warmup: int) -> Kernel:
    """With the step size that warm-up finds from exact draws, on a seed that no result uses."""
    generator = torch.Generator().manual_seed(1)
    start = target.sample(16, generator=generator)
    warm = run(kernel, start, 1, num_warmup=warmup, generator=generator).kernel
    return replace(warm, step_size=float(f"{float(warm.step_size):.2g}"))


def mean_sizes(kernel: Kernel, dim: int, steps: int, replicates: int) -> tuple[Tensor, float]:
    """Means of ``|t|`` after burn-in ``(replicates, dim)``, and the mean acceptance."""
    generator = torch.Generator().manual_seed(2022)
    start = torch.randn(replicates * CHAINS, dim, generator=generator, dtype=torch.float64)
    chain = run(kernel, start, steps, thin=20, generator=generator)
    kept = chain.positions[chain.num_draws // 5 :].abs().mean(0)
    return kept.unflatten(0, (replicates, CHAINS)).mean(1), float(chain.stats["acceptance"].mean())


def row(method: Method, error: Tensor, acceptance: float, seconds: float) -> dict[str, object]:
    """A line of the table, from relative errors ``(replicates, dim)``."""
    mean_error = error.abs().mean(-1)
    return {
        "method": method.name,
        "envelope": method.envelope,
        "smoothing": method.smoothing,
        "step_size": f"{float(method.kernel.step_size):.2g}",
        "acceptance": f"{acceptance:.3f}",
        "mean_abs_error": f"{mean_error.mean():.4f}",
        "spread": f"{mean_error.std():.4f}",
        "earlier": "" if method.earlier is None else method.earlier,
        **{f"error_{i}": f"{error.mean(0)[i - 1]:.3f}" for i in SHOWN},
        "cpu_seconds": f"{seconds:.0f}",
    }


def main() -> None:
    """Run every method and write tables and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps, to see that everything runs")
    parser.add_argument("--steps", type=int, default=100_000, help="steps per chain (default: %(default)s)")
    parser.add_argument("--replicates", type=int, default=4, help="groups of four chains (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="output folder")
    options = parser.parse_args()
    steps, replicates = (200, 2) if options.quick else (options.steps, options.replicates)
    options.out.mkdir(parents=True, exist_ok=True)
    target = AnisotropicLaplace(100)
    rows, curves = [], {}
    for method in methods(target, min(1000, steps)):
        begin = time.process_time()
        sizes, acceptance = mean_sizes(method.kernel, 100, steps, replicates)
        error = sizes / target.mean_size - 1
        curves[method.label] = error.mean(0)
        rows.append(row(method, error, acceptance, time.process_time() - begin))
        print(rows[-1], flush=True)
    note = (
        f"# command: python examples/bregman_langevin/laplace.py --steps {steps} --replicates {replicates}\n"
        f"# {replicates} replicates of {CHAINS} chains, burn-in a fifth; spread: standard deviation over replicates; "
        "earlier: ours, an earlier study with other code; the publication has histograms only; exact: 0\n"
    )
    write(options.out / "laplace.csv", note, rows)
    table = [{"i": i + 1, "exact": f"{1 / (i + 1):.5f}"} for i in range(100)]
    for name, error in curves.items():
        for i, line in enumerate(table):
            line[name] = f"{(1 + error[i]) / (i + 1):.6f}"
    write(options.out / "laplace_coordinates.csv", note.replace("exact: 0", "entries: mean of |t_i|"), table)
    draw(options.out / "laplace.png", curves)


def write(path: Path, note: str, rows: list[dict]) -> None:
    """One table under its note."""
    with path.open("w", newline="") as file:
        file.write(note)
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw(path: Path, curves: dict[str, Tensor]) -> None:
    """Relative error, a mean over replicates, against the coordinate; adjusted methods on the right."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    styles = dict(zip(curves, ("C7-", "C0-", "C3-", "k:", "C1-", "C0-", "C1-", "k:", "C2-"), strict=True))
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True, layout="constrained")
    coordinate = torch.arange(1, 101)
    for name, error in curves.items():
        axis = axes[int(", adjusted" in name)]
        axis.plot(coordinate, error, styles[name], lw=2.2 if ":" in styles[name] else 1.4, label=name)
    for axis, title in zip(axes, ("unadjusted, step 5e-6", "Metropolis-adjusted, step tuned"), strict=True):
        axis.axhline(0, color="0.6", lw=0.8, zorder=0)
        axis.set(title=title, xlabel="coordinate $i$ (rate $i$)", xscale="log", ylim=(-0.9, 0.9))
        axis.set_xticks(SHOWN, labels=[str(i) for i in SHOWN])
        axis.minorticks_off()
        axis.legend(fontsize=8, loc="lower right")
    axes[0].set_ylabel("relative error of the mean of $|t_i|$")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
