"""Structured Hessians: products, solves, square roots and log-determinants without dense matrices.

``sqrt_mv`` multiplies by a factor ``S`` with ``S S^T = H`` and ``inv_sqrt_mv`` by ``S^-T``, so that standard
normal noise becomes noise of covariance ``H`` and ``H^-1``; ``S`` need not be symmetric.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from mirrorgen.geometry.simplex_chart import from_helmert, to_helmert

__all__ = [
    "BlockHessian",
    "DenseHessian",
    "DiagonalHessian",
    "HessianOperator",
    "RankOneHessian",
    "TangentDiagonalHessian",
]


class HessianOperator(ABC):
    """A batch of symmetric positive definite matrices ``H (..., d, d)`` acting on vectors ``(..., d)``."""

    @abstractmethod
    def mv(self, v: Tensor) -> Tensor:
        """``H v``."""

    @abstractmethod
    def solve(self, v: Tensor) -> Tensor:
        """``H^-1 v``."""

    @abstractmethod
    def sqrt_mv(self, v: Tensor) -> Tensor:
        """``S v`` with ``S S^T = H``."""

    @abstractmethod
    def inv_sqrt_mv(self, v: Tensor) -> Tensor:
        """``S^-T v``, of covariance ``H^-1`` for standard normal ``v``."""

    @abstractmethod
    def logdet(self) -> Tensor:
        """``log det H``, shape ``(...)``."""

    @abstractmethod
    def dense(self) -> Tensor:
        """The matrices ``(..., d, d)``, for tests and small problems."""


class DiagonalHessian(HessianOperator):
    """``H = diag(h)``; every operation is O(d).

    Args:
        diagonal: ``h (..., d)``, positive.
    """

    def __init__(self, diagonal: Tensor) -> None:
        self.diagonal = diagonal

    def mv(self, v: Tensor) -> Tensor:
        return self.diagonal * v

    def solve(self, v: Tensor) -> Tensor:
        return v / self.diagonal

    def sqrt_mv(self, v: Tensor) -> Tensor:
        return self.diagonal.sqrt() * v

    def inv_sqrt_mv(self, v: Tensor) -> Tensor:
        return v * self.diagonal.rsqrt()

    def logdet(self) -> Tensor:
        return self.diagonal.log().sum(-1)

    def dense(self) -> Tensor:
        return torch.diag_embed(self.diagonal)


class RankOneHessian(HessianOperator):
    """``H = diag(h) + c u u^T`` with ``c >= 0``; every operation is O(d).

    With ``w = h^-1/2 u`` and ``s = |w|^2``: ``det H = (1 + c s) prod h`` (matrix determinant lemma), the solve
    is Sherman-Morrison's, and ``S = diag(h)^1/2 (I + a w w^T)`` with ``a = c / (1 + sqrt(1 + c s))``.

    Args:
        diagonal: ``h (..., d)``, positive.
        vector: ``u (..., d)``.
        weight: ``c (...)``.
    """

    def __init__(self, diagonal: Tensor, vector: Tensor, weight: Tensor) -> None:
        self.diagonal, self.vector, self.weight = diagonal, vector, weight
        self._root = diagonal.sqrt()
        self._w = vector / self._root
        self._gain = weight * self._w.square().sum(-1)
        self._a = weight / (1 + torch.sqrt(1 + self._gain))

    def _along(self, weight: Tensor, direction: Tensor, v: Tensor) -> Tensor:
        return (weight * (direction * v).sum(-1)).unsqueeze(-1) * direction

    def mv(self, v: Tensor) -> Tensor:
        return self.diagonal * v + self._along(self.weight, self.vector, v)

    def solve(self, v: Tensor) -> Tensor:
        u = v / self._root
        return (u - self._along(self.weight / (1 + self._gain), self._w, u)) / self._root

    def sqrt_mv(self, v: Tensor) -> Tensor:
        return self._root * (v + self._along(self._a, self._w, v))

    def inv_sqrt_mv(self, v: Tensor) -> Tensor:
        # (I + a w w^T)^-1 = I - a / sqrt(1 + c s) w w^T because 1 + a s = sqrt(1 + c s).
        return (v - self._along(self._a * torch.rsqrt(1 + self._gain), self._w, v)) / self._root

    def logdet(self) -> Tensor:
        return self.diagonal.log().sum(-1) + torch.log1p(self._gain)

    def dense(self) -> Tensor:
        outer = self.vector.unsqueeze(-1) * self.vector.unsqueeze(-2)
        return torch.diag_embed(self.diagonal) + self.weight[..., None, None] * outer


class TangentDiagonalHessian(HessianOperator):
    """``H = V^T diag(h) V`` on the hyperplane ``sum = 0`` with Helmert's ``V``; every operation is O(K).

    With ``r = 1/h`` the solve is ``V^T (r * (u - (r.u) / sum r))``, ``u = V v``, and
    ``log det H = sum log h + log sum r - log K``. The square root is ``S = V^T diag(h)^1/2 Q``, where the
    columns of ``Q = P V`` are orthonormal and orthogonal to ``h^-1/2``, the direction that ``diag(h)^1/2``
    sends to ``1`` and ``V^T`` to zero; ``P`` reflects ``1 / sqrt(K)`` onto minus that direction, whose
    entries have one sign, so that the Householder vector never vanishes. ``S^-T = V^T diag(h)^-1/2 Q``.

    Args:
        diagonal: ``h (..., K)``, positive; the operator acts on ``(..., K-1)``.
    """

    def __init__(self, diagonal: Tensor) -> None:
        self.diagonal = diagonal
        self._inverse = diagonal.reciprocal()
        self._total = self._inverse.sum(-1, keepdim=True)

    def mv(self, v: Tensor) -> Tensor:
        return to_helmert(self.diagonal * from_helmert(v))

    def solve(self, v: Tensor) -> Tensor:
        u = from_helmert(v)
        mean = (self._inverse * u).sum(-1, keepdim=True) / self._total
        return to_helmert(self._balance(self._inverse * (u - mean)))

    def _balance(self, p: Tensor) -> Tensor:
        """``p`` whose entries sum to zero, the one at the largest ``r`` (which cancels) taken from the others."""
        places = torch.arange(p.shape[-1], device=p.device)
        largest = places == self._inverse.argmax(-1, keepdim=True)
        rest = torch.where(largest, 0.0, p)
        return torch.where(largest, -rest.sum(-1, keepdim=True), rest)

    def _frame(self, v: Tensor) -> Tensor:
        """``Q v``."""
        normal = torch.sqrt(self._inverse / self._total)
        u, center = from_helmert(v), self.diagonal.shape[-1] ** -0.5
        along = (normal * u).sum(-1, keepdim=True) / (1 + center * normal.sum(-1, keepdim=True))
        return u - along * (normal + center)

    def sqrt_mv(self, v: Tensor) -> Tensor:
        return to_helmert(self.diagonal.sqrt() * self._frame(v))

    def inv_sqrt_mv(self, v: Tensor) -> Tensor:
        return to_helmert(self._balance(self._inverse.sqrt() * self._frame(v)))

    def logdet(self) -> Tensor:
        size = math.log(self.diagonal.shape[-1])
        return self.diagonal.log().sum(-1) + self._total.squeeze(-1).log() - size

    def dense(self) -> Tensor:
        frame = from_helmert(torch.eye(self.diagonal.shape[-1] - 1).to(self.diagonal))
        return (frame * self.diagonal.unsqueeze(-2)) @ frame.mT


class DenseHessian(HessianOperator):
    """``H`` by its Cholesky factor ``L``: O(d^3) once, O(d^2) per product.

    Args:
        matrix: ``(..., d, d)``, symmetric positive definite.
        factor: Its lower Cholesky factor, where the caller holds it already.
    """

    def __init__(self, matrix: Tensor, factor: Tensor | None = None) -> None:
        self.matrix = matrix
        if factor is not None:
            self._factor = factor
            return
        # cholesky_ex leaves a failed factor to surface as NaN rows instead of a batch-wide exception.
        factor, info = torch.linalg.cholesky_ex(matrix)
        self._factor = torch.where((info > 0)[..., None, None], torch.nan, factor)

    @property
    def factor(self) -> Tensor:
        """``L``, NaN for matrices that are not positive definite."""
        return self._factor

    def mv(self, v: Tensor) -> Tensor:
        return (self.matrix @ v.unsqueeze(-1)).squeeze(-1)

    def solve(self, v: Tensor) -> Tensor:
        return torch.cholesky_solve(v.unsqueeze(-1), self._factor).squeeze(-1)

    def sqrt_mv(self, v: Tensor) -> Tensor:
        return (self._factor @ v.unsqueeze(-1)).squeeze(-1)

    def inv_sqrt_mv(self, v: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self._factor.mT, v.unsqueeze(-1), upper=True).squeeze(-1)

    def logdet(self) -> Tensor:
        return 2 * torch.diagonal(self._factor, dim1=-2, dim2=-1).log().sum(-1)

    def dense(self) -> Tensor:
        return self.matrix


class BlockHessian(HessianOperator):
    """Block-diagonal ``H`` of independent blocks, split along the last axis.

    Args:
        blocks: The operators.
        sizes: The length of each block.
    """

    def __init__(self, blocks: Sequence[HessianOperator], sizes: Sequence[int]) -> None:
        self.blocks, self.sizes = list(blocks), list(sizes)

    def _each(self, name: str, v: Tensor) -> Tensor:
        parts = v.split(self.sizes, -1)
        return torch.cat([getattr(h, name)(p) for h, p in zip(self.blocks, parts, strict=True)], -1)

    def mv(self, v: Tensor) -> Tensor:
        return self._each("mv", v)

    def solve(self, v: Tensor) -> Tensor:
        return self._each("solve", v)

    def sqrt_mv(self, v: Tensor) -> Tensor:
        return self._each("sqrt_mv", v)

    def inv_sqrt_mv(self, v: Tensor) -> Tensor:
        return self._each("inv_sqrt_mv", v)

    def logdet(self) -> Tensor:
        return torch.stack([h.logdet() for h in self.blocks]).sum(0)

    def dense(self) -> Tensor:
        eye = torch.eye(sum(self.sizes)).to(self.blocks[0].dense())
        columns = [self.mv(e.expand(self.logdet().shape + e.shape)) for e in eye]
        return torch.stack(columns, -1)
