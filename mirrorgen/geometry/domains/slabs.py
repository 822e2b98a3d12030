"""Slabs between parallel hyperplanes with orthonormal normals."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains.base import Domain, as_buffer, margin
from mirrorgen.geometry.domains.box import Box
from mirrorgen.geometry.validation import should_check
from mirrorgen.numerics import upcast

__all__ = ["Slabs"]

_ORTHONORMAL = 1e-12


class Slabs(Domain):
    """``{x : low_j < t_j . x < high_j, j = 1..m}`` with orthonormal ``t_j``: a box in ``m`` directions, free elsewhere.

    With the coefficients ``c = T x`` and the point ``r`` that a ``Box`` makes of them, projection, reflection and the
    way inside are ``x + T^T (r - c)``: everything costs ``O(m dim)`` per point, and no matrix larger than ``T``
    exists. As in ``Polytope``, slacks of float32 points are accumulated in float64. Unbounded unless ``m = dim``.

    Source: the set of the watermarks of G.-H. Liu et al., "Mirror Diffusion Models for Constrained and Watermarked
    Generation", 2023.

    Attributes:
        tokens: ``T (m, dim)``.
        box: What the coefficients lie in.

    Args:
        tokens: Orthonormal rows ``(m, dim)``, to 1e-12; ``torch.linalg.qr(a.double().mT)[0].mT`` makes some of any
            independent rows ``a``.
        low: Lower bounds, a number or ``(m,)``.
        high: Upper bounds, a number or ``(m,)``.

    Raises:
        ShapeError: If the shapes disagree.
        DomainError: If the rows are not orthonormal, or a slab is empty or has an infinite bound.
    """

    tokens: Tensor

    def __init__(
        self, tokens: Tensor | list, low: Tensor | float | list = -1.0, high: Tensor | float | list = 1.0
    ) -> None:
        super().__init__()
        rows = as_buffer(tokens).clone()
        if rows.ndim != 2 or not 1 <= len(rows) <= rows.shape[1]:
            raise ShapeError(f"tokens must have shape (m, dim) with 1 <= m <= dim, got {tuple(rows.shape)}")
        defect = float((rows @ rows.mT - torch.eye(len(rows)).to(rows)).abs().max())
        if not defect <= _ORTHONORMAL:
            raise DomainError(
                f"the rows of tokens must be orthonormal, but T T^T is off by {defect:.2g}: pass "
                "torch.linalg.qr(tokens.double().mT)[0].mT, or use Polytope, which takes any rows"
            )
        self.register_buffer("tokens", rows)
        self.dim = rows.shape[1]
        self.box = Box(low, high, dim=len(rows)).to(rows.device)
        self.bounded = len(rows) == self.dim

    @property
    def low(self) -> Tensor:
        """Lower bounds ``(m,)``."""
        return self.box.low

    @property
    def high(self) -> Tensor:
        """Upper bounds ``(m,)``."""
        return self.box.high

    def extra_repr(self) -> str:
        return f"dim={self.dim}, tokens={len(self.tokens)}"

    def coefficients(self, x: Tensor) -> Tensor:
        """``T x``, ``(..., m)``, in float64."""
        return upcast(x) @ upcast(self.tokens).mT

    def combine(self, c: Tensor) -> Tensor:
        """``T^T c``, ``(..., dim)``: the vector in the span of the tokens with these coefficients."""
        return c @ self.tokens.to(c.dtype)

    def slack(self, x: Tensor) -> Tensor:
        return self.box.slack(self.coefficients(x)).to(x.dtype)

    def constraint_name(self, index: int) -> str:
        i = index % len(self.tokens)
        side = f"> {self.low[i]:g}" if index < len(self.tokens) else f"< {self.high[i]:g}"
        return f"tokens[{i}] @ x {side}"

    def interior_point(self) -> Tensor:
        """The point of least norm in the middle of every slab."""
        return self.combine(self.box.interior_point())

    def _moved(self, x: Tensor, coefficients: Tensor, wanted: Tensor) -> Tensor:
        return (upcast(x) + self.combine(wanted - coefficients)).to(x.dtype)

    def project(self, x: Tensor) -> Tensor:
        c = self.coefficients(x)
        return self._moved(x, c, self.box.project(c))

    def reflect(self, x: Tensor, step: Tensor) -> Tensor:
        # Across the tokens the path is straight, along them it is that of the box: they do not see one another.
        c, along = self.coefficients(x), self.coefficients(step)
        end = self.combine(self.box.reflect(c, along) - c - along)
        return self.pull_inside((upcast(x) + upcast(step) + end).to(x.dtype))[0]

    def pull_inside(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients within rounding of a bound move twice as far inside, at most half-way to the other bound."""
        c, low, high = self.coefficients(x), upcast(self.low), upcast(self.high)
        bound = torch.maximum(low.abs(), high.abs())
        size = bound + torch.linalg.vector_norm(upcast(x), dim=-1, keepdim=True)
        gap = torch.minimum(upcast(margin(x)) * size, 0.25 * (high - low)).clamp_min(torch.finfo(x.dtype).tiny)
        too_low, too_high = c - low < gap, high - c < gap
        moved = (too_low | too_high).any(-1)
        wanted = torch.where(too_low, low + 2 * gap, torch.where(too_high, high - 2 * gap, c))
        pulled = self._moved(x, c, wanted)
        # Rounding of a point far out along the free directions is longer than the slabs are wide.
        inside = (self.box.slack(self.coefficients(pulled)) > 0).all(-1, keepdim=True)
        center = self.interior_point().to(x.dtype)
        if should_check(center) and not bool(self.contains(center)):
            raise DomainError(f"{self!r} is too thin for {x.dtype}: its centre rounds to a point outside; use float64")
        return torch.where(moved.unsqueeze(-1), torch.where(inside, pulled, center), x), moved

    def _no_flux(self, x: Tensor, v: Tensor, scale: Tensor | float) -> Tensor:
        """The components along the tokens as in ``Box``, the others unchanged, in O(m dim)."""
        along = self.coefficients(v)
        scale = upcast(scale) if isinstance(scale, Tensor) else scale
        return upcast(v) + self.combine(self.box._no_flux(self.coefficients(x), along, scale) - along)

    def sample_uniform(
        self, n: int, *, generator: torch.Generator | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        if not self.bounded:
            return super().sample_uniform(n, generator=generator, dtype=dtype)
        c = self.box.sample_uniform(n, generator=generator, dtype=torch.float64)
        return self.pull_inside(self.combine(c).to(dtype or torch.get_default_dtype()))[0]

    def log_volume(self) -> float:
        """That of the box, if there is a token for every coordinate."""
        return self.box.log_volume() if self.bounded else super().log_volume()

    def halfspaces(self) -> tuple[Tensor, Tensor]:
        return torch.cat([-self.tokens, self.tokens]), torch.cat([-self.low, self.high])
