"""The Dirichlet law."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Simplex
from mirrorgen.targets.base import Target

__all__ = ["Dirichlet"]


class Dirichlet(Target):
    """``p(x) ~ prod x_i^(a_i - 1)`` on ``Simplex(K)``; marginals are ``Beta(a_i, A - a_i)``, ``A = sum a``.

    Args:
        concentration: ``a (K,)``, positive.

    Raises:
        DomainError: If a parameter is not positive.
    """

    domain: Simplex

    def __init__(self, concentration: Tensor | list[float]) -> None:
        self.concentration = torch.as_tensor(concentration, dtype=torch.float64)
        if self.concentration.ndim != 1 or not bool((self.concentration > 0).all()):
            raise DomainError("Dirichlet needs a vector of positive parameters, one per coordinate")
        self.domain = Simplex(len(self.concentration))

    def log_density(self, x: Tensor) -> Tensor:
        return ((self.concentration.to(x) - 1) * x.log()).sum(-1)

    def score(self, x: Tensor) -> Tensor:
        return (self.concentration.to(x) - 1) / x

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.concentration.sum()

    @property
    def variance(self) -> Tensor:
        return self.mean * (1 - self.mean) / (self.concentration.sum() + 1)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        logs = log_gamma_draws(self.concentration.expand(n, -1), generator)
        return self.domain.pull_inside(torch.softmax(logs, -1))[0]


def log_gamma_draws(a: Tensor, generator: torch.Generator | None) -> Tensor:
    """Logarithms of draws of ``Gamma(a, 1)``, as ``Gamma(a + 1) U^(1/a)``, which small ``a`` do not underflow."""
    # The function below torch.distributions.Gamma, which takes no generator.
    log_gamma = torch._standard_gamma(a + 1, generator=generator).log()
    u = torch.rand(a.shape, generator=generator, dtype=torch.float64).clamp_min(1e-300)
    return log_gamma + u.log() / a
