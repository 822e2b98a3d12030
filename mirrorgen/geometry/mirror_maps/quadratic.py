"""The quadratic map: Euclidean geometry in a chosen metric."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains.base import as_buffer
from mirrorgen.geometry.domains.euclidean import Euclidean
from mirrorgen.geometry.hessian import DenseHessian, DiagonalHessian, HessianOperator
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.mirror_maps.requirements import require_domain

__all__ = ["Quadratic"]


class Quadratic(MirrorMap):
    """``phi(x) = x^T A x / 2`` on all of space: ``grad phi = A x``, ``phi*(y) = y^T A^-1 y / 2``, divergence
    ``|p - q|_A^2 / 2``.

    Args:
        domain: A ``Euclidean`` space.
        matrix: ``A``: symmetric positive definite ``(dim, dim)``, or the diagonal ``(dim,)`` of one; the identity
            if None.

    Raises:
        DomainError: If the domain is not Euclidean or the matrix is not symmetric positive definite.
        ShapeError: If the shape of the matrix does not fit.
    """

    matrix: Tensor | None
    _factor: Tensor | None

    def __init__(self, domain: Euclidean, matrix: Tensor | list | None = None) -> None:
        require_domain(domain, Euclidean, name="Quadratic")
        super().__init__(domain)
        buffer = None if matrix is None else as_buffer(matrix)
        self.register_buffer("matrix", buffer)
        self.register_buffer("_factor", None if buffer is None else _cholesky(buffer, domain.dim))

    def potential(self, x: Tensor) -> Tensor:
        return 0.5 * (x * self._gradient(x)).sum(-1)

    def conjugate(self, y: Tensor) -> Tensor:
        return 0.5 * (y * self._inverse(y)).sum(-1)

    def hessian(self, x: Tensor) -> HessianOperator:
        if self.matrix is None or self._factor is None:
            return DiagonalHessian(torch.ones_like(x))
        if self.matrix.ndim == 1:
            return DiagonalHessian(self.matrix.to(x.dtype).expand(x.shape))
        shape = (*x.shape, x.shape[-1])
        return DenseHessian(self.matrix.to(x.dtype).expand(shape), self._factor.to(x.dtype).expand(shape))

    def hessian_dual(self, y: Tensor) -> HessianOperator:
        return self.hessian(y)

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """``|S^T (p - q)|^2 / 2`` with ``A = S S^T``."""
        step = p - q
        if self._factor is not None:
            factor = self._factor.to(p.dtype)
            step = step * factor if factor.ndim == 1 else (factor.mT @ step.unsqueeze(-1)).squeeze(-1)
        return 0.5 * step.square().sum(-1)

    def _gradient(self, x: Tensor) -> Tensor:
        return self.hessian(x).mv(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.hessian(y).solve(y)


def _cholesky(matrix: Tensor, dim: int) -> Tensor:
    """Lower factor of a matrix, or the square root of a diagonal, after checking it."""
    if matrix.shape not in ((dim,), (dim, dim)):
        raise ShapeError(f"matrix must have shape ({dim},) or ({dim}, {dim}), got {tuple(matrix.shape)}")
    if matrix.ndim == 1:
        if not bool((torch.isfinite(matrix) & (matrix > 0)).all()):
            raise DomainError("the diagonal of the matrix must be finite and positive")
        return matrix.sqrt()
    if not bool(((matrix - matrix.mT).abs() <= 1e-10 * matrix.abs().max()).all()):
        raise DomainError("matrix must be symmetric; pass (A + A.T) / 2 if the asymmetry is rounding")
    factor, info = torch.linalg.cholesky_ex(matrix)
    if int(info) != 0 or not bool(torch.isfinite(factor).all()):
        raise DomainError("matrix must be positive definite; add a multiple of the identity")
    return factor
