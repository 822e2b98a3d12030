"""Inverse gradients of a barrier plus a smooth convex function, by Newton's method in the dual of the barrier."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError
from mirrorgen.geometry.detached import derivatives_wanted, detached_solve
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.mirror_maps.sum_hessian import SumHessian

__all__ = ["BaseDualSystem", "Solved"]

TOLERANCE = 1e-10
ACCEPTED = 1e-9
MAX_ITERATIONS = 100
HALVINGS = 40
DECREASE = 1e-4
BATCH_ROWS = 2**13


class Solved(NamedTuple):
    """A solution without derivatives: the point, the Hessian there and what solves nearby start from."""

    x: Tensor
    hessian: SumHessian
    start: Tensor


@dataclass(frozen=True)
class BaseDualSystem:
    """The equation ``F(w) = w + grad f(z(w)) - y = 0`` for the base's dual point ``w``, ``z(w) = grad base*(w)``.

    In ``x`` the barrier makes Newton's method fail for far dual points, because the slack it needs cannot be
    represented. In ``w`` the barrier is the identity and its own inverse takes care of the slack: where ``grad f``
    is bounded by ``L``, the solution is within ``L`` of ``y``. Every point on the way is inside, so no step has to
    be cut at the boundary. With ``H = D^2 base + D^2 f`` the Newton step is

        ``dw = D^2 f H^-1 F - F``,

    the image of the primal Newton step ``-H^-1 F`` for the strongly convex ``phi(x) - <x, y>``, hence a descent
    direction of it. The step is halved until ``|F|`` falls: unlike the potential, whose decrease drowns in rounding
    for large ``|y|``, the residual is accurate for every ``y``. The Jacobian ``I + D^2 f (D^2 base)^-1`` is never
    singular and sublevel sets of ``|F|`` are bounded, so ``|F|`` has no other stationary point and the method
    converges from everywhere.

    Args:
        base: The barrier.
        gradient: ``grad f`` at coordinates ``(..., d)``.
        hessian: ``D^2 f``, ``(..., d, d)``.
    """

    base: MirrorMap
    gradient: Callable[[Tensor], Tensor]
    hessian: Callable[[Tensor], Tensor]

    def solve(self, y: Tensor, on_failure: str) -> tuple[Tensor, Tensor]:
        """``w`` for ``y (..., d)`` in float64 and which rows ``(..., 1)`` failed, where ``w`` is zero.

        Newton steps are replayed on the detached solution, two where gradients are enabled: derivatives are then exact
        to third order in ``y`` and in every tensor that the base and ``f`` hold.

        Args:
            y: Dual points.
            on_failure: ``"raise"``, or ``"nan"`` for rows of NaN.

        Raises:
            ConvergenceError: If the relative residual of a row stays above 1e-9 times the gain of ``f``.
        """
        w = detached_solve(lambda v: self._solve_rows(v, None, on_failure)[0], y)
        failed = torch.isnan(w).any(-1, keepdim=True)
        w = torch.where(failed, 0.0, w)
        # The first step polishes too: near starts the base's inverse stops at its own tolerance.
        for _ in range(2 if derivatives_wanted(y) else 1):
            z = self.base.coordinates(self.base._inverse(w))
            operator = SumHessian(self.base.hessian_dual(w), self.hessian(z))
            w = w + torch.where(failed, 0.0, _newton_step(operator, w + self.gradient(z) - y))
        return w, failed

    def solve_near(self, y: Tensor, start: Tensor | None) -> Solved:
        """The solution at ``y (..., d)`` from the ``start`` of one nearby; NaN rows where it fails."""
        w, known = self._solve_rows(y, start, "nan")
        geometry = self.base.local(w, known)
        matrix = self.hessian(self.base.coordinates(geometry.x))
        start = w if geometry.start is None else torch.cat([w, geometry.start], -1)
        return Solved(geometry.x, SumHessian(geometry.hessian, matrix), start)

    def _solve_rows(self, y: Tensor, start: Tensor | None, on_failure: str) -> tuple[Tensor, Tensor | None]:
        """Solutions and the base's own starts, for any leading shape."""
        d = y.shape[-1]
        if y.numel() == 0:
            return y, None
        parts = y.reshape(-1, d).split(BATCH_ROWS)
        starts = [None] * len(parts) if start is None else start.reshape(-1, start.shape[-1]).split(BATCH_ROWS)
        solved = [self._newton(*pair) for pair in zip(parts, starts, strict=True)]
        error = torch.cat([s.error / s.gain for s in solved])
        failed = ~(error <= ACCEPTED)
        if on_failure == "raise" and bool(failed.any()):
            worst = float(error.max())
            raise ConvergenceError(
                f"Newton in the dual of {type(self.base).__name__} left {int(failed.sum())} of {len(failed)} rows with "
                f"a relative residual up to {worst:.2e}; check that the learned function is convex, bring the dual "
                "points closer or pass on_failure='nan'",
                worst,
            )
        w = torch.where(failed.unsqueeze(-1), torch.nan, torch.cat([s.w for s in solved])).reshape(y.shape)
        if solved[0].start is None:
            return w, None
        return w, torch.cat([s.start for s in solved if s.start is not None]).reshape(*y.shape[:-1], -1)

    def _newton(self, y: Tensor, start: Tensor | None) -> "_Iterate":
        """Rows ``y (n, d)`` from ``w`` and the base's start side by side, or from ``w = y``."""
        d = y.shape[-1]
        if start is None:
            state = self._at(y, y, None)
        else:
            state = self._at(start[:, :d], y, start[:, d:] if start.shape[1] > d else None)
        rows = torch.arange(len(y), device=y.device)
        for _ in range(MAX_ITERATIONS):
            new, running = self._advance(state.rows(rows), y[rows])
            state = state.replaced(rows, new)
            rows = rows[running]
            if len(rows) == 0:
                break
        return state

    def _advance(self, state: "_Iterate", y: Tensor) -> tuple["_Iterate", Tensor]:
        """One step, halved until the residual falls, and which rows go on.

        A row leaves one step after it met the tolerance, because that step squares its error, or when it is stuck.
        """
        hessian = SumHessian(
            self.base.hessian_again(state.w, state.start), self.hessian(self.base.coordinates(state.x))
        )
        state = state._replace(gain=1 + torch.relu(hessian.relative_trace))
        step = _newton_step(hessian, state.residual)
        # Where D^2 phi is not positive definite there is no step.
        finished = (state.error <= TOLERANCE * state.gain) | ~torch.isfinite(step).all(-1)
        length = torch.ones_like(state.error)
        new = state
        for _ in range(HALVINGS):
            new = self._at(state.w + length.unsqueeze(-1) * step, y, state.start)
            enough = (new.error <= (1 - DECREASE * length) * state.error) | finished
            if bool(enough.all()):
                break
            length = torch.where(enough, length, 0.5 * length)
        better = new.error <= state.error
        taken = better.nonzero().squeeze(-1)
        return state.replaced(taken, new.rows(taken)._replace(gain=state.gain[taken])), better & ~finished

    def _at(self, w: Tensor, y: Tensor, start: Tensor | None) -> "_Iterate":
        geometry = self.base.local(w, start)
        residual = w + self.gradient(self.base.coordinates(geometry.x)) - y
        error = torch.linalg.vector_norm(residual, dim=-1) / (1 + torch.linalg.vector_norm(y, dim=-1))
        return _Iterate(w, geometry.x, geometry.start, residual, error, torch.ones_like(error))


class _Iterate(NamedTuple):
    """Rows of ``w``, the base's point and start there, ``F(w)``, ``|F| / (1 + |y|)`` and the gain of ``f``.

    The gain ``1 + tr D^2 f (D^2 base)^-1`` is what ``F`` makes of an error of the base's inverse; ``(n,)``.
    """

    w: Tensor
    x: Tensor
    start: Tensor | None
    residual: Tensor
    error: Tensor
    gain: Tensor

    def rows(self, index: Tensor) -> "_Iterate":
        """Some of the rows."""
        start = None if self.start is None else self.start[index]
        return _Iterate(self.w[index], self.x[index], start, self.residual[index], self.error[index], self.gain[index])

    def replaced(self, index: Tensor, new: "_Iterate") -> "_Iterate":
        """A copy with other values in these rows."""

        def merged(old: Tensor, part: Tensor) -> Tensor:
            return old.index_copy(0, index, part)

        start = None if self.start is None or new.start is None else merged(self.start, new.start)
        w, x, residual = merged(self.w, new.w), merged(self.x, new.x), merged(self.residual, new.residual)
        return _Iterate(w, x, start, residual, merged(self.error, new.error), merged(self.gain, new.gain))


def _newton_step(hessian: SumHessian, residual: Tensor) -> Tensor:
    """``dw``, see ``BaseDualSystem``."""
    return (hessian.matrix @ hessian.solve(residual).unsqueeze(-1)).squeeze(-1) - residual
