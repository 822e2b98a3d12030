"""Coverage of intervals after selection by a randomised lasso: exact, from samples, and naive.

    python examples/mirrored_stein/coverage.py [--quick] [--repeats 300] [--exact 1200] [--first 1000] [--processes 1]
        [--minutes 0]

The design of Shi, Liu, Mackey, "Sampling with mirrored Stein operators", 2022, section 5.2: 100 observations of 40
normal variables with correlation 0.3 between any two, no effect at all, errors of known variance 1, the penalty 0.7
times its theoretical value. Columns are standardised and everything is centred. Every selected coefficient of every
repetition gives one pivot. Exact intervals (quadrature and Gaussian orthant probabilities) are computed for the first
``--exact`` repetitions, intervals from Hamiltonian Monte Carlo in the dual for the first ``--repeats`` of these. Seeds
count from ``--first``; those from 1000 on were not looked at while the method was developed.
Published values are read off the publication's figure; "reference" are numbers of an earlier program of ours. With
``--minutes`` it stops after that time and reports what is done. Writes ``coverage.csv`` (a row per method and level),
``coverage_pivots.csv`` (a row per coefficient) and ``coverage.png``.
"""

import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext

import numpy as np
import torch
from common import COLORS, clean, figure, options, show, write_csv
from scipy.stats import kstest, norm

from mirrorgen.samplers.selective_inference import SelectiveInference, randomized_lasso

N, P, RHO = 100, 40, 0.3
LEVELS = (0.80, 0.85, 0.90, 0.95, 0.98, 0.99)
PUBLISHED = {
    "no-rejection MCMC": (0.822, 0.873, 0.904, 0.942, 0.973, 0.976),
    "SVMD": (0.823, 0.871, 0.904, 0.946, 0.969, 0.975),
    "MSVGD": (0.893, 0.925, 0.942, 0.965, 0.977, 0.977),
}
REFERENCE = {
    "exact, earlier run": {0.80: 0.799, 0.90: 0.902, 0.95: 0.951, 0.99: 0.992},
    "naive, earlier run": {0.80: 0.305, 0.90: 0.481, 0.95: 0.627, 0.99: 0.852},
}


def data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A design and a response without effects."""
    rng = np.random.default_rng([20, seed])
    x = np.sqrt(1 - RHO) * rng.standard_normal((N, P)) + np.sqrt(RHO) * rng.standard_normal((N, 1))
    x -= x.mean(0)
    y = rng.standard_normal(N)
    return x / x.std(0), y - y.mean()


def infer(seed: int, method: str, draws: int) -> SelectiveInference:
    """Inference on one repetition; the same randomisation for both methods."""
    x, y = data(seed)
    generator = torch.Generator().manual_seed(seed)
    return randomized_lasso(
        x, y, sigma=1.0, levels=LEVELS, method=method, num_samples=draws, generator=generator
    )  # fmt: skip


def rows_of(seed: int, exact: SelectiveInference, sampled: SelectiveInference | None) -> list[dict]:
    """A row per selected coefficient."""
    rows = []
    for j, column in enumerate(exact.selected.tolist()):
        row = {"repetition": seed, "column": column, "least_squares": float(exact.least_squares[j]),
               "standard_error": float(exact.standard_errors[j]), "p_exact": float(exact.p_values[j]),
               "p_sampler": "", "error_of_ends": "", "effective_draws": "", "not_bracketed": ""}  # fmt: skip
        for i, level in enumerate(LEVELS):
            row |= {f"exact_low_{level}": float(exact.intervals[i, j, 0])}
            row |= {f"exact_high_{level}": float(exact.intervals[i, j, 1])}
        if sampled is not None:
            ends, width = exact.intervals[:, j], exact.intervals[:, j].diff().squeeze(-1)
            off = (sampled.intervals[:, j] - ends).abs().amax(-1) / width
            row["p_sampler"], row["error_of_ends"] = float(sampled.p_values[j]), float(off.max())
            row["effective_draws"] = float(sampled.effective_sizes[:, j].min())
            row["not_bracketed"] = int((~sampled.bracketed[:, j]).sum())
        for i, level in enumerate(LEVELS):
            row |= {f"sampler_low_{level}": "" if sampled is None else float(sampled.intervals[i, j, 0])}
            row |= {f"sampler_high_{level}": "" if sampled is None else float(sampled.intervals[i, j, 1])}
        rows.append(row)
    return rows


def coverage(rows: list[dict], method: str, level: float) -> dict[str, float]:
    """Share of intervals that hold zero, with its standard error over repetitions, and their width."""
    if method == "naive":
        quantile = norm.ppf(0.5 + level / 2)
        ends = np.array([[r["least_squares"] + s * quantile * r["standard_error"] for s in (-1, 1)] for r in rows])
    else:
        ends = np.array([[r[f"{method}_low_{level}"], r[f"{method}_high_{level}"]] for r in rows])
    holds = (ends[:, 0] <= 0) & (ends[:, 1] >= 0)
    groups = np.array([r["repetition"] for r in rows])
    mean = holds.mean()
    # Coefficients of one repetition are dependent: sums over repetitions are not.
    sums = np.array([(holds[groups == g] - mean).sum() for g in np.unique(groups)])
    widths = np.diff(ends).squeeze(1) / np.array([r["standard_error"] for r in rows])
    return {"coverage": mean, "standard_error": np.sqrt((sums**2).sum()) / len(rows), "width": np.median(widths)}


def summary(rows: list[dict]) -> list[dict]:
    """Rows of the table: ours, published and the earlier reference."""
    both = [r for r in rows if r["p_sampler"] != ""]
    table = []
    for method, part in (("exact", rows), ("exact", both), ("sampler", both), ("naive", rows)):
        label = method + (", repetitions of the sampler" if method == "exact" and part is both else "")
        for level in LEVELS:
            found = coverage(part, method, level)
            table.append({"method": label, "nominal": level, "ours": found["coverage"],
                          "standard_error": found["standard_error"], "published": "", "reference": "",
                          "median_width_in_standard_errors": found["width"], "intervals": len(part)})  # fmt: skip
    empty = {"ours": "", "standard_error": "", "published": "", "reference": "",
             "median_width_in_standard_errors": "", "intervals": ""}  # fmt: skip
    for method, values in PUBLISHED.items():
        table += [{"method": method, "nominal": level} | empty | {"published": v}
                  for level, v in zip(LEVELS, values, strict=True)]  # fmt: skip
    for method, known in REFERENCE.items():
        table += [{"method": method, "nominal": level} | empty | {"reference": v} for level, v in known.items()]
    return table


def draw(table: list[dict], rows: list[dict], path) -> None:
    """Coverage minus nominal, and the distribution of pivots."""
    made = figure(10, 4.2)
    left, right = made.subplots(1, 2, width_ratios=[1.5, 1])
    position = np.arange(len(LEVELS))
    ours = [("exact", "exact, all repetitions"), ("sampler", "sampler (dual HMC)")]
    for k, (method, label) in enumerate(ours):
        part = [r for r in table if r["method"] == method]
        off = [100 * (r["ours"] - r["nominal"]) for r in part]
        bar = [196 * r["standard_error"] for r in part]
        left.errorbar(position + 0.12 * (k - 0.5), off, bar, fmt="o", color=COLORS[k], capsize=3, label=label)
    for k, method in enumerate(PUBLISHED):
        off = [100 * (v - level) for v, level in zip(PUBLISHED[method], LEVELS, strict=True)]
        left.plot(position, off, "--", marker="x", color=COLORS[k + 2], alpha=0.8, label=f"{method} (published)")
    left.axhspan(-1.5, 1.5, color="#000000", alpha=0.06)
    left.axhline(0, color="#444444", linewidth=0.8)
    left.set_xticks(position, [f"{level:.2f}" for level in LEVELS])
    clean(left, "Coverage minus nominal, 95 % bars, band of 1.5 points", "nominal level", "percentage points")
    left.legend(fontsize=8)
    both = [r for r in rows if r["p_sampler"] != ""]
    for k, (key, part) in enumerate((("p_exact", rows), ("p_sampler", both))):
        p = np.sort([r[key] for r in part])
        right.plot(p, np.arange(1, len(p) + 1) / len(p), color=COLORS[k], label=ours[k][1])
    naive = np.sort([2 * norm.sf(abs(r["least_squares"]) / r["standard_error"]) for r in rows])
    right.plot(naive, np.arange(1, len(naive) + 1) / len(naive), color=COLORS[6], label="naive least squares")
    right.plot([0, 1], [0, 1], ":", color="#888888")
    clean(right, "Distribution of p-values of true nulls", "p-value", "share below")
    right.legend(fontsize=8)
    made.savefig(path, dpi=150)
    print(f"wrote {path}")


def repetition(task: tuple[int, bool, int]) -> tuple[int, list[dict], dict[str, float]]:
    """Size of the selection, rows and processor seconds of one repetition."""
    seed, sampled, draws = task
    torch.set_num_threads(1)
    found, seconds = {}, {"exact": 0.0, "sampler": 0.0}
    for method in ("exact", "sampler") if sampled else ("exact",):
        begin = time.process_time()
        found[method] = infer(seed, method, draws)
        seconds[method] = time.process_time() - begin
    return len(found["exact"].selected), rows_of(seed, found["exact"], found.get("sampler")), seconds


def main() -> None:
    chosen = options(__doc__, repeats=300, exact=1200, draws=2048, processes=1, minutes=0.0, first=1000)
    repeats, exact = (2, 6) if chosen.quick else (chosen.repeats, max(chosen.exact, chosen.repeats))
    draws = 512 if chosen.quick else chosen.draws
    tasks = [(chosen.first + i, i < repeats, draws) for i in range(exact)]
    rows, seconds, sizes = [], {"exact": 0.0, "sampler": 0.0}, []
    begin = time.monotonic()
    with ProcessPoolExecutor(chosen.processes) if chosen.processes > 1 else nullcontext() as pool:
        for size, found, spent in (pool.map if pool else map)(repetition, tasks):
            sizes.append(size)
            rows += found
            seconds = {name: seconds[name] + spent[name] for name in seconds}
            if len(sizes) % 20 == 0:
                print(f"{len(sizes)} repetitions, {seconds['exact']:.0f} + {seconds['sampler']:.0f} s", flush=True)
            if 0 < 60 * chosen.minutes < time.monotonic() - begin:
                if pool:
                    pool.shutdown(wait=False, cancel_futures=True)
                break
    both = [r for r in rows if r["p_sampler"] != ""]
    errors = np.array([r["error_of_ends"] for r in both])
    notes = [
        f"{len(sizes)} repetitions, {sum(s > 0 for s in sizes)} with a selection, mean size {np.mean(sizes):.2f}, "
        f"largest {max(sizes)}",
        f"Kolmogorov-Smirnov test of p-values: exact {kstest([r['p_exact'] for r in rows], 'uniform').pvalue:.3f}, "
        f"sampler {kstest([r['p_sampler'] for r in both], 'uniform').pvalue:.3f}",
        f"sampler ({draws} draws in the first batch, {min(repeats, len(sizes))} repetitions) against exact, largest "
        f"difference of an end over levels, share of width: median {np.median(errors):.4f}, "
        f"99 % {np.quantile(errors, 0.99):.4f}, largest {errors.max():.4f}",
        f"ends without a root: {sum(r['not_bracketed'] for r in both)}; fewest effective draws at an end: "
        f"{min(r['effective_draws'] for r in both):.0f}",
        f"processor seconds: exact {seconds['exact']:.0f}, sampler {seconds['sampler']:.0f}; one thread",
        "published: read off the figure of Shi, Liu, Mackey, 2022; reference: earlier program, 300 repetitions",
    ]
    table = summary(rows)
    show(table)
    print("\n".join(notes))
    write_csv(chosen.out / "coverage.csv", notes, table)
    write_csv(chosen.out / "coverage_pivots.csv", notes, rows)
    draw(table, rows, chosen.out / "coverage.png")


if __name__ == "__main__":
    main()
