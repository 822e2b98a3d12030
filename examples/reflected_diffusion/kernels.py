"""The heat kernel of the interval: ours, and the truncated series of earlier code, against 60 digits.

    python examples/reflected_diffusion/kernels.py [--quick] [--out DIR]

Earlier code evaluates 42 images while ``sigma^2 / 2`` is at most 0.01 and 20 cosines above, as plain sums with 1e-12
added to denominators; it is written out below from that description. Errors are the worst over pairs of the wall grid
{0, 1e-6, 1e-3, .01, .1, .3, .5, .77, .95, .999, 1}, relative to the exact value at the points as they are rounded:
``|log k - exact| / max(1, |exact|)`` and ``sigma |score - exact| / max(1, sigma |exact|)``. Writes ``kernels.csv``
(rounding), ``truncation.csv`` (what a number of terms leaves out, without rounding) and ``kernels.png``.

Source of the earlier evaluation: Lou, Ermon, "Reflected Diffusion Models", 2023.
"""

import math

import torch
from common import COLORS, clean, figure, options, save, show, write_csv
from mpmath import mp, mpf
from torch import Tensor

from mirrorgen.diffusion import default_kernel
from mirrorgen.geometry.domains import Box

WALL_GRID = (0.0, 1e-6, 1e-3, 0.01, 0.1, 0.3, 0.5, 0.77, 0.95, 0.999, 1.0)
SIGMAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.1414, 0.1415, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.69, 0.71, 0.8, 1.0, 1.5, 5.0)
DRAWN = (0.05, 0.1, 0.15, 0.3, 0.6)
# Worst error of scores and of log-densities by an earlier program; rounding ends the fall near 1e-16.
TRUNCATION = {
    0.2: {"images": {1: "2e-15 / 4e-16"}, "cosines": {20: "9e-12"}},
    0.5: {"images": {1: "7e-4 / 2e-4", 2: "5e-14 / 6e-15", 3: "2e-16"}, "cosines": {2: "3e-4", 3: "7e-8", 4: "1e-12"}},
    0.7: {"images": {1: "2e-2", 2: "2e-7 / 4e-8", 3: "5e-16"}, "cosines": {2: "5e-9", 3: "3e-16", 4: "8e-17"}},
    0.8: {"images": {1: "5e-2", 2: "9e-6", 3: "2e-12"}, "cosines": {2: "7e-12", 3: "2e-16"}},
    1.0: {"images": {1: "1e-1", 2: "5e-4", 3: "4e-8"}, "cosines": {2: "2e-17"}},
}
KERNEL = default_kernel(Box(0.0, 1.0))


def ours(x: Tensor, x_0: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Log-density and score of pairs of points ``(n,)``."""
    log_k, score = KERNEL.log_prob_and_score(x.unsqueeze(-1), x_0.unsqueeze(-1), sigma)
    return log_k, score.squeeze(-1)


def earlier(x: Tensor, x_0: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The same by the plain truncated sums."""
    x, x_0 = x.unsqueeze(-1), x_0.unsqueeze(-1)
    if sigma**2 / 2 > 1e-2:
        n = torch.arange(1, 21, dtype=x.dtype)
        weight = torch.exp(-((n * math.pi * sigma) ** 2) / 2) * torch.cos(n * math.pi * x_0)
        density = 1 + 2 * (weight * torch.cos(n * math.pi * x)).sum(-1)
        slope = -2 * math.pi * (n * weight * torch.sin(n * math.pi * x)).sum(-1)
        return torch.log(density), slope / (density + 1e-12)
    k = torch.arange(-10, 11, dtype=x.dtype)
    gaps = torch.cat([x - x_0 - 2 * k, x + x_0 - 2 * k], -1)
    weight = torch.exp(-gaps.square() / (2 * sigma**2))
    total = weight.sum(-1)
    score = -(weight * gaps).sum(-1) / sigma**2 / (total + 1e-12)
    return torch.log(total / (sigma * math.sqrt(2 * math.pi))), score


def exact(x: float, x_0: float, sigma: float, images: int | None = None, cosines: int | None = None) -> tuple[mpf, mpf]:
    """Log-density and score of one pair in 60 digits: by ``images`` on either side, by ``cosines``, or in full."""
    x, x_0, sigma = mpf(x), mpf(x_0), mpf(sigma)
    if images is None and cosines is None:
        images, cosines = (int(9 * sigma) + 2, None) if sigma < 0.8 else (None, int(6 / sigma) + 2)
    if cosines is not None:
        terms = [(n, mp.exp(-((n * mp.pi * sigma) ** 2) / 2) * mp.cospi(n * x_0)) for n in range(1, cosines + 1)]
        density = 1 + 2 * mp.fsum(w * mp.cospi(n * x) for n, w in terms)
        slope = -2 * mp.pi * mp.fsum(n * w * mp.sinpi(n * x) for n, w in terms)
        return mp.log(density), slope / density
    gaps = [g - 2 * k for k in range(-images, images + 1) for g in (x - x_0, x + x_0)]
    weights = [mp.exp(-(g**2) / (2 * sigma**2)) for g in gaps]
    total = mp.fsum(weights)
    score = -mp.fsum(w * g for w, g in zip(weights, gaps, strict=True)) / (sigma**2 * total)
    return mp.log(total / (sigma * mp.sqrt(2 * mp.pi))), score


def relative(found: tuple, true: tuple, sigma: float) -> tuple[float, float]:
    """Errors of log-density and score of one pair; infinite if one is no number."""
    if not all(mp.isfinite(v) for v in found):
        return math.inf, math.inf if not mp.isfinite(found[1]) else _scaled(found[1], true[1], sigma)
    return float(abs(found[0] - true[0]) / max(1, abs(true[0]))), _scaled(found[1], true[1], sigma)


def _scaled(score: mpf, true: mpf, sigma: float) -> float:
    return float(sigma * abs(score - true) / max(1, sigma * abs(true)))


def rounding(sigma: float) -> dict[str, object]:
    """One row: worst errors of both evaluations in both precisions."""
    row: dict[str, object] = {"sigma": sigma}
    for dtype in (torch.float64, torch.float32):
        points = torch.tensor(WALL_GRID, dtype=dtype)
        x, x_0 = torch.cartesian_prod(points, points).unbind(-1)
        spread = torch.tensor(sigma, dtype=dtype)
        true = [exact(a, b, float(spread)) for a, b in zip(x.tolist(), x_0.tolist(), strict=True)]
        for name, method in (("ours", ours), ("earlier", earlier)):
            pairs = zip(*(v.double().tolist() for v in method(x, x_0, spread)), strict=True)
            errors = [relative((mpf(v), mpf(s)), t, sigma) for (v, s), t in zip(pairs, true, strict=True)]
            bits = str(dtype).removeprefix("torch.")
            for what, worst in zip(("log_density", "score"), map(max, zip(*errors, strict=True)), strict=True):
                row[f"{what}_{bits}_{name}"] = worst
    return row


def truncation(sigma: float) -> list[dict[str, object]]:
    """Worst errors of exact arithmetic with few terms."""
    pairs = [(a, b) for a in WALL_GRID for b in WALL_GRID]
    true = [exact(*p, sigma) for p in pairs]
    rows = []
    for series, counts in (("images", (1, 2, 3)), ("cosines", (2, 3, 4, 5, 20))):
        for count in counts:
            errors = [relative(exact(*p, sigma, **{series: count}), t, sigma) for p, t in zip(pairs, true, strict=True)]
            log_density, score = map(max, zip(*errors, strict=True))
            known = TRUNCATION.get(sigma, {}).get(series, {}).get(count, "")
            rows.append({"sigma": sigma, "series": series, "terms": count, "score_ours": score,
                         "log_density_ours": log_density, "reference": known})  # fmt: skip
    return rows


def draw(rows: list[dict], path) -> None:
    """Densities and scores in float32, and errors."""
    made = figure(12.5, 7.0)
    axes = made.subplots(2, 3)
    x = torch.linspace(0, 1, 801)
    for column, start in enumerate((0.02, 0.4)):
        for sigma, color in zip(DRAWN, COLORS, strict=False):
            spread = torch.tensor(sigma)
            for method in (ours, earlier):
                style = {"color": color, "lw": 2.0} if method is ours else {"color": "#000000", "lw": 1.1, "ls": ":"}
                log_k, score = method(x, torch.full_like(x, start), spread)
                label = f"ours, $\\sigma = {sigma:g}$" if method is ours else "42 images / 20 cosines"
                axes[0, column].plot(x, log_k, **style, label=label)
                axes[1, column].plot(x, spread * score, **style, label=label)
        place = "near a wall" if start < 0.1 else "in the middle"
        clean(axes[0, column], f"Log-density, start {start:g}, {place}", "x", r"$\log k_\sigma(x \mid x_0)$")
        clean(axes[1, column], f"Score, start {start:g}", "x", r"$\sigma\, \partial_x \log k_\sigma(x \mid x_0)$")
        axes[0, column].set_ylim(-45, 5)
        axes[1, column].set_ylim(-11, 8)
    for i, what in enumerate(("log_density", "score")):
        errors(axes[i, 2], rows, what)
    for y in (1e-14, 5e-7):
        axes[0, 2].axhline(y, color="#444444", lw=0.8, ls="--")
        axes[0, 2].text(1.1e-3, 1.5 * y, f"bar {y:g}", fontsize=7, va="bottom", color="#444444")
    curves = dict(zip(*reversed(axes[0, 0].get_legend_handles_labels()), strict=True))
    marks = dict(zip(*reversed(axes[1, 2].get_legend_handles_labels()), strict=True))
    shown = curves | marks
    made.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=5, fontsize=8.5, frameon=False)
    save(made, path)


def errors(axis, rows: list[dict], what: str) -> None:
    """Worst errors against sigma; infinite ones on the upper edge, those below 1e-17 left out."""
    top = 3e7
    for name, style in (("ours", "-o"), ("earlier", ":x")):
        for bits, color in (("float64", COLORS[0]), ("float32", COLORS[1])):
            pairs = [(r["sigma"], min(r[f"{what}_{bits}_{name}"], top)) for r in rows]
            label = f"{name.replace('earlier', '42 images / 20 cosines')}, {bits}"
            kept = [(s, e) for s, e in pairs if e > 1e-17]
            axis.plot(*zip(*kept, strict=True), style, color=color, ms=4, label=label)
    axis.set(xscale="log", yscale="log", ylim=(1e-17, 3 * top))
    if what == "log_density":
        axis.text(0.0012, top / 3, "infinite", fontsize=7, va="top", color="#444444")
    title = {"log_density": "log-density", "score": "scaled score"}[what]
    clean(axis, f"Worst error of the {title}", r"$\sigma$", "relative error, wall grid")


def main() -> None:
    """Tables and figure."""
    chosen = options(__doc__)
    mp.dps = 60
    sigmas = SIGMAS[::6] if chosen.quick else SIGMAS
    rows = [rounding(s) for s in sigmas]
    show(rows)
    notes = ["worst over the 121 pairs of the wall grid; exact: 60 digits at the rounded points",
             "earlier: 42 images or 20 cosines as plain sums; inf: a density of zero or a negative one",
             "bars for log_density_*_ours: 1e-14 in float64, 5e-7 in float32"]  # fmt: skip
    write_csv(chosen.out / "kernels.csv", notes, rows)
    terms = [row for s in ((0.5,) if chosen.quick else TRUNCATION) for row in truncation(s)]
    show(terms)
    notes = ["exact arithmetic; terms: images on either side (1 + 2 n shifts and as many mirrors), or cosines",
             "reference: score / log-density by an earlier program in float64, whose errors end at 1e-16"]  # fmt: skip
    write_csv(chosen.out / "truncation.csv", notes, terms)
    draw(rows, chosen.out / "kernels.png")


if __name__ == "__main__":
    main()
