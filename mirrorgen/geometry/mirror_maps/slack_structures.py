"""How a barrier over slacks is evaluated and inverted on sets described by half-spaces."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from mirrorgen.geometry.domains.base import Domain
from mirrorgen.geometry.domains.simplex import Simplex
from mirrorgen.geometry.hessian import HessianOperator
from mirrorgen.geometry.mirror_maps.slack_forms import SlackForm, slack_form
from mirrorgen.geometry.mirror_maps.slack_hessian import SlackHessian
from mirrorgen.geometry.mirror_maps.slack_local import solve_near
from mirrorgen.geometry.mirror_maps.slack_newton import SlackSystem
from mirrorgen.geometry.mirror_maps.slack_power import SlackPower
from mirrorgen.numerics import upcast

__all__ = ["BarrierStructure", "HalfspaceStructure", "guard"]

SMALLEST_SLACK = 1e-7


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
    def local(self, y: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
        """``inverse(y)`` and the ``start`` of solves nearby, from one solve without derivatives; NaN where it fails.

        Args:
            y: Dual points ``(n, dual_dim)``.
            start: That of dual points nearby ``(n, k)``, or None.
        """

    @abstractmethod
    def hessian_from(self, start: Tensor) -> HessianOperator:
        """``hessian_dual`` at the dual point that ``start`` came from, without a solve."""

    def log_det_gradient(self, y: Tensor, start: Tensor) -> Tensor | None:
        """``grad_y log det H`` at ``y`` from the ``start`` that ``local`` returned, or None without a closed form."""
        return None

    @abstractmethod
    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """The Bregman divergence, ``(...)``."""


class HalfspaceStructure(BarrierStructure):
    """Any set ``A z < b``: dense algebra and primal-dual Newton."""

    closed_form = False

    def __init__(self, domain: Domain, power: SlackPower, quadratic: float, on_failure: str = "raise") -> None:
        super().__init__(domain, power, quadratic, on_failure)
        self._forms: dict[torch.device, SlackForm] = {}

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
        return self.operator(torch.log(self._state(x)[2]))

    def form(self) -> SlackForm:
        """The equations for samplers, without derivatives; made once per device."""
        center = self.domain.interior_point()
        if self._forms.get(center.device) is None:
            with torch.no_grad():
                rows, bounds = self.halfspaces()
                z = self.domain.to_chart(upcast(center)).detach()
                arguments = rows.detach(), (bounds - rows @ z).detach(), z, self.power, self.quadratic
                self._forms[center.device] = slack_form(*arguments)
        return self._forms[center.device]

    def solution(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Chart coordinates and log-slacks of ``inverse(y)``."""
        return self._solve(y, self.on_failure)

    def _solve(self, y: Tensor, on_failure: str) -> tuple[Tensor, Tensor]:
        rows, bounds = self.halfspaces()
        center = self.domain.to_chart(upcast(self.domain.interior_point())).detach()
        system = SlackSystem(rows, bounds - rows @ center, self.power, self.quadratic)
        step, sigma = system.solve(upcast(y) - self.quadratic * center, on_failure)
        return center + step, sigma

    def solution_near(self, y: Tensor, near: Tensor | None) -> tuple[Tensor, Tensor]:
        """As ``solution`` of ``y (n, d)``, without derivatives and with NaN where it fails.

        ``near (n, d + m)`` holds solutions at dual points nearby, side by side.
        """
        form = self.form()
        center = form.center.expand_as(y), torch.log(form.slack).expand(len(y), -1)
        z, sigma = center if near is None else near.split([y.shape[-1], len(form.slack)], -1)
        z, sigma, converged = solve_near(form, y, z, sigma)
        # Residuals are relative to the largest slack; where more than d facets meet they do not settle tiny ones.
        settled = converged & (sigma.amin(-1) >= math.log(SMALLEST_SLACK * form.largest))
        late = (~settled).nonzero().squeeze(-1)
        if len(late) == 0:
            return z, sigma
        slow_z, slow_sigma = self._solve(y[late], "nan")
        return z.index_copy(0, late, slow_z), sigma.index_copy(0, late, slow_sigma)

    def inverse(self, y: Tensor) -> Tensor:
        return self.point(*self.solution(y))

    def local(self, y: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
        z, sigma = self.solution_near(y, start)
        return self.point(z, sigma), torch.cat([z, sigma], -1)

    def hessian_from(self, start: Tensor) -> SlackHessian:
        return self.operator(start[..., self.domain.dual_dim :])

    def robust_score(self, g: Tensor, sigma: Tensor) -> Tensor:
        """``SlackForm.score`` by the factor that stands any spread of stiffnesses."""
        operator = self.operator(sigma)
        return operator.solve(g) - (1 + self.power.kappa) * operator.log_det_step(-sigma)

    def point(self, z: Tensor, sigma: Tensor) -> Tensor:
        """The point of a solution, up to rounding in the closure."""
        if isinstance(self.domain, Simplex):
            # The slacks are the coordinates, and small ones have digits that the chart has not.
            x = torch.exp(sigma)
            return x / x.sum(-1, keepdim=True)
        return self.domain.from_chart(z)

    def operator(self, sigma: Tensor) -> SlackHessian:
        """The Hessian at log-slacks."""
        return SlackHessian(self.halfspaces()[0], self.power.log_curvature(sigma), self.quadratic)

    def hessian_dual(self, y: Tensor) -> HessianOperator:
        return self.operator(self.solution(y)[1])

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        rows, z, t = self._state(p)
        _, w, s = self._state(q)
        step = w - z
        terms = self.power.divergence(t, s, -(step @ rows.mT))
        return terms.sum(-1) + 0.5 * self.quadratic * step.square().sum(-1)
