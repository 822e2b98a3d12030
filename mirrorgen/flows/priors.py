"""Laws of the noise in the dual space, each with exact draws and a density."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError
from mirrorgen.numerics import sqrt1p_square

__all__ = ["Gaussian", "Prior", "StudentT"]


class Prior(nn.Module, ABC):
    """A centred law of unit scale on ``R^dim``."""

    @abstractmethod
    def sample(
        self,
        n: int,
        dim: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """``n`` independent draws ``(n, dim)``."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density ``(...)`` with respect to Lebesgue measure at ``z (..., dim)``."""


class Gaussian(Prior):
    """The standard normal law."""

    def sample(
        self,
        n: int,
        dim: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        return torch.randn(n, dim, generator=generator, dtype=dtype, device=device)

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z.square().sum(-1) + z.shape[-1] * math.log(2 * math.pi))


class StudentT(Prior):
    """The multivariate elliptical Student-t law with unit scale matrix.

    ``z = g sqrt(df / w)`` with ``g`` standard normal and *one* ``w ~ chi^2_df`` per sample, so that the law is
    elliptical; a product of univariate t laws is not. Its density is
    ``Gamma((df+d)/2) / (Gamma(df/2) (df pi)^(d/2)) (1 + |z|^2/df)^(-(df+d)/2)``; its covariance is
    ``df/(df-2) I`` for ``df > 2``.

    Source: Guan, Balasubramanian and Ma, "Mirror Flow Matching with Heavy-Tailed Priors for Generative
    Modeling on Convex Domains" (2025); Kotz and Nadarajah, "Multivariate t Distributions" (2004).

    Args:
        df: Degrees of freedom, positive and at most 1e8; the prior of the publication has 10.

    Raises:
        DomainError: If ``df`` is out of range.
    """

    def __init__(self, df: float = 10.0) -> None:
        super().__init__()
        # Beyond, the difference of log-gammas in the density has lost its digits.
        if not 0 < df <= 1e8:
            raise DomainError(f"df must lie in (0, 1e8], got {df}; use Gaussian() for the limit of large df")
        self.df = float(df)

    def extra_repr(self) -> str:
        return f"df={self.df:g}"

    def sample(
        self,
        n: int,
        dim: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        g = torch.randn(n, dim, generator=generator, dtype=dtype, device=device)
        # The gamma draw is the one below torch.distributions.Chi2, which accepts no generator.
        half = torch.full((n, 1), 0.5 * self.df, dtype=g.dtype, device=g.device)
        w = 2 * torch._standard_gamma(half, generator=generator)
        return g * torch.sqrt(self.df / w.clamp_min(torch.finfo(g.dtype).tiny))

    def log_prob(self, z: Tensor) -> Tensor:
        d = z.shape[-1]
        half = 0.5 * (self.df + d)
        constant = math.lgamma(half) - math.lgamma(0.5 * self.df) - 0.5 * d * math.log(self.df * math.pi)
        # Few degrees of freedom give draws whose squares overflow.
        return constant - 2 * half * torch.log(sqrt1p_square(z / math.sqrt(self.df)))
