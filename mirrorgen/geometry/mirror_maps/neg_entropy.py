"""The negative entropy of the positive orthant."""

import torch
from torch import Tensor

from mirrorgen.geometry.domains.orthant import Orthant
from mirrorgen.geometry.mirror_maps.base import SeparableMap
from mirrorgen.geometry.mirror_maps.requirements import require_domain
from mirrorgen.numerics import saturating_exp, xlogx
from mirrorgen.special import entropy_gap

__all__ = ["NegEntropy"]


class NegEntropy(SeparableMap):
    """``phi(x) = sum x log x - x`` on the orthant: ``grad phi = log x``, ``x = e^y``, ``phi*(y) = sum e^y``.

    Its divergence is the generalised Kullback-Leibler divergence ``sum p log(p / q) - p + q``. Where ``e^y``
    overflows or underflows, ``to_primal`` returns the largest or smallest normal number of the dtype, counts
    the point as moved and has derivative zero; ``SoftplusDual`` grows linearly and has no such limit.

    Args:
        domain: An ``Orthant``.

    Raises:
        DomainError: If the domain is not an orthant.

    Reference: J. Kivinen and M. K. Warmuth, "Exponentiated gradient versus gradient descent for linear
    predictors", 1997.
    """

    def __init__(self, domain: Orthant) -> None:
        require_domain(domain, Orthant, name="NegEntropy")
        super().__init__(domain)

    def _potential(self, x: Tensor) -> Tensor:
        return xlogx(x) - x

    def _gradient(self, x: Tensor) -> Tensor:
        return torch.log(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return saturating_exp(y)

    def _conjugate(self, y: Tensor) -> Tensor:
        return torch.exp(y)

    def _curvature(self, x: Tensor) -> Tensor:
        return 1 / x

    def _curvature_dual(self, y: Tensor) -> Tensor:
        return torch.exp(-y)

    def log_det_jacobian(self, x: Tensor) -> Tensor:
        return -torch.log(x).sum(-1)

    def log_det_jacobian_dual(self, y: Tensor) -> Tensor:
        return -y.sum(-1)

    def log_det_gradient_dual(self, y: Tensor) -> Tensor:
        """Minus one in every coordinate."""
        return -torch.ones_like(y)

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """``sum p log(p / q) - p + q`` in its cancellation-free form."""
        return entropy_gap(p, q).sum(-1)
