"""The von Neumann entropy of positive definite matrices."""

import math

import torch
from torch import Tensor

from mirrorgen.geometry.domains.psd import PSD
from mirrorgen.geometry.hessian import HessianOperator
from mirrorgen.geometry.matrix_hessian import SpectralHessian
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.mirror_maps.requirements import require_domain
from mirrorgen.geometry.spectral import EXP, LOG, eigh
from mirrorgen.numerics import log1p_gap, upcast

__all__ = ["VonNeumann"]


class VonNeumann(MirrorMap):
    """``phi(X) = tr(X log X - X)``: the negative entropy of the eigenvalues.

    ``grad phi = log X``, ``grad phi*(Y) = exp Y``, ``phi*(Y) = tr exp Y``; the Hessian is Daleckii and Krein's with
    ``F_ij = (log l_i - log l_j) / (l_i - l_j)``, and the divergence is the quantum relative entropy
    ``tr(P log P - P log Q - P + Q)``. Gradients and Hessian-vector products of these functions are exact also at
    repeated eigenvalues; those of the Hessian operator itself need distinct ones. Spectral work is in float64.
    Eigenvalues of ``exp Y`` saturate near the square root of the largest number, where norms of ``X`` overflow.

    Args:
        domain: A ``PSD`` cone.

    Raises:
        DomainError: If the domain is not a ``PSD``.

    Reference: Tsuda, Raetsch and Warmuth, "Matrix exponentiated gradient updates for on-line learning and
    Bregman projection", 2005.
    """

    domain: PSD

    def __init__(self, domain: PSD) -> None:
        require_domain(domain, PSD, name="VonNeumann")
        super().__init__(domain)

    def _matrix(self, x: Tensor) -> Tensor:
        return self.domain.unpack(upcast(x))

    def potential(self, x: Tensor) -> Tensor:
        matrix = self._matrix(x)
        return ((matrix * LOG(matrix)).sum((-2, -1)) - _trace(matrix)).to(x.dtype)

    def conjugate(self, y: Tensor) -> Tensor:
        return _trace(EXP(self._matrix(y))).to(y.dtype)

    def hessian(self, x: Tensor) -> HessianOperator:
        values, vectors = eigh(self._matrix(x))
        return SpectralHessian(self.domain, vectors.to(x.dtype), LOG.differences(values).to(x.dtype))

    def log_det_jacobian(self, x: Tensor) -> Tensor:
        """``sum_{i<=j} log F_ij``; first derivatives only at repeated eigenvalues."""
        weights = LOG.differences(torch.linalg.eigvalsh(self._matrix(x)))
        return torch.triu(weights.log()).sum((-2, -1)).to(x.dtype)

    def log_det_jacobian_dual(self, y: Tensor) -> Tensor:
        """``-sum_{i<=j} log exp[y_i, y_j]`` over the eigenvalues of ``Y``, without forming their exponentials."""
        values = torch.linalg.eigvalsh(self._matrix(y))
        row, column = values.unsqueeze(-1), values.unsqueeze(-2)
        top = torch.maximum(row, column)
        drop = torch.minimum(row, column) - top
        logs = top + EXP.difference(drop, torch.zeros_like(drop)).log()
        return -torch.triu(logs).sum((-2, -1)).to(y.dtype)

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """``sum_ij (u_i . v_j)^2 a_i g((b_j - a_i) / a_i)`` over eigenpairs ``a, u`` of ``P`` and ``b, v`` of ``Q``.

        ``g(u) = u - log(1 + u)``; every term is non-negative. Derivatives are those of the trace formula, finite
        at repeated eigenvalues.
        """
        first, second = self._matrix(p), self._matrix(q)
        step = LOG(first) - LOG(second)
        formula = (first * step).sum((-2, -1)) - _trace(first) + _trace(second)
        return (_overlap_sum(first.detach(), second.detach()) + formula - formula.detach()).to(p.dtype)

    def _gradient(self, x: Tensor) -> Tensor:
        return self.domain.pack(LOG(self._matrix(x))).to(x.dtype)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.domain.pack(EXP(self._capped(y))).to(y.dtype)

    def _capped(self, y: Tensor) -> Tensor:
        """``Y`` less the part of it above the saturation level, which counts as a constant for derivatives."""
        matrix = self._matrix(y)
        values, vectors = eigh(matrix.detach())
        level = 0.5 * math.log(torch.finfo(y.dtype).max) - math.log(2 * self.domain.n)
        excess = (values - level).clamp_min(0.0)
        return matrix - (vectors * excess.unsqueeze(-2)) @ vectors.mT


def _trace(matrix: Tensor) -> Tensor:
    return torch.diagonal(matrix, dim1=-2, dim2=-1).sum(-1)


def _overlap_sum(first: Tensor, second: Tensor) -> Tensor:
    (a, u), (b, v) = eigh(first), eigh(second)
    overlap = (u.mT @ v).square()
    a = a.unsqueeze(-1)
    return (overlap * a * log1p_gap((b.unsqueeze(-2) - a) / a)).sum((-2, -1))
