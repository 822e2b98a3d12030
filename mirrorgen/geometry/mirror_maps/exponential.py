"""The exponential function as a Legendre function on all of space."""

import torch
from torch import Tensor

from mirrorgen.geometry.domains.euclidean import Euclidean
from mirrorgen.geometry.mirror_maps.base import SeparableMap
from mirrorgen.geometry.mirror_maps.requirements import require_domain
from mirrorgen.numerics import saturating_exp, xlogx
from mirrorgen.special import expm1_gap

__all__ = ["Exponential"]


class Exponential(SeparableMap):
    """``phi(x) = sum e^x`` on all of space: ``grad phi = e^x``, ``x = log y`` for ``y > 0``.

    ``phi*(y) = sum y log y - y``: the conjugate of ``NegEntropy``, with points and dual points exchanged. The dual
    domain is the positive orthant, so dual noise may not be added; the map serves envelopes. Where ``e^x`` overflows,
    ``to_dual`` returns infinity with derivative zero.

    Args:
        domain: A ``Euclidean`` space.

    Raises:
        DomainError: If the domain is not Euclidean.

    Source: Bauschke, Dao and Lindstrom, "Regularizing with Bregman-Moreau envelopes", 2018.
    """

    dual_is_full = False

    def __init__(self, domain: Euclidean) -> None:
        require_domain(domain, Euclidean, name="Exponential")
        super().__init__(domain)

    def dual_contains(self, y: Tensor) -> Tensor:
        return ((y > 0) & torch.isfinite(y)).all(-1)

    def dual_requirement(self) -> str:
        return "every coordinate of y must be finite and positive; use Hypentropy where noise is added"

    def _potential(self, x: Tensor) -> Tensor:
        return saturating_exp(x)

    def _gradient(self, x: Tensor) -> Tensor:
        return saturating_exp(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.log(y)

    def _conjugate(self, y: Tensor) -> Tensor:
        return xlogx(y) - y

    def _curvature(self, x: Tensor) -> Tensor:
        return saturating_exp(x)

    def _curvature_dual(self, y: Tensor) -> Tensor:
        return y

    def log_det_jacobian(self, x: Tensor) -> Tensor:
        return x.sum(-1)

    def log_det_jacobian_dual(self, y: Tensor) -> Tensor:
        return torch.log(y).sum(-1)

    def log_det_gradient_dual(self, y: Tensor) -> Tensor:
        return y.reciprocal()

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """``sum e^q (e^(p-q) - 1 - (p-q))`` in its cancellation-free form."""
        return (torch.exp(q) * expm1_gap(p - q)).sum(-1)
