"""Barriers over slacks on orthonormal slabs: those of a box in the coefficients, the identity across."""

import math

import torch
from torch import Tensor

from mirrorgen.geometry.domains.base import Domain
from mirrorgen.geometry.domains.slabs import Slabs
from mirrorgen.geometry.hessian import HessianOperator
from mirrorgen.geometry.mirror_maps.slack_power import SlackPower
from mirrorgen.geometry.mirror_maps.slack_scalar import BoxStructure
from mirrorgen.geometry.mirror_maps.slack_structures import BarrierStructure
from mirrorgen.numerics import upcast

__all__ = ["FrameHessian", "SlabsStructure"]


class FrameHessian(HessianOperator):
    """``H = T^T K T + quadratic (I - T^T T)`` for orthonormal rows ``T``: all in ``O(m d)`` and those of ``K``.

    The root is ``T^T S T + sqrt(quadratic) (I - T^T T)`` with the root ``S`` of ``K``.

    Args:
        domain: The slabs with the rows ``T (m, d)``.
        inner: ``K``, on coefficients ``(..., m)``.
        quadratic: Non-negative; positive unless ``m = d``.
    """

    def __init__(self, domain: Slabs, inner: HessianOperator, quadratic: float) -> None:
        self.domain, self.inner, self.quadratic = domain, inner, quadratic

    def _apply(self, v: Tensor, name: str, factor: float) -> Tensor:
        c = self.domain.coefficients(v)
        across = v - self.domain.combine(c)
        return self.domain.combine(getattr(self.inner, name)(c)) + factor * across

    def mv(self, v: Tensor) -> Tensor:
        return self._apply(v, "mv", self.quadratic)

    def solve(self, v: Tensor) -> Tensor:
        return self._apply(v, "solve", 1 / (self.quadratic or 1.0))

    def sqrt_mv(self, v: Tensor) -> Tensor:
        return self._apply(v, "sqrt_mv", math.sqrt(self.quadratic))

    def inv_sqrt_mv(self, v: Tensor) -> Tensor:
        return self._apply(v, "inv_sqrt_mv", 1 / math.sqrt(self.quadratic or 1.0))

    def logdet(self) -> Tensor:
        free = self.domain.dim - len(self.domain.tokens)
        return self.inner.logdet() + (free * math.log(self.quadratic) if free else 0.0)

    def dense(self) -> Tensor:
        rows = upcast(self.domain.tokens)
        across = torch.eye(self.domain.dim).to(rows) - rows.mT @ rows
        return rows.mT @ self.inner.dense() @ rows + self.quadratic * across


class SlabsStructure(BarrierStructure):
    """Orthonormal slabs: one scalar equation per token.

    With ``P = I - T^T T`` the potential is ``phi(x) = psi(T x) + quadratic |P x|^2 / 2``, ``psi`` that of the box, so
    ``grad phi(x) = T^T grad psi(T x) + quadratic P x`` and its inverse is ``T^T (grad psi)^-1(T y) + P y / quadratic``.
    """

    domain: Slabs

    def __init__(self, domain: Domain, power: SlackPower, quadratic: float, on_failure: str = "raise") -> None:
        super().__init__(domain, power, quadratic, on_failure)
        self._inner = BoxStructure(self.domain.box, power, quadratic, on_failure)

    def _split(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients, and what is orthogonal to the tokens."""
        c = self.domain.coefficients(v)
        return c, upcast(v) - self.domain.combine(c)

    def potential(self, x: Tensor) -> Tensor:
        c, across = self._split(x)
        return self._inner.potential(c) + 0.5 * self.quadratic * across.square().sum(-1)

    def gradient(self, x: Tensor) -> Tensor:
        c, across = self._split(x)
        return self.domain.combine(self._inner.gradient(c)) + self.quadratic * across

    def _point(self, c: Tensor, across: Tensor) -> Tensor:
        return self.domain.combine(c) + across / (self.quadratic or 1.0)

    def inverse(self, y: Tensor) -> Tensor:
        along, across = self._split(y)
        return self._point(self._inner.inverse(along), across)

    def hessian(self, x: Tensor) -> HessianOperator:
        return FrameHessian(self.domain, self._inner.hessian(self.domain.coefficients(x)), self.quadratic)

    def hessian_dual(self, y: Tensor) -> HessianOperator:
        return FrameHessian(self.domain, self._inner.hessian_dual(self.domain.coefficients(y)), self.quadratic)

    def local(self, y: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
        along, across = self._split(y)
        c, start = self._inner.local(along, start)
        return self._point(c, across), start

    def hessian_from(self, start: Tensor) -> HessianOperator:
        return FrameHessian(self.domain, self._inner.hessian_from(start), self.quadratic)

    def log_det_gradient(self, y: Tensor, start: Tensor) -> Tensor:
        return self.domain.combine(self._inner.log_det_gradient(self.domain.coefficients(y), start))

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        c_p, across_p = self._split(p)
        c_q, across_q = self._split(q)
        return self._inner.divergence(c_p, c_q) + 0.5 * self.quadratic * (across_q - across_p).square().sum(-1)
