"""Linear coordinates in which a polyhedron is round and its slacks are relative."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.domains.base import margin
from mirrorgen.numerics import eager_values, upcast
from mirrorgen.samplers.density import LogDensity
from mirrorgen.targets import Uniform

__all__ = ["Frame", "Rounding", "WalkState", "is_uniform", "make_frame"]

Rounding = Literal["barrier"] | Tensor | None
"""``"barrier"``, a matrix ``(dual_dim, dual_dim)`` (such as a factor of a covariance, in the chart), or None."""


class WalkState(NamedTuple):
    """State of a walk.

    Attributes:
        x: Points ``(chains, dim)``, strictly inside.
        w: Their coordinates in the kernel's frame ``(chains, dual_dim)``; the walk moves these.
        log_density: ``(chains,)``, zero for uniform walks.
    """

    x: Tensor
    w: Tensor
    log_density: Tensor


@dataclass(frozen=True, eq=False)
class Frame:
    """Coordinates ``x = origin + w @ matrix`` of the affine hull, with the set equal to ``{w : rows @ w < 1}``.

    ``1 - rows @ w`` are the slacks divided by those of the origin. Their rounding errors are relative to the size of
    the set, however thin it is, which is what lets walks work in float32.

    Attributes:
        domain: The set.
        origin: An interior point ``(dim,)``.
        matrix: Images of the axes of ``w`` ``(dual_dim, dim)``.
        inverse: ``w = (chart(x) - chart(origin)) @ inverse``, ``(dual_dim, dual_dim)``.
        rows: ``(m, dual_dim)``.
        reach: The largest distance of a face's hyperplane from zero.
    """

    domain: Domain
    origin: Tensor
    matrix: Tensor
    inverse: Tensor
    rows: Tensor
    reach: float

    def enter(self, x: Tensor) -> Tensor:
        """Coordinates ``(chains, dual_dim)`` of points ``(chains, dim)``."""
        wide = self.domain.to_chart(upcast(x)) - self.domain.to_chart(self.origin)
        return (wide @ self.inverse).to(x.dtype)

    def leave(self, w: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Points ``(chains, dim)`` strictly inside in ``dtype``, that of ``w`` if None."""
        x = (self.origin + upcast(w) @ self.matrix).to(dtype or w.dtype)
        # Almost never is a point so near to a face that rounding could carry it over; then all are looked at closely.
        size = self.reach + x.shape[-1] ** 0.5 * x.abs().amax()
        if eager_values(x) and bool(self.domain.slack(x).amin() > margin(x, size)):
            return x
        return self.domain.pull_inside(x)[0]

    def slack(self, w: Tensor) -> Tensor:
        """``1 - rows @ w`` as ``(m, chains)``, the layout that reductions over constraints like; positive."""
        return torch.sub(1, self.rows.to(w) @ w.mT).clamp_min(torch.finfo(w.dtype).tiny)


def make_frame(domain: Domain, rounding: Rounding) -> Frame:
    """The frame of ``domain``.

    ``"barrier"`` makes the Hessian of the log barrier at the origin the identity (the set then lies between balls of
    radius 1 and m); a matrix ``F`` gives ``chart(x) = chart(origin) + F w``; None keeps the axes of the chart.

    Raises:
        DomainError: If the set is not described by half-spaces, or ``"barrier"`` meets a set whose rows do not span.
        ShapeError: If a matrix has the wrong shape.
    """
    A, b = (upcast(t.detach()) for t in domain.halfspaces())
    origin = upcast(domain.interior_point())
    rows = A / (b - A @ domain.to_chart(origin)).unsqueeze(-1)
    factor = _factor(rows, rounding, domain)
    zero = torch.zeros_like(rows[0])
    axes = domain.from_chart(factor.mT.contiguous()) - domain.from_chart(zero)
    return Frame(domain, origin, axes, torch.linalg.inv(factor).mT, rows @ factor, float(b.abs().max()))


def _factor(rows: Tensor, rounding: Rounding, domain: Domain) -> Tensor:
    k = rows.shape[1]
    if isinstance(rounding, Tensor):
        if rounding.shape != (k, k):
            raise ShapeError(f"rounding must have shape ({k}, {k}), got {tuple(rounding.shape)}")
        return upcast(rounding)
    if rounding is None:
        return torch.eye(k, dtype=rows.dtype, device=rows.device)
    # By QR: the Hessian rows^T rows would lose half the digits of a thin set.
    factor = torch.linalg.qr(rows)[1]
    diagonal = factor.diagonal().abs()
    if len(diagonal) < k or not bool(diagonal.amin() > 1e-12 * diagonal.amax()):
        raise DomainError(f"{domain!r} is unbounded along a line and cannot be rounded; pass rounding=None")
    return torch.linalg.inv(factor)


def is_uniform(log_density: LogDensity | None) -> bool:
    """Whether a walk may draw from chords without looking at the density."""
    return log_density is None or isinstance(log_density, Uniform)


def require_bounded(domain: Domain, kernel: str) -> None:
    """Raise ``DomainError`` unless chords have two ends."""
    if not domain.bounded:
        raise DomainError(
            f"{kernel} needs a bounded set, {domain!r} is not; intersect it with a Box, or for truncated normal laws "
            "use TruncatedGaussianGibbs or LinearEllipticalSlice"
        )
