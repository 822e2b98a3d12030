"""Expensive gradients used more than once: surrogates in the space of scores.

    python examples/online/surrogates.py [--quick] [--calls 20000] [--out DIR]

Logistic regression, 2000 samples of 20 features with condition number 316, three seeds. A call differentiates the loss
in the scores once; then come ``m`` gradient steps of the weights on the surrogate, or its exact minimum (least
squares). Gradient descent is ``m = 1``. Counts calls until the loss is within 1e-6 of the minimum. The ``m`` steps on a
quadratic are taken at once, as the linear map that they are. Writes ``surrogates.csv`` and ``surrogates.png``.

Method: Lavington, Vaswani, Babanezhad, Schmidt, Le Roux, "Target-based Surrogates for Stochastic Optimization", 2023.
"""

import math

import torch
from common import COLORS, F64, clean, figure, generator, marks, normal, options, save, show, write_csv
from torch import Tensor, nn

from mirrorgen.geometry.domains import Euclidean
from mirrorgen.geometry.mirror_maps import Quadratic
from mirrorgen.optim import BregmanSurrogate

TARGET, SEEDS = 1e-6, 3
REFERENCE = {"gradient descent": "> 20000 (6e-3)", "m = 10": "> 20000 (7e-5)", "m = 100": "4322", "exact": "23"}


def problem(seed: int, n: int, d: int = 20) -> tuple[Tensor, Tensor, float]:
    """Features, signs, and the minimum of the mean loss by Newton's method in well-conditioned coordinates."""
    left, _, right = torch.linalg.svd(normal(n, d, seed=seed), full_matrices=False)
    X = math.sqrt(n) * left @ torch.diag(torch.logspace(0, -2.5, d, dtype=F64)) @ right
    Q = math.sqrt(n) * left
    draws = torch.rand(n, generator=generator(seed + 50), dtype=F64)
    chances = torch.sigmoid(Q @ normal(d, seed=seed + 100) / math.sqrt(d))
    signs, w = torch.sign(chances - draws), torch.zeros(d, dtype=F64)
    for _ in range(30):
        p = torch.sigmoid(-signs * (Q @ w))
        w = w + torch.linalg.solve((Q.T * (p * (1 - p))) @ Q, Q.T @ (signs * p))
    return X, signs, float(nn.functional.softplus(-signs * (Q @ w)).mean())


def inner_steps(X: Tensor, m: int) -> Tensor:
    """``P (d, n)`` with ``w+ = w + P (target - scores)`` after ``m`` gradient steps on ``|X v - target|^2``."""
    values, vectors = torch.linalg.eigh(X.T @ X)
    shares = (1 - (1 - values / values[-1]) ** m) / values
    return (vectors * shares) @ vectors.T @ X.T


def run(X: Tensor, signs: Tensor, best: float, m: int | None, calls: int) -> tuple[list[float], bool]:
    """Gaps after every call, and whether every surrogate lay above the loss where it was used."""

    def loss(z: Tensor) -> Tensor:
        return nn.functional.softplus(-signs.unsqueeze(-1) * z).mean()

    n, euclid = len(X), Quadratic(Euclidean(1))
    step = torch.linalg.pinv(X) if m is None else inner_steps(X, m)
    scores, gaps, above = torch.zeros(n, 1, dtype=F64), [], True
    while len(gaps) < calls and (not gaps or gaps[-1] > TARGET):
        surrogate = BregmanSurrogate(euclid, loss, scores, 4.0 * n)  # The mean of losses is 1 / (4 n)-smooth.
        scores = scores + X @ (step @ (surrogate.target() - scores))
        value = loss(scores)
        if len(gaps) < 200 or len(gaps) % 100 == 0:
            above = above and bool(value <= surrogate(scores) + 1e-12)
        gaps.append(float(value) - best)
    return gaps, above


def main() -> None:
    chosen = options(__doc__, calls=20_000)
    n, calls = (200, 20) if chosen.quick else (2000, chosen.calls)
    methods = {"gradient descent": 1, "m = 10": 10, "m = 100": 100, "exact": None}
    rows, curves = [], {}
    for seed in range(1 if chosen.quick else SEEDS):
        X, signs, best = problem(seed, n)
        for name, m in methods.items():
            # Descent on weights does not arrive: other seeds need not wait for it as long.
            limit = calls if seed == 0 or m is None or m >= 100 else calls // 4
            gaps, above = run(X, signs, best, m, limit)
            reached = f"{len(gaps)}" if gaps[-1] <= TARGET else f"> {len(gaps)}"
            rows.append(
                {"seed": seed, "method": name, "calls": reached, "last gap": gaps[-1],
                 "surrogate above the loss": above, "reference": REFERENCE[name]}
            )  # fmt: skip
            if seed == 0:
                curves[name] = gaps
    show(rows)
    note = "calls of the gradient to a gap of 1e-6; reference: another implementation on another problem of these sizes"
    write_csv(chosen.out / "surrogates.csv", [note], rows)
    made = figure(5.5, 3.8)
    panel = made.subplots()
    for k, (name, gaps) in enumerate(curves.items()):
        shown = sorted({*marks(len(gaps)), len(gaps)})
        panel.loglog(shown, [max(gaps[t - 1], 1e-9) for t in shown], "o-", ms=3, color=COLORS[k], label=name)
    panel.axhline(TARGET, color="0.4", ls="--")
    clean(panel, "Logistic regression, condition number 316", "gradients of the loss", "gap")
    panel.legend(fontsize=8, frameon=False)
    save(made, chosen.out / "surrogates.png")


if __name__ == "__main__":
    main()
