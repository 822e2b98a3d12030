"""Half the squared p-norm."""

import math

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains.euclidean import Euclidean
from mirrorgen.geometry.hessian import HessianOperator, RankOneHessian
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.mirror_maps.requirements import require_domain
from mirrorgen.special import log_ratio, power_terms

__all__ = ["PNorm"]


class PNorm(MirrorMap):
    """``phi(x) = |x|_p^2 / 2`` on all of space, ``1 < p <= 2``; ``phi*(y) = |y|_q^2 / 2`` with ``1/p + 1/q = 1``.

    With ``r = |x| / |x|_p``: ``grad phi = x r^(p-2)``, Hessian ``(p-1) diag(r^(p-2)) + (2-p) w w^T`` with
    ``w = sign(x) r^(p-1)``, log-determinant ``(d-1) log(p-1) + (p-2) sum log r``. Strongly convex with modulus
    ``p - 1`` in the p-norm; ``p = 1 + 1/log(dim)`` is the usual surrogate of the 1-norm.

    For ``p < 2`` the curvature is infinite where a coordinate is zero; it is evaluated there at the smallest
    normal ratio ``r``, hence finite. At the zero vector, where it depends on the direction of approach, the
    diagonal direction ``r = dim^(-1/p)`` stands for all.

    Args:
        domain: A ``Euclidean`` space.
        p: Exponent of the norm, ``1 < p <= 2``.

    Raises:
        DomainError: If the domain is not Euclidean or ``p`` is outside ``(1, 2]``.

    Reference: C. Gentile, "The robustness of the p-norm algorithms", 2003.
    """

    def __init__(self, domain: Euclidean, p: float) -> None:
        require_domain(domain, Euclidean, name="PNorm")
        super().__init__(domain)
        if not 1 < p <= 2:
            raise DomainError(f"p must satisfy 1 < p <= 2, got {p!r}: otherwise the inverse gradient is not smooth")
        self.p = float(p)

    @property
    def conjugate_exponent(self) -> float:
        """``q = p / (p - 1)``."""
        return self.p / (self.p - 1)

    def extra_repr(self) -> str:
        return f"p={self.p:g}"

    def potential(self, x: Tensor) -> Tensor:
        return _half_square(x, self.p)

    def conjugate(self, y: Tensor) -> Tensor:
        return _half_square(y, self.conjugate_exponent)

    def hessian(self, x: Tensor) -> HessianOperator:
        return self._operator(x, _log_ratio(x, self.p))

    def hessian_dual(self, y: Tensor) -> HessianOperator:
        # r^p = s^q for the ratios r of x and s of y.
        return self._operator(y, _log_ratio(y, self.conjugate_exponent) / (self.p - 1))

    def _operator(self, signed: Tensor, log_ratio: Tensor) -> HessianOperator:
        diagonal = (self.p - 1) * torch.exp((self.p - 2) * log_ratio)
        vector = torch.sign(signed) * torch.exp((self.p - 1) * log_ratio)
        return RankOneHessian(diagonal, vector, torch.full_like(signed[..., 0], 2 - self.p))

    def log_det_jacobian(self, x: Tensor) -> Tensor:
        return self._log_det(_log_ratio(x, self.p))

    def log_det_jacobian_dual(self, y: Tensor) -> Tensor:
        return self._log_det(_log_ratio(y, self.conjugate_exponent) / (self.p - 1))

    def _log_det(self, log_ratio: Tensor) -> Tensor:
        return (self.domain.dim - 1) * math.log(self.p - 1) + (self.p - 2) * log_ratio.sum(-1)

    def _gradient(self, x: Tensor) -> Tensor:
        return x * torch.exp((self.p - 2) * _log_ratio(x, self.p))

    def _inverse(self, y: Tensor) -> Tensor:
        q = self.conjugate_exponent
        return y * torch.exp((q - 2) * _log_ratio(y, q))

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """``(N_p - N_q)^2 / 2 + N_p N_q sum_i d_i`` with ``d_i >= 0`` the gap in Young's inequality.

        The gap is that between ``p / N_p`` and the gradient at ``q / N_q``, whose norms are one. Differences of
        norms and ratios come from ``p - q``, so that near points lose no digits.
        """
        a = self.p
        p_norm, q_norm = _norm(p, a), _norm(q, a)
        regular = (p_norm > 0) & (q_norm > 0)
        p = torch.where(regular.unsqueeze(-1), p, torch.ones_like(p))
        q = torch.where(regular.unsqueeze(-1), q, torch.ones_like(q))
        scale = _norm(q, a).unsqueeze(-1)
        same = torch.sign(p) * torch.sign(q) > 0
        one = torch.ones_like(p)
        gap = log_ratio(torch.where(same, p.abs(), one), torch.where(same, q.abs(), one))
        log_u, log_v = _log_abs(p / scale), _log_ratio(q, a)
        u_power, v_power = torch.exp(a * log_u), torch.exp(a * log_v)
        growth = torch.where(same, v_power * torch.expm1(a * gap), u_power - v_power).sum(-1, keepdim=True)
        # log(N_p / N_q), and the logarithmic ratios of the coordinates after both vectors are normalised.
        shift = torch.log1p(growth) / a
        gap = torch.where(same, gap - shift, torch.zeros_like(gap))
        aligned = (a - 1) * power_terms(a * log_v + gap, a * log_v, gap, a)
        opposite = u_power * torch.exp(-a * shift) / a + (1 - 1 / a) * v_power
        opposite = opposite - p / scale * torch.sign(q) * torch.exp((a - 1) * log_v - shift)
        young = torch.where(same, aligned, opposite).sum(-1, keepdim=True)
        value = scale.square() * (0.5 * torch.expm1(shift).square() + torch.exp(shift) * young)
        return torch.where(regular, value.squeeze(-1), 0.5 * (p_norm.square() + q_norm.square()))


def _log_abs(x: Tensor) -> Tensor:
    """``log |x|``, at zero the logarithm of the smallest normal number with derivative zero."""
    return torch.log(torch.clamp(x.abs(), min=torch.finfo(x.dtype).tiny))


def _scaled(x: Tensor) -> tuple[Tensor, Tensor]:
    """``x / max |x|`` and ``max |x|`` (constants for autograd: norms do not depend on it); 1 for the zero vector."""
    largest = x.detach().abs().amax(-1, keepdim=True)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    return x / largest, largest


def _power_sum(scaled: Tensor, p: float) -> Tensor:
    return torch.exp(p * _log_abs(scaled)).sum(-1, keepdim=True)


def _log_ratio(x: Tensor, p: float) -> Tensor:
    """``log(|x_i| / |x|_p)``, ``-log(dim) / p`` at the zero vector."""
    scaled, _ = _scaled(x)
    zero = (x == 0).all(-1, keepdim=True)
    logs = _log_abs(torch.where(zero, torch.ones_like(x), scaled))
    return logs - torch.logsumexp(p * logs, -1, keepdim=True) / p


def _norm(x: Tensor, p: float) -> Tensor:
    scaled, largest = _scaled(x)
    zero = (x == 0).all(-1, keepdim=True)
    total = _power_sum(torch.where(zero, torch.ones_like(x), scaled), p)
    return torch.where(zero, torch.zeros_like(total), largest * total ** (1 / p)).squeeze(-1)


def _half_square(x: Tensor, p: float) -> Tensor:
    return 0.5 * _norm(x, p).square()
