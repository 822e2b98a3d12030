"""The contract of a Legendre function and what every one of them inherits."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains.base import Domain, ExactBuffers
from mirrorgen.geometry.hessian import DenseHessian, DiagonalHessian, HessianOperator
from mirrorgen.geometry.mirror_maps.local import LocalGeometry, usable_dual
from mirrorgen.geometry.mirror_maps.newton import newton_inverse
from mirrorgen.geometry.mirror_maps.transform import MirrorTransform
from mirrorgen.geometry.validation import check_shape, guard_methods, should_check

__all__ = ["MirrorMap", "SeparableMap"]


class MirrorMap(ExactBuffers, ABC):
    """A Legendre function ``phi`` on the interior of ``domain`` and the maps it induces.

    Primal points ``x (..., domain.dim)`` are strictly inside; dual points ``y (..., domain.dual_dim)`` are the
    state to keep: near the boundary ``x`` has lost digits that ``y`` holds. ``to_primal`` is
    ``grad phi*`` followed by ``domain.pull_inside``, so what it returns is strictly inside in its own dtype.

    A new map provides ``potential`` alone: gradient and Hessian come from autograd and the inverse from damped
    Newton with exact derivatives. Closed forms override ``_gradient``, ``_inverse``, ``conjugate`` and
    ``hessian``. Hessians act on the chart coordinates of the domain (``coordinates``).

    Attributes:
        domain: The set it lives on.
        dual_is_full: Whether ``dom phi*`` is all of ``R^dual_dim``; dual noise may be added only then.
        closed_form: Whether ``to_primal`` is a closed form (compiles) or iterates.
    """

    dual_is_full: bool = True
    closed_form: bool = True

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        self.domain = domain

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        primal = ("potential", "hessian", "log_det_jacobian", "divergence", "coordinates", "pull_back")
        dual = (
            "conjugate", "hessian_dual", "log_det_jacobian_dual", "log_det_gradient_dual", "from_coordinates",
        )  # fmt: skip
        guard_methods(cls, primal, lambda mirror_map: mirror_map.domain.dim)
        guard_methods(cls, dual, lambda mirror_map: mirror_map.domain.dual_dim)

    @abstractmethod
    def potential(self, x: Tensor) -> Tensor:
        """``phi(x)``, shape ``(...)``."""

    def forward(self, x: Tensor) -> Tensor:
        """``to_dual(x)``."""
        return self.to_dual(x)

    def to_dual(self, x: Tensor) -> Tensor:
        """``grad phi(x)`` in the chart, ``(..., dual_dim)``.

        Raises:
            DomainError: If a point is not strictly inside (eager mode, see ``validation``).
        """
        self.domain.check(x)
        return self._gradient(x)

    def to_primal(self, y: Tensor) -> Tensor:
        """``grad phi*(y)``, ``(..., dim)``, strictly inside the domain in the dtype of ``y``.

        Raises:
            DomainError: If ``y`` has a NaN or lies outside ``dom phi*``.
        """
        return self.to_primal_with_moved(y)[0]

    def to_primal_with_moved(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """As ``to_primal``, with a mask ``(...)`` of the points that rounding had put on the boundary."""
        self.check_dual(y)
        return self.domain.pull_inside(self._inverse(y))

    def conjugate(self, y: Tensor) -> Tensor:
        """``phi*(y) = sup_x <x, y> - phi(x)``, shape ``(...)``; Fenchel's equality by default."""
        x = self.to_primal(y)
        return (self.coordinates(x) * y).sum(-1) - self.potential(x)

    def hessian(self, x: Tensor) -> HessianOperator:
        """``D grad phi (x)`` on chart coordinates; dense and by autograd unless a structure is known."""
        z = self.coordinates(x)
        flat = z.reshape(-1, z.shape[-1])
        rows = torch.func.vmap(torch.func.jacfwd(lambda u: self._gradient(self.from_coordinates(u))))(flat)
        return DenseHessian(rows.reshape(*z.shape, z.shape[-1]))

    def hessian_dual(self, y: Tensor) -> HessianOperator:
        """The Hessian of ``phi`` at ``to_primal(y)``, from the dual point where a closed form allows."""
        return self.hessian(self.to_primal(y))

    def log_det_jacobian(self, x: Tensor) -> Tensor:
        """``log |det d to_dual / d x|`` in the measure of the domain, shape ``(...)``."""
        return self.hessian(x).logdet() + self.log_coordinate_volume

    def log_det_jacobian_dual(self, y: Tensor) -> Tensor:
        """``log_det_jacobian`` at ``to_primal(y)``, accurate where ``x`` has lost its distance to the boundary."""
        return self.hessian_dual(y).logdet() + self.log_coordinate_volume

    def log_det_gradient_dual(self, y: Tensor) -> Tensor:
        """``grad_y log_det_jacobian_dual``, ``(..., dual_dim)``.

        Minus the divergence ``div H^-1`` at ``to_primal(y)``: the drift that keeps the law of a diffusion of metric
        ``H`` and the extra term of mirrored Stein operators. By autograd unless a closed form is known.
        """
        return torch.func.grad(lambda w: self.log_det_jacobian_dual(w).sum())(y)

    def local(self, y: Tensor, start: Tensor | None = None) -> LocalGeometry:
        """The map at dual points ``y (..., dual_dim)``, for samplers: one inverse and no checks of values.

        Args:
            y: Dual points.
            start: The ``start`` of the geometry at a nearby ``y``, which iterative inverses begin with.

        Returns:
            The geometry; the point is NaN where ``y`` is not finite, too large, or an iteration fails.
        """
        # A path that diverged must not stop the others: its row is solved elsewhere and gives a NaN point.
        usable = usable_dual(y)
        y = torch.where(usable, y, 0.0)
        x = self.domain.pull_inside(self._inverse(y))[0]
        return LocalGeometry(self, y, torch.where(usable, x, torch.nan))

    def hessian_again(self, y: Tensor, start: Tensor | None) -> HessianOperator:
        """The Hessian of ``local`` at ``y`` from the ``start`` that came with it, without another solve.

        Args:
            y: Dual points.
            start: ``local(y).start``.
        """
        return self.hessian_dual(y)

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """``D(p, q) = phi(p) - phi(q) - <grad phi(q), p - q>``, shape ``(...)``.

        This three-term form cancels for near points; closed forms override it.
        """
        step = self.coordinates(p) - self.coordinates(q)
        return self.potential(p) - self.potential(q) - (self._gradient(q) * step).sum(-1)

    @property
    def log_coordinate_volume(self) -> float:
        """``log |det|`` of ``coordinates`` with respect to the measure of the domain, a constant."""
        return self.domain.chart_log_volume

    def coordinates(self, x: Tensor) -> Tensor:
        """The primal coordinates ``(..., dual_dim)`` that pair with dual points; the isometric chart by default."""
        return self.domain.to_chart(x)

    def from_coordinates(self, z: Tensor) -> Tensor:
        """Inverse of ``coordinates``."""
        return self.domain.from_chart(z)

    def pull_back(self, g: Tensor) -> Tensor:
        """The gradient in ``coordinates`` ``(..., dual_dim)`` of a function with gradient ``g (..., dim)`` in ``x``."""
        if self.domain.dual_dim == self.domain.dim:
            return g
        # The chart is an isometry: the transpose of its inverse is its own linear part.
        return self.domain.to_chart(g) - self.domain.to_chart(torch.zeros_like(g))

    def dual_contains(self, y: Tensor) -> Tensor:
        """Whether ``y`` lies in ``dom phi*``, a bool tensor ``(...)``; NaN and infinity do not."""
        return torch.isfinite(y).all(-1)

    def dual_requirement(self) -> str:
        """The condition that ``dual_contains`` tests, in words."""
        return "dual points must be finite"

    def check_dual(self, y: Tensor) -> None:
        """Raise unless every dual point is admissible; values are read only in eager mode."""
        check_shape(y, self.domain.dual_dim, "y")
        if not should_check(y) or (self.dual_is_full and bool(torch.isfinite(y).all())):
            return
        if not bool(self.dual_contains(y).all()):
            bad = int((~self.dual_contains(y)).sum())
            raise DomainError(
                f"y: {bad} dual points outside the dual domain of {type(self).__name__}: {self.dual_requirement()}"
            )

    @property
    def transform(self) -> MirrorTransform:
        """``to_primal`` as a ``torch.distributions.Transform`` from ``R^dual_dim`` to the domain."""
        return MirrorTransform(self)

    def _gradient(self, x: Tensor) -> Tensor:
        z = self.coordinates(x)
        gradient = torch.func.grad(lambda u: self.potential(self.from_coordinates(u)).sum())
        return gradient(z)

    def _inverse(self, y: Tensor) -> Tensor:
        return newton_inverse(self, y)


class SeparableMap(MirrorMap):
    """``phi(x) = sum_i f_i(x_i)``: a subclass gives ``f``, ``f'``, its inverse, ``f*`` and ``f''`` elementwise.

    The Hessian is ``diag(f''(x))`` and its log-determinant a sum, all O(d).
    """

    @abstractmethod
    def _potential(self, x: Tensor) -> Tensor:
        """``f(x)`` elementwise."""

    @abstractmethod
    def _gradient(self, x: Tensor) -> Tensor:
        """``f'(x)`` elementwise."""

    @abstractmethod
    def _inverse(self, y: Tensor) -> Tensor:
        """``(f')^-1(y)`` elementwise."""

    @abstractmethod
    def _conjugate(self, y: Tensor) -> Tensor:
        """``f*(y)`` elementwise."""

    @abstractmethod
    def _curvature(self, x: Tensor) -> Tensor:
        """``f''(x)`` elementwise."""

    def _curvature_dual(self, y: Tensor) -> Tensor:
        """``f''`` at the dual point; override where ``x`` loses digits near the boundary."""
        return self._curvature(self.to_primal(y))

    def potential(self, x: Tensor) -> Tensor:
        return self._potential(x).sum(-1)

    def conjugate(self, y: Tensor) -> Tensor:
        return self._conjugate(y).sum(-1)

    def hessian(self, x: Tensor) -> HessianOperator:
        return DiagonalHessian(self._curvature(x))

    def hessian_dual(self, y: Tensor) -> HessianOperator:
        return DiagonalHessian(self._curvature_dual(y))
