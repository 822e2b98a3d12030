"""Hessians of sums over slacks, whose curvatures may differ by hundreds of orders of magnitude."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.geometry.hessian import HessianOperator
from mirrorgen.numerics import upcast

__all__ = ["SlackHessian", "UpcastHessian", "bounded_exp"]

LARGEST_LOG_ROOT = 300.0
LARGEST_LOG_CURVATURE = 2 * LARGEST_LOG_ROOT


def bounded_exp(log_curvature: Tensor) -> tuple[Tensor, Tensor]:
    """``exp`` capped at ``e^600`` and the logarithm of what the cap took away.

    Above the cap the direction is rigid to the last bit anyway; the excess belongs to the log-determinant.
    """
    capped = torch.clamp(log_curvature, max=LARGEST_LOG_CURVATURE)
    return torch.exp(capped), log_curvature - capped


class SlackHessian(HessianOperator):
    """``H = quadratic I + A^T diag(e^c) A`` for any spread of ``c``.

    A Cholesky factor of ``H`` loses every curvature below ``1e-16`` times the largest. Here
    ``H = Q T R^T R T Q^T + quadratic (I - Q Q^T)``: the columns of ``Q`` orthonormalise the rows of ``A`` greedily,
    the stiffest independent row first; ``T`` is diagonal and holds what exceeds ``e^300`` of each of these rows'
    stiffness ``e^(c/2)``; ``R`` is the QR factor of the rows in this basis, from the stiffest down, so that errors
    are relative to each row. Repeated rows and vertices where more than ``d`` facets meet are no exception. With
    fewer rows than coordinates everything but ``Q`` has the size of the rows (matrix determinant lemma).

    Products with ``H`` and its root, unlike solves and the log-determinant, treat curvatures above ``e^600`` as
    ``e^600``.

    Source: A. J. Cox, N. J. Higham, "Stability of Householder QR factorization for weighted least squares
    problems", 1998.

    Args:
        rows: ``A (m, d)``, unit rows.
        log_curvature: ``c (..., m)``.
        quadratic: Non-negative; positive if the rows do not span.
    """

    def __init__(self, rows: Tensor, log_curvature: Tensor, quadratic: float) -> None:
        self.rows, self.quadratic, self._log_curvature = rows, quadratic, log_curvature
        self._curvature, _ = bounded_exp(log_curvature)
        self._made: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    @property
    def _factors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``Q``, the logarithm of ``T``, ``R``, and the rows that it factors: ``e^(c/2) A Q / T`` ``(..., m, k)``."""
        # Made on first use: products with H and its dense form do not need them. Not a cached_property: its lock does
        # not compile.
        if self._made is None:
            self._made = self._factorize()
        return self._made

    def _factorize(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows, log_curvature = self.rows, self._log_curvature
        basis, leading = _greedy_basis(rows.detach(), log_curvature.detach())
        log_root = 0.5 * log_curvature
        log_scale = torch.relu(0.5 * leading.values(log_curvature) - LARGEST_LOG_ROOT)
        order = torch.argsort(log_curvature.detach(), -1, descending=True)
        local = rows[order] @ basis
        # Entries at rounding level are zero for repeated and structured rows; a stiff row would blow them up.
        noise = local.abs() <= _threshold(rows)
        local = local - torch.where(noise, local, torch.zeros_like(local)).detach()
        exponent = log_root.gather(-1, order).unsqueeze(-1) - log_scale.unsqueeze(-2)
        weighted = torch.exp(torch.clamp(exponent, max=LARGEST_LOG_ROOT)) * local
        ridge = torch.diag_embed(math.sqrt(self.quadratic) * torch.exp(-log_scale))
        factor = torch.linalg.qr(torch.cat([weighted, ridge], -2))[1]
        return basis, log_scale, factor, torch.take_along_dim(weighted, torch.argsort(order, -1).unsqueeze(-1), -2)

    @property
    def _basis(self) -> Tensor:
        return self._factors[0]

    @property
    def _log_scale(self) -> Tensor:
        return self._factors[1]

    @property
    def _factor(self) -> Tensor:
        return self._factors[2]

    def _split(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Components of ``v`` in the basis, and the remainder orthogonal to it."""
        inner = (self._basis.mT @ v.unsqueeze(-1)).squeeze(-1)
        if self._factor.shape[-1] == self.rows.shape[-1]:
            return inner, torch.zeros_like(v)
        return inner, v - (self._basis @ inner.unsqueeze(-1)).squeeze(-1)

    def _join(self, inner: Tensor, rest: Tensor, scale: float) -> Tensor:
        return (self._basis @ inner.unsqueeze(-1)).squeeze(-1) + scale * rest

    def _triangular(self, v: Tensor, transpose: bool) -> Tensor:
        factor = self._factor.mT if transpose else self._factor
        return torch.linalg.solve_triangular(factor, v.unsqueeze(-1), upper=not transpose).squeeze(-1)

    def mv(self, v: Tensor) -> Tensor:
        return self.quadratic * v + (self._curvature * (v @ self.rows.mT)) @ self.rows

    def solve(self, v: Tensor) -> Tensor:
        inner, rest = self._split(v)
        shrink = torch.exp(-self._log_scale)
        inner = shrink * self._triangular(self._triangular(shrink * inner, True), False)
        return self._join(inner, rest, 1 / (self.quadratic or 1.0))

    def sqrt_mv(self, v: Tensor) -> Tensor:
        inner, rest = self._split(v)
        inner = (self._factor.mT @ inner.unsqueeze(-1)).squeeze(-1)
        return self._join(inner, rest, math.sqrt(self.quadratic))

    def inv_sqrt_mv(self, v: Tensor) -> Tensor:
        inner, rest = self._split(v)
        inner = torch.exp(-self._log_scale) * self._triangular(inner, False)
        return self._join(inner, rest, 1 / math.sqrt(self.quadratic or 1.0))

    def logdet(self) -> Tensor:
        diagonal = torch.diagonal(self._factor, dim1=-2, dim2=-1)
        missing = self.rows.shape[-1] - self._factor.shape[-1]
        rest = missing * math.log(self.quadratic) if missing else 0.0
        return 2 * (diagonal.abs().log() + self._log_scale).sum(-1) + rest

    def _shares(self) -> Tensor:
        """``R^-T T^-1 Q^T A^T e^(c/2)``, ``(..., k, m)``."""
        return torch.linalg.solve_triangular(self._factor.mT, self._factors[3].mT, upper=False)

    def log_det_step(self, log_slope: Tensor) -> Tensor:
        """``H^-1 A^T (l e^log_slope)`` with the leverages ``l_i = e^c_i a_i^T H^-1 a_i`` in ``[0, 1]`` of the rows.

        Args:
            log_slope: ``(..., m)``; may exceed half of ``c`` by 700.
        """
        shares = self._shares()
        push = shares.square().sum(-2) * torch.exp(log_slope - 0.5 * self._log_curvature)
        inner = self._triangular((shares @ push.unsqueeze(-1)).squeeze(-1), False)
        return self._join(torch.exp(-self._log_scale) * inner, torch.zeros_like(inner[..., :1]), 0.0)

    def dense(self) -> Tensor:
        eye = torch.eye(self.rows.shape[-1], dtype=self.rows.dtype, device=self.rows.device)
        return self.quadratic * eye + (self.rows.mT * self._curvature.unsqueeze(-2)) @ self.rows


def _threshold(rows: Tensor) -> float:
    """Length below which what is left of a unit row after orthogonalisation is rounding error."""
    return 1e-12 * math.sqrt(rows.shape[-1])


@dataclass(frozen=True)
class _Leading:
    """The rows chosen for a basis: indices ``(..., k)`` and which of them are independent."""

    index: Tensor
    independent: Tensor

    def values(self, log_curvature: Tensor) -> Tensor:
        """Their log-curvatures, ``-inf`` for those that stand in for a missing independent row."""
        return torch.where(self.independent, log_curvature.gather(-1, self.index), -torch.inf)


def _greedy_basis(rows: Tensor, log_curvature: Tensor) -> tuple[Tensor, _Leading]:
    """Orthonormal columns ``(..., d, k)`` from the stiffest row independent of those before, ``k = min(m, d)``."""
    rest = rows.expand(*log_curvature.shape, rows.shape[-1])
    indices, flags = [], []
    for _ in range(min(rows.shape)):
        length = torch.linalg.vector_norm(rest, dim=-1)
        free = length > _threshold(rows)
        index = torch.where(free, log_curvature, -torch.inf).argmax(-1, keepdim=True)
        unit = torch.take_along_dim(rest / length.clamp_min(1e-300).unsqueeze(-1), index.unsqueeze(-1), -2)
        rest = rest - (rest @ unit.mT) * unit
        # A chosen row is spent, whatever rounding leaves of it.
        rest = rest * (torch.arange(len(rows), device=rows.device) != index).unsqueeze(-1)
        indices.append(index)
        flags.append(free.gather(-1, index))
    leading = _Leading(torch.cat(indices, -1), torch.cat(flags, -1))
    return torch.linalg.qr(rows[leading.index].mT)[0], leading


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
