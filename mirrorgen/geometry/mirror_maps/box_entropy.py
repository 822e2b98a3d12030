"""The entropic map of a box."""

import torch
from torch import Tensor

from mirrorgen.geometry.domains.box import Box
from mirrorgen.geometry.mirror_maps.base import SeparableMap
from mirrorgen.geometry.mirror_maps.local import LocalGeometry
from mirrorgen.geometry.mirror_maps.requirements import require_domain
from mirrorgen.numerics import softplus, xlogx
from mirrorgen.special import entropy_gap

__all__ = ["BoxEntropy"]


class BoxEntropy(SeparableMap):
    """Fermi-Dirac entropy: the logit map of a box, ``x = low + (high - low) sigmoid(y)``.

    ``phi(x) = sum (x-a) log(x-a) + (b-x) log(b-x)``, ``grad phi = log((x-a)/(b-x))``,
    ``phi*(y) = sum a y + (b-a) (softplus(y) - log(b-a))``. Dual tails are exponential.

    Args:
        domain: A ``Box``.

    Raises:
        DomainError: If the domain is not a box.
    """

    domain: Box

    def __init__(self, domain: Box) -> None:
        require_domain(domain, Box, name="BoxEntropy")
        super().__init__(domain)

    def _bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.domain.low.to(x.dtype), self.domain.high.to(x.dtype)

    def _potential(self, x: Tensor) -> Tensor:
        low, high = self._bounds(x)
        return xlogx(x - low) + xlogx(high - x)

    def _gradient(self, x: Tensor) -> Tensor:
        low, high = self._bounds(x)
        return torch.log(x - low) - torch.log(high - x)

    def _inverse(self, y: Tensor) -> Tensor:
        low, high = self._bounds(y)
        width = high - low
        # From the nearer end, so that the offset from either bound keeps its relative accuracy.
        return torch.where(y < 0, low + width * torch.sigmoid(y), high - width * torch.sigmoid(-y))

    def _conjugate(self, y: Tensor) -> Tensor:
        low, high = self._bounds(y)
        width = high - low
        return low * y + width * (softplus(y) - torch.log(width))

    def _curvature(self, x: Tensor) -> Tensor:
        low, high = self._bounds(x)
        return 1 / (x - low) + 1 / (high - x)

    def log_det_jacobian_dual(self, y: Tensor) -> Tensor:
        """``sum softplus(y) + softplus(-y) - log(b-a)``: never loses the distance to the boundary."""
        low, high = self._bounds(y)
        size = y.abs()
        return (size + 2 * torch.log1p(torch.exp(-size))).sum(-1) - torch.log(high - low).sum()

    def log_det_gradient_dual(self, y: Tensor) -> Tensor:
        """``sigmoid(y) - sigmoid(-y) = tanh(y / 2)``."""
        return torch.tanh(0.5 * y)

    def _curvature_dual(self, y: Tensor) -> Tensor:
        low, high = self._bounds(y)
        return 1 / ((high - low) * torch.sigmoid(y) * torch.sigmoid(-y))

    def local(self, y: Tensor, start: Tensor | None = None) -> LocalGeometry:
        return _BoxGeometry(self, y, self.domain.pull_inside(self._inverse(y))[0])

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """``sum (p-a) log((p-a)/(q-a)) + (b-p) log((b-p)/(b-q))`` in its cancellation-free form."""
        low, high = self._bounds(p)
        step = q - p
        return (entropy_gap(p - low, q - low, step) + entropy_gap(high - p, high - q, -step)).sum(-1)


class _BoxGeometry(LocalGeometry):
    """Without the quotients of the Hessian: ``dx / dy = (b - a) sigmoid(y) sigmoid(-y)``."""

    mirror_map: BoxEntropy

    def dual_gradient(self, g: Tensor) -> Tensor:
        low, high = self.mirror_map._bounds(self.y)
        return (high - low) * torch.sigmoid(self.y) * torch.sigmoid(-self.y) * g
