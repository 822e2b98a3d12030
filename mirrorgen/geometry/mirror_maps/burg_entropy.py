"""Burg's entropy, the logarithmic barrier of the positive orthant."""

import torch
from torch import Tensor

from mirrorgen.geometry.domains.orthant import Orthant
from mirrorgen.geometry.mirror_maps.base import SeparableMap
from mirrorgen.geometry.mirror_maps.requirements import require_domain
from mirrorgen.special import expm1_gap, log_ratio

__all__ = ["BurgEntropy"]


class BurgEntropy(SeparableMap):
    """``phi(x) = -sum log x`` on the orthant: ``grad phi = -1 / x``, ``x = -1 / y`` for ``y < 0``.

    ``phi*(y) = sum -1 - log(-y)``; the divergence is Itakura-Saito's ``sum p/q - log(p/q) - 1``, invariant under
    scaling of coordinates. Self-concordant with parameter ``dim``. The dual domain is the negative orthant,
    so dual noise may not be added.

    Args:
        domain: An ``Orthant``.

    Raises:
        DomainError: If the domain is not an orthant.

    Reference: H. H. Bauschke, J. Bolte and M. Teboulle, "A descent lemma beyond Lipschitz gradient continuity",
    2017.
    """

    dual_is_full = False

    def __init__(self, domain: Orthant) -> None:
        require_domain(domain, Orthant, name="BurgEntropy")
        super().__init__(domain)

    def dual_contains(self, y: Tensor) -> Tensor:
        return ((y < 0) & torch.isfinite(y)).all(-1)

    def dual_requirement(self) -> str:
        return "every coordinate of y must be finite and negative; cap the dual step or use SoftplusDual"

    def _potential(self, x: Tensor) -> Tensor:
        return -torch.log(x)

    def _gradient(self, x: Tensor) -> Tensor:
        return -1 / x

    def _inverse(self, y: Tensor) -> Tensor:
        return -1 / y

    def _conjugate(self, y: Tensor) -> Tensor:
        return -1 - torch.log(-y)

    def _curvature(self, x: Tensor) -> Tensor:
        return x.square().reciprocal()

    def _curvature_dual(self, y: Tensor) -> Tensor:
        return y.square()

    def log_det_jacobian(self, x: Tensor) -> Tensor:
        return -2 * torch.log(x).sum(-1)

    def log_det_jacobian_dual(self, y: Tensor) -> Tensor:
        return 2 * torch.log(-y).sum(-1)

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """``sum p/q - log(p/q) - 1`` in its cancellation-free form."""
        return expm1_gap(log_ratio(p, q)).sum(-1)
