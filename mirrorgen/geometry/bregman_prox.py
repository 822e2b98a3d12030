"""Bregman proximity operators and Bregman-Moreau envelopes, left and right."""

from collections.abc import Callable

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains.euclidean import Euclidean
from mirrorgen.geometry.hessian import DenseHessian, HessianOperator
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.mirror_maps.newton import newton_inverse
from mirrorgen.geometry.prox_closed_forms import Side, prox_dual, prox_point
from mirrorgen.geometry.proximal_functions import ProximalFunction
from mirrorgen.geometry.validation import validation
from mirrorgen.numerics import upcast

__all__ = ["bregman_envelope", "bregman_prox", "envelope_gradient"]


def bregman_prox(
    mirror_map: MirrorMap, function: Callable[[Tensor], Tensor], x: Tensor, step: float, side: Side = "left"
) -> Tensor:
    """The Bregman proximity operator ``argmin_u function(u) + D(u, x) / step`` (right: ``D(x, u)``).

    Left: ``grad phi(u) + step grad f(u) = grad phi(x)``. Right: ``u + step H(u)^-1 grad f(u) = x``. Damped Newton in
    float64 with exact derivatives in ``x``; a ``ProximalFunction`` (``L1Norm``, ``GroupNorm``, ``Indicator``) is a
    closed form on the dual point, see ``prox_dual`` for the pairs that have one.

    Args:
        mirror_map: The map of ``phi``.
        function: ``f``: points ``(..., dim)`` to values ``(...)``; convex, and twice differentiable or a
            ``ProximalFunction``.
        x: Points ``(..., dim)``, strictly inside.
        step: Positive step size.
        side: Which argument of ``D`` moves.

    Returns:
        Points ``(..., dim)``, strictly inside.

    Raises:
        DomainError: If a point is outside, ``step`` is not positive, or a ``ProximalFunction`` has no closed form.
        ConvergenceError: If Newton's method fails.
    """
    check_problem(step, side)
    mirror_map.domain.check(x)
    if isinstance(function, ProximalFunction):
        return prox_point(mirror_map, function, mirror_map.to_dual(x), step, side)
    wide = upcast(x)
    with validation(False):
        if side == "left":
            u = newton_inverse(_LeftProximity(mirror_map, function, step), mirror_map.to_dual(wide))
        else:
            w = newton_inverse(_RightProximity(mirror_map, function, step), mirror_map.coordinates(wide))
            u = mirror_map.to_primal(w)
    return mirror_map.domain.pull_inside(u.to(x.dtype))[0]


def bregman_envelope(
    mirror_map: MirrorMap, function: Callable[[Tensor], Tensor], x: Tensor, step: float, side: Side = "left"
) -> Tensor:
    """The Bregman-Moreau envelope ``min_u function(u) + D(u, x) / step`` (right: ``D(x, u)``), shape ``(...)``.

    Its gradient in the coordinates of the map is ``H(x) (x - u) / step`` on the left and
    ``(grad phi(x) - grad phi(u)) / step`` on the right, with ``u`` the proximal point. Arguments as ``bregman_prox``.
    """
    u = bregman_prox(mirror_map, function, x, step, side)
    pair = (u, x) if side == "left" else (x, u)
    return function(u) + mirror_map.divergence(*pair) / step


def envelope_gradient(
    mirror_map: MirrorMap, function: ProximalFunction, y: Tensor, step: float, side: Side = "left"
) -> Tensor:
    """The gradient of ``bregman_envelope`` in the coordinates of the map at ``x = grad psi*(y)``.

    Left ``H(x) (x - u) / step``, right ``(y - w) / step`` with ``u`` the proximal point and ``w`` its dual. In float64:
    for small steps both differences cancel.

    Args:
        mirror_map: The map of ``psi``.
        function: ``f``.
        y: Dual points ``(..., dual_dim)``.
        step: Positive step size ``lambda``.
        side: Which argument of ``D`` moves.

    Returns:
        Gradients ``(..., dual_dim)``.

    Raises:
        DomainError: If there is no closed form.
    """
    wide = upcast(y)
    w = prox_dual(mirror_map, function, wide, step, side)
    if side == "right":
        return ((wide - w) / step).to(y.dtype)
    move = mirror_map.coordinates(mirror_map.to_primal(wide)) - mirror_map.coordinates(mirror_map.to_primal(w))
    return (mirror_map.hessian_dual(wide).mv(move) / step).to(y.dtype)


def check_problem(step: float, side: Side) -> None:
    """Raise ``DomainError`` unless ``step`` is positive and ``side`` is one of the two."""
    if side not in ("left", "right"):
        raise DomainError(f'side must be "left" or "right", got {side!r}')
    if not step > 0:
        raise DomainError(f"step must be positive, got {step}")


class _LeftProximity(MirrorMap):
    """``phi + step f``, whose inverse gradient is the left proximity operator after ``grad phi``."""

    def __init__(self, mirror_map: MirrorMap, function: Callable[[Tensor], Tensor], step: float) -> None:
        super().__init__(mirror_map.domain)
        self.mirror_map, self.function, self.step = mirror_map, function, step

    def potential(self, x: Tensor) -> Tensor:
        return self.mirror_map.potential(x) + self.step * self.function(x)

    def coordinates(self, x: Tensor) -> Tensor:
        return self.mirror_map.coordinates(x)

    def from_coordinates(self, z: Tensor) -> Tensor:
        return self.mirror_map.from_coordinates(z)

    def _gradient(self, x: Tensor) -> Tensor:
        slope = torch.func.grad(lambda z: self.function(self.from_coordinates(z)).sum())
        return self.mirror_map._gradient(x) + self.step * slope(self.coordinates(x))


class _DualSpace(Euclidean):
    """``dom phi*`` as the search space of Newton's method, started at the dual of the interior point."""

    def __init__(self, mirror_map: MirrorMap) -> None:
        super().__init__(mirror_map.domain.dual_dim)
        self.mirror_map = mirror_map

    def interior_point(self) -> Tensor:
        return self.mirror_map.to_dual(self.mirror_map.domain.interior_point())

    def contains(self, x: Tensor, atol: float = 0.0) -> Tensor:
        return self.mirror_map.dual_contains(x)


class _RightProximity(MirrorMap):
    """``w -> phi*(w) + step f(grad phi*(w))`` on dual points: its gradient at the solution is ``x``."""

    def __init__(self, mirror_map: MirrorMap, function: Callable[[Tensor], Tensor], step: float) -> None:
        super().__init__(_DualSpace(mirror_map))
        self.mirror_map, self.function, self.step = mirror_map, function, step

    def potential(self, x: Tensor) -> Tensor:
        return self.mirror_map.conjugate(x) + self.step * self.function(self.mirror_map.to_primal(x))

    def _gradient(self, x: Tensor) -> Tensor:
        # Without pull_inside, which has no business in an intermediate point that derivatives pass through.
        slope = torch.func.grad(lambda w: self.function(self.mirror_map._inverse(w)).sum())
        return self.mirror_map.coordinates(self.mirror_map._inverse(x)) + self.step * slope(x)

    def hessian(self, x: Tensor) -> HessianOperator:
        # Away from the solution the composed function may be concave in a direction; the shift keeps the step one
        # of descent, and vanishes where the Hessian is positive definite.
        eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        columns = [torch.func.jvp(self._gradient, (x,), (e.expand_as(x).contiguous(),))[1] for e in eye]
        matrix = torch.stack(columns, -1)
        values = torch.linalg.eigvalsh(matrix.detach())
        shift = 2 * (1e-8 * values[..., -1:].abs() - values[..., :1]).clamp_min(0.0)
        return DenseHessian(matrix + torch.diag_embed(shift.expand_as(values)))
