"""The Neumann heat kernel of a box."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mirrorgen.diffusion.heat_kernel.base import HeatKernel, per_point
from mirrorgen.diffusion.heat_kernel.interval import (
    NEAR,
    SWITCH,
    Pair,
    cosine_sum,
    image_sum,
    interval,
    interval_cosines,
    interval_images,
)
from mirrorgen.geometry.domains import Box
from mirrorgen.geometry.validation import require_kind, should_check
from mirrorgen.numerics import eager_values

__all__ = ["BoxHeatKernel"]

Series = Callable[[Pair, Tensor], tuple[Tensor, ...]]


def _both(series: Series, points: Pair, sigma: Tensor) -> tuple[Tensor, ...]:
    log_k, score = series(points, sigma)
    return log_k.sum(-1), score


def _score(series: Series, points: Pair, sigma: Tensor) -> tuple[Tensor, ...]:
    return series(points, sigma)[1:]


# From small to large sigma; the third is for values that are small for some widths and large for others. Without the
# log-density the score costs a fifth less.
_BOTH: tuple[Series, ...] = tuple(
    partial(_both, series)
    for series in (partial(interval_images, near=True), interval_images, interval, interval_cosines)
)
_SCORE: tuple[Series, ...] = tuple(
    partial(_score, series) for series in (partial(image_sum, near=True), image_sum, interval, cosine_sum)
)
# About so many coordinates at a time on a processor: the dozen arrays that a series holds then stay in its cache, and
# are small enough for their memory to be used again at once. The allocator returns larger ones to the system, and
# fetching them back takes a third of the time.
_BLOCK = 2**14


class BoxHeatKernel(HeatKernel):
    """Brownian motion in a box: the product of the kernels of its sides, exact for every ``sigma``.

    ``log p(x | x_0) = sum_i log k_i(x_i | x_0i)``, with the series of ``heat_kernel.interval``: images while ``sigma``
    is below 0.7 widths (0.55 in float32), cosines above. Log-densities of one coordinate differ from exact ones by at
    most 1e-14 (float64) or 5e-7 (float32) times the larger of 1 and their size, for all pairs of points.

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
        low, high = self.domain.low, self.domain.high
        self._equal = bool(((low == low[0]) & (high == high[0])).all())

    def _bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The ends in the dtype of ``x``, as single numbers where all sides are equal.

        Constants that are one number cost next to nothing, those of every coordinate as much as the points.
        """
        low, high = self.domain.low.to(x.dtype), self.domain.high.to(x.dtype)
        return (low[0], high[0]) if self._equal else (low, high)

    def _in_closure(self, x: Tensor) -> Tensor:
        # As in the base class, by reductions alone, which are fast; a NaN is the least of its row.
        low, high = self._bounds(x)
        atol = 8 * torch.finfo(x.dtype).eps * (1 + x.detach().abs().amax(-1))
        if self._equal:
            return torch.minimum(x.amin(-1) - low, high - x.amax(-1)) >= -atol
        return torch.minimum((x - low).amin(-1), (high - x).amin(-1)) >= -atol

    def _all_inside(self, x: Tensor, x_0: Tensor) -> bool:
        """Whether the checks and masks of the base class would change nothing, as in training."""
        if not _readable(x) or not _readable(x_0) or x.shape != x_0.shape or x.dtype != x_0.dtype:
            return False
        if x.ndim == 0 or x.shape[-1] != self.domain.dim or x.numel() == 0:
            return False
        return all(bool(self._in_closure(v).all()) for v in ((x, x_0) if should_check(x_0) else (x,)))

    # Both as in the base class; where it would change nothing, its masks cost as much as a fifth of the series.
    def log_prob_and_score(self, x: Tensor, x_0: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor]:
        if self._all_inside(x, x_0):
            return self._log_prob_and_score(x, x_0, per_point(sigma, x))
        return super().log_prob_and_score(x, x_0, sigma)

    def score(self, x: Tensor, x_0: Tensor, sigma: Tensor | float) -> Tensor:
        spread = per_point(sigma, x) if self._all_inside(x, x_0) else None
        if spread is None or not _readable(spread):
            return super().score(x, x_0, sigma)
        return self._by_rows(x, x_0, spread, _SCORE)[0].reshape(x.shape)

    def _log_prob_and_score(self, x: Tensor, x_0: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        if _readable(sigma) and x.numel():
            log_prob, score = self._by_rows(x, x_0, sigma, _BOTH)
            return log_prob.reshape(x.shape[:-1]), score.reshape(x.shape)
        log_k, score = interval(Pair.between(*self._bounds(x), x, x_0), sigma)
        return log_k.sum(-1), score

    def _by_rows(self, x: Tensor, x_0: Tensor, sigma: Tensor, series: tuple[Series, ...]) -> list[Tensor]:
        """What ``series`` give for a batch of any shape, each of its points by the series it needs."""
        rows = [v.reshape(-1, v.shape[-1]) for v in (x, x_0, sigma.expand(*x.shape[:-1], 1))]
        return _grouped(*self._bounds(x), rows, series)


def _readable(values: Tensor) -> bool:
    return eager_values(values) and values.device.type == "cpu"


def _grouped(low: Tensor, high: Tensor, rows: list[Tensor], series: tuple[Series, ...]) -> list[Tensor]:
    """What ``series`` give for rows of points, starting points and deviations, in their order."""
    dim, regime = rows[0].shape[-1], _regime(low, high, rows[-1].squeeze(-1))
    order = regime.argsort()
    parts = []
    for one, group in zip(series, order.split(regime.bincount(minlength=len(series)).tolist()), strict=True):
        for block in group.chunk(max(1, round(len(group) * dim / _BLOCK))) if len(group) else ():
            x, x_0, sigma = (v.index_select(0, block) for v in rows)
            parts.append(one(Pair.between(low, high, x, x_0), sigma))
    place = order.argsort()
    return [torch.cat(part).index_select(0, place) for part in zip(*parts, strict=True)]


def _regime(low: Tensor, high: Tensor, sigma: Tensor) -> Tensor:
    """The index, in ``_BOTH`` and ``_SCORE``, of what every value of ``sigma`` needs, for all widths."""
    near, switch = NEAR[sigma.dtype], SWITCH[sigma.dtype]
    narrow, wide = (high - low).aminmax()
    limits = torch.stack([near * narrow, switch * narrow, switch * wide])
    return torch.bucketize(sigma.detach().contiguous(), limits)
