"""Intervals for the diabetes data after selection by a randomised lasso: exact, three samplers, naive least squares.

    python examples/mirrored_stein/intervals.py [--quick] [--seed 1] [--out DIR]

442 patients and ten standardised measurements (scikit-learn's ``load_diabetes``); the response is centred and measured
in its standard deviations. All methods see the same data, the same randomisation and hence the same selection. The
particle methods are those of Shi, Liu, Mackey, "Sampling with mirrored Stein operators", 2022: sets of 50 particles,
inverse multiquadric kernel, RMSprop with a step size falling to zero. They are deterministic, so that their Monte Carlo
errors, which assume independent draws, are rough. Writes ``intervals.csv`` (a row per method and coefficient) and
``intervals.png``.
"""

import time

import numpy as np
import torch
from common import COLORS, clean, figure, options, show, write_csv
from scipy.stats import norm
from sklearn.datasets import load_diabetes
from torch import Tensor

from mirrorgen.geometry.mirror_maps import SoftplusDual
from mirrorgen.samplers import run
from mirrorgen.samplers.selective_inference import Sampler, mirrored_hmc, randomized_lasso
from mirrorgen.samplers.stein import MSVGD, SVMD, RMSprop
from mirrorgen.targets import TruncatedNormal

LEVEL, PARTICLES = 0.9, 50


def particles(kind: type[MSVGD], steps: int, sets: int) -> Sampler:
    """Sets of 50 particles that move side by side; returns at most ``sets`` of them."""

    def sampler(density: TruncatedNormal, n: int, generator: torch.Generator) -> Tensor:
        mirror_map = SoftplusDual(density.domain)
        size = PARTICLES * min(max(-(-n // PARTICLES), 1), sets)
        noise = torch.randn(size, density.domain.dim, dtype=torch.float64, generator=generator)
        x = mirror_map.to_primal(density.location + noise)
        kernel = kind(density, mirror_map, optimizer=RMSprop(0.1, total_steps=steps), set_size=PARTICLES)
        return run(kernel, x, steps, thin=steps, generator=generator).positions[-1]

    return sampler


def main() -> None:
    chosen = options(__doc__, seed=1)
    x, y = load_diabetes(return_X_y=True)
    names = load_diabetes().feature_names
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    steps, sets = (40, 2) if chosen.quick else (150, 10)
    # Particles do not profit from many batches: their error is not of the Monte Carlo kind.
    ways = {
        "exact": {},
        "mirrored HMC": {"sampler": mirrored_hmc},
        "MSVGD": {"sampler": particles(MSVGD, steps, sets), "num_samples": PARTICLES * sets, "tolerance": 0.02},
        "SVMD": {"sampler": particles(SVMD, steps, sets), "num_samples": PARTICLES * sets, "tolerance": 0.02},
    }
    rows, exact = [], None
    for name, way in ways.items():
        begin = time.process_time()
        method = "exact" if name == "exact" else "sampler"
        generator = torch.Generator().manual_seed(chosen.seed)
        found = randomized_lasso(x, y, levels=(LEVEL,), method=method, generator=generator, **way)
        seconds = time.process_time() - begin
        exact = found if exact is None else exact
        ends, width = exact.intervals[0], exact.intervals[0].diff(dim=-1)
        off = ((found.intervals[0] - ends) / width).abs().amax(-1)
        print(f"{name}: {seconds:.1f} s\n{found}", flush=True)
        for j, column in enumerate(found.selected.tolist()):
            low, high = found.intervals[0, j].tolist()
            rows.append({"method": name, "column": names[column], "estimate": float(found.estimates[j]), "low": low,
                         "high": high, "p_value": float(found.p_values[j]), "difference_from_exact": float(off[j]),
                         "fewest_effective_draws": float(found.effective_sizes[0, j].min()),
                         "ends_bracketed": bool(found.bracketed[0, j].all()), "seconds": seconds})  # fmt: skip
    assert exact is not None
    quantile = norm.ppf(0.5 + LEVEL / 2)
    for j, column in enumerate(exact.selected.tolist()):
        t, s = float(exact.least_squares[j]), float(exact.standard_errors[j])
        rows.append({"method": "naive least squares", "column": names[column], "estimate": t, "low": t - quantile * s,
                     "high": t + quantile * s, "p_value": 2 * norm.sf(abs(t) / s), "difference_from_exact": "",
                     "fewest_effective_draws": "", "ends_bracketed": "", "seconds": ""})  # fmt: skip
    show(rows)
    notes = [f"levels {LEVEL}; difference_from_exact is the larger one of both ends, as a share of the exact width",
             f"sigma {exact.sigma:.4f} from the residuals of all columns, penalty {exact.fit.penalty:.3f}, "
             f"noise_scale {exact.noise_scale:.3f}, ridge {exact.fit.ridge:.3f}",
             "seconds: processor time of all coefficients of the method, one thread"]  # fmt: skip
    write_csv(chosen.out / "intervals.csv", notes, rows)
    draw(rows, [names[c] for c in exact.selected.tolist()], chosen.out / "intervals.png")


def draw(rows: list[dict], columns: list[str], path) -> None:
    """Intervals side by side."""
    made = figure(9, 4.2)
    axis = made.subplots()
    methods = list(dict.fromkeys(r["method"] for r in rows))
    for k, method in enumerate(methods):
        part = [r for r in rows if r["method"] == method]
        position = np.arange(len(part)) + 0.14 * (k - (len(methods) - 1) / 2)
        middle = np.array([r["estimate"] for r in part])
        error = np.array([[r["estimate"] - r["low"], r["high"] - r["estimate"]] for r in part]).T
        color = COLORS[6] if method.startswith("naive") else COLORS[k]
        axis.errorbar(position, middle, error, fmt="o", markersize=4, capsize=3, color=color, label=method)
    axis.axhline(0, color="#444444", linewidth=0.8)
    axis.set_xticks(np.arange(len(columns)), columns)
    clean(axis, f"Diabetes data: {LEVEL:.0%} intervals of the selected coefficients", "", "standardised effect")
    axis.legend(fontsize=8, ncols=2)
    made.savefig(path, dpi=150)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
