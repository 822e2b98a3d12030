"""Hessians of sums of a barrier and a smooth convex function."""

import torch
from torch import Tensor

from mirrorgen.geometry.hessian import HessianOperator
from mirrorgen.numerics import upcast

__all__ = ["SumHessian"]


class SumHessian(HessianOperator):
    """``H = R R^T + M`` with ``R`` the root of another operator and ``M`` a dense positive semidefinite matrix.

    ``H = R (I + B) R^T`` with ``B = R^-1 M R^-T``, whose entries are bounded where the other operator is bounded
    below, however stiff it is; a factor of the sum itself would lose ``M`` next to a facet. With ``C C^T = I + B``
    the root of ``H`` is ``R C``, and ``log det H = log det R R^T + 2 sum log diag C``.

    Args:
        operator: ``R R^T``.
        matrix: ``M (..., d, d)`` in float64.
    """

    def __init__(self, operator: HessianOperator, matrix: Tensor) -> None:
        self.operator, self.matrix = operator, matrix
        eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        columns = [upcast(operator.inv_sqrt_mv(e.expand(matrix.shape[:-1]))) for e in eye]
        self._inverse_root = torch.stack(columns, -1)
        self._relative = self._inverse_root.mT @ matrix @ self._inverse_root
        factor, info = torch.linalg.cholesky_ex(eye + self._relative)
        # As in DenseHessian: a matrix that is not positive definite is a row of NaN, not an exception for the batch.
        self._factor = torch.where((info > 0)[..., None, None], torch.nan, factor)

    @property
    def relative_trace(self) -> Tensor:
        """``tr B = tr M (R R^T)^-1``, ``(...)``."""
        return torch.diagonal(self._relative, dim1=-2, dim2=-1).sum(-1)

    def mv(self, v: Tensor) -> Tensor:
        return self.operator.mv(v) + _product(self.matrix, v)

    def solve(self, v: Tensor) -> Tensor:
        inner = torch.cholesky_solve(self._inverse_root.mT @ v.unsqueeze(-1), self._factor)
        return (self._inverse_root @ inner).squeeze(-1)

    def sqrt_mv(self, v: Tensor) -> Tensor:
        return self.operator.sqrt_mv(_product(self._factor, v))

    def inv_sqrt_mv(self, v: Tensor) -> Tensor:
        inner = torch.linalg.solve_triangular(self._factor.mT, v.unsqueeze(-1), upper=True)
        return _product(self._inverse_root, inner.squeeze(-1))

    def logdet(self) -> Tensor:
        return self.operator.logdet() + 2 * torch.diagonal(self._factor, dim1=-2, dim2=-1).log().sum(-1)

    def dense(self) -> Tensor:
        return self.operator.dense() + self.matrix


def _product(matrix: Tensor, v: Tensor) -> Tensor:
    return (matrix @ v.unsqueeze(-1)).squeeze(-1)
