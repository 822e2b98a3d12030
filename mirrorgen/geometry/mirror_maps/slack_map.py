"""The common base of barrier maps over slacks."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains.ball import Ball
from mirrorgen.geometry.domains.base import Domain
from mirrorgen.geometry.domains.box import Box
from mirrorgen.geometry.domains.simplex import Simplex
from mirrorgen.geometry.domains.slabs import Slabs
from mirrorgen.geometry.hessian import HessianOperator
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.mirror_maps.local import LocalGeometry, usable_dual
from mirrorgen.geometry.mirror_maps.slack_hessian import UpcastHessian
from mirrorgen.geometry.mirror_maps.slack_local import SlackLocalGeometry
from mirrorgen.geometry.mirror_maps.slack_power import SlackPower
from mirrorgen.geometry.mirror_maps.slack_scalar import BallStructure, BoxStructure, FacetStructure
from mirrorgen.geometry.mirror_maps.slack_simplex import SimplexStructure
from mirrorgen.geometry.mirror_maps.slack_slabs import SlabsStructure
from mirrorgen.geometry.mirror_maps.slack_structures import BarrierStructure, HalfspaceStructure
from mirrorgen.numerics import upcast

__all__ = ["SlackMap"]


class SlackMap(MirrorMap):
    """``phi(x) = sum_i f(s_i) + quadratic |z|^2 / 2`` with slacks ``s = b - A z`` of unit rows, ``z`` in the chart.

    Everything is computed in float64 and returned in the dtype of the argument. Boxes, orthonormal slabs, balls and
    single half-spaces are inverted by scalar roots; other sets by primal-dual Newton (see ``slack_newton``), whose
    derivatives are exact in the dual point and in the ``A`` and ``b`` of the user. The log-slack comes with the
    solution, so ``hessian_dual`` and ``log_det_jacobian_dual`` stay accurate where ``x`` cannot hold the slack.

    Args:
        domain: The set.
        power: The barrier term ``f``.
        quadratic: Factor of the quadratic term.
        on_failure: ``"raise"`` a ConvergenceError, or return ``"nan"`` rows for dual points that do not converge.
    """

    def __init__(self, domain: Domain, power: SlackPower, quadratic: float, on_failure: str) -> None:
        super().__init__(domain)
        if on_failure not in ("raise", "nan"):
            raise DomainError(f"on_failure must be 'raise' or 'nan', got {on_failure!r}")
        if quadratic == 0 and not domain.bounded:
            raise DomainError(
                f"{type(self).__name__} needs a bounded set, else its gradient does not reach every dual point: "
                f"{domain!r} is unbounded; use RegularizedBarrier"
            )
        self.on_failure = on_failure
        self._structure = _structure_of(domain, quadratic)(domain, power, quadratic, on_failure)
        self.closed_form = self._structure.closed_form

    def potential(self, x: Tensor) -> Tensor:
        return self._structure.potential(x).to(x.dtype)

    def hessian(self, x: Tensor) -> HessianOperator:
        return UpcastHessian(self._structure.hessian(x), x.dtype)

    def hessian_dual(self, y: Tensor) -> HessianOperator:
        self.check_dual(y)
        return UpcastHessian(self._structure.hessian_dual(y), y.dtype)

    def local(self, y: Tensor, start: Tensor | None = None) -> LocalGeometry:
        if isinstance(self._structure, HalfspaceStructure) and not (y.requires_grad and torch.is_grad_enabled()):
            return SlackLocalGeometry(self, self._structure, y, start)
        return _SlackGeometry(self, y, start)

    def hessian_again(self, y: Tensor, start: Tensor | None) -> HessianOperator:
        if start is None:
            return self.hessian_dual(y)
        return UpcastHessian(self._structure.hessian_from(start), y.dtype)

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        return self._structure.divergence(p, q).to(p.dtype)

    def _gradient(self, x: Tensor) -> Tensor:
        return self._structure.gradient(x).to(x.dtype)

    def _inverse(self, y: Tensor) -> Tensor:
        return self._structure.inverse(upcast(y)).to(y.dtype)


class _SlackGeometry(LocalGeometry):
    """Point and Hessian from one solve, warm-started where it iterates."""

    mirror_map: SlackMap

    def __init__(self, mirror_map: SlackMap, y: Tensor, start: Tensor | None) -> None:
        usable = usable_dual(y)
        safe = torch.where(usable, y, 0.0)
        x, start = mirror_map._structure.local(upcast(safe), start)
        x = mirror_map.domain.pull_inside(x.to(y.dtype))[0]
        super().__init__(mirror_map, safe, torch.where(usable, x, torch.nan), start)

        self._hessian = mirror_map.hessian_again(safe, start)

    @property
    def hessian(self) -> HessianOperator:
        return self._hessian

    @property
    def log_det(self) -> Tensor:
        return self.hessian.logdet() + self.mirror_map.log_coordinate_volume

    @property
    def log_det_gradient(self) -> Tensor:
        known = None
        if self.start is not None:
            known = self.mirror_map._structure.log_det_gradient(upcast(self.y), self.start)
        return super().log_det_gradient if known is None else known.to(self.y.dtype)


def _structure_of(domain: Domain, quadratic: float) -> type[BarrierStructure]:
    if isinstance(domain, Simplex) and quadratic == 0:
        return SimplexStructure
    if isinstance(domain, Box):
        return BoxStructure
    if isinstance(domain, Ball):
        return BallStructure
    if isinstance(domain, Slabs):
        return SlabsStructure
    count = len(domain.halfspaces()[1])
    if count == 0:
        raise DomainError(f"{domain!r} has no inequality, so no slack; use Quadratic")
    return FacetStructure if count == 1 else HalfspaceStructure
