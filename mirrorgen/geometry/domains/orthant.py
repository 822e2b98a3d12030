"""The positive orthant."""

import torch
from torch import Tensor

from mirrorgen.geometry.domains.base import Domain, as_buffer, require_dim

__all__ = ["Orthant"]


class Orthant(Domain):
    """``{x : x > 0}`` coordinatewise.

    Args:
        dim: Number of coordinates.

    Raises:
        DomainError: If ``dim < 1``.
    """

    bounded = False
    _center: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = require_dim(dim, 1, "Orthant")
        self.register_buffer("_center", as_buffer(1.0).repeat(dim), persistent=False)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"

    def slack(self, x: Tensor) -> Tensor:
        return x

    def constraint_name(self, index: int) -> str:
        return f"x[{index}] > 0"

    def interior_point(self) -> Tensor:
        return self._center.clone()

    def project(self, x: Tensor) -> Tensor:
        return torch.clamp(x, min=0)

    def reflect(self, x: Tensor, step: Tensor) -> Tensor:
        # Each coordinate moves at constant speed and turns once at most, at zero.
        return self.pull_inside((x + step).abs())[0]

    def pull_inside(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates are clamped to the normal numbers; overflow becomes the largest finite one."""
        # Subnormal numbers are positive too, but accelerators flush them to zero.
        info = torch.finfo(x.dtype)
        return torch.clamp(x, info.tiny, info.max), ((x < info.tiny) | torch.isinf(x)).any(-1)

    def _no_flux(self, x: Tensor, v: Tensor, scale: Tensor | float) -> Tensor:
        """``v_j tanh(x_j / scale)``, in O(dim)."""
        return torch.tanh(x / scale) * v

    def halfspaces(self) -> tuple[Tensor, Tensor]:
        return -torch.diag(self._center), torch.zeros_like(self._center)
