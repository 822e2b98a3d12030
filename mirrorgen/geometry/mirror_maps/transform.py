"""Mirror maps inside ``torch.distributions``."""

from typing import TYPE_CHECKING

from torch import Tensor
from torch.distributions import constraints
from torch.distributions.transforms import Transform

if TYPE_CHECKING:
    from mirrorgen.geometry.mirror_maps.base import MirrorMap

__all__ = ["MirrorTransform"]


class MirrorTransform(Transform):
    """``y -> grad phi*(y)`` with its log-determinant, for ``TransformedDistribution`` and friends.

    Args:
        mirror_map: A map whose dual domain is all of ``R^dual_dim``.
    """

    bijective = True
    domain = constraints.real_vector

    def __init__(self, mirror_map: "MirrorMap", cache_size: int = 0) -> None:
        self.mirror_map = mirror_map
        super().__init__(cache_size=cache_size)

    @property
    def codomain(self) -> constraints.Constraint:  # type: ignore[override]  # depends on the map
        """The domain of the map as a constraint."""
        return self.mirror_map.domain.constraint

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MirrorTransform) and other.mirror_map is self.mirror_map

    def with_cache(self, cache_size: int = 1) -> "MirrorTransform":
        """The transform that remembers its last pair: a point then keeps the exact dual point it came from."""
        return self if cache_size == self._cache_size else MirrorTransform(self.mirror_map, cache_size)

    def _call(self, x: Tensor) -> Tensor:
        return self.mirror_map.to_primal(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.mirror_map.to_dual(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """``log |det d y / d x|`` for ``y = to_primal(x)``, shape ``(...)``."""
        return -self.mirror_map.log_det_jacobian_dual(x)

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the primal points."""
        return (*shape[:-1], self.mirror_map.domain.dim)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the dual points."""
        return (*shape[:-1], self.mirror_map.domain.dual_dim)
