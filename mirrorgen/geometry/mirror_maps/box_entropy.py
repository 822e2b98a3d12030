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
        return _BoxGeometry(self, y)

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """``sum (p-a) log((p-a)/(q-a)) + (b-p) log((b-p)/(b-q))`` in its cancellation-free form."""
        low, high = self._bounds(p)
        step = q - p
        return (entropy_gap(p - low, q - low, step) + entropy_gap(high - p, high - q, -step)).sum(-1)


class _BoxGeometry(LocalGeometry):
    """One pair of sigmoids, ``p`` of ``e y`` and ``q`` of ``-e y``, and no quotient: ``dx / dy = (b - a) p q``.

    ``e`` is the sign for which ``x`` is counted from the bound of smaller size, next to which points are denser.
    """

    mirror_map: BoxEntropy

    def __init__(self, mirror_map: BoxEntropy, y: Tensor) -> None:
        low, high = mirror_map._bounds(y)
        self.sign = torch.where(low.abs() <= high.abs(), 1.0, -1.0).to(y)
        self.width = high - low
        turned = self.sign * y
        self.p, self.q = torch.sigmoid(turned), torch.sigmoid(-turned)
        x = torch.where(self.sign > 0, low, high) + self.sign * self.width * self.p
        super().__init__(mirror_map, y, mirror_map.domain.pull_inside(x)[0])

    @property
    def log_det_gradient(self) -> Tensor:
        return self.sign * (self.p - self.q)

    def dual_gradient(self, g: Tensor) -> Tensor:
        return self.width * self.p * self.q * g
