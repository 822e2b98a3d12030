"""Weights of samples between a supervised loss and consistency under augmentation, on a mixture of two kinds.

    python examples/online/sample_weights.py [--quick] [--out DIR]

Linear regression in ten dimensions. A sample has sixteen entries (the pixels of an image): in label-dense samples
answers follow features of size one with noise, in label-sparse ones features and answers are next to zero. The second
loss is how far predictions of two augmentations are apart. Stochastic descent-ascent on batches of sixteen samples with
steps like ``1 / sqrt(T)``, five seeds as one batch; the duality gap of averages is exact, because the minimum for given
weights is least squares. Writes ``sample_weights.csv`` and ``sample_weights.png``.

Method: Dong, Xie, Ward, "Adaptively Weighted Data Augmentation Consistency Regularization for Robust Optimization under
Concept Shift", 2023.
"""

import math

import torch
from common import COLORS, F64, clean, figure, generator, interval, normal, options, save, show, write_csv
from torch import Tensor

from mirrorgen.geometry.domains import Ball, Euclidean
from mirrorgen.geometry.mirror_maps import Quadratic
from mirrorgen.optim import SampleWeights
from mirrorgen.optim.online import OnlineMirrorDescent

SEEDS, DIM, ENTRIES, BATCH, RADIUS = 5, 10, 16, 16, 3.0


class Mixture:
    """Losses of all samples as quadratics ``theta' A theta / 2 - b' theta + c``; the first half is label-dense."""

    def __init__(self, n: int) -> None:
        self.n, self.dense = n, torch.arange(n) < n // 2
        size = torch.where(self.dense, 1.0, 0.1).double().reshape(1, n, 1)
        truth = torch.nn.functional.normalize(normal(SEEDS, 1, DIM, 1, seed=1), dim=-2)
        x = size.unsqueeze(-1) * normal(SEEDS, n, ENTRIES, DIM)
        noise = torch.where(self.dense, 1.0, 0.02).double().reshape(1, n, 1) * normal(SEEDS, n, ENTRIES, seed=2)
        y = self.dense.reshape(1, n, 1) * (x @ truth).squeeze(-1) + noise
        moved = 0.6 * normal(SEEDS, n, ENTRIES, DIM, seed=3)  # Differences of two augmentations.
        self.A = torch.stack([x.mT @ x, moved.mT @ moved], -1) / ENTRIES
        self.b = torch.stack([(x.mT @ y.unsqueeze(-1)).squeeze(-1), torch.zeros(SEEDS, n, DIM)], -1) / ENTRIES
        self.c = torch.stack([y.square().sum(-1), torch.zeros(SEEDS, n)], -1) / (2 * ENTRIES)

    def losses(self, theta: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Losses ``(seeds, m, 2)`` and their gradients ``(seeds, m, dim, 2)`` of samples ``index (seeds, m)``."""
        A, b, c = self.A, self.b, self.c
        if index is not None:
            rows = torch.arange(SEEDS).unsqueeze(-1)
            A, b, c = A[rows, index], b[rows, index], c[rows, index]
        bent = torch.einsum("smijk,sj->smik", A, theta)
        along = torch.einsum("smik,si->smk", bent / 2 - b, theta)
        return along + c, bent - b

    def gap(self, theta: Tensor, weights: Tensor) -> Tensor:
        """``max_w - min_theta`` of the mean loss at averages, ``(seeds)``."""
        highest = self.losses(theta)[0].amax(-1).mean(-1)
        A = (self.A * weights[:, :, None, None]).sum((1, -1)) / self.n
        b = (self.b * weights[:, :, None]).sum((1, -1)) / self.n
        best = torch.linalg.solve(A, b)
        if bool((best.norm(dim=-1) > RADIUS).any()):
            raise ValueError("the minimum for given weights lies outside the ball: raise RADIUS")
        lowest = -0.5 * (b * best).sum(-1) + (self.c * weights).sum((1, -1)) / self.n
        return highest - lowest


def run(mixture: Mixture, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gaps ``(seeds)``, last weights of the first loss ``(seeds, n)``, and last parameters."""
    n = mixture.n
    # A sample is seen in a share BATCH / n of all steps, and losses differ by about one.
    weights = SampleWeights(SEEDS * n, math.sqrt(8 * math.log(2) * n / (BATCH * steps)), dtype=F64)
    learner = OnlineMirrorDescent(Quadratic(Euclidean(DIM)), Ball(DIM, RADIUS), step_size=1 / math.sqrt(steps))
    state, theta = learner.init(torch.zeros(SEEDS, DIM, dtype=F64)), torch.zeros(SEEDS, DIM, dtype=F64)
    mean, average, offset = torch.zeros_like(theta), torch.zeros(SEEDS * n, 2, dtype=F64), n * torch.arange(SEEDS)
    draws = torch.randint(0, n, (steps, SEEDS, BATCH), generator=generator(4))
    for index in draws:
        theta, flat = learner.predict(state), (index + offset.unsqueeze(-1)).reshape(-1)
        mean += theta / steps
        average += weights.values() / steps
        losses, gradients = mixture.losses(theta, index)
        w = weights.values(flat).reshape(SEEDS, BATCH, 1, 2)
        weights.ascend(flat, losses.reshape(-1, 2))
        state = learner.update(state, (w * gradients).sum((1, -1)) / BATCH)
    return mixture.gap(mean, average.reshape(SEEDS, n, 2)), weights.values()[:, 0].reshape(SEEDS, n), theta


def separation(weights: Tensor, dense: Tensor) -> Tensor:
    """The chance ``(seeds)`` that a label-dense sample has a larger weight than a label-sparse one."""
    above = weights[:, dense].unsqueeze(-1) - weights[:, ~dense].unsqueeze(-2)
    return ((above > 0).double() + 0.5 * (above == 0)).mean((-2, -1))


def main() -> None:
    chosen = options(__doc__)
    n, lengths = (32, (20, 50)) if chosen.quick else (400, (100, 300, 1000, 3000, 10_000))
    mixture, rows, last = Mixture(n), [], torch.zeros(0)
    for steps in lengths:
        gaps, last, _ = run(mixture, steps)
        mean, half = interval(gaps)
        dense, sparse = last[:, mixture.dense].mean(-1), last[:, ~mixture.dense].mean(-1)
        rows.append(
            {"steps": steps, "duality gap": mean, "+-": half, "gap sqrt(T)": mean * steps**0.5,
             "mean weight, label-dense": float(dense.mean()), "mean weight, label-sparse": float(sparse.mean()),
             "separation": float(separation(last, mixture.dense).mean())}
        )  # fmt: skip
    show(rows)
    times, gaps = (torch.tensor([r[k] for r in rows], dtype=F64).log() for k in ("steps", "duality gap"))
    slope = float(((times - times.mean()) * (gaps - gaps.mean())).sum() / (times - times.mean()).square().sum())
    notes = [
        f"{SEEDS} seeds, {n} samples: mean and half width of its 95 % interval; a run with its own steps for every row",
        f"slope of log gap against log steps: {slope:.3f}; the theory's is -0.5",
        "separation: the chance that a label-dense sample has a larger last weight than a label-sparse one",
    ]  # fmt: skip
    print(notes[1])
    write_csv(chosen.out / "sample_weights.csv", notes, rows)
    made = figure(10, 3.8)
    first, second = made.subplots(1, 2)
    steps = [r["steps"] for r in rows]
    first.errorbar(steps, [r["duality gap"] for r in rows], [r["+-"] for r in rows], fmt="o-", ms=4, capsize=2,
                   color=COLORS[0], label=f"measured, slope {slope:.2f}")  # fmt: skip
    theory = [rows[0]["duality gap"] * (steps[0] / s) ** 0.5 for s in steps]
    first.plot(steps, theory, "--", color="0.4", label="1 / sqrt(T)")
    first.set_xscale("log")
    first.set_yscale("log")
    clean(first, "Duality gap of averages", "steps", "gap")
    first.legend(fontsize=8, frameon=False)
    bins = torch.linspace(0, 1, 31).tolist()
    for k, (name, mask) in enumerate((("label-dense", mixture.dense), ("label-sparse", ~mixture.dense))):
        second.hist(last[:, mask].reshape(-1).numpy(), bins=bins, alpha=0.7, color=COLORS[k], label=name)
    clean(second, f"Weights of the supervised loss after {steps[-1]} steps", "weight", "samples, five seeds")
    second.legend(fontsize=8, frameon=False)
    save(made, chosen.out / "sample_weights.png")


if __name__ == "__main__":
    main()
