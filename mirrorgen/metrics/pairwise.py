"""Sums over all pairs of points, block by block, and the checks that every metric shares."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.numerics import upcast

__all__ = ["check_samples", "pair_blocks", "pair_sum", "within_sum"]

# Entries of a block: on a CPU it should stay in the second-level cache, on a GPU it should fill the device.
_BLOCK = {"cpu": 2**17}
_BLOCK_ELSEWHERE = 2**24


def check_samples(x: Tensor, y: Tensor, at_least: int = 1) -> tuple[Tensor, Tensor]:
    """Validate two samples and return them in float64, shifted by the mean of ``y``.

    The common shift changes no distance and keeps ``|x|^2 + |y|^2 - 2 x.y`` accurate far from the origin.

    Args:
        x: Sample ``(n, dim)``.
        y: Sample ``(m, dim)``.
        at_least: Smallest number of points the metric is defined for.

    Raises:
        ShapeError: If the samples are not matrices with the same number of columns.
        DomainError: If a sample is too small or has entries that are not finite.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ShapeError(
            f"samples have shapes (n, dim) and (m, dim); got {tuple(x.shape)} and {tuple(y.shape)}. Flatten "
            "images and other structured samples first"
        )
    for sample in (x, y):
        if len(sample) < at_least:
            raise DomainError(f"this metric needs at least {at_least} points per sample; got {len(sample)}")
        bad = int((~torch.isfinite(sample).all(-1)).sum())
        if bad:
            raise DomainError(f"{bad} of {len(sample)} points are not finite; remove them and report their number")
    center = upcast(y).mean(0)
    return upcast(x) - center, upcast(y) - center


def pair_blocks(x: Tensor, y: Tensor, *, upper: bool = False) -> Iterator[tuple[int, Tensor]]:
    """Yield ``(first row, squared distances)`` of blocks of rows of ``x`` against ``y``.

    With ``upper=True`` (then ``y`` is ``x``) a block starts at the column of its first row: the pairs below
    the diagonal are left out.
    """
    rows = max(1, _BLOCK.get(x.device.type, _BLOCK_ELSEWHERE) // len(y))
    norms = y.square().sum(-1)
    for start in range(0, len(x), rows):
        first = start if upper else 0
        part, other = x[start : start + rows], y[first:]
        squared = torch.addmm(norms[first:], part, other.T, alpha=-2)
        yield start, squared.add_(part.square().sum(-1, keepdim=True)).clamp_(min=0)


def pair_sum(x: Tensor, y: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """The sum of ``function(|x_i - y_j|^2)`` over all pairs; ``function`` may overwrite its argument."""
    return torch.stack([function(squared).sum() for _, squared in pair_blocks(x, y)]).sum()


def within_sum(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """The sum of ``function(|x_i - x_j|^2)`` over ordered pairs ``i != j``, from half of the pairs."""
    total = torch.zeros((), dtype=x.dtype, device=x.device)
    for _, squared in pair_blocks(x, x, upper=True):
        values = function(squared)
        rows = len(values)
        square = values[:, :rows].sum() - values.diagonal().sum()
        total = total + square + 2 * values[:, rows:].sum()
    return total
