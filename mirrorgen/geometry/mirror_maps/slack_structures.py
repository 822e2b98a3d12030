"""How a barrier over slacks is evaluated and inverted on sets described by half-spaces."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from mirrorgen.geometry.domains.base import Domain
from mirrorgen.geometry.domains.simplex import Simplex
from mirrorgen.geometry.hessian import HessianOperator
from mirrorgen.geometry.mirror_maps.slack_hessian import SlackHessian
from mirrorgen.geometry.mirror_maps.slack_newton import SlackSystem
from mirrorgen.geometry.mirror_maps.slack_power import SlackPower
from mirrorgen.numerics import upcast

__all__ = ["BarrierStructure", "HalfspaceStructure", "guard"]


def guard(s: Tensor, dtype: torch.dtype, scale: Tensor | float) -> Tensor:
    """Exact slacks of points that were inside in ``dtype``; those at or below zero become one rounding error."""
    return torch.where(s <= 0, torch.finfo(dtype).eps * scale, s)


class BarrierStructure(ABC):
    """``phi(x) = sum_i f(s_i(x)) + quadratic |z|^2 / 2`` on one kind of set; all in float64.

    Args:
        domain: The set.
        power: The barrier term ``f``.
        quadratic: Factor of the quadratic term in the chart coordinates ``z``.
        on_failure: What an iterative inverse does with rows that do not converge, ``"raise"`` or ``"nan"``.
    """

    closed_form: bool = True

    def __init__(self, domain: Domain, power: SlackPower, quadratic: float, on_failure: str = "raise") -> None:
        self.domain, self.power, self.quadratic, self.on_failure = domain, power, quadratic, on_failure

    @abstractmethod
    def potential(self, x: Tensor) -> Tensor:
        """``phi(x)``, ``(...)``."""

    @abstractmethod
    def gradient(self, x: Tensor) -> Tensor:
        """``grad phi(x)``, ``(..., dual_dim)``."""

    @abstractmethod
    def inverse(self, y: Tensor) -> Tensor:
        """``grad phi*(y)``, ``(..., dim)``, up to rounding in the closure."""

    @abstractmethod
    def hessian(self, x: Tensor) -> HessianOperator:
        """The Hessian at ``x``."""

    @abstractmethod
    def hessian_dual(self, y: Tensor) -> HessianOperator:
        """The Hessian at ``inverse(y)`` from the slack that the dual point determines."""

    @abstractmethod
    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """The Bregman divergence, ``(...)``."""


class HalfspaceStructure(BarrierStructure):
    """Any set ``A z < b``: dense algebra and primal-dual Newton."""

    closed_form = False

    def halfspaces(self) -> tuple[Tensor, Tensor]:
        """``A`` and ``b`` in float64."""
        rows, bounds = self.domain.halfspaces()
        return upcast(rows), upcast(bounds)

    def _state(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The rows, the chart coordinates and the slacks of a point in its own dtype."""
        rows, bounds = self.halfspaces()
        z = self.domain.to_chart(upcast(x))
        return rows, z, guard(self._slack(x, z, rows, bounds), x.dtype, 1 + bounds.abs())

    def _slack(self, x: Tensor, z: Tensor, rows: Tensor, bounds: Tensor) -> Tensor:
        if self.domain.dual_dim == self.domain.dim:
            return bounds - z @ rows.mT
        # With equalities, the chart ignores the rounding error across the affine hull but also the digits of small
        # coordinates; the slack that the domain sees keeps both, up to the scale of its rows.
        center = upcast(self.domain.interior_point())
        scale = (bounds - rows @ self.domain.to_chart(center)) / self.domain.slack(center)
        return self.domain.slack(upcast(x)) * scale

    def potential(self, x: Tensor) -> Tensor:
        _, z, s = self._state(x)
        return self.power.value(s).sum(-1) + 0.5 * self.quadratic * z.square().sum(-1)

    def gradient(self, x: Tensor) -> Tensor:
        rows, z, s = self._state(x)
        return self.power.force(torch.log(s)) @ rows + self.quadratic * z

    def hessian(self, x: Tensor) -> HessianOperator:
        rows, _, s = self._state(x)
        return SlackHessian(rows, self.power.log_curvature(torch.log(s)), self.quadratic)

    def solution(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Chart coordinates and log-slacks of ``inverse(y)``."""
        rows, bounds = self.halfspaces()
        start = self.domain.to_chart(upcast(self.domain.interior_point())).detach()
        system = SlackSystem(rows, bounds - rows @ start, self.power, self.quadratic)
        step, sigma = system.solve(upcast(y) - self.quadratic * start, self.on_failure)
        return start + step, sigma

    def inverse(self, y: Tensor) -> Tensor:
        z, sigma = self.solution(y)
        if isinstance(self.domain, Simplex):
            # The slacks are the coordinates, and small ones have digits that the chart has not.
            x = torch.exp(sigma)
            return x / x.sum(-1, keepdim=True)
        return self.domain.from_chart(z)

    def hessian_dual(self, y: Tensor) -> HessianOperator:
        rows, _ = self.halfspaces()
        return SlackHessian(rows, self.power.log_curvature(self.solution(y)[1]), self.quadratic)

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        rows, z, t = self._state(p)
        _, w, s = self._state(q)
        step = w - z
        terms = self.power.divergence(t, s, -(step @ rows.mT))
        return terms.sum(-1) + 0.5 * self.quadratic * step.square().sum(-1)
