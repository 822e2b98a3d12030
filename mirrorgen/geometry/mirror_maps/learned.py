"""Mirror maps with a learned part: a barrier plus a smooth convex function."""

from typing import Any

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.hessian import HessianOperator
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.mirror_maps.learned_newton import BaseDualSystem
from mirrorgen.geometry.mirror_maps.local import LocalGeometry, usable_dual
from mirrorgen.geometry.mirror_maps.slack_hessian import UpcastHessian
from mirrorgen.geometry.mirror_maps.sum_hessian import SumHessian
from mirrorgen.geometry.validation import require_kind
from mirrorgen.numerics import upcast
from mirrorgen.special import remainder_integral

__all__ = ["LearnedMirrorMap"]

# Where the definition of a divergence loses more digits than this, it is integrated.
CANCELLED = 1e-4


class LearnedMirrorMap(MirrorMap):
    """``phi(x) = base(x) + f(z)`` with ``f`` smooth and convex on all of ``R^dual_dim``, ``z = coordinates(x)``.

    ``grad phi = grad base + grad f`` and ``D^2 phi = D^2 base + D^2 f``. The base alone makes the gradient grow at
    the boundary and reach every dual point, so whatever ``f`` has learned the map is a bijection from the interior
    onto ``R^dual_dim``. ``f`` adds curvature and takes none away: a base with a small ``weight`` and ``quadratic``
    leaves it more freedom.

    The inverse is solved in the dual ``w = grad base(x)`` of the base, see ``BaseDualSystem``, in float64 whatever
    the dtype of the weights, with derivatives exact to third order in the dual point and in the weights of ``f``.

    Source: the potential is that of Huang et al., "Convex Potential Flows: Universal Probability Distributions with
    Optimal Transport and Convex Optimization" (2021), with the barrier of the set in place of their quadratic term;
    learned maps are those of Feng, Baptista and Bouman, "Neural Approximate Mirror Maps for Constrained Diffusion
    Models" (2025), whose inverse and constraints hold approximately.

    Args:
        base: A map whose dual is all of ``R^d`` (``dual_is_full``).
        convex: A module from points ``(..., dual_dim)`` to convex, twice differentiable values ``(...)``, such as
            ``nets.InputConvexMLP(dual_dim)``. It is called with float64 points, which it must evaluate in float64;
            methods ``gradient`` and ``hessian``, where it has them, replace autograd. Convexity is its promise: where
            ``D^2 phi`` is not positive definite, Hessians are NaN.
        on_failure: ``"raise"`` a ConvergenceError, or return ``"nan"`` rows for dual points that do not converge.

    Raises:
        DomainError: If the dual of the base is not all of ``R^d``, or an argument is of the wrong kind.
        ShapeError: If ``convex`` gives anything but one number per point.
    """

    closed_form = False

    def __init__(self, base: MirrorMap, convex: nn.Module, on_failure: str = "raise") -> None:
        require_kind(base, MirrorMap, "base")
        require_kind(convex, nn.Module, "convex")
        super().__init__(base.domain)
        if not base.dual_is_full:
            raise DomainError(
                f"the dual of {type(base).__name__} is not all of R^{self.domain.dual_dim}, nor is that of a sum with "
                "it; use a base with dual_is_full, such as mirror_maps.default(domain)"
            )
        if on_failure not in ("raise", "nan"):
            raise DomainError(f"on_failure must be 'raise' or 'nan', got {on_failure!r}")
        self.base, self.convex, self.on_failure = base, convex, on_failure
        self._check_convex()

    def potential(self, x: Tensor) -> Tensor:
        return self.base.potential(x) + self.convex(self._wide(x)).to(x.dtype)

    def hessian(self, x: Tensor) -> HessianOperator:
        return UpcastHessian(SumHessian(self.base.hessian(x), self.convex_hessian(self._wide(x))), x.dtype)

    def hessian_dual(self, y: Tensor) -> HessianOperator:
        self.check_dual(y)
        w, failed = self._system().solve(upcast(y), self.on_failure)
        matrix = self.convex_hessian(self.coordinates(self.base._inverse(w)))
        matrix = torch.where(failed.unsqueeze(-1), torch.nan, matrix)
        return UpcastHessian(SumHessian(self.base.hessian_dual(w), matrix), y.dtype)

    def local(self, y: Tensor, start: Tensor | None = None) -> LocalGeometry:
        if y.requires_grad and torch.is_grad_enabled():
            return super().local(y, start)
        return _LearnedGeometry(self, y, start)

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        return self.base.divergence(p, q) + self._convex_divergence(self._wide(p), self._wide(q)).to(p.dtype)

    @property
    def log_coordinate_volume(self) -> float:
        return self.base.log_coordinate_volume

    def coordinates(self, x: Tensor) -> Tensor:
        return self.base.coordinates(x)

    def from_coordinates(self, z: Tensor) -> Tensor:
        return self.base.from_coordinates(z)

    def pull_back(self, g: Tensor) -> Tensor:
        return self.base.pull_back(g)

    def convex_gradient(self, z: Tensor) -> Tensor:
        """``grad f(z)`` at coordinates ``(..., dual_dim)`` in float64."""
        closed: Any = getattr(self.convex, "gradient", None)
        if closed is not None:
            return closed(z)
        return torch.func.grad(lambda u: self.convex(u).sum())(z)

    def convex_hessian(self, z: Tensor) -> Tensor:
        """``D^2 f(z)``, ``(..., dual_dim, dual_dim)``, at coordinates ``(..., dual_dim)`` in float64."""
        closed: Any = getattr(self.convex, "hessian", None)
        if closed is not None:
            return closed(z)
        rows = torch.func.vmap(torch.func.jacfwd(torch.func.grad(self.convex)))(z.reshape(-1, z.shape[-1]))
        return rows.reshape(*z.shape, z.shape[-1])

    @torch.no_grad()
    def _check_convex(self) -> None:
        z = self._wide(self.domain.interior_point()).expand(2, -1)
        try:
            value = self.convex(z)
        except RuntimeError as error:
            raise DomainError(
                f"convex does not take {z.dtype} points, which inverses need: {error}; convert it with .double()"
            ) from error
        if value.shape != (2,) or value.dtype != z.dtype:
            raise ShapeError(
                f"convex must give one number per point, (2,) in {z.dtype} for points {tuple(z.shape)}, "
                f"got {tuple(value.shape)} in {value.dtype}"
            )

    def _wide(self, x: Tensor) -> Tensor:
        return self.coordinates(upcast(x))

    def _system(self) -> BaseDualSystem:
        return BaseDualSystem(self.base, self.convex_gradient, self.convex_hessian)

    def _gradient(self, x: Tensor) -> Tensor:
        return self.base._gradient(x) + self.convex_gradient(self._wide(x)).to(x.dtype)

    def _inverse(self, y: Tensor) -> Tensor:
        w, failed = self._system().solve(upcast(y), self.on_failure)
        return torch.where(failed, torch.nan, self.base._inverse(w)).to(y.dtype)

    def _convex_divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """``D_f(p, q)``; where the definition cancels, the integral of the curvature along the segment."""
        step = p - q

        def bend(z: Tensor) -> Tensor:
            return ((self.convex_hessian(z) @ step.unsqueeze(-1)).squeeze(-1) * step).sum(-1)

        terms = torch.stack([self.convex(p), -self.convex(q), -(self.convex_gradient(q) * step).sum(-1)])
        definition = terms.sum(0)
        accurate = definition > CANCELLED * terms.abs().sum(0)
        return torch.where(accurate, definition, remainder_integral(bend, q, step))


class _LearnedGeometry(LocalGeometry):
    """Point, Hessian and log-determinant from one solve that starts at the last ``w``; without derivatives."""

    mirror_map: LearnedMirrorMap

    def __init__(self, mirror_map: LearnedMirrorMap, y: Tensor, start: Tensor | None) -> None:
        usable = usable_dual(y)
        safe = torch.where(usable, y, 0.0)
        with torch.no_grad():
            solved = mirror_map._system().solve_near(upcast(safe), start)
        x = mirror_map.domain.pull_inside(solved.x.to(y.dtype))[0]
        super().__init__(mirror_map, safe, torch.where(usable, x, torch.nan), solved.start)
        self._operator = solved.hessian

    @property
    def hessian(self) -> HessianOperator:
        return UpcastHessian(self._operator, self.y.dtype)

    @property
    def log_det(self) -> Tensor:
        return self.hessian.logdet() + self.mirror_map.log_coordinate_volume
