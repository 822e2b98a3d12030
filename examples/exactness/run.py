"""Every adjusted sampler against exact moments: variance ratios, means and the half-volume statistic.

    python examples/exactness/run.py [--quick] [--ess 100000] [--kernels NAME ...] [--out DIR]

Each kernel is tuned by its own warm-up from spread starting points, then run until the smallest effective sample size
over the coordinates of x and of x^2 exceeds ``--ess``. Reported per kernel and target: the variance ratio farthest from
one, the largest |z| over means (standard errors from the spread between independent chains), the same for the share of
points outside the core of half the volume (uniform targets; exactly 1/2), and what it took. The unadjusted mirror
Langevin algorithm is there to show that the study can tell: its bias is known. Writes ``exactness.csv``.
"""

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import mirrorgen as mg
from mirrorgen import mirror_maps as M
from mirrorgen import samplers as S
from mirrorgen import targets as T
from mirrorgen.geometry.bregman import L1Norm
from mirrorgen.metrics import gauge

DIM, CHAINS = 5, 500
TARGETS: dict[str, T.Target] = {
    "Dirichlet(4)": T.Dirichlet([4.0] * (DIM + 1)),
    "cube": T.Uniform(mg.domains.Box(-1.0, 1.0, dim=DIM)),
    "truncated normal": T.TruncatedNormal(mg.domains.Box(0.0, 2.0, dim=DIM), torch.linspace(-1.0, 3.0, DIM)),
}


class Remainder:
    """``log_density + weight |x|_1``: what is left of a density after its non-smooth part is split off."""

    def __init__(self, target: T.Target, weight: float) -> None:
        self.target, self.weight = target, weight

    def __call__(self, x: Tensor) -> Tensor:
        return self.target(x) + self.weight * x.abs().sum(-1)


def bregman_moreau(target: T.Target) -> S.Kernel:
    """A split of the log-density into a smooth part and ``-|x|_1``, which the kernel puts together again."""
    box_map = M.BoxEntropy(target.domain)
    return S.BregmanMoreauLangevin(Remainder(target, 1.0), box_map, 0.02, nonsmooth=L1Norm(1.0), smoothing=0.1)


KERNELS: dict[str, Callable[[T.Target], S.Kernel]] = {
    "MirroredHMC": lambda t: S.MirroredHMC(t, M.default(t.domain)),
    "MirroredLangevin": lambda t: S.MirroredLangevin(t, M.default(t.domain)),
    "MirrorLangevin (MAMLA), log barrier": lambda t: S.MirrorLangevin(t, M.LogBarrier(t.domain)),
    "MirrorLangevin (MAMLA), entropic": lambda t: S.MirrorLangevin(t, M.default(t.domain)),
    "MirrorLangevin, no drift (MMRW)": lambda t: S.MirrorLangevin(t, M.LogBarrier(t.domain), drift=False),
    "MAPLA": lambda t: S.MAPLA(t, t.domain),
    "DikinWalk": lambda t: S.DikinWalk(t, t.domain),
    "HitAndRun": lambda t: S.HitAndRun(t, t.domain),
    "CoordinateHitAndRun": lambda t: S.CoordinateHitAndRun(t, t.domain),
    "BilliardWalk": lambda t: S.BilliardWalk(t, t.domain),
}
ONLY = {
    "BregmanMoreauLangevin, Metropolised": (bregman_moreau, ["truncated normal"]),
    "TruncatedGaussianGibbs": (lambda t: S.TruncatedGaussianGibbs(t), ["truncated normal"]),
    "LinearEllipticalSlice": (lambda t: S.LinearEllipticalSlice(t), ["truncated normal"]),
    "MirrorLangevin, unadjusted (MLA), h = .05": (
        lambda t: S.MirrorLangevin(t, M.LogBarrier(t.domain), 0.05, adjusted=False), ["Dirichlet(4)"]),
}  # fmt: skip


def effective_size(x: Tensor) -> float:
    """The smallest over coordinates of ``x`` and ``x^2``."""
    sizes = [mg.metrics.effective_sample_size(v) for v in (x, x.square())]
    return float(torch.stack(sizes).min())


def score(values: Tensor, exact: Tensor | float) -> float:
    """The largest |z| of the mean of ``values (draws, chains, ...)``, from the spread between chains."""
    means = values.double().mean(0)
    return float(((means.mean(0) - exact) / (means.std(0) / len(means) ** 0.5)).abs().max())


def study(name: str, build: Callable[[T.Target], S.Kernel], label: str, ess: float) -> dict[str, object]:
    """One row of the table."""
    target = TARGETS[label]
    generator = torch.Generator().manual_seed(len(name) + 31 * len(label))
    began = time.process_time()
    if "entropic" in name:
        start, x = "exact draws", target.sample(CHAINS, generator=generator)
    else:
        start = "spread"
        x = S.starting_points(target, M.default(target.domain), CHAINS, dtype=torch.float64, generator=generator)
    kernel = build(target)
    pilot = S.run(kernel, x, 200, num_warmup=400, generator=generator)
    per_step = effective_size(pilot.positions) / 200
    steps = int(1.3 * ess / per_step) + 100
    thin = max(1, min(steps // 400, int(0.2 * CHAINS / per_step)))
    chain = S.run(pilot.kernel, pilot.positions[-1], steps, thin=thin, generator=generator)
    draws = chain.positions
    ratio = (draws - target.mean).square().mean((0, 1)) / target.variance
    farthest = float(ratio[(ratio - 1).abs().argmax()])
    row = {
        "kernel": name, "target": label, "start": start, "step_size": _number(getattr(chain.kernel, "step_size", None)),
        "acceptance": _number(chain.stats["acceptance"].mean()), "ess": round(effective_size(draws)),
        "variance_ratio": round(farthest, 4), "exact_ratio": 1, "max_abs_z_mean": round(score(draws, target.mean), 2),
        "half_volume": "", "exact_half": "", "z_half_volume": "", "nonfinite": int(chain.stats["nonfinite"].sum()),
        "inside": bool(target.domain.contains(chain.flatten()).all()),
        "chain_steps": steps * CHAINS, "cpu_seconds": round(time.process_time() - began, 1),
    }  # fmt: skip
    if isinstance(target, T.Uniform):
        outside = (gauge(target.domain, draws) > 2.0 ** (-1 / DIM)).double()
        half = {"half_volume": round(float(outside.mean()), 4), "exact_half": 0.5}
        row |= half | {"z_half_volume": round(score(outside, 0.5), 2)}
    return row


def _number(value: object) -> object:
    return "" if value is None else round(float(value), 4)


def main() -> None:
    """Run the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ess", type=float, default=1.0e5, help="effective sample size per row (%(default)g)")
    parser.add_argument("--kernels", nargs="*", help="names, or parts of names, of kernels; all if none")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the effective size: a check that it runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ess = options.ess / 50 if options.quick else options.ess
    plan = [(n, b, label) for n, b in KERNELS.items() for label in TARGETS]
    plan += [(n, b, label) for n, (b, labels) in ONLY.items() for label in labels]
    chosen = [p for p in plan if not options.kernels or any(k in p[0] for k in options.kernels)]
    rows = []
    for name, build, label in chosen:
        rows.append(study(name, build, label, ess))
        print(", ".join(f"{k} {v}" for k, v in rows[-1].items() if v != ""), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "exactness.csv"
    with path.open("w", newline="") as file:
        flags = " --quick" if options.quick else f" --ess {options.ess:g}"
        file.write(f"# command: python examples/exactness/run.py{flags}\n")
        file.write(f"# {CHAINS} chains, float64, torch {torch.__version__}; ess: smallest over x_i and x_i^2\n")
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(path)


if __name__ == "__main__":
    main()
