"""The Neumann heat kernel of a box."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mirrorgen.diffusion.heat_kernel.base import HeatKernel
from mirrorgen.diffusion.heat_kernel.interval import NEAR, SWITCH, Pair, interval, interval_cosines, interval_images
from mirrorgen.geometry.domains import Box
from mirrorgen.geometry.validation import require_kind
from mirrorgen.numerics import eager_values

__all__ = ["BoxHeatKernel"]

Series = Callable[[Pair, Tensor], tuple[Tensor, Tensor]]

# From small to large sigma; the third is for values that are small for some widths and large for others.
_SERIES: tuple[Series, ...] = (partial(interval_images, near=True), interval_images, interval, interval_cosines)
# Coordinates at a time on a processor: the dozen arrays that a series holds then stay in its cache.
_BLOCK = 2**15


class BoxHeatKernel(HeatKernel):
    """Brownian motion in a box: the product of the kernels of its sides, exact for every ``sigma``.

    ``log p(x | x_0) = sum_i log k_i(x_i | x_0i)``, with the series of ``heat_kernel.interval``: images while ``sigma``
    is below 0.7 widths, cosines above. Log-densities of one coordinate differ from exact ones by at most 1e-14
    (float64) or 5e-7 (float32) times the larger of 1 and their size, for all pairs of points.

    Where values can be read, and lie on the processor, the points of a batch are grouped by what their ``sigma``
    needs, and every group pays for its own series. Elsewhere every point pays for all.

    Args:
        domain: A ``Box``; widths may differ by coordinate.

    Raises:
        DomainError: If the domain is not a box.

    Source: A. Lou, S. Ermon, "Reflected Diffusion Models", 2023, for both series; the weights relative to the direct
    image, which keep all digits of far pairs, are this package's.
    """

    domain: Box

    def __init__(self, domain: Box) -> None:
        require_kind(domain, Box, "domain")
        super().__init__(domain)

    def _bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The ends in the dtype of ``x``, as single numbers where all sides are equal and values can be read.

        Constants that are one number cost next to nothing, those of every coordinate as much as the points.
        """
        low, high = self.domain.low.to(x.dtype), self.domain.high.to(x.dtype)
        equal = _readable(x) and bool((low == low[0]).all() & (high == high[0]).all())
        return (low[0], high[0]) if equal else (low, high)

    def _in_closure(self, x: Tensor) -> Tensor:
        # As in the base class, by reductions alone, which are fast; a NaN is the least of its row.
        low, high = self._bounds(x)
        atol = 8 * torch.finfo(x.dtype).eps * (1 + x.detach().abs().amax(-1))
        return torch.minimum((x - low).amin(-1), (high - x).amin(-1)) >= -atol

    def _log_prob_and_score(self, x: Tensor, x_0: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self._bounds(x)
        if not _readable(sigma) or x.numel() == 0:
            log_k, score = interval(Pair.between(low, high, x, x_0), sigma)
            return log_k.sum(-1), score
        rows = [v.reshape(-1, v.shape[-1]) for v in (x, x_0, sigma.expand(*x.shape[:-1], 1))]
        log_prob, score = _grouped(low, high, rows)
        return log_prob.reshape(x.shape[:-1]), score.reshape(x.shape)


def _readable(values: Tensor) -> bool:
    return eager_values(values) and values.device.type == "cpu"


def _grouped(low: Tensor, high: Tensor, rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Log-densities and scores of rows of points, starting points and deviations, each by the series it needs."""
    regime = _regime(low, high, rows[-1].squeeze(-1))
    sizes = regime.bincount(minlength=len(_SERIES)).tolist()
    alike = max(sizes) == len(regime)
    if not alike:
        order = regime.argsort()
        rows = [v[order] for v in rows]
    most = max(1, _BLOCK // rows[0].shape[-1])
    parts = []
    for series, size, *group in zip(_SERIES, sizes, *(v.split(sizes) for v in rows), strict=True):
        for x, x_0, sigma in zip(*(v.split(most) for v in group), strict=True) if size else ():
            log_k, score = series(Pair.between(low, high, x, x_0), sigma)
            parts.append((log_k.sum(-1), score))
    log_prob, score = (torch.cat(part) for part in zip(*parts, strict=True))
    if alike:
        return log_prob, score
    place = order.argsort()
    return log_prob[place], score[place]


def _regime(low: Tensor, high: Tensor, sigma: Tensor) -> Tensor:
    """The index in ``_SERIES`` of what every value of ``sigma`` needs, for all widths."""
    width = high - low
    narrow, wide = width.amin(), width.amax()
    return torch.bucketize(
        sigma.detach().contiguous(), torch.stack([NEAR[sigma.dtype] * narrow, SWITCH * narrow, SWITCH * wide])
    )
