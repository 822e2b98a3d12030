"""Sliced Wasserstein distance.

Source: Bonneel, Rabin, Peyre and Pfister, "Sliced and Radon Wasserstein Barycenters of Measures" (2015).
"""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.metrics.pairwise import check_samples

__all__ = ["sliced_wasserstein"]

_PROJECTIONS_AT_ONCE = 64


@torch.no_grad()
def sliced_wasserstein(
    x: Tensor,
    y: Tensor,
    projections: int = 500,
    *,
    order: float = 2.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """``(mean over directions u of W_order(u.x, u.y)^order)^(1/order)``, exact along each direction.

    Along a line the optimal plan matches quantiles: for equal sizes the sorted points, for different sizes
    the two step functions on the common refinement of ``i / n`` and ``j / m``.

    Args:
        x: Sample ``(n, dim)``.
        y: Sample ``(m, dim)``.
        projections: Number of directions, uniform on the sphere.
        order: Order of the Wasserstein distance, at least 1.
        generator: Source of the directions, on the CPU. If None they are the same in every call (seed 0),
            which makes values comparable.

    Returns:
        A scalar tensor in float64.

    Raises:
        ShapeError: If the shapes do not fit.
        DomainError: If a sample is empty or has entries that are not finite, or an argument is out of range.
    """
    if projections < 1 or order < 1:
        raise DomainError(f"projections and order are at least 1; got {projections} and {order}")
    x, y = check_samples(x, y)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    directions = torch.randn(projections, x.shape[1], generator=generator, dtype=torch.float64)
    directions = (directions / directions.norm(dim=1, keepdim=True)).to(device=x.device, dtype=x.dtype)
    rows, columns, weights = _quantile_matching(len(x), len(y), x.device)
    total = torch.zeros((), dtype=x.dtype, device=x.device)
    for part in directions.split(_PROJECTIONS_AT_ONCE):
        # One row per direction: sorting along the last axis is several times faster.
        on_x, on_y = (part @ x.T).sort(-1).values, (part @ y.T).sort(-1).values
        if len(x) != len(y):
            on_x, on_y = on_x[:, rows], on_y[:, columns]
        gaps = (on_x - on_y).abs_()
        total = total + ((gaps.square_() if order == 2 else gaps.pow_(order)) * weights).sum()
    return (total / projections) ** (1 / order)


def _quantile_matching(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Which order statistics the optimal plan between ``n`` and ``m`` equal weights matches, and their mass.

    Levels are counted in units of ``1 / (n m)``, so that the breakpoints ``i / n`` and ``j / m`` are exact.
    """
    levels = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    mass = levels.diff(prepend=levels.new_zeros(1)).to(torch.float64) / (n * m)
    rows, columns = (levels - 1) // m, (levels - 1) // n
    mass = mass.to(torch.float32) if device.type == "mps" else mass
    return rows.to(device), columns.to(device), mass.to(device)
