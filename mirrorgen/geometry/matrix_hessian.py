"""Hessians of matrix functions as operators on vectors that hold symmetric matrices."""

import torch
from torch import Tensor

from mirrorgen.geometry.domains.psd import PSD
from mirrorgen.geometry.hessian import HessianOperator

__all__ = ["CongruenceHessian", "SpectralHessian"]


class _MatrixHessian(HessianOperator):
    """Shared by operators on ``domain.pack``-ed matrices."""

    domain: PSD

    def dense(self) -> Tensor:
        eye = torch.eye(self.domain.dim).to(self.logdet())
        return torch.stack([self.mv(e.expand(*self.logdet().shape, -1)) for e in eye], -1)


class CongruenceHessian(_MatrixHessian):
    """``H V = X^-1 V X^-1`` by the Cholesky factor ``X = L L^T``; every product is O(n^3).

    ``S V = L^-T V L^-1``, ``S^-T V = L V L^T`` and ``log det H = -(n + 1) log det X``.

    Args:
        domain: The cone, for ``pack`` and ``unpack``.
        factor: ``L (..., n, n)``, lower triangular.
    """

    def __init__(self, domain: PSD, factor: Tensor) -> None:
        self.domain, self.factor = domain, factor

    def _between(self, left: Tensor, v: Tensor) -> Tensor:
        """``left V left^T``."""
        return self.domain.pack(left @ self.domain.unpack(v) @ left.mT)

    def mv(self, v: Tensor) -> Tensor:
        half = torch.cholesky_solve(self.domain.unpack(v), self.factor)
        return self.domain.pack(torch.cholesky_solve(half.mT, self.factor))

    def solve(self, v: Tensor) -> Tensor:
        return self._between(self.factor @ self.factor.mT, v)

    def sqrt_mv(self, v: Tensor) -> Tensor:
        half = torch.linalg.solve_triangular(self.factor.mT, self.domain.unpack(v), upper=True)
        return self.domain.pack(torch.linalg.solve_triangular(self.factor.mT, half.mT, upper=True))

    def inv_sqrt_mv(self, v: Tensor) -> Tensor:
        return self._between(self.factor, v)

    def logdet(self) -> Tensor:
        diagonal = torch.diagonal(self.factor, dim1=-2, dim2=-1)
        return -2 * (self.domain.n + 1) * diagonal.log().sum(-1)


class SpectralHessian(_MatrixHessian):
    """``H V = U (F * (U^T V U)) U^T``, the derivative of a spectral function (Daleckii and Krein, 1965).

    The square root takes ``sqrt(F)`` for ``F``; ``log det H = sum_{i<=j} log F_ij``.

    Args:
        domain: The cone, for ``pack`` and ``unpack``.
        vectors: ``U (..., n, n)``, orthogonal.
        weights: ``F (..., n, n)``, symmetric and positive.
    """

    def __init__(self, domain: PSD, vectors: Tensor, weights: Tensor) -> None:
        self.domain, self.vectors, self.weights = domain, vectors, weights

    def _apply(self, weights: Tensor, v: Tensor) -> Tensor:
        inner = weights * (self.vectors.mT @ self.domain.unpack(v) @ self.vectors)
        return self.domain.pack(self.vectors @ inner @ self.vectors.mT)

    def mv(self, v: Tensor) -> Tensor:
        return self._apply(self.weights, v)

    def solve(self, v: Tensor) -> Tensor:
        return self._apply(self.weights.reciprocal(), v)

    def sqrt_mv(self, v: Tensor) -> Tensor:
        return self._apply(self.weights.sqrt(), v)

    def inv_sqrt_mv(self, v: Tensor) -> Tensor:
        return self._apply(self.weights.rsqrt(), v)

    def logdet(self) -> Tensor:
        return torch.triu(self.weights.log()).sum((-2, -1))
