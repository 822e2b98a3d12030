"""Uniform points of polytopes: effective draws per CPU second, and whether the draws are right.

    python examples/polytopes/uniform.py [--quick] [--seeds 3] [--chains 1024] [--out DIR]

Every walk starts all chains at the centre (MirroredHMC, which tunes its step, at spread-out points), warms up, and is
timed (CPU seconds of one thread, noise and storage of the draws included) on the draws that follow. The effective
sample size is the smallest of the bulk values over the coordinates and their squares. The variance is compared with the
exact one (Birkhoff's polytopes: with estimates, see ESTIMATES), the share of points outside the core of half
the volume with 1/2; standard errors come from the spread between chains. Writes ``uniform.csv`` and ``uniform.png``.
"""

import argparse
import csv
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mirrorgen import domains, mirror_maps, samplers, targets
from mirrorgen.metrics import effective_sample_size, gauge, half_volume

# Entry variances of uniform doubly stochastic matrices, from 36,000 draws of the billiard walk of hopsy 1.7.0.
ESTIMATES = {"Birkhoff(4)": 0.02964, "Birkhoff(8)": 0.01031}


@dataclass(frozen=True)
class Case:
    """A polytope, its exact mean, and the variances of ``(x - mean) @ directions``, exact or estimated."""

    domain: domains.Domain
    mean: Tensor
    directions: Tensor
    variance: Tensor | None
    mirror_map: mirror_maps.MirrorMap
    estimated: bool = False


def rotated_box(dim: int, log_condition: float) -> Case:
    """A box at a random angle with sides from 1 to ``e^-log_condition``."""
    generator = torch.Generator().manual_seed(1234)
    rotation = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]
    half = torch.exp(-log_condition * torch.linspace(0, 1, dim, dtype=torch.float64))
    polytope = domains.Polytope(torch.cat([rotation, -rotation]), torch.cat([half, half]))
    zero = torch.zeros(dim, dtype=torch.float64)
    return Case(polytope, zero, rotation.mT, half.square() / 3, mirror_maps.SlackEntropy(polytope))


def stretched_polytope(dim: int, rows: int, log_condition: float) -> Case:
    """A symmetric polytope of random rows, stretched; its variances are not known."""
    generator = torch.Generator().manual_seed(4321)
    A = torch.nn.functional.normalize(torch.randn(rows // 2, dim, generator=generator, dtype=torch.float64), dim=-1)
    stretch = torch.exp(log_condition * torch.linspace(0, 1, dim, dtype=torch.float64))
    A = torch.cat([A, -A]) / stretch
    polytope = domains.Polytope(A, torch.ones(len(A)))
    zero = torch.zeros(dim, dtype=torch.float64)
    return Case(polytope, zero, torch.diag(1 / stretch), None, mirror_maps.SlackEntropy(polytope))


def uniform_case(domain: domains.Domain) -> Case:
    """A box or a simplex."""
    law = targets.Uniform(domain)
    eye = torch.eye(domain.dim, dtype=torch.float64)
    return Case(domain, law.mean, eye, law.variance, mirror_maps.default(domain))


def birkhoff_case(n: int) -> Case:
    """Birkhoff's polytope."""
    domain = domains.Birkhoff(n)
    eye = torch.eye(n * n, dtype=torch.float64)
    variance = torch.full((n * n,), ESTIMATES[f"Birkhoff({n})"], dtype=torch.float64)
    return Case(domain, targets.Uniform(domain).mean, eye, variance, mirror_maps.SlackEntropy(domain), estimated=True)


CASES: dict[str, Callable[[], Case]] = {
    "cube, d = 10": lambda: uniform_case(domains.Box(-1.0, 1.0, dim=10)),
    "cube, d = 50": lambda: uniform_case(domains.Box(-1.0, 1.0, dim=50)),
    "simplex, d = 20": lambda: uniform_case(domains.Simplex(21)),
    "Birkhoff(4), d = 9": lambda: birkhoff_case(4),
    "Birkhoff(8), d = 49": lambda: birkhoff_case(8),
    "rotated box, d = 10, condition e^5": lambda: rotated_box(10, 5.0),
    "40 random rows, d = 10, stretched by e^5": lambda: stretched_polytope(10, 40, 5.0),
}


@dataclass(frozen=True)
class Setting:
    """A sampler: kernel, warm-up steps, draws, steps per draw."""

    kernel: Callable[[Case], samplers.Kernel]
    warm_up: int
    draws: int
    thin: Callable[[Case], int]


SETTINGS = {
    "CoordinateHitAndRun": Setting(
        lambda c: samplers.CoordinateHitAndRun(None, c.domain), 50, 150, lambda c: 1 if exchanges(c) else 3
    ),
    "BilliardWalk": Setting(lambda c: samplers.BilliardWalk(None, c.domain), 40, 100, lambda c: 1),
    "HitAndRun": Setting(
        lambda c: samplers.HitAndRun(None, c.domain), 400, 60, lambda c: 10 if c.domain.dual_dim > 10 else 3
    ),
    "MirroredHMC": Setting(
        lambda c: samplers.MirroredHMC(targets.Uniform(c.domain), c.mirror_map, num_steps=4),
        80,
        60,
        lambda c: 1,
    ),
}


def exchanges(case: Case) -> bool:
    """Whether a coordinate sweep is nearly an independent draw."""
    return type(case.domain) is not domains.Polytope


def measure(case: Case, sampler: str, chains: int, seed: int, quick: bool) -> dict[str, float]:
    """One timed run."""
    setting = SETTINGS[sampler]
    kernel, generator = setting.kernel(case), torch.Generator().manual_seed(seed)
    # Iterative inverses of mirror maps want float64, and cost per chain.
    iterative = sampler == "MirroredHMC" and not case.mirror_map.closed_form
    count, dtype = (max(8, chains // 32), torch.float64) if iterative else (chains, torch.float32)
    warm_up, draws, thin = (10, 8, 1) if quick else (setting.warm_up, setting.draws, setting.thin(case))
    start = case.domain.interior_point().to(dtype).expand(count, -1).clone()
    if sampler == "MirroredHMC":
        # Step sizes are tuned from starts that are spread out.
        start = case.domain.sample_uniform(count, generator=generator, dtype=dtype)
    warm = samplers.run(kernel, start, thin, num_warmup=warm_up, thin=thin, generator=generator)
    begin = time.process_time()
    chain = samplers.run(warm.kernel, warm.positions[-1], draws * thin, thin=thin, generator=generator)
    seconds = time.process_time() - begin
    x = chain.positions
    assert bool(case.domain.contains(chain.flatten()).all())
    return {"seconds": seconds, "steps": draws * thin * count, **quality(case, x)}


def quality(case: Case, x: Tensor) -> dict[str, float]:
    """Effective sample size, variance ratio and half-volume share of draws ``(draws, chains, dim)``."""
    projected = (x.double() - case.mean) @ case.directions
    # A quarter of the chains and at most two dozen coordinates: ranks cost more than the walks.
    part = projected[:, :: 4 if x.shape[1] > 64 else 1, :: max(1, projected.shape[-1] // 12)]
    ess = min(float(effective_sample_size(v).min()) for v in (part, part.square())) * x.shape[1] / part.shape[1]
    outside = (gauge(case.domain, x) > 2 ** (-1 / case.domain.dual_dim)).double().mean(0)
    outside_error = float(outside.std()) / len(outside) ** 0.5
    core = half_volume(case.domain, x, effective_size=0.25 / max(outside_error, 1e-9) ** 2)
    result = {
        "ess": ess,
        "half": core.share,
        "half_error": core.standard_error,
        "ratio": math.nan,
        "ratio_error": math.nan,
    }
    if case.variance is not None:
        ratio = (projected.square() / case.variance).mean((0, 2))
        result |= {"ratio": float(ratio.mean()), "ratio_error": float(ratio.std()) / len(ratio) ** 0.5}
    return result


def summarize(name: str, sampler: str, case: Case, runs: list[dict[str, float]]) -> dict[str, str | int]:
    """One row of the table: medians and ranges over seeds, pooled means with their standard errors."""
    rates = [r["ess"] / r["seconds"] for r in runs]

    def pooled(key: str) -> tuple[str, str]:
        values, errors = [r[key] for r in runs], [r[key + "_error"] for r in runs]
        if any(math.isnan(v) for v in values):
            return "", ""
        return f"{statistics.mean(values):.4f}", f"{math.sqrt(sum(e * e for e in errors)) / len(errors):.4f}"

    ratio, ratio_error = pooled("ratio")
    half, half_error = pooled("half")
    return {
        "set": name,
        "sampler": sampler,
        "seeds": len(runs),
        "ess_per_second_ours": f"{statistics.median(rates):.0f}",
        "lowest": f"{min(rates):.0f}",
        "highest": f"{max(rates):.0f}",
        "ess_per_step": f"{statistics.median(r['ess'] / r['steps'] for r in runs):.4f}",
        "microseconds_per_step_and_chain": f"{statistics.median(1e6 * r['seconds'] / r['steps'] for r in runs):.3f}",
        "variance_ratio_ours": ratio,
        "variance_ratio_error": ratio_error,
        "reference": "estimate (hopsy)" if case.estimated else "exact" if ratio else "",
        "half_volume_ours": half,
        "half_volume_error": half_error,
        "half_volume_exact": "0.5",
        "note": "",
    }


def draw(rows: list[dict[str, str | int]], path: Path) -> None:
    """Bars of effective draws per second, one group per set."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sets, names = list(dict.fromkeys(r["set"] for r in rows)), list(SETTINGS)
    figure, axis = plt.subplots(figsize=(9, 5.2), layout="constrained")
    colors = plt.get_cmap("viridis")([0.05, 0.35, 0.65, 0.9])
    height = 0.8 / len(names)
    for j, name in enumerate(names):
        picked = {r["set"]: r for r in rows if r["sampler"] == name}
        y = [i + (j - (len(names) - 1) / 2) * height for i in range(len(sets))]
        value, low, high = (
            [float(picked[s][k] or "nan") for s in sets] for k in ("ess_per_second_ours", "lowest", "highest")
        )
        error = [[v - a for v, a in zip(value, low, strict=True)], [b - v for v, b in zip(value, high, strict=True)]]
        axis.barh(y, value, height * 0.92, xerr=error, color=colors[j], label=name, error_kw={"lw": 1, "capsize": 2})
    axis.set_xscale("log")
    axis.set_yticks(range(len(sets)), [str(s).replace(", ", "\n", 1) for s in sets])
    axis.invert_yaxis()
    axis.set_xlabel("effective draws per CPU second, one thread (median of seeds; whiskers: range)")
    axis.grid(axis="x", alpha=0.3)
    axis.legend(loc="upper center", bbox_to_anchor=(0.45, 1.1), ncols=4, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Run every sampler on every set and write table and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few chains and draws, to see that everything runs")
    parser.add_argument("--seeds", type=int, default=3, help="runs per sampler and set (default: %(default)s)")
    parser.add_argument("--chains", type=int, default=1024, help="chains of the walks (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="output folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds, chains = (1, 64) if options.quick else (options.seeds, options.chains)
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, build in CASES.items():
        case = build()
        for sampler in SETTINGS:
            try:
                runs = [measure(case, sampler, chains, 100 + seed, options.quick) for seed in range(seeds)]
                rows.append(summarize(name, sampler, case, runs))
            except RuntimeError as error:
                # A sampler that breaks down on a set is a result too.
                rows.append(dict.fromkeys(rows[0], "") | {"set": name, "sampler": sampler, "note": str(error)[:80]})
            print("  ".join(str(v) for v in rows[-1].values()), flush=True)
    with (options.out / "uniform.csv").open("w", newline="") as file:
        file.write(f"# command: python examples/polytopes/uniform.py --seeds {seeds} --chains {chains}\n")
        file.write(
            f"# torch {torch.__version__}, one thread, float32; iterative mirror maps in float64 with chains / 32\n"
        )
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, options.out / "uniform.png")


if __name__ == "__main__":
    main()
