"""Heat kernels of unbounded sets: the whole space, the orthant and the half-space."""

import torch
from torch import Tensor

from mirrorgen.diffusion.heat_kernel.base import HeatKernel
from mirrorgen.diffusion.heat_kernel.interval import half_line, log_image, log_normal
from mirrorgen.geometry.domains import Euclidean, Halfspace, Orthant
from mirrorgen.geometry.validation import require_kind

__all__ = ["EuclideanHeatKernel", "HalfspaceHeatKernel", "OrthantHeatKernel"]


class EuclideanHeatKernel(HeatKernel):
    """Brownian motion without walls: ``N(x_0, sigma^2 I)``, with score ``-(x - x_0) / sigma^2``.

    Args:
        domain: A ``Euclidean``.

    Raises:
        DomainError: If the domain is of another kind.
    """

    def __init__(self, domain: Euclidean) -> None:
        require_kind(domain, Euclidean, "domain")
        super().__init__(domain)

    def _log_prob_and_score(self, x: Tensor, x_0: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return log_normal(x, x_0, sigma).sum(-1).to(x.dtype), (x_0 - x) / sigma.square()


class OrthantHeatKernel(HeatKernel):
    """Brownian motion in the positive orthant: the product of the kernels of half-lines.

    ``log p = sum_i log(phi_sigma(x_i - x_0i) + phi_sigma(x_i + x_0i))`` with the centred normal density
    ``phi_sigma``; ``score_i = (x_0i tanh(x_i x_0i / sigma^2) - x_i) / sigma^2``.

    Args:
        domain: An ``Orthant``.

    Raises:
        DomainError: If the domain is of another kind.
    """

    def __init__(self, domain: Orthant) -> None:
        require_kind(domain, Orthant, "domain")
        super().__init__(domain)

    def _log_prob_and_score(self, x: Tensor, x_0: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        log_k, score = half_line(x, x_0, sigma)
        return log_k.sum(-1), score


class HalfspaceHeatKernel(HeatKernel):
    """Brownian motion in a half-space: that of a half-line along the normal, free motion across it.

    With the unit outward normal ``n`` and the distances ``d, d_0`` to the wall,
    ``log p = log N(x; x_0, sigma^2 I) + log(1 + e^(-2 d d_0 / sigma^2))`` and
    ``score = -(x - x_0 - d_0 (1 - tanh(d d_0 / sigma^2)) n) / sigma^2``.

    Args:
        domain: A ``Halfspace``.

    Raises:
        DomainError: If the domain is of another kind.
    """

    def __init__(self, domain: Halfspace) -> None:
        require_kind(domain, Halfspace, "domain")
        super().__init__(domain)

    def _log_prob_and_score(self, x: Tensor, x_0: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        normal = self.domain.halfspaces()[0].squeeze(0).to(x.dtype)
        depth, depth_0 = self.domain.slack(x), self.domain.slack(x_0)
        variance = sigma.square()
        product = depth * depth_0 / variance
        log_prob = log_normal(x, x_0, sigma).sum(-1) + log_image(product).squeeze(-1)
        image = depth_0 * (1 - torch.tanh(product)) * normal
        return log_prob.to(x.dtype), (image - (x - x_0)) / variance
