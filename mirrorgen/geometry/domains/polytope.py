"""Polytopes and polyhedra, with equalities."""

import numpy as np
import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.detached import detached_solve
from mirrorgen.geometry.domains.base import Domain, margin
from mirrorgen.geometry.domains.billiard import billiard
from mirrorgen.geometry.domains.billiard_walk import billiard_walk
from mirrorgen.geometry.domains.centers import analytic_center, chebyshev_center, recession_direction
from mirrorgen.geometry.domains.linear_constraints import affine_chart, as_rows, chart_rows, unit_rows
from mirrorgen.geometry.domains.nearest_point import active_sets, nearest_point
from mirrorgen.geometry.domains.vertices import convex_log_volume
from mirrorgen.geometry.validation import should_check
from mirrorgen.numerics import upcast

__all__ = ["Polytope"]

_MOST_DIM_OF_VERTICES = 8


class Polytope(Domain):
    """``{x : A x < b, A_eq x = b_eq}``.

    Rows are scaled to unit length and rows that constrain nothing are dropped; duplicate and redundant rows
    are kept (they count in the log barrier). Equalities, which may be redundant too, are reduced to an
    orthonormal chart ``x = offset + basis z`` of their affine hull; densities are with respect to Lebesgue
    measure in that chart. Slacks of float32 points are accumulated in float64, so that membership is decided
    for the point itself. Tensors passed with ``requires_grad`` stay attached: ``slack`` and ``halfspaces`` are
    differentiable in ``A`` and ``b`` (the chart is held fixed); build the domain again after an update of them.

    Attributes:
        A: Unit rows ``(m, dim)`` of the inequalities that are left.
        b: Their right-hand sides ``(m,)``.
        A_eq: Unit rows ``(e, dim)`` of the equalities, or None.
        b_eq: Their right-hand sides ``(e,)``, or None.
        bounded: Whether the set is bounded.
        radius: Radius of the largest inscribed ball (within the affine hull; at most ``max |b|`` if unbounded).

    Args:
        A: Rows of the inequalities ``(m, dim)``.
        b: Right-hand sides ``(m,)``.
        A_eq: Rows of the equalities ``(e, dim)``.
        b_eq: Right-hand sides ``(e,)``.

    Raises:
        ShapeError: If shapes disagree.
        DomainError: If the interior (within the affine hull) is empty, naming the rows that contradict each
            other and their multipliers; if equalities contradict each other or leave a single point; if data
            are not finite.
    """

    A: Tensor
    b: Tensor
    A_eq: Tensor | None
    b_eq: Tensor | None
    basis: Tensor | None
    offset: Tensor | None
    chart_A: Tensor | None
    chart_b: Tensor | None
    center: Tensor

    def __init__(
        self,
        A: Tensor | list,
        b: Tensor | list,
        A_eq: Tensor | list | None = None,
        b_eq: Tensor | list | None = None,
    ) -> None:
        super().__init__()
        self._build(A, b, A_eq, b_eq)

    def _build(
        self,
        A: Tensor | list,
        b: Tensor | list,
        A_eq: Tensor | list | None,
        b_eq: Tensor | list | None,
        start: Tensor | None = None,
    ) -> None:
        """Set up rows, chart and centre; ``start`` is a known interior point of a set known to be bounded."""
        rows, values = as_rows(A, b, ("A", "b"))
        self.dim = rows.shape[1]
        empty = ((rows.detach() == 0).all(-1) & (values.detach() <= 0)).nonzero().flatten()
        if len(empty):
            i = int(empty[0])
            raise DomainError(f"empty interior: row {i} of A is zero and reads 0 < {float(values[i]):g}; remove it")
        rows, values, kept = unit_rows(rows, values)
        kept = kept[self._build_chart(rows, values, A_eq, b_eq)]
        A_z, b_z = (t.detach().cpu().numpy() for t in self.halfspaces())
        z = self._find_center(A_z, b_z, kept.tolist(), None if start is None else self.to_chart(start).cpu().numpy())
        self.register_buffer("center", self.from_chart(torch.from_numpy(z).to(self.A.device)))

    def _build_chart(
        self, rows: Tensor, values: Tensor, A_eq: Tensor | list | None, b_eq: Tensor | list | None
    ) -> Tensor:
        chart: tuple[Tensor | None, ...] = (None,) * 6
        kept = torch.arange(len(rows))
        if (A_eq is None) != (b_eq is None):
            raise ShapeError("A_eq and b_eq must be given together")
        if A_eq is not None and b_eq is not None:
            equal, level = (t.detach() for t in as_rows(A_eq, b_eq, ("A_eq", "b_eq")))
            equal, level = equal.to(rows.device), level.to(rows.device)
            if equal.shape[1] != self.dim:
                raise ShapeError(f"A and A_eq must have as many columns, got {self.dim} and {equal.shape[1]}")
            bad = ((equal == 0).all(-1) & (level != 0)).nonzero().flatten()
            if len(bad):
                raise DomainError(
                    f"row {int(bad[0])} of A_eq is zero and reads 0 = {float(level[bad[0]]):g}; remove it"
                )
            equal, level, _ = unit_rows(equal, level)
            if len(level):
                basis, offset = affine_chart(equal, level)
                flat, rest, kept = chart_rows(rows, values, basis, offset)
                chart = (equal, level, basis, offset, flat, rest)
        if len(kept) == 0:
            raise DomainError("no inequality constrains anything; use Euclidean for the whole space")
        self.register_buffer("A", rows[kept])
        self.register_buffer("b", values[kept])
        for name, value in zip(("A_eq", "b_eq", "basis", "offset", "chart_A", "chart_b"), chart, strict=True):
            self.register_buffer(name, value)
        return kept

    def _find_center(self, A: np.ndarray, b: np.ndarray, names: list[int], start: np.ndarray | None) -> np.ndarray:
        if start is None:
            z, radius, multipliers = chebyshev_center(A, b)
            # An inradius below the rounding error of the slacks is indistinguishable from zero.
            if not radius > 16 * np.finfo(float).eps * float((np.abs(b) + np.abs(A) @ np.abs(z)).max()):
                raise DomainError(_certificate(multipliers, b, names, self.A_eq is not None))
            self.radius = radius
            self.bounded = recession_direction(A) is None
        else:
            z, self.radius, self.bounded = start, float((b - A @ start).min()), True
        return analytic_center(A, b, z) if self.bounded else z

    def extra_repr(self) -> str:
        equalities = 0 if self.A_eq is None else len(self.A_eq)
        return f"dim={self.dim}, inequalities={len(self.A)}, equalities={equalities}, bounded={self.bounded}"

    @property
    def dual_dim(self) -> int:
        """Dimension of the affine hull."""
        return self.dim if self.basis is None else self.basis.shape[1]

    def slack(self, x: Tensor) -> Tensor:
        wide = upcast(x)
        return (self.b.to(wide.dtype) - wide @ self.A.to(wide.dtype).mT).to(x.dtype)

    def constraint_name(self, index: int) -> str:
        return f"A[{index}] @ x < b[{index}] = {self.b[index]:g}"

    def interior_point(self) -> Tensor:
        """The analytic centre of a bounded set, otherwise the centre of an inscribed ball."""
        return self.center

    def halfspaces(self) -> tuple[Tensor, Tensor]:
        if self.chart_A is None or self.chart_b is None:
            return self.A, self.b
        return self.chart_A, self.chart_b

    def to_chart(self, x: Tensor) -> Tensor:
        if self.basis is None or self.offset is None:
            return x
        wide = upcast(x)
        return ((wide - self.offset.to(wide.dtype)) @ self.basis.to(wide.dtype)).to(x.dtype)

    def from_chart(self, z: Tensor) -> Tensor:
        if self.basis is None or self.offset is None:
            return z
        wide = upcast(z)
        return (self.offset.to(wide.dtype) + wide @ self.basis.to(wide.dtype).mT).to(z.dtype)

    def to_tangent(self, v: Tensor) -> Tensor:
        return v if self.basis is None else (upcast(v) @ upcast(self.basis)).to(v.dtype)

    def from_tangent(self, z: Tensor) -> Tensor:
        return z if self.basis is None else (upcast(z) @ upcast(self.basis).mT).to(z.dtype)

    def equality_residual(self, x: Tensor) -> Tensor | None:
        if self.A_eq is None or self.b_eq is None:
            return None
        wide = upcast(x)
        rows, level = self.A_eq.to(wide.dtype), self.b_eq.to(wide.dtype)
        size = level.abs() + torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        unit = upcast(margin(x)) * size + torch.finfo(x.dtype).tiny
        return ((wide @ rows.mT - level).abs() / unit).amax(-1)

    def pull_inside(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # Slacks are linear along the segment to the centre, so the contraction that lifts every slack to a few
        # ulps of its terms has a closed form; what the set is too thin for in this dtype gets a share of the
        # centre's slack instead.
        wide = upcast(x)
        rows, level, center = (t.detach().to(wide.dtype) for t in (self.A, self.b, self.center))
        slack, full = level - wide @ rows.mT, level - center @ rows.mT
        size = level.abs() + wide.abs() @ rows.abs().mT
        ulps = upcast(margin(x))
        trigger = torch.minimum(ulps * size, 0.25 * full).clamp_min(torch.finfo(x.dtype).tiny)
        moved = (slack < trigger).any(-1)
        target = torch.minimum(2 * ulps * torch.maximum(size, level.abs() + center.abs() @ rows.abs().mT), 0.5 * full)
        # Where the slack is below its target it is below the centre's, and the quotient is at most one.
        fraction = torch.where(slack < target, (target - slack) / (full - slack), 0.0).amax(-1, keepdim=True).detach()
        pulled = (wide + fraction * (center - wide)).to(x.dtype)
        inside = (level - upcast(pulled) @ rows.mT > 0).all(-1, keepdim=True)
        kept = center.to(x.dtype)
        if should_check(kept) and not bool((level - upcast(kept) @ rows.mT > 0).all()):
            raise DomainError(f"{self!r} is too thin for {x.dtype}: its centre rounds to a point outside; use float64")
        pulled = torch.where(inside, pulled, kept)
        return torch.where(moved.unsqueeze(-1), pulled, x), moved

    def project(self, x: Tensor) -> Tensor:
        """Nearest point of the closure, by an exact active-set method in float64; differentiable almost everywhere."""
        rows, level = (upcast(t) for t in self.halfspaces())
        z = self.to_chart(upcast(x))
        fixed_rows, fixed_level = rows.detach(), level.detach()
        active = detached_solve(lambda v: active_sets(v, fixed_rows, fixed_level), z)
        return self.from_chart(nearest_point(z, rows, level, active.long())).to(x.dtype)

    def reflect(self, x: Tensor, step: Tensor) -> Tensor:
        rows, level = (t.detach() for t in self.halfspaces())
        z, along = self.to_chart(upcast(x)), self.to_tangent(upcast(step))
        return self.pull_inside(self.from_chart(billiard(z, along, rows, level)).to(x.dtype))[0]

    def sample_uniform(
        self, n: int, *, generator: torch.Generator | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """``n`` points ``(n, dim)``, each the end of its own billiard walk of 20 paths (see ``billiard_walk``).

        Raises:
            DomainError: If the set is unbounded, naming a direction.
        """
        rows, level = (upcast(t.detach()) for t in self.halfspaces())
        if not self.bounded:
            direction = recession_direction(rows.cpu().numpy())
            shown = "" if direction is None else f" along {np.round(self._ambient(direction), 4).tolist()}"
            raise DomainError(f"{self!r} has no uniform law: it is unbounded{shown}; intersect it with a bounded set")
        center = self.to_chart(upcast(self.center))
        z = billiard_walk(rows, level, center, n, generator)
        return self.pull_inside(self.from_chart(z).to(dtype or torch.get_default_dtype()))[0]

    def log_volume(self) -> float:
        """From the vertices, in the chart: their number grows exponentially, hence up to ``dual_dim = 8``."""
        if not self.bounded or self.dual_dim > _MOST_DIM_OF_VERTICES:
            return super().log_volume()
        rows, level = (t.detach().cpu().numpy() for t in self.halfspaces())
        center = self.to_chart(self.center.detach()).cpu().numpy()
        return convex_log_volume(rows, level, center)

    def _ambient(self, direction: np.ndarray) -> np.ndarray:
        return direction if self.basis is None else self.basis.cpu().numpy() @ direction


def _certificate(multipliers: np.ndarray, b: np.ndarray, names: list[int], equalities: bool) -> str:
    """The contradiction that the dual multipliers prove, in words."""
    order = np.argsort(-multipliers)
    largest = [int(i) for i in order if multipliers[i] > 1e-9 * multipliers.max()]
    terms = " + ".join(f"{multipliers[i]:.3g} * row {names[i]}" for i in largest[:6])
    more = f" + {len(largest) - 6} more" if len(largest) > 6 else ""
    along = " on the affine hull of the equalities" if equalities else ""
    value = float(multipliers @ b)
    return (
        f"empty interior: the inequalities contradict each other{along}: {terms}{more} (unit rows) "
        f"reads 0 < {value:.3g}; relax these rows, or pass what they force to be equal as A_eq, b_eq"
    )
