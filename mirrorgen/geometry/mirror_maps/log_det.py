"""The log-determinant barrier of positive definite matrices."""

import torch
from torch import Tensor

from mirrorgen.geometry.domains.psd import PSD
from mirrorgen.geometry.hessian import HessianOperator
from mirrorgen.geometry.matrix_hessian import CongruenceHessian
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.mirror_maps.requirements import require_domain
from mirrorgen.numerics import log1p_gap, upcast

__all__ = ["LogDet"]


class LogDet(MirrorMap):
    """``phi(X) = -log det X``: the self-concordant barrier of the cone, parameter ``n``.

    ``grad phi = -X^-1``, ``grad phi*(Y) = -Y^-1`` for ``Y`` negative definite, ``phi*(Y) = -n - log det(-Y)``, and the
    divergence is Stein's, ``tr(P Q^-1) - log det(P Q^-1) - n``. The dual domain is a cone, so dual noise may not
    be added. Everything goes through Cholesky factors.

    Args:
        domain: A ``PSD`` cone.

    Raises:
        DomainError: If the domain is not a ``PSD``.

    Reference: Kulis, Sustik and Dhillon, "Low-rank kernel learning with Bregman matrix divergences", 2009.
    """

    dual_is_full = False

    domain: PSD

    def __init__(self, domain: PSD) -> None:
        require_domain(domain, PSD, name="LogDet")
        super().__init__(domain)

    def _factor(self, x: Tensor) -> Tensor:
        return _cholesky(self.domain.unpack(x))

    def potential(self, x: Tensor) -> Tensor:
        return -_log_det(self._factor(x))

    def conjugate(self, y: Tensor) -> Tensor:
        return -self.domain.n - _log_det(self._factor(-y))

    def hessian(self, x: Tensor) -> HessianOperator:
        return CongruenceHessian(self.domain, self._factor(x))

    def log_det_jacobian_dual(self, y: Tensor) -> Tensor:
        """``(n + 1) log det(-Y)``."""
        return (self.domain.n + 1) * _log_det(self._factor(-y))

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """``sum g(e)``, ``g(u) = u - log(1 + u)``, over the eigenvalues ``e`` of ``L^-1 (P - Q) L^-T``, ``Q = L L^T``.

        Eigenvalues are computed in float64.
        """
        factor = self._factor(upcast(q))
        half = torch.linalg.solve_triangular(factor, self.domain.unpack(upcast(p) - upcast(q)), upper=False)
        change = torch.linalg.solve_triangular(factor, half.mT, upper=False)
        return log1p_gap(torch.linalg.eigvalsh(change)).sum(-1).to(p.dtype)

    def dual_contains(self, y: Tensor) -> Tensor:
        finite = torch.isfinite(y).all(-1)
        _, info = torch.linalg.cholesky_ex(-self.domain.unpack(torch.where(finite.unsqueeze(-1), y, 0.0)))
        return finite & (info == 0)

    def dual_requirement(self) -> str:
        return "dual points must be finite and hold negative definite matrices; cap the dual step"

    def _gradient(self, x: Tensor) -> Tensor:
        return -self.domain.pack(_inverse_of(self._factor(x)))

    def _inverse(self, y: Tensor) -> Tensor:
        return self.domain.pack(_inverse_of(self._factor(-y)))


def _cholesky(matrix: Tensor) -> Tensor:
    """The lower factor; NaN rows where a matrix is not positive definite in its dtype."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    return torch.where((info > 0)[..., None, None], torch.nan, factor)


def _log_det(factor: Tensor) -> Tensor:
    return 2 * torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1)


def _inverse_of(factor: Tensor) -> Tensor:
    eye = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    half = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)
    return half.mT @ half
