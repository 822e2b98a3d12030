"""Primal-dual Newton for gradients of sums over slacks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError
from mirrorgen.geometry.detached import derivatives_wanted, detached_solve
from mirrorgen.geometry.mirror_maps.slack_hessian import SlackHessian
from mirrorgen.geometry.mirror_maps.slack_power import SlackPower

__all__ = ["SlackSystem", "step_length"]

TOLERANCE = 1e-11
ACCEPTED = 1e-9
MAX_ITERATIONS = 500
# First iteration, largest stiffness relative to a typical one. Beyond 1e12 a Cholesky factor keeps too few digits of
# the soft directions; rows that still run afterwards mostly end at a vertex where more than ``d`` facets meet, whose
# forces only the true stiffness settles, and take slower steps that stand any spread.
STAGES = ((0, 1e12), (120, 1e16), (240, 1e19), (360, 1e22))
WARM_ITERATIONS = 40
REPLAY_RANGE = 1e14
BATCH_ENTRIES = 2**24


@dataclass(frozen=True)
class SlackSystem:
    """The equations ``quadratic z + A^T force(sigma) = y`` and ``s_0 - A z = e^sigma`` in ``(z, sigma)``.

    ``z`` is counted from an interior point with slacks ``s_0``. Newton's step for both equations,

        ``(quadratic I + A^T W A) dz = r_1 + A^T W r_2``,  ``d force = W (A dz - r_2)``,  ``W = f''(e^sigma)``,

    converges from the interior point for every ``kappa`` and for dual points of any norm: no line search, and
    ``z`` may leave the set on the way, because the slack lives in ``sigma``. The step is shortened until every
    log-force moves by at most one and no log-slack rises by more than half its size (or one).

    Args:
        rows: ``A (m, d)``.
        slack: ``s_0 (m,)``.
        power: The barrier term.
        quadratic: The factor of the quadratic term.
    """

    rows: Tensor
    slack: Tensor
    power: SlackPower
    quadratic: float

    def solve(self, y: Tensor, on_failure: str = "raise", near: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``(z, sigma)`` for ``y (..., d)`` in float64, with derivatives exact to third order in ``y``, ``A``, ``s_0``.

        An iteration costs ``O(m d^2 + d^3)`` per row. Where gradients are enabled, two steps through matrices of
        ``m + d`` rows follow; ``torch.no_grad`` saves them.

        Args:
            y: Right-hand sides.
            on_failure: ``"raise"``, or ``"nan"`` for rows of NaN.
            near: Solutions ``(z, sigma)`` side by side, ``(..., d + m)``, at right-hand sides nearby to start from.

        Raises:
            ConvergenceError: If a row stays above a relative residual of 1e-9.
        """
        frozen = SlackSystem(self.rows.detach(), self.slack.detach(), self.power, self.quadratic)
        joint = detached_solve(lambda v: frozen._solve_rows(v, on_failure, near), y)
        z, sigma = joint.split([self.rows.shape[1], self.rows.shape[0]], -1)
        if derivatives_wanted(y):
            for _ in range(2):
                z, sigma = self._replayed(z, sigma, y)
        return z, sigma

    def residuals(self, z: Tensor, sigma: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """``r_1`` and ``r_2``, the defects of the two equations; ``r_2`` is zero where it is rounding error.

        Where more than ``d`` facets meet, the stiffness would turn that error into noise of the forces.
        """
        r_1 = y - self.quadratic * z - self.power.force(sigma) @ self.rows
        r_2 = self.slack - z @ self.rows.mT - torch.exp(sigma)
        size = self.slack + torch.linalg.vector_norm(z.detach(), dim=-1, keepdim=True)
        noise = r_2.abs() <= 4 * torch.finfo(z.dtype).eps * size
        return r_1, r_2 - torch.where(noise, r_2, torch.zeros_like(r_2)).detach()

    def relative_residual(self, z: Tensor, sigma: Tensor, y: Tensor) -> Tensor:
        """The larger defect relative to ``1 + |y|`` and to the size of the slacks, ``(...)``."""
        r_1, r_2 = self.residuals(z, sigma, y)
        size = self.slack.max() + torch.linalg.vector_norm(z, dim=-1)
        return torch.maximum(r_1.abs().amax(-1) / (1 + y.abs().amax(-1)), r_2.abs().amax(-1) / size)

    def _stiffness(self, sigma: Tensor, ratio: float) -> Tensor:
        """``W``, capped at ``ratio`` times a typical stiffness of the system."""
        typical = torch.exp(self.power.log_curvature(torch.log(self.slack.detach()))).mean() + self.quadratic
        return torch.exp(torch.minimum(self.power.log_curvature(sigma), torch.log(ratio * typical)))

    def _replayed(self, z: Tensor, sigma: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The same values with the derivatives of a Newton step.

        It goes through the matrix of both equations, which stiff rows do not spoil.
        """
        r_1, r_2 = self.residuals(z, sigma, y)
        residual = torch.cat([r_1 - r_1.detach(), r_2 - r_2.detach()], -1)
        d, m = z.shape[-1], sigma.shape[-1]
        compliance = torch.diag_embed(-1 / self._stiffness(sigma, REPLAY_RANGE))
        eye = self.quadratic * torch.eye(d, dtype=z.dtype, device=z.device)
        top = torch.cat([eye, self.rows.mT], -1).expand(*sigma.shape[:-1], d, d + m)
        bottom = torch.cat([self.rows.expand(*sigma.shape[:-1], m, d), compliance], -1)
        # Not linalg.solve: its derivatives are wrong under vmap(jacfwd(grad(...))) (torch 2.13).
        inverse = torch.linalg.inv(torch.cat([top, bottom], -2))
        step = (inverse @ residual.unsqueeze(-1)).squeeze(-1)
        return z + step[..., :d], sigma - step[..., d:] / self.power.force_rate(sigma)

    def _solve_rows(self, y: Tensor, on_failure: str, near: Tensor | None = None) -> Tensor:
        m, d = self.rows.shape
        flat = y.reshape(-1, d)
        size = max(1, BATCH_ENTRIES // (m * d))
        starts = [None] * len(flat.split(size)) if near is None else near.reshape(-1, d + m).split(size)
        parts = [self._newton(*pair) for pair in zip(flat.split(size), starts, strict=True)]
        joint = torch.cat([p[0] for p in parts])
        residual = torch.cat([p[1] for p in parts])
        failed = ~(residual <= ACCEPTED)
        if on_failure == "raise" and bool(failed.any()):
            worst = float(residual.max())
            raise ConvergenceError(
                f"primal-dual Newton left {int(failed.sum())} of {len(flat)} rows with a relative residual up to "
                f"{worst:.2e}; bring the dual points closer or pass on_failure='nan'",
                worst,
            )
        joint = torch.where(failed.unsqueeze(-1), torch.nan, joint)
        return joint.reshape(*y.shape[:-1], d + m)

    def _newton(self, y: Tensor, near: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if near is not None:
            joint, residual = self._iterate(y, near, WARM_ITERATIONS)
            late = (~(residual <= ACCEPTED)).nonzero().flatten()
            if len(late):
                joint[late], residual[late] = self._newton(y[late])
            return joint, residual
        center = torch.cat([y.new_zeros(y.shape[1]), torch.log(self.slack)])
        return self._iterate(y, center.expand(len(y), -1), MAX_ITERATIONS)

    def _iterate(self, y: Tensor, start: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
        """At most so many steps from ``start (n, d + m)``; the last iterates and their relative residuals."""
        z, sigma = (part.clone() for part in start.split([self.rows.shape[1], self.rows.shape[0]], -1))
        residual = self.relative_residual(z, sigma, y)
        rows = torch.arange(len(y), device=y.device)
        for iteration in range(iterations):
            # Only unfinished rows are worked on. A row leaves one step after it met the tolerance, because that step
            # squares its error; the step counts unless rounding spoils it.
            finished = ~(residual[rows] > TOLERANCE)
            ratio = [r for first, r in STAGES if first <= iteration][-1]
            dz, dsigma = self._direction(z[rows], sigma[rows], y[rows], ratio)
            step = step_length(self.power, sigma[rows], dsigma)
            new = z[rows] + step * dz, sigma[rows] + step * dsigma
            error = self.relative_residual(*new, y[rows])
            taken = ~finished | (error <= TOLERANCE)
            z[rows] = torch.where(taken.unsqueeze(-1), new[0], z[rows])
            sigma[rows] = torch.where(taken.unsqueeze(-1), new[1], sigma[rows])
            residual[rows] = torch.where(taken, error, residual[rows])
            rows = rows[~finished]
            if len(rows) == 0:
                break
        return torch.cat([z, sigma], -1), residual

    def _direction(self, z: Tensor, sigma: Tensor, y: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
        """Newton's step, by Cholesky or by the slower factor that stands any spread of stiffnesses."""
        r_1, r_2 = self.residuals(z, sigma, y)
        W = self._stiffness(sigma, ratio)
        right = r_1 + (W * r_2) @ self.rows
        if ratio > STAGES[0][1]:
            dz = SlackHessian(self.rows, torch.log(W), self.quadratic).solve(right)
        else:
            matrix = (self.rows.mT * W.unsqueeze(-2)) @ self.rows
            matrix = matrix + self.quadratic * torch.eye(self.rows.shape[1], dtype=W.dtype, device=W.device)
            factor, _ = torch.linalg.cholesky_ex(matrix)
            dz = torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)
        return dz, -W * (dz @ self.rows.mT - r_2) / self.power.force_rate(sigma)


def step_length(power: SlackPower, sigma: Tensor, dsigma: Tensor) -> Tensor:
    """The part ``(..., 1)`` of a step at which no log-force moves by more than one; see ``SlackSystem``."""
    rise = torch.clamp(0.5 * sigma.abs(), min=1.0)
    fall = rise if power.kappa == 0 else torch.full_like(rise, 1 / power.kappa)
    limit = torch.where(dsigma > 0, rise, fall)
    return (limit / dsigma.abs().clamp_min(1e-300)).amin(-1, keepdim=True).clamp_max(1.0)
