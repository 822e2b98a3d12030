"""The contract of a constraint set."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.no_flux import damp_normals, scale_column
from mirrorgen.geometry.validation import check_shape, guard_methods, should_check
from mirrorgen.numerics import upcast

__all__ = ["Domain", "DomainConstraint", "ExactBuffers", "as_buffer", "margin", "require_dim"]


def as_buffer(value: Tensor | float | list | tuple) -> Tensor:
    """Constraint data as a float64 tensor: float32 users lose nothing, the sets they describe do not move."""
    try:
        return torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"constraint data must be numbers in rows of equal length, got {value!r:.80}") from error


def require_dim(dim: int, least: int, owner: str, symbol: str = "dim") -> int:
    """``dim`` itself; ``DomainError`` unless it is an integer of at least ``least``."""
    if not isinstance(dim, int) or dim < least:
        raise DomainError(f"{owner} needs {symbol} >= {least}, an integer; got {dim!r}")
    return dim


def margin(x: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """A few units in the last place of ``scale`` in the dtype of ``x``.

    A slack above it stays positive in whatever order a caller sums the constraint in that dtype; the square
    root of the length is the usual growth of rounding errors.
    """
    size = torch.as_tensor(scale, dtype=x.dtype, device=x.device)
    return (4.0 + math.sqrt(x.shape[-1])) * torch.finfo(x.dtype).eps * size


class ExactBuffers(nn.Module):
    """A module whose float64 buffers stay float64 under ``.float()``, ``.half()`` and ``.to(dtype)``; devices change.

    Constraint data rounded to float32 describe another set, and points strictly inside that one may lie outside
    this one.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def keep(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            narrowed = tensor.dtype == torch.float64 and moved.dtype in (torch.float32, torch.float16, torch.bfloat16)
            # Accelerators without float64 have to do with what they hold.
            return tensor.to(moved.device) if narrowed and moved.device.type != "mps" else moved

        return super()._apply(keep, recurse)


class Domain(ExactBuffers, ABC):
    """An open convex set with its closure, in the coordinates that users hold.

    Points have shape ``(..., dim)``. Data such as bounds are float64 buffers, cast to the dtype of the points
    they meet. A set with equalities has ``dual_dim < dim``; ``to_chart`` is then an isometry from its affine
    hull to ``R^dual_dim``, and densities are with respect to Lebesgue measure in the coordinates that the
    class states, which differ from the chart by the constant ``chart_log_volume``.

    A subclass provides ``slack``, ``constraint_name``, ``interior_point``, ``project``, ``reflect`` and
    ``pull_inside``, ``sample_uniform`` if it is bounded, and ``_no_flux`` if half-spaces do not describe it.
    """

    dim: int
    bounded: bool = True
    chart_log_volume: float = 0.0

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        guard_methods(
            cls, ("slack", "project", "reflect", "pull_inside", "to_chart", "to_tangent"), lambda domain: domain.dim
        )
        guard_methods(cls, ("from_chart", "from_tangent"), lambda domain: domain.dual_dim)

    @property
    def dual_dim(self) -> int:
        """Dimension of the affine hull, the length of a dual point."""
        return self.dim

    @abstractmethod
    def slack(self, x: Tensor) -> Tensor:
        """Margin of every inequality, ``(..., m)``, positive inside, in the dtype of ``x``."""

    @abstractmethod
    def constraint_name(self, index: int) -> str:
        """The inequality behind column ``index`` of ``slack``, such as ``"x[3] > 0"``."""

    @abstractmethod
    def interior_point(self) -> Tensor:
        """A well-centred interior point, float64 ``(dim,)``."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """Euclidean projection onto the closure, ``(..., dim)``."""

    @abstractmethod
    def reflect(self, x: Tensor, step: Tensor) -> Tensor:
        """End point of the specular (billiard) path of length ``|step|`` from ``x`` along ``step``.

        Exact for steps of any length; the result is strictly inside. Uniform measure is preserved.
        """

    @abstractmethod
    def pull_inside(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Move points that rounding put on or over the boundary to a nearby representable interior point.

        Meant for points of the closure up to rounding; it is not a projection of far points.

        Returns:
            The points ``(..., dim)``, strictly inside in their own dtype, and a mask ``(...)`` of those moved.
        """

    def sample_uniform(
        self, n: int, *, generator: torch.Generator | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """``n`` independent uniform points ``(n, dim)``, strictly inside.

        Raises:
            DomainError: If the set is unbounded.
        """
        raise DomainError(f"{self!r} has no uniform law: it is unbounded; intersect it with a bounded set")

    def log_volume(self) -> float:
        """Logarithm of the volume in the measure of densities; minus it is the log-density of the uniform law.

        Raises:
            DomainError: If the set is unbounded, or its volume is not known here.
        """
        why = "not known here" if self.bounded else "infinite"
        raise DomainError(f"the volume of {self!r} is {why}")

    def halfspaces(self) -> tuple[Tensor, Tensor]:
        """Unit-row ``A (m, dual_dim)`` and ``b (m,)`` with the set equal to ``A z < b`` in the chart.

        Row ``i`` describes the inequality behind column ``i`` of ``slack``.

        Raises:
            DomainError: If the set is not described by finitely many half-spaces.
        """
        raise DomainError(f"{self!r} is not described by half-spaces; mirror_maps.default(domain) picks a map for it")

    def to_chart(self, x: Tensor) -> Tensor:
        """Isometric coordinates ``(..., dual_dim)`` of points of the affine hull."""
        return x

    def from_chart(self, z: Tensor) -> Tensor:
        """Inverse of ``to_chart``."""
        return z

    def to_tangent(self, v: Tensor) -> Tensor:
        """Linear part of ``to_chart``, ``(..., dim) -> (..., dual_dim)``: the component of a vector along the set."""
        return v

    def from_tangent(self, z: Tensor) -> Tensor:
        """Transpose of ``to_tangent``, ``(..., dual_dim) -> (..., dim)``: a vector along the affine hull."""
        return z

    def no_flux(self, x: Tensor, v: Tensor, scale: Tensor | float) -> Tensor:
        """``v`` with its components normal to nearby walls damped: tangent at a wall, unchanged far from all.

        For half-spaces with unit outward normals ``a_i``, at distances ``d_i`` from ``x``::

            f_i = tanh(d_i / scale),    argmin_u |u - v|^2 + sum_i (1 / f_i - 1) (a_i . u)^2,  u along the affine hull

        At a single face the normal component is multiplied by ``f``, which is odd in the distance as the normal
        component of the exact score of Brownian motion reflected there is, at deviation ``scale``. A field multiplied
        through it has no flux through the walls, corners included, so that its flow cannot leave the set.
        The map is linear in ``v``, self-adjoint, a contraction, smooth inside the set and differentiable in ``x`` and
        ``v``. Classes state their formula and its cost; the one above costs a Cholesky factor of size
        ``min(m, dual_dim)`` per point, with ``m`` faces, in float64.

        Args:
            x: Points of the closure ``(..., dim)``; just outside, the result is finite and nothing more is promised.
            v: Vectors ``(..., dim)``; of a vector that leaves the affine hull the component along it counts.
            scale: Positive width of the layers, in the units of ``x``: a number, or one per point ``(...)``.

        Returns:
            Vectors along the affine hull ``(..., dim)``, in the dtype of ``v``.

        Raises:
            DomainError: If ``scale`` is not positive and finite, or the walls of the set have no such form.
            ShapeError: If the last axis is not ``dim``, or ``scale`` has not the shape of the batch.

        Source: the condition on the score is that of A. Lou, S. Ermon, "Reflected Diffusion Models", 2023, whose
        networks leave it to training; the quadratic form for several walls is this package's.
        """
        check_shape(x, self.dim, "x")
        check_shape(v, self.dim, "v")
        whole = v.expand(torch.broadcast_shapes(x.shape, v.shape))
        return self._no_flux(x, whole, scale_column(scale, x, v)).to(v.dtype)

    def _no_flux(self, x: Tensor, v: Tensor, scale: Tensor | float) -> Tensor:
        """As ``no_flux``, with ``v`` in the shape of the result and ``scale`` a number or ``(..., 1)``."""
        try:
            A, b = self.halfspaces()
        except DomainError as error:
            raise DomainError(
                f"{self!r} has no no_flux: it is not described by half-spaces and its class gives no other form; "
                "implement _no_flux, or sample with a method that reflects"
            ) from error
        z = damp_normals(self.to_chart(upcast(x)), self.to_tangent(upcast(v)), upcast(A), upcast(b), scale)
        return self.from_tangent(z)

    def equality_residual(self, x: Tensor) -> Tensor | None:
        """Largest violation of the equalities, ``(...)``, in units of their rounding error; None if there are none."""
        return None

    def contains(self, x: Tensor, atol: float = 0.0) -> Tensor:
        """Whether points lie strictly inside (``slack > -atol``); NaN counts as outside.

        Args:
            x: Points ``(..., dim)``.
            atol: Tolerance on every inequality; 0 asks for the strict interior in the dtype of ``x``.

        Returns:
            A bool tensor ``(...)``.
        """
        check_shape(x, self.dim, "x")
        inside = (self.slack(x) > -atol).all(-1) & torch.isfinite(x).all(-1)
        residual = self.equality_residual(x)
        return inside if residual is None else inside & (residual <= 1.0)

    def explain(self, x: Tensor) -> str | None:
        """A sentence that names the worst violated constraint and the point, or None if all points are inside."""
        check_shape(x, self.dim, "x")
        rows = x.detach().reshape(-1, self.dim)
        outside = (~self.contains(rows)).nonzero().flatten()
        if len(outside) == 0:
            return None
        count = f"{len(outside)} of {len(rows)} points outside {self!r}"
        if not torch.isfinite(rows).all():
            row = int((~torch.isfinite(rows).all(-1)).nonzero()[0])
            return f"{count}; point {row} has a NaN or infinite coordinate"
        slack = self.slack(rows)[outside]
        worst = int(slack.amin(-1).argmin())
        column = int(slack[worst].argmin())
        residual = self.equality_residual(rows[outside])
        if residual is not None and slack[worst, column] > 0:
            row = int(outside[int(residual.argmax())])
            return f"{count}; point {row} violates an equality by {float(residual.max()):.3g} times its rounding error"
        return (
            f"{count}; point {int(outside[worst])} violates {self.constraint_name(column)} "
            f"(slack {float(slack[worst, column]):.3g})"
        )

    def check(self, x: Tensor, name: str = "x") -> None:
        """Raise unless every point is strictly inside; values are read only in eager mode.

        Raises:
            ShapeError: If the last axis is not ``dim``.
            DomainError: Naming the worst violated constraint.
        """
        check_shape(x, self.dim, name)
        if should_check(x) and not (self._all_inside(x) or bool(self.contains(x).all())):
            raise DomainError(
                f"{name}: {self.explain(x)}; move the points inside, for example with project and pull_inside"
            )

    def _all_inside(self, x: Tensor) -> bool:
        """Whether all points are inside, by reductions over everything, which cost a fraction of those per point."""
        slack = self.slack(x)
        if slack.numel() == 0 or not bool(slack.amin() > 0) or not bool(torch.isfinite(x).all()):
            return False
        residual = self.equality_residual(x)
        return residual is None or bool(residual.amax() <= 1.0)

    @property
    def constraint(self) -> constraints.Constraint:
        """The set as a ``torch.distributions`` constraint with ``event_dim = 1``."""
        return DomainConstraint(self)


class DomainConstraint(constraints.Constraint):
    """View of a ``Domain`` for ``torch.distributions``."""

    is_discrete = False
    event_dim = 1

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        super().__init__()

    def __repr__(self) -> str:
        return f"DomainConstraint({self.domain!r})"

    def check(self, value: Tensor) -> Tensor:
        """``domain.contains(value)``."""
        return self.domain.contains(value)
