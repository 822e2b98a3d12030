"""The half-volume statistic: does a sample of the uniform law fill the set evenly from its centre outwards?"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.gauge import gauge

__all__ = ["HalfVolume", "gauge", "half_volume", "half_volume_of_gauge"]


class HalfVolume(NamedTuple):
    """The share of points outside the core of half the volume, 1/2 for uniform points.

    Attributes:
        share: Share of points outside the core.
        standard_error: Of ``share`` for uniform points, ``1 / (2 sqrt(n))`` with ``n`` the effective sample size.
    """

    share: float
    standard_error: float

    @property
    def z(self) -> float:
        """``(share - 1/2) / standard_error``."""
        return (self.share - 0.5) / self.standard_error


def half_volume_of_gauge(values: Tensor, dim: int, effective_size: float | None = None) -> HalfVolume:
    """Share of points with a gauge above ``2^(-1/dim)``.

    For sets without a class here: the gauge of an ellipsoid ``{|x|_A < 1}`` is ``|x|_A``.

    Args:
        values: Gauges of points, any shape.
        dim: Dimension of the set (of its affine hull).
        effective_size: Effective number of independent points; their number if None.

    Raises:
        ShapeError: If there is no value.
        DomainError: If ``effective_size`` is not positive.
    """
    if values.numel() == 0:
        raise ShapeError("the half-volume statistic needs at least one point")
    size = float(values.numel()) if effective_size is None else float(effective_size)
    if not size > 0:
        raise DomainError(f"the effective sample size must be positive, got {size:g}")
    share = float((values > 2.0 ** (-1.0 / dim)).double().mean())
    return HalfVolume(share, 0.5 / math.sqrt(size))


@torch.no_grad()
def half_volume(domain: Domain, x: Tensor, effective_size: float | None = None) -> HalfVolume:
    """Share of points outside the core ``c + 2^(-1/d) (domain - c)``, which holds half the volume of any convex body.

    Exactly 1/2 for uniform points of a bounded set of dimension ``d``; a walk from the centre that has not mixed
    gives less, one that sticks to the boundary more.

    Args:
        domain: See ``gauge``; bounded.
        x: Points ``(..., dim)``.
        effective_size: Effective number of independent points, for correlated draws that of the indicator
            ``gauge(domain, x) > 2^(-1/d)``; the number of points if None.

    Raises:
        DomainError: If the domain is unbounded.
    """
    if not domain.bounded:
        raise DomainError(f"{domain!r} is unbounded and has no volume to halve")
    return half_volume_of_gauge(gauge(domain, x), domain.dual_dim, effective_size)
