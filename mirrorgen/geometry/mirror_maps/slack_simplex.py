"""Barriers over the slacks of a simplex: a scalar equation for all coordinates, O(K) throughout."""

import math

import torch
from torch import Tensor

from mirrorgen.geometry.domains.simplex import Simplex
from mirrorgen.geometry.hessian import HessianOperator, TangentDiagonalHessian
from mirrorgen.geometry.mirror_maps.slack_hessian import UpcastHessian, bounded_exp
from mirrorgen.geometry.mirror_maps.slack_structures import BarrierStructure
from mirrorgen.numerics import monotone_root, upcast

__all__ = ["SimplexStructure"]

# The bracket is log K wide; nine steps reach rounding error for K up to 2000 and dual points up to 1e10.
ROOT_ITERATIONS = 12


class SimplexStructure(BarrierStructure):
    """``sum_i f(s_i)`` with ``s_i = x_i / n``, ``n = sqrt(1 - 1/K)``, the slacks of unit rows; no quadratic term.

    The gradient is ``-V^T force / n``. For logits ``u = V y`` this reads ``force_i = n (t + max u - u_i)`` with one
    unknown ``t``, which the largest slack determines and the sum of all slacks, ``1 / n``, decides.
    """

    domain: Simplex

    @property
    def _norm(self) -> float:
        return math.sqrt(1 - 1 / self.domain.dim)

    def _slack(self, x: Tensor) -> Tensor:
        # Coordinates of points strictly inside are positive as they are.
        return upcast(x) / self._norm

    def potential(self, x: Tensor) -> Tensor:
        return self.power.value(self._slack(x)).sum(-1)

    def gradient(self, x: Tensor) -> Tensor:
        return -self.domain.to_tangent(self.power.force(torch.log(self._slack(x)))) / self._norm

    def _log_slack(self, y: Tensor) -> Tensor:
        """The log-slacks ``(..., K)`` of ``inverse(y)``, from an equation for the largest of them."""
        logits = self.domain.from_tangent(y)
        gap = self._norm * (logits.amax(-1, keepdim=True) - logits)
        total = torch.full_like(gap[..., :1], -math.log(self._norm))

        def slacks(top: Tensor) -> Tensor:
            return self.power.log_slack(self.power.force(top) + gap)

        def equation(top: Tensor) -> tuple[Tensor, Tensor]:
            sigma = slacks(top)
            value = torch.logsumexp(sigma, -1, keepdim=True)
            rates = self.power.force_rate(top) / self.power.force_rate(sigma)
            return value - total, (torch.exp(sigma - value) * rates).sum(-1, keepdim=True)

        least = total - math.log(self.domain.dim)
        return slacks(monotone_root(equation, least, total, ROOT_ITERATIONS, start=total.detach()))

    def inverse(self, y: Tensor) -> Tensor:
        return torch.softmax(self._log_slack(upcast(y)), -1)

    def local(self, y: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
        sigma = self._log_slack(upcast(y))
        return torch.softmax(sigma, -1), sigma

    def hessian_from(self, start: Tensor) -> HessianOperator:
        return self._operator(start)

    def _operator(self, sigma: Tensor) -> HessianOperator:
        curvature, excess = bounded_exp(self.power.log_curvature(sigma))
        return UpcastHessian(TangentDiagonalHessian(curvature / self._norm**2), sigma.dtype, excess.sum(-1))

    def hessian(self, x: Tensor) -> HessianOperator:
        return self._operator(torch.log(self._slack(x)))

    def hessian_dual(self, y: Tensor) -> HessianOperator:
        return self._operator(self._log_slack(upcast(y)))

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        t, s = self._slack(p), self._slack(q)
        return self.power.divergence(t, s, (upcast(q) - upcast(p)) / self._norm).sum(-1)
