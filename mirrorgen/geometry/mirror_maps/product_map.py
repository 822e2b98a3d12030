"""Products of mirror maps."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains.product import Product
from mirrorgen.geometry.hessian import BlockHessian, HessianOperator
from mirrorgen.geometry.mirror_maps.base import MirrorMap

__all__ = ["ProductMap"]


class ProductMap(MirrorMap):
    """``phi(x_1, x_2, ...) = phi_1(x_1) + phi_2(x_2) + ...`` on the product of the domains of the maps.

    Everything acts block by block along the last axis; Hessians are block diagonal.

    Args:
        maps: The factors, at least one; ``domain`` becomes the ``Product`` of their domains.

    Raises:
        DomainError: If there is no factor or one is no mirror map.
    """

    domain: Product

    def __init__(self, *maps: MirrorMap) -> None:
        strangers = [type(m).__name__ for m in maps if not isinstance(m, MirrorMap)]
        if strangers:
            raise DomainError(f"ProductMap needs mirror maps, got {strangers}; mirror_maps.default(domain) picks one")
        super().__init__(Product(*(m.domain for m in maps)))
        self.maps = nn.ModuleList(maps)
        self.dual_is_full = all(m.dual_is_full for m in maps)
        self.closed_form = all(m.closed_form for m in maps)

    @property
    def blocks(self) -> list[MirrorMap]:
        """The factors as a typed list."""
        return [m for m in self.maps if isinstance(m, MirrorMap)]

    def _primal(self, function: Callable[..., Tensor], *points: Tensor) -> list[Tensor]:
        """``function(map, part, ...)`` of every block of primal points."""
        parts = zip(*(self.domain.split(x) for x in points), strict=True)
        return [function(m, *part) for m, part in zip(self.blocks, parts, strict=True)]

    def _dual(self, function: Callable[..., Tensor], y: Tensor) -> list[Tensor]:
        """``function(map, part)`` of every block of dual points or coordinates."""
        return [function(m, part) for m, part in zip(self.blocks, self.domain.split_dual(y), strict=True)]

    def potential(self, x: Tensor) -> Tensor:
        return _total(self._primal(lambda m, p: m.potential(p), x))

    def conjugate(self, y: Tensor) -> Tensor:
        return _total(self._dual(lambda m, p: m.conjugate(p), y))

    def hessian(self, x: Tensor) -> HessianOperator:
        parts = zip(self.blocks, self.domain.split(x), strict=True)
        return self._block_hessian([m.hessian(p) for m, p in parts])

    def hessian_dual(self, y: Tensor) -> HessianOperator:
        parts = zip(self.blocks, self.domain.split_dual(y), strict=True)
        return self._block_hessian([m.hessian_dual(p) for m, p in parts])

    def _block_hessian(self, operators: list[HessianOperator]) -> HessianOperator:
        return BlockHessian(operators, [m.domain.dual_dim for m in self.blocks])

    def log_det_jacobian(self, x: Tensor) -> Tensor:
        return _total(self._primal(lambda m, p: m.log_det_jacobian(p), x))

    def log_det_jacobian_dual(self, y: Tensor) -> Tensor:
        return _total(self._dual(lambda m, p: m.log_det_jacobian_dual(p), y))

    def log_det_gradient_dual(self, y: Tensor) -> Tensor:
        return torch.cat(self._dual(lambda m, p: m.log_det_gradient_dual(p), y), -1)

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        return _total(self._primal(lambda m, a, b: m.divergence(a, b), p, q))

    @property
    def log_coordinate_volume(self) -> float:
        return sum(m.log_coordinate_volume for m in self.blocks)

    def coordinates(self, x: Tensor) -> Tensor:
        return torch.cat(self._primal(lambda m, p: m.coordinates(p), x), -1)

    def pull_back(self, g: Tensor) -> Tensor:
        return torch.cat(self._primal(lambda m, p: m.pull_back(p), g), -1)

    def from_coordinates(self, z: Tensor) -> Tensor:
        return torch.cat(self._dual(lambda m, p: m.from_coordinates(p), z), -1)

    def dual_contains(self, y: Tensor) -> Tensor:
        return torch.stack(self._dual(lambda m, p: m.dual_contains(p), y)).all(0)

    def dual_requirement(self) -> str:
        return "; ".join(f"block {i}: {m.dual_requirement()}" for i, m in enumerate(self.blocks))

    def _gradient(self, x: Tensor) -> Tensor:
        return torch.cat(self._primal(lambda m, p: m._gradient(p), x), -1)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.cat(self._dual(lambda m, p: m._inverse(p), y), -1)


def _total(values: list[Tensor]) -> Tensor:
    return torch.stack(values).sum(0)
