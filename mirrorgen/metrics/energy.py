"""Energy distance.

Source: Szekely and Rizzo, "Energy Statistics: A Class of Statistics Based on Distances" (2013).
"""

import torch
from torch import Tensor

from mirrorgen.metrics.pairwise import check_samples, pair_sum, within_sum

__all__ = ["energy_distance"]


@torch.no_grad()
def energy_distance(x: Tensor, y: Tensor, *, unbiased: bool = False) -> Tensor:
    """``2 E|X - Y| - E|X - X'| - E|Y - Y'|``, which has no scale to choose.

    Args:
        x: Sample ``(n, dim)``.
        y: Sample ``(m, dim)``.
        unbiased: Leave out the pairs of a point with itself (U-statistic: unbiased, may be negative);
            otherwise the V-statistic, which is non-negative and zero only for equal samples.

    Returns:
        A scalar tensor in float64, not a square root: ``scipy.stats.energy_distance`` is its square root.

    Raises:
        ShapeError: If the shapes do not fit.
        DomainError: If a sample is too small or has entries that are not finite.
    """
    x, y = check_samples(x, y, at_least=2 if unbiased else 1)
    n, m = len(x), len(y)
    pairs = [size * (size - 1 if unbiased else size) for size in (n, m)]
    within = within_sum(x, torch.sqrt) / pairs[0] + within_sum(y, torch.sqrt) / pairs[1]
    return 2 * pair_sum(x, y, torch.sqrt) / (n * m) - within
