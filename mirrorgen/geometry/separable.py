"""Which maps act on every coordinate by itself, on which interval, and where zero lies in their dual."""

import torch
from torch import Tensor

from mirrorgen.geometry.domains.ball import Ball
from mirrorgen.geometry.domains.base import Domain
from mirrorgen.geometry.domains.box import Box
from mirrorgen.geometry.domains.euclidean import Euclidean
from mirrorgen.geometry.domains.orthant import Orthant
from mirrorgen.geometry.mirror_maps.base import MirrorMap, SeparableMap
from mirrorgen.geometry.mirror_maps.quadratic import Quadratic
from mirrorgen.geometry.mirror_maps.slack_map import SlackMap
from mirrorgen.geometry.mirror_maps.tsallis_entropy import TsallisEntropy

__all__ = ["dual_of_zero", "interval", "is_separable"]


def is_separable(mirror_map: MirrorMap) -> bool:
    """Whether ``phi`` is a sum over coordinates on a product of intervals (see ``interval``)."""
    if interval(mirror_map.domain) is None:
        return False
    if isinstance(mirror_map, Quadratic):
        return mirror_map.matrix is None or mirror_map.matrix.ndim == 1
    # Barriers over slacks are sums over facets, and those of boxes and orthants see one coordinate each.
    return isinstance(mirror_map, SeparableMap | SlackMap | TsallisEntropy) or mirror_map.domain.dim == 1


def interval(domain: Domain) -> tuple[Tensor, Tensor] | None:
    """Ends ``(dim,)`` of the intervals whose product is ``domain``, infinite ones included; None for other sets."""
    if isinstance(domain, Box):
        return domain.low, domain.high
    if isinstance(domain, Ball) and domain.dim == 1:
        return domain.center - domain.radius, domain.center + domain.radius
    if not isinstance(domain, Euclidean | Orthant):
        return None
    high = torch.full_like(domain.interior_point(), torch.inf)
    return (torch.zeros_like(high) if isinstance(domain, Orthant) else -high), high


def dual_of_zero(mirror_map: MirrorMap, y: Tensor) -> Tensor:
    """``phi'(0)`` of a separable map ``(dim,)`` in the dtype of ``y``; infinite where zero is not inside.

    The limit of ``phi'`` at the end of the interval nearest to zero, which is ``-inf`` at a lower one.
    """
    ends = interval(mirror_map.domain)
    assert ends is not None
    low, high = (end.to(y) for end in ends)
    inside = (low < 0) & (high > 0)
    point = torch.where(inside, 0.0, mirror_map.domain.interior_point().to(y))
    return torch.where(inside, mirror_map._gradient(point), torch.where(low >= 0, -torch.inf, torch.inf))
