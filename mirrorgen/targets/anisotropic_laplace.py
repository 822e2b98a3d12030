"""Independent Laplace coordinates of different scales."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.bregman import L1Norm
from mirrorgen.geometry.domains import Euclidean
from mirrorgen.targets.composite import CompositeTarget

__all__ = ["AnisotropicLaplace"]


class AnisotropicLaplace(CompositeTarget):
    """``p(x) ~ exp(-sum_i a_i |x_i|)``, all of it non-smooth: ``E|x_i| = 1 / a_i``, ``Var x_i = 2 / a_i^2``.

    Args:
        rates: ``a (dim,)``, positive; an integer ``d`` stands for ``1, 2, ..., d``.

    Raises:
        DomainError: If a rate is not positive.

    Source: Lau, Liu, "Bregman proximal Langevin Monte Carlo via Bregman-Moreau envelopes", 2022 (rates 1 to 100).
    """

    domain: Euclidean

    def __init__(self, rates: Tensor | list[float] | int) -> None:
        values = torch.arange(1.0, rates + 1) if isinstance(rates, int) else rates
        self.rates = torch.as_tensor(values, dtype=torch.float64)
        if self.rates.ndim != 1 or not bool((torch.isfinite(self.rates) & (self.rates > 0)).all()):
            raise DomainError("AnisotropicLaplace needs a vector of positive rates, one per coordinate")
        self.domain = Euclidean(len(self.rates))
        self.nonsmooth = L1Norm(self.rates)

    def smooth_value(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[:-1])

    def smooth_score(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    @property
    def mean(self) -> Tensor:
        return torch.zeros_like(self.rates)

    @property
    def variance(self) -> Tensor:
        return 2 / self.rates.square()

    @property
    def mean_size(self) -> Tensor:
        """``E|x_i| (dim,)``."""
        return 1 / self.rates

    def quantile(self, p: Tensor | float) -> Tensor:
        """The ``p``-quantiles of the coordinates, ``(..., dim)`` for levels ``(...)`` in ``(0, 1)``."""
        level = torch.as_tensor(p, dtype=torch.float64).unsqueeze(-1)
        return torch.sign(0.5 - level) * torch.log1p(-(2 * level - 1).abs()) / self.rates

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        size = torch.empty(n, len(self.rates), dtype=torch.float64).exponential_(generator=generator)
        sign = 2 * torch.randint(0, 2, size.shape, generator=generator) - 1
        return sign * size / self.rates
