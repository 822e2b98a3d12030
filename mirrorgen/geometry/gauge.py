"""Minkowski's gauge of a set, and the radial map from the unit ball that it defines."""

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Ball, Domain, Product
from mirrorgen.geometry.validation import check_shape, require_kind
from mirrorgen.numerics import upcast

__all__ = ["GaugeMap", "gauge"]


def gauge(domain: Domain, x: Tensor) -> Tensor:
    """Minkowski's gauge of points about ``c = domain.interior_point()``, in ``[0, 1)`` inside.

    ``inf {t : c + (x - c) / t in domain}``: ``max_i a_i . (x - c) / (b_i - a_i . c)`` for half-spaces,
    ``|x - c| / radius`` for balls, the largest of the factors' for products.

    Args:
        domain: A set described by half-spaces, a ball, or a product of such sets.
        x: Points ``(..., dim)``.

    Returns:
        Values ``(...)`` in float64.

    Raises:
        DomainError: If the domain is described in another way.
    """
    if isinstance(domain, Product):
        parts = zip(domain.blocks, domain.split(x), strict=True)
        return torch.stack([gauge(block, part) for block, part in parts]).amax(0)
    if isinstance(domain, Ball):
        return torch.linalg.vector_norm(domain.relative(upcast(x)), dim=-1)
    rows, level = (upcast(t.detach()) for t in domain.halfspaces())
    center = domain.to_chart(upcast(domain.interior_point()))
    rows = rows / (level - rows @ center).unsqueeze(-1)
    return ((domain.to_chart(upcast(x)) - center) @ rows.mT).amax(-1)


class GaugeMap(nn.Module):
    """The radial bijection ``x = c + (|z| / gauge(c + z)) z`` from the open unit ball onto a bounded set.

    ``c`` is the interior point and ``z`` in the chart of the set. Rays from the centre are stretched until the sphere
    lies on the boundary: bi-Lipschitz, with kinks along rays to edges and at the centre.

    Source: Li, Liang, Chen, "Gauge Flow Matching for Efficient Constrained Generative Modeling over General Convex
    Set", 2025.

    Args:
        domain: A bounded set that ``gauge`` knows.

    Raises:
        DomainError: If the set is unbounded or of another kind.
    """

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        require_kind(domain, Domain, "domain")
        if not domain.bounded:
            raise DomainError(f"{domain!r} is unbounded: no ball is mapped onto it; intersect it with a bounded set")
        gauge(domain, domain.interior_point())
        self.domain = domain
        self.ball = Ball(domain.dual_dim)

    def to_ball(self, x: Tensor) -> Tensor:
        """The points of the ball ``(..., dual_dim)`` behind ``x (..., dim)`` strictly inside, in the dtype of ``x``."""
        self.domain.check(x)
        relative = self.domain.to_chart(upcast(x)) - self._center
        length = torch.linalg.vector_norm(relative, dim=-1)
        ratio = gauge(self.domain, upcast(x)) / torch.where(length > 0, length, 1.0)
        return self.ball.pull_inside((ratio.unsqueeze(-1) * relative).to(x.dtype))[0]

    def from_ball(self, z: Tensor) -> Tensor:
        """The images ``(..., dim)`` of ``z (..., dual_dim)`` in the ball, strictly inside in the dtype of ``z``."""
        check_shape(z, self.ball.dim, "z")
        wide = upcast(z)
        length = torch.linalg.vector_norm(wide, dim=-1)
        far = gauge(self.domain, self.domain.from_chart(self._center + wide))
        ratio = length / torch.where(far > 0, far, 1.0)
        x = self.domain.from_chart(self._center + ratio.unsqueeze(-1) * wide)
        return self.domain.pull_inside(x.to(z.dtype))[0]

    @property
    def _center(self) -> Tensor:
        return self.domain.to_chart(upcast(self.domain.interior_point()))
