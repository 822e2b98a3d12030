"""Left Bregman projections ``argmin {D(u, x) : u in C}``: closed forms, sorts, scalar roots, else Newton."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.box_hyperplane import hyperplane_shift
from mirrorgen.geometry.domains.base import Domain, as_buffer
from mirrorgen.geometry.domains.box import Box
from mirrorgen.geometry.domains.euclidean import Euclidean
from mirrorgen.geometry.hessian import DenseHessian, HessianOperator
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.mirror_maps.box_entropy import BoxEntropy
from mirrorgen.geometry.mirror_maps.hypentropy import Hypentropy
from mirrorgen.geometry.mirror_maps.newton import newton_inverse
from mirrorgen.geometry.mirror_maps.quadratic import Quadratic
from mirrorgen.geometry.mirror_maps.simplex_entropy import SimplexEntropy
from mirrorgen.geometry.separable import is_separable
from mirrorgen.geometry.validation import validation
from mirrorgen.numerics import monotone_root, upcast

__all__ = ["AffineSet", "CappedSimplex", "L1Ball", "project_dual", "projected_dual"]


@dataclass(frozen=True)
class AffineSet:
    """``{x : A x = b}`` in the coordinates that users hold.

    Args:
        A: ``(m, dim)``; one row may be given as ``(dim,)``. Redundant consistent rows are allowed.
        b: ``(m,)`` or a number.
    """

    A: Tensor | list
    b: Tensor | list | float

    def rows(self, dim: int) -> tuple[Tensor, Tensor]:
        """``A (m, dim)`` and ``b (m,)`` in float64."""
        A, b = torch.atleast_2d(as_buffer(self.A)), torch.atleast_1d(as_buffer(self.b))
        if A.shape != (len(b), dim):
            raise ShapeError(f"AffineSet needs A (m, {dim}) and b (m,), got {tuple(A.shape)} and {tuple(b.shape)}")
        return A, b


@dataclass(frozen=True)
class CappedSimplex:
    """``{x : 0 <= x <= upper, sum x = 1}``.

    Args:
        upper: Caps, a positive number or ``(K,)``, of sum above one.
    """

    upper: Tensor | list | float


@dataclass(frozen=True)
class L1Ball:
    """``{x : |x|_1 <= radius}``."""

    radius: float


def project_dual(mirror_map: MirrorMap, y: Tensor, target: Domain | AffineSet | CappedSimplex | L1Ball) -> Tensor:
    """The left projection of ``to_primal(y)`` onto ``target``; see ``bregman_projection``."""
    if isinstance(target, AffineSet):
        dual = _affine_dual_point(mirror_map, y, target)
        with validation(False):
            x = mirror_map.to_primal(dual)
        return mirror_map.domain.pull_inside(x.to(y.dtype))[0]
    if isinstance(target, Box) and is_separable(mirror_map):
        return _onto_box(mirror_map, y, target)
    if isinstance(target, Domain) and isinstance(mirror_map, Quadratic) and mirror_map.matrix is None:
        return target.project(mirror_map.to_primal(y))
    if isinstance(target, CappedSimplex) and isinstance(mirror_map, SimplexEntropy):
        return _onto_capped_simplex(mirror_map, y, as_buffer(target.upper))
    if isinstance(target, L1Ball) and isinstance(mirror_map, Hypentropy):
        return _onto_l1_ball(mirror_map, y, target.radius)
    known = (
        "AffineSet with any map, Box with separable maps, any domain with Quadratic without a matrix, "
        "CappedSimplex with SimplexEntropy, L1Ball with Hypentropy"
    )
    raise DomainError(f"no projection onto {type(target).__name__} for {type(mirror_map).__name__}; known: {known}")


def projected_dual(mirror_map: MirrorMap, y: Tensor, target: Domain | AffineSet | CappedSimplex | L1Ball) -> Tensor:
    """The dual point of ``project_dual``; of affine sets without a detour through a point that loses its digits."""
    if isinstance(target, AffineSet):
        return _affine_dual_point(mirror_map, y, target).to(y.dtype)
    return mirror_map.to_dual(project_dual(mirror_map, y, target))


def _onto_box(mirror_map: MirrorMap, y: Tensor, box: Box) -> Tensor:
    """Clamping: one coordinate's divergence falls towards its own point from either side."""
    x = box.project(mirror_map.to_primal(y))
    mirror_map.domain.check(x, "projection")
    return x


def _onto_capped_simplex(mirror_map: SimplexEntropy, y: Tensor, upper: Tensor) -> Tensor:
    """``min(upper, c x)``: coordinates with the largest ``x / upper`` are capped, the rest is rescaled."""
    logits = torch.log_softmax(mirror_map._logits(y), -1)
    caps = upper.to(y.dtype).expand(mirror_map.domain.dim)
    if not bool((upper > 0).all()) or float(upper.expand(len(caps)).sum()) <= 1:
        raise DomainError("CappedSimplex needs positive caps whose sum exceeds one")
    order = torch.argsort(logits - caps.log(), -1, descending=True)
    sorted_caps = caps.expand(logits.shape).gather(-1, order)
    sorted_logits = logits.gather(-1, order)
    # Mass left when the first k are capped, and the factor c that spreads it over the others.
    left = 1 - (sorted_caps.cumsum(-1) - sorted_caps)
    rest = torch.logcumsumexp(sorted_logits.flip(-1), -1).flip(-1)
    factor = torch.log(left.clamp_min(torch.finfo(y.dtype).tiny)) - rest
    count = ((left > 0) & (factor + sorted_logits > sorted_caps.log())).sum(-1, keepdim=True)
    capped = order.argsort(-1) < count
    mass = 1 - torch.where(capped, caps, 0.0).sum(-1, keepdim=True)
    x = torch.where(capped, caps, mass * torch.softmax(torch.where(capped, -torch.inf, logits), -1))
    return mirror_map.domain.pull_inside(x)[0]


def _onto_l1_ball(mirror_map: Hypentropy, y: Tensor, radius: float) -> Tensor:
    """``beta sinh`` of the soft-thresholded dual point, the threshold a monotone scalar root."""
    if not radius > 0:
        raise DomainError(f"L1Ball needs a positive radius, got {radius}")
    target = upcast(y)
    beta = mirror_map.scale(target)
    largest = target.abs().amax(-1, keepdim=True)
    # Every coordinate of the projection is at most the radius.
    lower = (target.abs() - torch.asinh(radius / beta)).amax(-1, keepdim=True).clamp_min(0.0)

    def excess(threshold: Tensor) -> tuple[Tensor, Tensor]:
        kept = (target.abs() - threshold).clamp_min(0.0)
        size = (beta * torch.sinh(kept)).sum(-1, keepdim=True)
        slope = torch.where(kept > 0, beta * torch.cosh(kept), 0.0).sum(-1, keepdim=True)
        return radius - size, slope.clamp_min(torch.finfo(target.dtype).tiny)

    inside = excess(lower)[0] >= 0
    # Points inside keep a harmless root, which is not used.
    threshold = torch.where(inside, 0.0, monotone_root(excess, lower, torch.where(inside, lower, largest)))
    kept = (target.abs() - threshold).clamp_min(0.0)
    return mirror_map.to_primal((torch.sign(target) * kept).to(y.dtype))


class _AffineDual(MirrorMap):
    """``l -> phi*(y + A^T l)`` on the multipliers ``l`` of ``A z = b``: its gradient is ``A z(l)``."""

    def __init__(self, mirror_map: MirrorMap, y: Tensor, A: Tensor) -> None:
        super().__init__(Euclidean(len(A)))
        self.mirror_map, self.y, self.A = mirror_map, y, A

    def dual_point(self, multipliers: Tensor) -> Tensor:
        return self.y + multipliers @ self.A

    def potential(self, x: Tensor) -> Tensor:
        y = self.dual_point(x)
        return torch.where(self.mirror_map.dual_contains(y), self.mirror_map.conjugate(y), torch.inf)

    def _gradient(self, x: Tensor) -> Tensor:
        return self.mirror_map.coordinates(self.mirror_map._inverse(self.dual_point(x))) @ self.A.mT

    def hessian(self, x: Tensor) -> HessianOperator:
        inner = self.mirror_map.hessian_dual(self.dual_point(x))
        columns = [inner.solve(row.expand_as(self.y)) @ self.A.mT for row in self.A]
        return DenseHessian(torch.stack(columns, -1))


def _affine_dual_point(mirror_map: MirrorMap, y: Tensor, target: AffineSet) -> Tensor:
    """``y + A^T l`` in float64, with exact derivatives in ``y``.

    The multipliers are a scalar root for one equation in a box, else they come from damped Newton on the concave dual.
    """
    point = upcast(y)
    A, b = (part.to(point) for part in target.rows(mirror_map.domain.dim))
    if isinstance(mirror_map, BoxEntropy) and len(A) == 1 and bool(A.any()):
        low, high = mirror_map._bounds(point)
        shift = hyperplane_shift(point, A[0] * (high - low), b[0] - A[0] @ low, A[0])
        return point + shift * A[0]
    origin = mirror_map.from_coordinates(torch.zeros_like(point.reshape(-1, y.shape[-1])[0]))
    basis = mirror_map.from_coordinates(torch.eye(y.shape[-1], dtype=A.dtype, device=y.device)) - origin
    rows, offsets = _independent_rows(A @ basis.mT, b - A @ origin, torch.linalg.matrix_norm(A))
    if len(rows) == 0:
        return point
    problem = _AffineDual(mirror_map, point, rows)
    with validation(False):
        multipliers = newton_inverse(problem, offsets.expand(*y.shape[:-1], -1))
    return problem.dual_point(multipliers)


def _independent_rows(A: Tensor, b: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal rows of the same affine set; what is far below ``size`` counts as zero.

    Raises:
        DomainError: If the equations contradict each other.
    """
    left, sizes, right = torch.linalg.svd(A, full_matrices=False)
    keep = sizes > 1e-12 * size
    rows, offsets = right[keep], (left.mT @ b)[keep] / sizes[keep]
    if not torch.allclose(A @ (rows.mT @ offsets), b, rtol=1e-9, atol=1e-9 * float(1 + b.abs().amax())):
        raise DomainError(
            "AffineSet is empty within the affine hull of the domain: its equations contradict each other"
        )
    return rows, offsets
