"""The map of the positive orthant whose inverse gradient is the softplus."""

import math

import torch
from torch import Tensor

from mirrorgen.geometry.domains.orthant import Orthant
from mirrorgen.geometry.mirror_maps.base import SeparableMap
from mirrorgen.geometry.mirror_maps.requirements import require_domain
from mirrorgen.numerics import log1mexp, softplus, softplus_inverse
from mirrorgen.special import entropy_gap, fermi_dirac_integral, li2_exp, remainder_integral

__all__ = ["SoftplusDual"]

# B_2k / (2k)!, k = 1 .. 7: 1 / (1 - e^-x) - 1 / x = 1/2 + sum_k B_2k x^(2k-1) / (2k)!.
_BERNOULLI = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600)


class SoftplusDual(SeparableMap):
    """``phi*(y) = -sum Li2(-e^y)``, hence ``x = softplus(y)``: positive and unbounded with a full dual space.

    ``phi(x) = sum x^2 / 2 + Li2(e^-x) - pi^2 / 6``, ``grad phi = log(e^x - 1)``, curvature ``1 / (1 - e^-x) > 1``:
    1-strongly convex on the whole orthant, entropic near zero and Euclidean far out, so that ``to_primal``
    never overflows. The default for positive quantities without an upper bound.

    Args:
        domain: An ``Orthant``.

    Raises:
        DomainError: If the domain is not an orthant.
    """

    def __init__(self, domain: Orthant) -> None:
        require_domain(domain, Orthant, name="SoftplusDual")
        super().__init__(domain)

    def _potential(self, x: Tensor) -> Tensor:
        return 0.5 * x.square() + li2_exp(x) - math.pi**2 / 6

    def _gradient(self, x: Tensor) -> Tensor:
        return softplus_inverse(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return softplus(y)

    def _conjugate(self, y: Tensor) -> Tensor:
        return fermi_dirac_integral(y)

    def _curvature(self, x: Tensor) -> Tensor:
        return -1 / torch.expm1(-x)

    def _curvature_dual(self, y: Tensor) -> Tensor:
        return 1 + torch.exp(-y)

    def log_det_jacobian_dual(self, y: Tensor) -> Tensor:
        return softplus(-y).sum(-1)

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """``sum (p - q)^2 / 2 + G(p) - G(q) - G'(q) (p - q)``, ``G(x) = Li2(e^-x)``, without cancellation.

        Points less than 1 apart split the curvature into ``1/x``, whose part is the divergence of the entropy,
        and a remainder that Gauss-Legendre quadrature integrates to rounding.
        """
        near = (p - q).abs() < 1
        one = torch.ones_like(p)
        p_near, q_near = torch.where(near, p, one), torch.where(near, q, one)
        p_far, q_far = torch.where(near, one, p), torch.where(near, 2 * one, q)
        far = li2_exp(p_far) - li2_exp(q_far) - log1mexp(q_far) * (p_far - q_far)
        far = far + 0.5 * (p_far - q_far).square()
        step = p_near - q_near
        smooth = step.square() * remainder_integral(_smooth_curvature, q_near, step)
        return torch.where(near, smooth + entropy_gap(p_near, q_near), far).sum(-1)


def _smooth_curvature(x: Tensor) -> Tensor:
    """``1 / (1 - e^-x) - 1 / x``, between 1/2 and 1."""
    near = x < 0.5
    small = torch.where(near, x, torch.zeros_like(x))
    large = torch.where(near, torch.ones_like(x), x)
    series = torch.full_like(x, _BERNOULLI[-1])
    for c in reversed(_BERNOULLI[:-1]):
        series = c + small.square() * series
    return torch.where(near, 0.5 + small * series, -1 / torch.expm1(-large) - 1 / large)
