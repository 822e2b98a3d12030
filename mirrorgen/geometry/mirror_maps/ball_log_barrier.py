"""The logarithmic barrier of a ball."""

import torch
from torch import Tensor

from mirrorgen.geometry.domains.ball import Ball
from mirrorgen.geometry.hessian import HessianOperator, RankOneHessian
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.mirror_maps.requirements import require_domain
from mirrorgen.numerics import log1p_gap, sqrt1p_square, upcast

__all__ = ["BallLogBarrier"]


class BallLogBarrier(MirrorMap):
    """``phi(x) = -log(1 - |x-c|^2 / R^2)``, self-concordant with barrier parameter 1.

    With ``v = (x-c)/R`` and ``delta = 1 - |v|^2``: ``grad phi = 2 v / (R delta)``. With ``w = R y`` and
    ``s = sqrt(1 + |w|^2)``: ``grad phi*(y) = c + R w / (1 + s)``,
    ``phi*(y) = <c, y> + (s-1) - log((1+s)/2)``, ``delta = 2 / (1 + s)``, and the Hessian is
    ``(1 + s)/R^2 I + y y^T``. Dual tails of the uniform law are those of a Cauchy vector.

    Args:
        domain: A ``Ball``.

    Raises:
        DomainError: If the domain is not a ``Ball``.

    Reference: Nesterov and Nemirovskii, "Interior-Point Polynomial Algorithms in Convex Programming", 1994.
    """

    domain: Ball

    def __init__(self, domain: Ball) -> None:
        require_domain(domain, Ball, name="BallLogBarrier")
        super().__init__(domain)

    def _scaled(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``v``, ``R`` and ``delta``, kept positive where rounding makes it vanish.

        ``delta`` is a difference taken in float64: in float32 it has no digits left within 1e-6 of the sphere.
        """
        v = self.domain.relative(upcast(x))
        delta = torch.clamp_min(1 - v.square().sum(-1), torch.finfo(v.dtype).eps)
        return v.to(x.dtype), self.domain.radius.to(x.dtype), delta.to(x.dtype)

    def _scaled_dual(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``w``, ``R`` and ``s``, smooth at zero."""
        radius = self.domain.radius.to(y.dtype)
        w = radius * y
        return w, radius, sqrt1p_square(w)

    def potential(self, x: Tensor) -> Tensor:
        return -torch.log(self._scaled(x)[2])

    def conjugate(self, y: Tensor) -> Tensor:
        w, _, s = self._scaled_dual(y)
        # s - 1 without cancellation for small y.
        excess = (w * (w / (1 + s).unsqueeze(-1))).sum(-1)
        return (self.domain.center.to(y.dtype) * y).sum(-1) + excess - torch.log1p(excess / 2)

    def hessian(self, x: Tensor) -> HessianOperator:
        _, radius, delta = self._scaled(x)
        diagonal = 2 / (radius.square() * delta)
        return RankOneHessian(diagonal.unsqueeze(-1).expand_as(x), self._gradient(x), torch.ones_like(delta))

    def hessian_dual(self, y: Tensor) -> HessianOperator:
        _, radius, s = self._scaled_dual(y)
        diagonal = (1 + s) / radius.square()
        return RankOneHessian(diagonal.unsqueeze(-1).expand_as(y), y, torch.ones_like(s))

    def log_det_jacobian(self, x: Tensor) -> Tensor:
        """``d log(2 / R^2) - (d + 1) log delta + log(2 - delta)``."""
        _, radius, delta = self._scaled(x)
        dim = self.domain.dim
        return dim * torch.log(2 / radius.square()) - (dim + 1) * torch.log(delta) + torch.log(2 - delta)

    def log_det_jacobian_dual(self, y: Tensor) -> Tensor:
        """``d log((1 + s) / R^2) + log s``."""
        _, radius, s = self._scaled_dual(y)
        return self.domain.dim * torch.log((1 + s) / radius.square()) + torch.log(s)

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """``|v_p - v_q|^2 / delta_q + g((delta_p - delta_q) / delta_q)``, ``g(u) = u - log(1 + u)``."""
        (v_p, _, delta_p), (v_q, _, delta_q) = self._scaled(upcast(p)), self._scaled(upcast(q))
        step = v_p - v_q
        ratio = -((v_p + v_q) * step).sum(-1) / delta_q
        # The product form keeps the digits of near points, the quotient form those of a p at the boundary.
        ratio = torch.where(ratio < -0.5, delta_p / delta_q - 1, ratio)
        return (step.square().sum(-1) / delta_q + log1p_gap(ratio)).to(p.dtype)

    def _gradient(self, x: Tensor) -> Tensor:
        v, radius, delta = self._scaled(x)
        return 2 * v / (radius * delta).unsqueeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        w, radius, s = self._scaled_dual(y)
        return self.domain.center.to(y.dtype) + radius * (w / (1 + s).unsqueeze(-1))
