"""Shared by these scripts: a plain training loop, exact laws on the unit square, and what all studies share."""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mirrorgen.diffusion import ReflectedDiffusion
from mirrorgen.metrics.pairwise import within_sum
from mirrorgen.targets import Checkerboard, Target, TruncatedMixture

sys.path.append(str(Path(__file__).resolve().parents[1]))

from report import COLORS, clean, distances, figure, kept_rows, options, save, show, write_csv

__all__ = [
    "COLORS", "ExactLaw", "Square", "cell_masses", "clean", "distances", "draws", "figure", "kept_rows", "options",
    "save", "show", "total_variation", "train", "write_csv",
]  # fmt: skip


def train(
    model: ReflectedDiffusion,
    data: Tensor,
    iterations: int,
    *,
    seed: int,
    batch: int = 512,
    rate: float = 2e-3,
    decay: float = 0.999,
) -> float:
    """Fit ``model`` in place: Adam, cosine decay of ``rate`` to zero, averaged weights at the end.

    Args:
        model: The model.
        data: Points ``(n, dim)``.
        iterations: Number of steps.
        seed: Of the batches and the noise.
        batch: Points per step.
        rate: Learning rate at the start.
        decay: Of the moving average of the weights; it starts shorter, as ``EMA`` of ``mirrorgen.training`` does.

    Returns:
        Processor seconds.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = list(model.net.parameters())
    averages = [p.detach().clone() for p in weights]
    optimizer = torch.optim.Adam(weights, rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    begin = time.process_time()
    for i in range(iterations):
        x = data[torch.randint(len(data), (batch,), generator=generator)]
        optimizer.zero_grad()
        model.loss(x, generator=generator).backward()
        optimizer.step()
        schedule.step()
        torch._foreach_lerp_(averages, [p.detach() for p in weights], 1 - min(decay, (1 + i) / (10 + i)))
    with torch.no_grad():
        for p, average in zip(weights, averages, strict=True):
            p.copy_(average)
    return time.process_time() - begin


class ExactLaw:
    """Scores of the two targets at every level: mixtures of products of one-dimensional laws, which diffuse alone.

    A factor is a truncated normal or uniform on intervals; its diffusion is a sum over the mirror images of a point of
    normal masses of intervals.
    """

    def __init__(self, target: Target) -> None:
        self.normal = isinstance(target, TruncatedMixture)
        if isinstance(target, TruncatedMixture):
            self.weights = target.weights / target.weights.sum()
            self.means, self.variance = target.means[:, 0], target.component_variance.flatten()[0]
            self.low, self.high = torch.zeros(2, 1), torch.ones(2, 1)
        elif isinstance(target, Checkerboard):
            self.weights = torch.full((2,), 0.5, dtype=torch.float64)
            # Dark cells are products of two even intervals, or of two odd ones.
            ends = torch.linspace(0, 1, target.cells + 1, dtype=torch.float64)
            self.low, self.high = (e.unflatten(0, (-1, 2)).mT for e in (ends[:-1], ends[1:]))

    def factors(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Densities of the factors ``(*batch, components)`` at numbers ``x (*batch)``, up to a constant each."""
        shifts = 2 * torch.arange(-int(4 * sigma) - 1, int(4 * sigma) + 2, dtype=x.dtype)
        image = torch.cat([x.unsqueeze(-1) + shifts, shifts - x.unsqueeze(-1)], -1)[..., None, :, None]
        scale, weight = sigma, 1.0
        if self.normal:
            spread, mean = self.variance + sigma**2, self.means[:, None, None]
            weight = torch.exp(-0.5 * (image - mean) ** 2 / spread) / spread.sqrt()
            image = (mean * sigma**2 + image * self.variance) / spread
            scale = sigma * (self.variance / spread).sqrt()
        a, b = ((end.unsqueeze(-2) - image) / scale for end in (self.low, self.high))
        # A difference of normal tails on the side where they are small.
        right = a > 0
        mass = torch.special.ndtr(torch.where(right, -a, b)) - torch.special.ndtr(torch.where(right, -b, a))
        return (weight * mass).sum((-1, -2))

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        """``log p_sigma`` of points ``(n, 2)`` up to a constant."""
        density = (self.weights * self.factors(x, sigma).prod(-2)).sum(-1)
        return density.clamp_min(torch.finfo(x.dtype).tiny).log()

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        """``grad log p_sigma`` of points ``(n, 2)``, by autograd, in float64."""
        with torch.enable_grad():
            y = x.detach().double().requires_grad_()
            return torch.autograd.grad(self.log_density(y, sigma.double()).sum(), y)[0].to(x.dtype)


class Square:
    """Quadrature on the unit square: ``panels x panels`` times ``order x order`` Gauss-Legendre points.

    Four panels are the cells of the checkerboard; densities with jumps between them are no obstacle.
    """

    def __init__(self, target: Target, order: int, panels: int = 4) -> None:
        nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(order))
        self.line = torch.cat([(i + 0.5 * (nodes + 1)) / panels for i in range(panels)])
        weights = weights.repeat(panels) / (2 * panels)
        self.points = torch.cartesian_prod(self.line, self.line)
        self.weights = torch.outer(weights, weights).flatten()
        self.log_mass = float(torch.log(self.integral(target.log_density(self.points).exp())))
        self.log_p = target.log_density(self.points) - self.log_mass
        self.p = self.log_p.exp()

    def integral(self, values: Tensor) -> Tensor:
        """Over the square."""
        return (self.weights * values).sum()

    def divergence(self, log_q: Tensor) -> float:
        """``KL(p || q)``."""
        return float(self.integral(torch.where(self.p > 0, self.p * (self.log_p - log_q), 0.0)))

    def energy(self, x: Tensor) -> float:
        """``2 E|X - Y| - E|X - X'| - E|Y - Y'|`` with ``Y`` from the target by quadrature; unbiased in the sample.

        Draws of ``Y`` would add their own noise, the same to all rows of a table.
        """
        nodes, weights = self.points[self.p > 0], (self.weights * self.p)[self.p > 0]
        x = x.double()
        cross, within = (torch.cat([torch.cdist(part, nodes) @ weights for part in y.split(1000)]) for y in (x, nodes))
        return float(2 * cross.mean() - within_sum(x, torch.sqrt) / (len(x) * (len(x) - 1)) - weights @ within)

    @property
    def entropy(self) -> float:
        """Of the target, in nats."""
        return -float(self.integral(torch.where(self.p > 0, self.p * self.log_p, 0.0)))


def draws(target: Target, n: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Exact draws, strictly inside in their dtype."""
    x = target.sample(n, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return target.domain.pull_inside(x)[0]


def cell_masses(target: Target) -> Tensor:
    """Exact probabilities ``(400,)`` of the cells of a 20 x 20 grid."""
    square = Square(target, 8, panels=20)
    return (square.weights * square.p).reshape(20, 8, 20, 8).sum((1, 3)).flatten()


def total_variation(x: Tensor, cells: Tensor) -> float:
    """Of the frequencies of ``x`` in these cells; what is outside is in none."""
    index = (20 * x[((x >= 0) & (x <= 1)).all(-1)]).long().clamp(0, 19)
    found = torch.bincount(20 * index[:, 0] + index[:, 1], minlength=400).double() / len(x)
    return float(0.5 * ((found - cells).abs().sum() + 1 - found.sum()))
