"""Bregman divergences, projections, proximity operators and envelopes of a mirror map.

``D`` is not symmetric. Left problems move its first argument, ``argmin_u f(u) + D(u, x) / step``, and are convex for
convex ``f``; right problems move the second, ``argmin_u f(u) + D(x, u) / step``, and are solved in the dual, where they
are convex if ``f`` composed with ``grad phi*`` is.

Reference: Bauschke, Dao and Lindstrom, "Regularizing with Bregman-Moreau envelopes", 2018.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.bregman_projections import AffineSet, CappedSimplex, L1Ball, project_dual
from mirrorgen.geometry.domains.base import Domain
from mirrorgen.geometry.domains.box import Box
from mirrorgen.geometry.domains.euclidean import Euclidean
from mirrorgen.geometry.domains.orthant import Orthant
from mirrorgen.geometry.hessian import DenseHessian, HessianOperator
from mirrorgen.geometry.mirror_maps.base import MirrorMap, SeparableMap
from mirrorgen.geometry.mirror_maps.newton import newton_inverse
from mirrorgen.geometry.mirror_maps.quadratic import Quadratic
from mirrorgen.geometry.validation import validation
from mirrorgen.numerics import upcast

__all__ = [
    "AffineSet",
    "CappedSimplex",
    "L1Ball",
    "L1Norm",
    "bregman_divergence",
    "bregman_envelope",
    "bregman_projection",
    "bregman_prox",
]

Side = Literal["left", "right"]


def bregman_divergence(mirror_map: MirrorMap, p: Tensor, q: Tensor) -> Tensor:
    """``D(p, q) = phi(p) - phi(q) - <grad phi(q), p - q>``, in the map's cancellation-free form.

    Args:
        mirror_map: The map of ``phi``.
        p: Points ``(..., dim)``, strictly inside.
        q: Points ``(..., dim)``, strictly inside; broadcast against ``p``.

    Returns:
        Divergences ``(...)``.

    Raises:
        ShapeError: If a last axis is not ``dim``.
        DomainError: If a point is not strictly inside.
    """
    mirror_map.domain.check(p, "p")
    mirror_map.domain.check(q, "q")
    return mirror_map.divergence(*torch.broadcast_tensors(p, q))


def bregman_projection(mirror_map: MirrorMap, x: Tensor, target: Domain | AffineSet | CappedSimplex | L1Ball) -> Tensor:
    """The left Bregman projection ``argmin {D(u, x) : u in target}``.

    Known pairs: ``AffineSet`` with any map (Newton on the concave dual, batched already), ``Box`` with separable
    maps (a clamp), ``CappedSimplex`` with ``SimplexEntropy`` (a sort), ``L1Ball`` with ``Hypentropy`` (a soft
    threshold in the dual). Whoever keeps dual points calls ``project_dual`` of ``bregman_projections``.

    Args:
        mirror_map: The map of ``phi``.
        x: Points ``(..., dim)``, strictly inside.
        target: The set, which must meet the interior of the domain.

    Returns:
        Points ``(..., dim)``, strictly inside the domain of the map.

    Raises:
        DomainError: If the pair is unknown, a point is outside, or the equations contradict each other.
        ConvergenceError: If Newton's method fails, as it does when an affine set misses the interior.
    """
    return project_dual(mirror_map, mirror_map.to_dual(x), target)


@dataclass(frozen=True)
class L1Norm:
    """``f(u) = weight |u|_1``, with a closed left proximity operator for separable maps.

    Args:
        weight: Non-negative factor.
    """

    weight: float = 1.0

    def __call__(self, u: Tensor) -> Tensor:
        return self.weight * u.abs().sum(-1)


def bregman_prox(
    mirror_map: MirrorMap, function: Callable[[Tensor], Tensor], x: Tensor, step: float, side: Side = "left"
) -> Tensor:
    """The Bregman proximity operator ``argmin_u function(u) + D(u, x) / step`` (right: ``D(x, u)``).

    Left: ``grad phi(u) + step grad f(u) = grad phi(x)``. Right: ``u + step H(u)^-1 grad f(u) = x``. Damped Newton in
    float64 with exact derivatives in ``x``; ``L1Norm`` with a separable map on a box, orthant or Euclidean space is
    a shift or soft threshold of the dual point.

    Args:
        mirror_map: The map of ``phi``.
        function: ``f``: points ``(..., dim)`` to values ``(...)``; twice differentiable and convex.
        x: Points ``(..., dim)``, strictly inside.
        step: Positive step size.
        side: Which argument of ``D`` moves.

    Returns:
        Points ``(..., dim)``, strictly inside.

    Raises:
        DomainError: If a point is outside, ``step`` is not positive, or ``L1Norm`` has no closed form here.
        ConvergenceError: If Newton's method fails.
    """
    if side not in ("left", "right"):
        raise DomainError(f'side must be "left" or "right", got {side!r}')
    if not step > 0:
        raise DomainError(f"step must be positive, got {step}")
    mirror_map.domain.check(x)
    if isinstance(function, L1Norm):
        return _shrink(mirror_map, mirror_map.to_dual(x), step * function.weight, side)
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


def _shrink(mirror_map: MirrorMap, y: Tensor, amount: float, side: Side) -> Tensor:
    """Move dual coordinates by ``amount`` towards ``grad phi(0)``, which is infinite where zero is outside."""
    separable = isinstance(mirror_map, SeparableMap) or (
        isinstance(mirror_map, Quadratic) and mirror_map.matrix is None
    )
    kink = _kink(mirror_map, y) if side == "left" and separable else None
    if kink is None:
        raise DomainError(
            f"L1Norm has a closed form for left proximity operators of separable maps on Euclidean, Orthant or Box "
            f"domains only, not for {type(mirror_map).__name__} ({side}); pass a smooth function"
        )
    moved = torch.where(y > kink, torch.maximum(y - amount, kink), torch.minimum(y + amount, kink))
    return mirror_map.to_primal(moved)


def _kink(mirror_map: MirrorMap, y: Tensor) -> Tensor | None:
    domain, zero = mirror_map.domain, torch.zeros_like(y)
    if isinstance(domain, Euclidean):
        return mirror_map._gradient(zero)
    if isinstance(domain, Orthant):
        return torch.full_like(y, -torch.inf)
    if not isinstance(domain, Box):
        return None
    low, high = domain.low.to(y), domain.high.to(y)
    inside = torch.where((low < 0) & (high > 0), 0.0, 0.5 * (low + high)).expand_as(y)
    ends = torch.where(low >= 0, -torch.inf, torch.inf)
    return torch.where((low < 0) & (high > 0), mirror_map._gradient(inside), ends)
