"""The uniform law of a convex set."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Ball, Birkhoff, Box, Domain, Product, Simplex
from mirrorgen.targets.base import Target

__all__ = ["Uniform"]


class Uniform(Target):
    """Constant density on ``domain``; a proper law where the domain is bounded.

    The mean is known for boxes, simplices, balls, Birkhoff's polytope and products of them, the variance for all of
    these but Birkhoff's polytope. ``sample`` is ``domain.sample_uniform``: independent draws where the domain has an
    exact sampler, the ends of independent billiard walks on polytopes.

    Args:
        domain: Any convex domain.
    """

    def __init__(self, domain: Domain) -> None:
        self.domain = domain

    def log_density(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[..., 0])

    def score(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    @property
    def mean(self) -> Tensor:
        return _mean(self.domain)

    @property
    def variance(self) -> Tensor:
        return _variance(self.domain)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        return self.domain.sample_uniform(n, generator=generator, dtype=torch.float64)


def _mean(domain: Domain) -> Tensor:
    if isinstance(domain, Product):
        return torch.cat([_mean(block) for block in domain.blocks])
    if isinstance(domain, Box | Simplex | Ball | Birkhoff):
        # By symmetry, the centre that each of these has.
        return domain.interior_point()
    raise DomainError(f"the mean of the uniform law on {domain!r} has no closed form here; sample it")


def _variance(domain: Domain) -> Tensor:
    if isinstance(domain, Product):
        return torch.cat([_variance(block) for block in domain.blocks])
    if isinstance(domain, Box):
        return (domain.high - domain.low).square() / 12
    if isinstance(domain, Simplex):
        # Dirichlet(1, ..., 1).
        mean = domain.interior_point()
        return mean * (1 - mean) / (domain.dim + 1)
    if isinstance(domain, Ball):
        return (domain.radius.square() / (domain.dim + 2)).repeat(domain.dim)
    raise DomainError(f"the variance of the uniform law on {domain!r} has no closed form here; sample it")
