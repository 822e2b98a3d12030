"""What models in the dual share: points to coordinates and back, through a mirror map and a transform of its dual."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.dual_transform import DualTransform, RobustStandardize
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.validation import require_kind, validation
from mirrorgen.numerics import upcast

__all__ = ["DualCoordinates"]


class DualCoordinates:
    """Part of a module whose coordinates are ``u = T(grad phi(x))``: a mirror map and a bijection ``T`` of its dual."""

    domain: Domain
    mirror_map: MirrorMap
    dual_transform: DualTransform | None

    def _set_dual(self, mirror_map: MirrorMap, dual_transform: DualTransform | str | None) -> None:
        """Take the parts, of which ``_check_map`` has seen the first; the module is initialised already."""
        if isinstance(dual_transform, str):
            if dual_transform != "standardize":
                raise DomainError(
                    f"unknown dual_transform {dual_transform!r}; use 'standardize', a DualTransform or None"
                )
            dual_transform = RobustStandardize()
        if dual_transform is not None:
            require_kind(dual_transform, DualTransform, "dual_transform")
            dual_transform.initialize(mirror_map.domain.dual_dim)
        self.mirror_map, self.dual_transform = mirror_map, dual_transform

    @staticmethod
    def _check_map(mirror_map: MirrorMap) -> int:
        """The number of coordinates.

        Raises:
            DomainError: If it is no mirror map or its dual is not all of ``R^d``.
        """
        require_kind(mirror_map, MirrorMap, "mirror_map")
        dim = mirror_map.domain.dual_dim
        if not mirror_map.dual_is_full:
            raise DomainError(
                f"the dual of {type(mirror_map).__name__} is not all of R^{dim}, so noise would leave it; "
                "use a map with dual_is_full, such as mirror_maps.default(domain)"
            )
        return dim

    def fit_dual_transform(self, x: Tensor) -> None:
        """Fit the dual transform to training points ``(n, dim)``, once, before training."""
        if self.dual_transform is not None:
            self.dual_transform.fit(self._to_dual(x))

    def encode(self, x: Tensor) -> Tensor:
        """Coordinates ``T(grad phi(x))``, computed in double precision, in the dtype of ``x``."""
        return self._transformed(self._to_dual(x)).to(x.dtype)

    def decode(self, u: Tensor) -> Tensor:
        """Points of the domain ``grad phi*(T^-1(u))``, strictly inside in the dtype of ``u``."""
        return self.mirror_map.to_primal(self._dual(u))

    def _to_dual(self, x: Tensor) -> Tensor:
        """``grad phi(x)`` in double precision, which keeps the digits that subtracting a near bound would lose."""
        self.mirror_map.domain.check(x)
        # Equalities that hold to rounding in float32 do not in float64: the check above was the one that counts.
        with validation(False):
            return self.mirror_map.to_dual(upcast(x))

    def _transformed(self, y: Tensor) -> Tensor:
        return y if self.dual_transform is None else self.dual_transform(y)

    def _dual(self, u: Tensor) -> Tensor:
        return u if self.dual_transform is None else self.dual_transform.inverse(u)

    def _log_det_encode(self, y: Tensor, x: Tensor | None = None) -> Tensor:
        """``log |det d encode / d x|`` from the point where there is one, else from the dual."""
        log_det = self.mirror_map.log_det_jacobian_dual(y) if x is None else self.mirror_map.log_det_jacobian(x)
        return log_det if self.dual_transform is None else log_det + self.dual_transform.log_det(y)

    def _prepared(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A mask of points inside, coordinates in the dtype of ``x``, and ``log |det d encode / dx|``; any inside point
        stands in for those outside.
        """
        inside = self.domain.contains(x)
        x = torch.where(inside.unsqueeze(-1), x, self.domain.interior_point().to(x))
        y = self._to_dual(x)
        return inside, self._transformed(y).to(x.dtype), self._log_det_encode(y, upcast(x)).to(x.dtype)
