"""The heat kernel of a product of domains."""

from collections.abc import Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from mirrorgen.diffusion.heat_kernel.base import HeatKernel
from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Product
from mirrorgen.geometry.validation import require_kind
from mirrorgen.spec import to_spec

__all__ = ["ProductHeatKernel"]


class ProductHeatKernel(HeatKernel):
    """Brownian motion in a product of domains: independent motions in the factors.

    ``log p(x | x_0) = sum_j log p_j(x_j | x_0j)`` over the blocks ``x_j`` of coordinates; scores are concatenated.

    Args:
        domain: A ``Product``.
        kernels: One kernel per factor, in the order of the factors.

    Raises:
        DomainError: If the domain is no product, or the kernels are not those of its factors.
    """

    domain: Product

    def __init__(self, domain: Product, kernels: Sequence[HeatKernel]) -> None:
        require_kind(domain, Product, "domain")
        super().__init__(domain)
        given = list(kernels)
        for i, kernel in enumerate(given):
            require_kind(kernel, HeatKernel, f"kernels[{i}]")
        expected, found = [to_spec(d) for d in domain.blocks], [to_spec(k.domain) for k in given]
        if found != expected:
            factors = ", ".join(map(repr, domain.blocks))
            raise DomainError(f"kernels must be one for each of {factors}, in this order; got {given!r:.80}")
        self.kernels = nn.ModuleList(given)

    @property
    def blocks(self) -> list[HeatKernel]:
        """The kernels of the factors as a typed list."""
        return [k for k in self.kernels if isinstance(k, HeatKernel)]

    def _log_prob_and_score(self, x: Tensor, x_0: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        pairs = zip(self.blocks, self.domain.split(x), self.domain.split(x_0), strict=True)
        log_probs, scores = zip(*(k._log_prob_and_score(p, p_0, sigma) for k, p, p_0 in pairs), strict=True)
        return reduce(add, log_probs), torch.cat(scores, -1)

    def sample(self, x_0: Tensor, sigma: Tensor | float, *, generator: torch.Generator | None = None) -> Tensor:
        parts = zip(self.blocks, self.domain.split(x_0), strict=True)
        return torch.cat([k.sample(p, sigma, generator=generator) for k, p in parts], -1)
