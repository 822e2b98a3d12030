"""The whole space."""

import torch
from torch import Tensor

from mirrorgen.geometry.domains.base import Domain, as_buffer, require_dim

__all__ = ["Euclidean"]


class Euclidean(Domain):
    """``R^dim``, the domain without constraints: ``slack`` has no columns and every finite point is inside.

    Args:
        dim: Number of coordinates.

    Raises:
        DomainError: If ``dim < 1``.
    """

    bounded = False
    _center: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = require_dim(dim, 1, "Euclidean")
        self.register_buffer("_center", as_buffer(0.0).repeat(dim), persistent=False)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"

    def slack(self, x: Tensor) -> Tensor:
        return x[..., :0]

    def constraint_name(self, index: int) -> str:
        raise IndexError(f"Euclidean has no constraints, asked for number {index}")

    def interior_point(self) -> Tensor:
        return self._center.clone()

    def project(self, x: Tensor) -> Tensor:
        return x.clone()

    def reflect(self, x: Tensor, step: Tensor) -> Tensor:
        return self.pull_inside(x + step)[0]

    def pull_inside(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Only overflow leaves the set: infinite coordinates become the largest finite number."""
        return torch.clamp(x, -torch.finfo(x.dtype).max, torch.finfo(x.dtype).max), torch.isinf(x).any(-1)

    def _no_flux(self, x: Tensor, v: Tensor, scale: Tensor | float) -> Tensor:
        """``v`` itself: there are no walls."""
        return v.clone()

    def halfspaces(self) -> tuple[Tensor, Tensor]:
        return self._center.new_zeros(0, self.dim), self._center.new_zeros(0)
