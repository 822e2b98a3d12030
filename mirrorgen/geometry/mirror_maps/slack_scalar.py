"""Barriers over slacks on sets where the inverse gradient is a scalar root in the log-slack."""

import math

import torch
from torch import Tensor

from mirrorgen.geometry.domains.ball import Ball
from mirrorgen.geometry.domains.box import Box
from mirrorgen.geometry.hessian import DiagonalHessian, HessianOperator, RankOneHessian
from mirrorgen.geometry.mirror_maps.slack_hessian import UpcastHessian, bounded_exp
from mirrorgen.geometry.mirror_maps.slack_structures import BarrierStructure, HalfspaceStructure, guard
from mirrorgen.numerics import monotone_root, upcast

# Enough for weights and quadratic factors nine orders of magnitude apart, dual points up to 1e8 times them.
ROOT_ITERATIONS = 40

__all__ = ["BallStructure", "BoxStructure", "FacetStructure"]


class BoxStructure(BarrierStructure):
    """A box: one scalar equation per coordinate, diagonal Hessian."""

    domain: Box

    def _state(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low, high = upcast(self.domain.low), upcast(self.domain.high)
        z = upcast(x)
        scale = torch.maximum(low.abs(), high.abs())
        return z, guard(z - low, x.dtype, scale), guard(high - z, x.dtype, scale)

    def potential(self, x: Tensor) -> Tensor:
        z, lower, upper = self._state(x)
        return (self.power.value(lower) + self.power.value(upper) + 0.5 * self.quadratic * z.square()).sum(-1)

    def gradient(self, x: Tensor) -> Tensor:
        z, lower, upper = self._state(x)
        return self.power.force(torch.log(upper)) - self.power.force(torch.log(lower)) + self.quadratic * z

    def _nearest(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The side (-1 or 1) of the bound nearest to the solution, its log-slack and the width of the box.

        About the centre the gradient is odd, and at slack ``s`` from the nearest bound it has the size
        ``force(s) - force(width - s) + quadratic (width/2 - s)``, which falls in ``s``.
        """
        low, high = upcast(self.domain.low), upcast(self.domain.high)
        width, center = high - low, 0.5 * (low + high)
        offset = y - self.quadratic * center
        # Not the sign and the absolute value: their derivatives vanish at the centre.
        side = torch.where(offset < 0, -1.0, 1.0).to(offset)
        size = side * offset
        if self.power.kappa == 1 and self.quadratic == 0:
            # With half-width a and weight w the distance u from the centre solves |y| (a^2 - u^2) = 2 w u; its
            # complement a - u, free of cancellation:
            a, w = 0.5 * width, self.power.weight
            root = torch.hypot(a * size, torch.full_like(size, w))
            return side, torch.log(a * w * (1 + w / (root + a * size)) / (w + root)), width
        upper = torch.log(0.5 * width).expand_as(size)
        lower = torch.minimum(self.power.log_slack(size + self.power.force(upper)), upper)

        def equation(sigma: Tensor) -> tuple[Tensor, Tensor]:
            s = torch.exp(sigma)
            other = torch.log(width - s)
            value = self.power.force(sigma) - self.power.force(other) + self.quadratic * (0.5 * width - s)
            opposite = self.power.force_rate(other) * torch.exp(sigma - other)
            return size - value, self.power.force_rate(sigma) + opposite + self.quadratic * s

        return side, monotone_root(equation, lower, upper, ROOT_ITERATIONS, start=lower.detach()), width

    def inverse(self, y: Tensor) -> Tensor:
        return self._point(*self._nearest(upcast(y))[:2])

    def _point(self, side: Tensor, sigma: Tensor) -> Tensor:
        s = torch.exp(sigma)
        return torch.where(side < 0, upcast(self.domain.low) + s, upcast(self.domain.high) - s)

    def _operator(self, sigma: Tensor, other: Tensor) -> HessianOperator:
        near, excess = bounded_exp(self.power.log_curvature(sigma))
        diagonal = near + torch.exp(self.power.log_curvature(other)) + self.quadratic
        return UpcastHessian(DiagonalHessian(diagonal), diagonal.dtype, excess.sum(-1))

    def hessian(self, x: Tensor) -> HessianOperator:
        _, lower, upper = self._state(x)
        return self._operator(torch.log(lower), torch.log(upper))

    def hessian_dual(self, y: Tensor) -> HessianOperator:
        return self.hessian_from(self._nearest(upcast(y))[1])

    def local(self, y: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
        side, sigma, _ = self._nearest(upcast(y))
        return self._point(side, sigma), sigma

    def hessian_from(self, start: Tensor) -> HessianOperator:
        width = upcast(self.domain.high) - upcast(self.domain.low)
        return self._operator(start, torch.log(width - torch.exp(start)))

    def log_det_gradient(self, y: Tensor, start: Tensor) -> Tensor:
        """``(d log h / d sigma) (d sigma / d y)`` per coordinate, with ``d sigma / d y = -side / (s h)``."""
        low, high = upcast(self.domain.low), upcast(self.domain.high)
        s = torch.exp(start)
        other = high - low - s
        near, _ = bounded_exp(self.power.log_curvature(start))
        far = torch.exp(self.power.log_curvature(torch.log(other)))
        total = near + far + self.quadratic
        rate = (1 + self.power.kappa) * (far * s / other - near) / total
        return torch.where(y < self.quadratic * 0.5 * (low + high), rate, -rate) / (s * total)

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        z, lower, upper = self._state(p)
        w, lower_q, upper_q = self._state(q)
        step = w - z
        terms = self.power.divergence(lower, lower_q, step) + self.power.divergence(upper, upper_q, -step)
        return (terms + 0.5 * self.quadratic * step.square()).sum(-1)


class BallStructure(BarrierStructure):
    """The ball with the one slack ``s = R^2 - |x - c|^2``: a radial scalar equation, rank-one Hessian.

    ``grad phi = 2 force(s) (x - c) + quadratic x``. The force of ``kappa = 0`` is ``-log(s / R^2)``, which is
    non-negative, as convexity asks; the shift is a multiple of the quadratic term.
    """

    domain: Ball

    def _shift(self) -> Tensor:
        """Of ``sigma`` in the force: zero but for the logarithm."""
        return 2 * torch.log(upcast(self.domain.radius)) * (self.power.kappa == 0)

    def _state(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r = upcast(x) - upcast(self.domain.center)
        square = upcast(self.domain.radius).square()
        return r, guard(square - r.square().sum(-1), x.dtype, square)

    def _spring(self, sigma: Tensor) -> Tensor:
        """``2 force + quadratic``, the tangential eigenvalue."""
        return 2 * self.power.force(sigma - self._shift()) + self.quadratic

    def potential(self, x: Tensor) -> Tensor:
        _, s = self._state(x)
        shifted = self.power.value(s) - self.power.weight * self._shift() * s
        return shifted + 0.5 * self.quadratic * upcast(x).square().sum(-1)

    def gradient(self, x: Tensor) -> Tensor:
        r, s = self._state(x)
        spring = self._spring(torch.log(s)).unsqueeze(-1)
        return spring * r + self.quadratic * upcast(self.domain.center)

    def _radial(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """``x - c`` and the log-slack: the root of ``(R^2 - s) spring(s)^2 = |y - quadratic c|^2``, smooth at 0."""
        v = y - self.quadratic * upcast(self.domain.center)
        size = v.square().sum(-1)
        square = upcast(self.domain.radius).square()
        upper = torch.log(square).expand_as(size)
        # With s <= R^2/2 the left side is at least (R^2/2) (2 force)^2; the last term is a margin for rounding.
        force = torch.sqrt(0.5 * size.detach() / square)
        tight = self.power.log_slack(force.clamp_min(1e-300)) + self._shift()
        lower = torch.minimum(tight, upper - math.log(2.0)) - 1e-6

        def equation(sigma: Tensor) -> tuple[Tensor, Tensor]:
            s = torch.exp(sigma)
            spring, room = self._spring(sigma), square - s
            slope = s * spring.square() + 4 * room * spring * self.power.force_rate(sigma)
            return size - room * spring.square(), slope

        sigma = monotone_root(equation, lower, upper, ROOT_ITERATIONS, start=lower)
        return v / self._spring(sigma).unsqueeze(-1), sigma

    def inverse(self, y: Tensor) -> Tensor:
        return upcast(self.domain.center) + self._radial(upcast(y))[0]

    def _operator(self, r: Tensor, sigma: Tensor) -> HessianOperator:
        curvature, excess = bounded_exp(self.power.log_curvature(sigma))
        diagonal = self._spring(sigma).unsqueeze(-1).expand_as(r)
        return UpcastHessian(RankOneHessian(diagonal, r, 4 * curvature), r.dtype, excess)

    def hessian(self, x: Tensor) -> HessianOperator:
        r, s = self._state(x)
        return self._operator(r, torch.log(s))

    def hessian_dual(self, y: Tensor) -> HessianOperator:
        return self._operator(*self._radial(upcast(y)))

    def local(self, y: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
        r, sigma = self._radial(upcast(y))
        return upcast(self.domain.center) + r, torch.cat([r, sigma.unsqueeze(-1)], -1)

    def hessian_from(self, start: Tensor) -> HessianOperator:
        return self._operator(start[..., :-1], start[..., -1])

    def log_det_gradient(self, y: Tensor, start: Tensor) -> Tensor:
        """By ``d sigma / d y`` from ``log det = (d-1) log spring + log(spring + 4 f'' (R^2 - s))``."""
        sigma = start[..., -1]
        s, square = torch.exp(sigma), upcast(self.domain.radius).square()
        spring, force_rate = self._spring(sigma), self.power.force_rate(sigma)
        curvature, _ = bounded_exp(self.power.log_curvature(sigma))
        radial = spring + 4 * curvature * (square - s)
        bend = -2 * force_rate - 4 * curvature * ((1 + self.power.kappa) * (square - s) + s)
        rate = (1 - self.domain.dim) * 2 * force_rate / spring + bend / radial
        slope = spring * (s * spring + 4 * (square - s) * force_rate)
        offset = y - self.quadratic * upcast(self.domain.center)
        return offset * (-2 * rate / slope).unsqueeze(-1)

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        r, t = self._state(p)
        w, s = self._state(q)
        step = w - r
        # The slack is concave: its own gap |step|^2 enters with the force at q.
        gap = -(step * (r + w)).sum(-1)
        spring = self._spring(torch.log(s))
        return self.power.divergence(t, s, gap) + 0.5 * spring * step.square().sum(-1)


class FacetStructure(HalfspaceStructure):
    """One half-space ``a . z < b``: a scalar equation along ``a``, the identity across it."""

    closed_form = True

    def solution_near(self, y: Tensor, near: Tensor | None) -> tuple[Tensor, Tensor]:
        return self._solve(y, "nan")

    def _solve(self, y: Tensor, on_failure: str) -> tuple[Tensor, Tensor]:
        """As ``HalfspaceStructure._solve``: ``force(s) - quadratic s = a . y - quadratic b``."""
        rows, bounds = self.halfspaces()
        y = upcast(y)
        along = y @ rows.mT
        right = along - self.quadratic * bounds
        zero = torch.zeros_like(right)
        # At s = 1 the left side is force(1) - quadratic: the sign of the difference tells the side of the root.
        tight = self.power.log_slack((right + self.quadratic).clamp_min(self.power.force(zero)))
        loose = torch.log(((self.power.force(zero) - right) / self.quadratic).clamp_min(1.0))

        def equation(sigma: Tensor) -> tuple[Tensor, Tensor]:
            s = self.quadratic * torch.exp(sigma)
            return right - self.power.force(sigma) + s, self.power.force_rate(sigma) + s

        sigma = monotone_root(equation, tight, loose, ROOT_ITERATIONS, start=tight.detach())
        across = (y - along * rows[0]) / self.quadratic
        return across + (bounds - torch.exp(sigma)) * rows[0], sigma
