"""The Hellinger map of a ball."""

import torch
from torch import Tensor

from mirrorgen.geometry.domains.ball import Ball
from mirrorgen.geometry.hessian import HessianOperator, RankOneHessian
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.mirror_maps.requirements import require_domain
from mirrorgen.numerics import sqrt1p_square, upcast

__all__ = ["HellingerBall"]


class HellingerBall(MirrorMap):
    """``phi(x) = -sqrt(R^2 - |x-c|^2)``, strongly convex with modulus ``1/R``.

    ``grad phi = (x-c) / sqrt(R^2 - |x-c|^2)``, ``grad phi*(y) = c + R y / s``, ``phi*(y) = <c, y> + R s`` with
    ``s = sqrt(1 + |y|^2)``; the Hessian is ``(s/R) (I + y y^T)``. Uniform points have the dual density
    of a multivariate Student-t with two degrees of freedom, up to scale.

    Args:
        domain: A ``Ball``.

    Raises:
        DomainError: If the domain is not a ball.

    Reference: Bauschke, Bolte and Teboulle, "A descent lemma beyond Lipschitz gradient continuity: first-order
    methods revisited and applications", 2017, whose list of potentials has the one-dimensional form.
    """

    domain: Ball

    def __init__(self, domain: Ball) -> None:
        require_domain(domain, Ball, name="HellingerBall")
        super().__init__(domain)

    def _centered(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``x - c`` and ``sqrt(R^2 - |x-c|^2)``, kept positive where rounding makes it vanish.

        The difference of squares is taken in float64: in float32 it has no digits left within 1e-6 of the sphere.
        """
        u = upcast(x) - self.domain.center
        radius_squared = self.domain.radius.square()
        floor = torch.finfo(u.dtype).eps * radius_squared
        height = torch.sqrt(torch.maximum(radius_squared - u.square().sum(-1), floor))
        return u.to(x.dtype), height.to(x.dtype)

    def potential(self, x: Tensor) -> Tensor:
        return -self._centered(x)[1]

    def conjugate(self, y: Tensor) -> Tensor:
        center, radius = self.domain.center.to(y.dtype), self.domain.radius.to(y.dtype)
        return (center * y).sum(-1) + radius * sqrt1p_square(y)

    def hessian(self, x: Tensor) -> HessianOperator:
        u, height = self._centered(x)
        weight = height.reciprocal()
        return RankOneHessian(weight.unsqueeze(-1).expand_as(u), u * weight.unsqueeze(-1), weight)

    def hessian_dual(self, y: Tensor) -> HessianOperator:
        weight = sqrt1p_square(y) / self.domain.radius.to(y.dtype)
        return RankOneHessian(weight.unsqueeze(-1).expand_as(y), y, weight)

    def log_det_jacobian(self, x: Tensor) -> Tensor:
        """``2 log R - (d + 2) log h`` with the height ``h = sqrt(R^2 - |x-c|^2)``."""
        _, height = self._centered(x)
        return 2 * torch.log(self.domain.radius.to(x.dtype)) - (self.domain.dim + 2) * torch.log(height)

    def log_det_jacobian_dual(self, y: Tensor) -> Tensor:
        """``(d + 2) log(1 + |y|^2) / 2 - d log R``."""
        dim, radius = self.domain.dim, self.domain.radius.to(y.dtype)
        return (dim + 2) * torch.log(sqrt1p_square(y)) - dim * torch.log(radius)

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """``((h_p - h_q)^2 + |p - q|^2) / (2 h_q)`` with heights ``h = sqrt(R^2 - |x-c|^2)``."""
        (u, height_p), (v, height_q) = self._centered(upcast(p)), self._centered(upcast(q))
        step = u - v
        drop = ((u + v) * step).sum(-1) / (height_p + height_q)
        return ((drop.square() + step.square().sum(-1)) / (2 * height_q)).to(p.dtype)

    def _gradient(self, x: Tensor) -> Tensor:
        u, height = self._centered(x)
        return u / height.unsqueeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        center, radius = self.domain.center.to(y.dtype), self.domain.radius.to(y.dtype)
        return center + radius * (y / sqrt1p_square(y).unsqueeze(-1))
