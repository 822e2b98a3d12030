"""Kernel Stein discrepancy: how far a sample is from a law known by its score alone."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.metrics.pairwise import check_samples, pair_blocks

__all__ = ["ksd", "ksd_squared"]


@torch.no_grad()
def ksd_squared(points: Tensor, scores: Tensor, scale: float = 1.0, *, unbiased: bool = True) -> Tensor:
    """The squared discrepancy ``E k0(Y, Y')`` for the inverse multiquadric ``k = (1 + |y - y'|^2 / h)^(-1/2)``.

    ``k0 = <s, s'> k + <s, grad' k> + <s', grad k> + tr grad grad' k`` with scores ``s = grad log p(y)``; its mean over
    independent draws of ``p`` is zero. That needs boundary terms to vanish, so on a constrained set pass **dual**
    points and ``grad_y log p_dual`` there (``MirroredDensity(log_density, mirror_map).at(y).gradient``). In twenty
    dimensions and more the power is low: a monitor, not a test.

    Args:
        points: ``y (n, d)``.
        scores: ``s (n, d)``.
        scale: ``h``, in squared units of the points; keep it fixed across the values to compare.
        unbiased: Whether to leave out the pairs of a point with itself (U-statistic, may be negative); otherwise the
            V-statistic, which is non-negative and for ``n`` exact draws about ``(E|s|^2 + d / h) / n``.

    Returns:
        A float64 scalar.

    Raises:
        ShapeError: If the shapes differ or are no matrices.
        DomainError: If entries are not finite, points are too few, or ``scale`` is not positive.

    Source: Liu, Lee and Jordan, "A kernelized Stein discrepancy for goodness-of-fit tests", 2016; the kernel: Gorham
    and Mackey, "Measuring sample quality with kernels", 2017.
    """
    if not scale > 0:
        raise DomainError(f"scale is positive; got {scale}")
    if points.shape != scores.shape:
        raise ShapeError(f"one score per point: got points {tuple(points.shape)} and scores {tuple(scores.shape)}")
    s = check_samples(scores, torch.zeros_like(scores[:1]))[0]
    y = check_samples(points, points, at_least=2 if unbiased else 1)[0]
    n, total = len(y), torch.zeros((), dtype=y.dtype, device=y.device)
    for start, squared in pair_blocks(y, y, upper=True):
        values = _stein_kernel(y, s, start, squared, scale)
        square, rows = values[:, : len(values)], len(values)
        diagonal = values.diagonal().sum() if unbiased else 0.0
        total = total + square.sum() - diagonal + 2 * values[:, rows:].sum()
    return total / (n * (n - 1) if unbiased else n * n)


def ksd(points: Tensor, scores: Tensor, scale: float = 1.0) -> Tensor:
    """The square root of the V-statistic of ``ksd_squared``, the discrepancy of the sample as a discrete law."""
    return ksd_squared(points, scores, scale, unbiased=False).clamp_min(0).sqrt()


def _stein_kernel(y: Tensor, s: Tensor, start: int, squared: Tensor, h: float) -> Tensor:
    """``k0`` of the rows from ``start`` against themselves and all later points, from their squared distances."""
    rows = slice(start, start + len(squared))
    u = 1 + squared / h
    k = u.rsqrt()
    slope = k / (h * u)  # -2 k'(|y - y'|^2)
    products = s[rows] @ s[start:].T
    own = (s * y).sum(-1)
    # <s - s', y - y'>
    cross = own[rows, None] + own[start:] - s[rows] @ y[start:].T - y[rows] @ s[start:].T
    return products * k + slope * (cross + y.shape[1]) - 3 * slope * squared / (h * u)
