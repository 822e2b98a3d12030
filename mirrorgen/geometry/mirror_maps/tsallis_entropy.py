"""Tsallis entropies of the positive orthant and the simplex."""

import math

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains.orthant import Orthant
from mirrorgen.geometry.domains.simplex import Simplex
from mirrorgen.geometry.hessian import DiagonalHessian, HessianOperator, TangentDiagonalHessian
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.mirror_maps.requirements import require_domain
from mirrorgen.geometry.simplex_chart import from_helmert, to_helmert
from mirrorgen.numerics import saturating_exp, upcast
from mirrorgen.special import log_ratio, power_terms

__all__ = ["TsallisEntropy"]

# Newton below reaches rounding within 8 steps over q in [-4, 0.999], K <= 10^4 and |y| <= 10^8.
_NEWTON_STEPS = 12


class TsallisEntropy(MirrorMap):
    """``phi(x) = sum x^q / (q (q - 1))`` with ``q < 1``, ``q != 0``, on the orthant or the simplex.

    Orthant: ``grad phi = x^(q-1) / (q-1)``, ``x = ((q-1) y)^(1/(q-1))`` for ``y < 0``. Simplex: the gradient is its
    projection on the chart, the inverse ``x_i = ((1-q) (mu - u_i))^(-1/(1-q))`` with ``u`` the dual point in all
    ``K`` coordinates and ``mu`` the root of ``sum x = 1``; the dual is all of space. The Hessian is
    ``diag(x^(q-2))``, on the simplex restricted to its tangent space. Tails are polynomial with exponent
    ``1/(1-q)``; ``q -> 1`` and ``q -> 0`` are the negative entropy and Burg's entropy. For ``q >= 1`` the gradient
    stays bounded at the boundary (sparse solutions): no Legendre function.

    Args:
        domain: An ``Orthant`` or a ``Simplex``.
        q: Entropic index; ``1/2`` is the map of optimal adversarial bandits.

    Raises:
        DomainError: If the domain is neither, or ``q`` is not admissible.

    References: C. Tsallis, "Possible generalization of Boltzmann-Gibbs statistics", 1988; J. Zimmert and Y. Seldin,
    "Tsallis-INF: an optimal algorithm for stochastic and adversarial bandits", 2021.
    """

    def __init__(self, domain: Orthant | Simplex, q: float) -> None:
        require_domain(domain, Orthant, Simplex, name="TsallisEntropy")
        super().__init__(domain)
        if q in (0, 1):
            instead = "a logarithmic barrier" if q == 0 else "NegEntropy or SimplexEntropy"
            raise DomainError(f"TsallisEntropy has no q = {q:g}: its limit there is {instead}")
        if not (math.isfinite(q) and q < 1):
            raise DomainError(f"q must be below 1, got {q!r}: from 1 on the gradient stays bounded at the boundary")
        self.q = float(q)
        self.dual_is_full = isinstance(domain, Simplex)

    def extra_repr(self) -> str:
        return f"q={self.q:g}"

    def dual_contains(self, y: Tensor) -> Tensor:
        inside = torch.isfinite(y)
        return (inside if self.dual_is_full else inside & (y < 0)).all(-1)

    def dual_requirement(self) -> str:
        return "every coordinate of y must be finite" + ("" if self.dual_is_full else " and negative")

    def potential(self, x: Tensor) -> Tensor:
        return x.pow(self.q).sum(-1) / (self.q * (self.q - 1))

    def conjugate(self, y: Tensor) -> Tensor:
        if self.dual_is_full:
            return super().conjugate(y)
        return ((self.q - 1) * y).pow(self.q / (self.q - 1)).sum(-1) / self.q

    def hessian(self, x: Tensor) -> HessianOperator:
        return self._operator(torch.log(x))

    def hessian_dual(self, y: Tensor) -> HessianOperator:
        return self._operator(self._log_primal(y))

    def log_det_jacobian(self, x: Tensor) -> Tensor:
        return self._log_det(torch.log(x))

    def log_det_jacobian_dual(self, y: Tensor) -> Tensor:
        return self._log_det(self._log_primal(y))

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """``sum q^a ((p/q)^a - 1 - a (p/q - 1)) / (a (a-1))`` with ``a`` the index, in its cancellation-free form."""
        log_q = torch.log(q)
        return power_terms(torch.log(p) + (self.q - 1) * log_q, self.q * log_q, log_ratio(p, q), self.q).sum(-1)

    def _operator(self, log_x: Tensor) -> HessianOperator:
        diagonal = torch.exp((self.q - 2) * log_x)
        return TangentDiagonalHessian(diagonal) if self.dual_is_full else DiagonalHessian(diagonal)

    def _log_det(self, log_x: Tensor) -> Tensor:
        power = 2 - self.q
        total = -power * log_x.sum(-1)
        if not self.dual_is_full:
            return total
        # det V^T diag(h) V = prod h sum(1/h) / K, in logarithms because h overflows near the boundary.
        constant = self.log_coordinate_volume - math.log(self.domain.dim)
        return total + torch.logsumexp(power * log_x, -1) + constant

    def _gradient(self, x: Tensor) -> Tensor:
        if not self.dual_is_full:
            return x.pow(self.q - 1) / (self.q - 1)
        # The constant that makes each entry (x^(q-1) - 1) / (q - 1) keeps digits as q -> 1; the chart ignores it.
        return to_helmert(torch.expm1((self.q - 1) * torch.log(x)) / (self.q - 1))

    def _inverse(self, y: Tensor) -> Tensor:
        return saturating_exp(self._log_primal(y))

    def _log_primal(self, y: Tensor) -> Tensor:
        """``log grad phi*(y)``, finite where ``grad phi*`` over- or underflows."""
        if not self.dual_is_full:
            return torch.log((self.q - 1) * y) / (self.q - 1)
        u = from_helmert(upcast(y))
        gap = u.detach().amax(-1, keepdim=True) - u
        return _log_simplex_point(gap, 1 - self.q).to(y.dtype)


def _log_simplex_point(gap: Tensor, b: float) -> Tensor:
    """``log x_i = -log(1 + b (t + gap_i)) / b`` with ``t >= 0`` such that ``sum x = 1``; ``gap >= 0`` has a zero.

    ``(sum x)^-b`` is a power mean of affine functions of ``t``, hence concave and increasing: Newton's iteration
    on it from ``t = 0`` is monotone, and exact in one step if all gaps vanish. The last two steps are
    differentiated, which makes derivatives exact to third order.
    """

    def log_point(t: Tensor) -> Tensor:
        return -torch.log1p(b * (t + gap)) / b

    def newton(t: Tensor) -> Tensor:
        log_x = log_point(t)
        log_sum = torch.logsumexp(log_x, -1, keepdim=True)
        log_slope = torch.logsumexp((1 + b) * log_x, -1, keepdim=True)
        return t + torch.expm1(b * log_sum) / b * torch.exp(log_sum - log_slope)

    with torch.no_grad():
        t = torch.zeros_like(gap[..., :1])
        for _ in range(_NEWTON_STEPS):
            t = newton(t)
    t = newton(newton(t.detach()))
    return log_point(t)
