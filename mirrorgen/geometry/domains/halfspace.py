"""One half-space."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains.base import Domain, as_buffer, margin

__all__ = ["Halfspace"]


class Halfspace(Domain):
    """``{x : a . x < b}``; slacks are distances, ``(b - a . x) / |a|``.

    Args:
        a: Outward normal ``(dim,)`` of any length but zero.
        b: Offset, a number.

    Raises:
        DomainError: If ``a`` is zero or a value is not finite.
        ShapeError: If ``a`` is not a vector or ``b`` not a number.
    """

    bounded = False
    a: Tensor
    b: Tensor

    def __init__(self, a: Tensor | list, b: Tensor | float) -> None:
        super().__init__()
        self.register_buffer("a", as_buffer(a).clone())
        self.register_buffer("b", as_buffer(b).clone())
        if self.a.ndim != 1 or len(self.a) == 0 or self.b.ndim != 0:
            shapes = f"{tuple(self.a.shape)} and {tuple(self.b.shape)}"
            raise ShapeError(f"Halfspace needs a vector a and a number b, got shapes {shapes}")
        if not bool(torch.isfinite(self.a).all() & torch.isfinite(self.b) & (self.a != 0).any()):
            raise DomainError("Halfspace needs finite a and b with a != 0; use Euclidean for the whole space")
        self.dim = len(self.a)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"

    def _unit_row(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Unit normal and offset in the dtype of ``x``."""
        # Scaling first keeps the square of a very long or very short normal in range.
        largest = self.a.abs().amax()
        norm = torch.linalg.vector_norm(self.a / largest)
        return (self.a / largest / norm).to(x.dtype), (self.b / largest / norm).to(x.dtype)

    def slack(self, x: Tensor) -> Tensor:
        normal, offset = self._unit_row(x)
        return offset - (x * normal).sum(-1, keepdim=True)

    def constraint_name(self, index: int) -> str:
        return f"a . x < {float(self.b):g}"

    def interior_point(self) -> Tensor:
        """The origin if it is at least 1 inside, else a point on the normal as deep as the face is far."""
        normal, offset = self._unit_row(self.a)
        return torch.where(offset >= 1, 0, offset - offset.abs().clamp_min(1)) * normal

    def project(self, x: Tensor) -> Tensor:
        normal, _ = self._unit_row(x)
        return x + torch.clamp(self.slack(x), max=0) * normal

    def reflect(self, x: Tensor, step: Tensor) -> Tensor:
        normal, _ = self._unit_row(x)
        end = x + step
        return self.pull_inside(end + 2 * torch.clamp(self.slack(end), max=0) * normal)[0]

    def pull_inside(self, x: Tensor) -> tuple[Tensor, Tensor]:
        normal, offset = self._unit_row(x)
        gap = margin(x, offset.abs() + (x * normal).abs().sum(-1, keepdim=True)).clamp_min(torch.finfo(x.dtype).tiny)
        slack = self.slack(x)
        moved = slack < gap
        return torch.where(moved, x - (2 * gap - slack) * normal, x), moved.squeeze(-1)

    def _no_flux(self, x: Tensor, v: Tensor, scale: Tensor | float) -> Tensor:
        """``v - (1 - f) (a . v) a`` with the unit normal ``a`` and ``f = tanh(slack / scale)``, in O(dim)."""
        normal, _ = self._unit_row(x)
        normal_part = (v * normal).sum(-1, keepdim=True)
        return v - (1 - torch.tanh(self.slack(x) / scale)) * normal_part * normal

    def halfspaces(self) -> tuple[Tensor, Tensor]:
        normal, offset = self._unit_row(self.a)
        return normal.unsqueeze(0), offset.unsqueeze(0)
