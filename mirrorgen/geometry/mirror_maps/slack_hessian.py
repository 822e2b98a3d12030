"""Hessians of sums over slacks, whose curvatures may differ by hundreds of orders of magnitude."""

import math

import torch
from torch import Tensor

from mirrorgen.geometry.hessian import HessianOperator
from mirrorgen.numerics import upcast

__all__ = ["SlackHessian", "UpcastHessian", "bounded_exp"]

LARGEST_LOG_CURVATURE = 600.0


def bounded_exp(log_curvature: Tensor) -> tuple[Tensor, Tensor]:
    """``exp`` capped at ``e^600`` and the logarithm of what the cap took away.

    Above the cap the direction is rigid to the last bit anyway; the excess belongs to the log-determinant.
    """
    capped = torch.clamp(log_curvature, max=LARGEST_LOG_CURVATURE)
    return torch.exp(capped), log_curvature - capped


class SlackHessian(HessianOperator):
    """``H = quadratic I + A^T diag(e^c) A`` for any spread of ``c``.

    A Cholesky factor of ``H`` loses every curvature below ``1e-16`` times the largest. Here ``H = Q R^T R Q^T +
    quadratic (I - Q Q^T)``: the columns of ``Q`` orthonormalise the rows of ``A`` from the stiffest down, and ``R``
    is the QR factor of the stacked rows in that basis, so that errors are relative to each row. With fewer rows
    than coordinates everything but ``Q`` has the size of the rows (matrix determinant lemma).

    Curvatures above ``e^600`` count as ``e^600``, with their excess added to ``logdet``; that is exact for linearly
    independent stiff rows, the generic case.

    Source: A. J. Cox, N. J. Higham, "Stability of Householder QR factorization for weighted least squares
    problems", 1998.

    Args:
        rows: ``A (m, d)``.
        log_curvature: ``c (..., m)``.
        quadratic: Non-negative; positive if ``m < d``.
    """

    def __init__(self, rows: Tensor, log_curvature: Tensor, quadratic: float) -> None:
        self.rows, self.quadratic = rows, quadratic
        self._curvature, self._excess = bounded_exp(log_curvature)
        order = torch.argsort(log_curvature.detach(), -1, descending=True)
        stiff_first = rows[order]
        self._basis = torch.linalg.qr(stiff_first.detach().mT)[0]
        local = stiff_first @ self._basis
        # Entries at rounding level are zero for repeated and structured rows; a stiff row would blow them up.
        local = local - torch.where(local.abs() <= 1e-14, local, torch.zeros_like(local)).detach()
        weighted = self._curvature.gather(-1, order).sqrt().unsqueeze(-1) * local
        size = local.shape[-1]
        ridge = math.sqrt(quadratic) * torch.eye(size, dtype=rows.dtype, device=rows.device)
        ridge = ridge.expand(*weighted.shape[:-2], size, size)
        self._factor = torch.linalg.qr(torch.cat([weighted, ridge], -2))[1]

    def _split(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Components of ``v`` in the basis, and the remainder orthogonal to it."""
        inner = self._basis.mT @ v.unsqueeze(-1)
        if self._factor.shape[-1] == self.rows.shape[-1]:
            return inner, torch.zeros_like(v)
        return inner, v - (self._basis @ inner).squeeze(-1)

    def _join(self, inner: Tensor, rest: Tensor, scale: float) -> Tensor:
        return (self._basis @ inner).squeeze(-1) + (scale * rest if self.quadratic else rest)

    def mv(self, v: Tensor) -> Tensor:
        return self.quadratic * v + (self._curvature * (v @ self.rows.mT)) @ self.rows

    def solve(self, v: Tensor) -> Tensor:
        inner, rest = self._split(v)
        half = torch.linalg.solve_triangular(self._factor.mT, inner, upper=False)
        inner = torch.linalg.solve_triangular(self._factor, half, upper=True)
        return self._join(inner, rest, 1 / (self.quadratic or 1.0))

    def sqrt_mv(self, v: Tensor) -> Tensor:
        inner, rest = self._split(v)
        return self._join(self._factor.mT @ inner, rest, math.sqrt(self.quadratic))

    def inv_sqrt_mv(self, v: Tensor) -> Tensor:
        inner, rest = self._split(v)
        inner = torch.linalg.solve_triangular(self._factor, inner, upper=True)
        return self._join(inner, rest, 1 / math.sqrt(self.quadratic or 1.0))

    def logdet(self) -> Tensor:
        diagonal = torch.diagonal(self._factor, dim1=-2, dim2=-1)
        missing = self.rows.shape[-1] - self._factor.shape[-1]
        rest = missing * math.log(self.quadratic) if missing else 0.0
        return 2 * diagonal.abs().log().sum(-1) + self._excess.sum(-1) + rest

    def dense(self) -> Tensor:
        eye = torch.eye(self.rows.shape[-1], dtype=self.rows.dtype, device=self.rows.device)
        return self.quadratic * eye + (self.rows.mT * self._curvature.unsqueeze(-2)) @ self.rows


class UpcastHessian(HessianOperator):
    """An operator in float64 that takes and returns vectors of another dtype.

    Args:
        operator: The operator that computes.
        dtype: What goes in and comes out.
        log_excess: Added to ``logdet``, ``(...)``; see ``bounded_exp``.
    """

    def __init__(self, operator: HessianOperator, dtype: torch.dtype, log_excess: Tensor | float = 0.0) -> None:
        self.operator, self.dtype, self.log_excess = operator, dtype, log_excess

    def mv(self, v: Tensor) -> Tensor:
        return self.operator.mv(upcast(v)).to(self.dtype)

    def solve(self, v: Tensor) -> Tensor:
        return self.operator.solve(upcast(v)).to(self.dtype)

    def sqrt_mv(self, v: Tensor) -> Tensor:
        return self.operator.sqrt_mv(upcast(v)).to(self.dtype)

    def inv_sqrt_mv(self, v: Tensor) -> Tensor:
        return self.operator.inv_sqrt_mv(upcast(v)).to(self.dtype)

    def logdet(self) -> Tensor:
        return (self.operator.logdet() + self.log_excess).to(self.dtype)

    def dense(self) -> Tensor:
        return self.operator.dense().to(self.dtype)
