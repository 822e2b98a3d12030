"""The contract of a target: an unnormalised log-density on a domain, with what is known about it exactly."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Domain

__all__ = ["Target"]


class Target(ABC):
    """An unnormalised log-density on a convex domain, callable as samplers ask: ``target(x)``.

    Subclasses give ``log_density`` and, where known in closed form, ``score``, ``mean``, ``variance`` and ``sample``.

    Attributes:
        domain: The set that holds the law.
    """

    domain: Domain

    @abstractmethod
    def log_density(self, x: Tensor) -> Tensor:
        """``log p(x)`` up to a constant at points ``(..., dim)``, shape ``(...)``."""

    def __call__(self, x: Tensor) -> Tensor:
        """``log_density(x)``."""
        return self.log_density(x)

    def score(self, x: Tensor) -> Tensor:
        """``grad log p(x)``, ``(..., dim)``; by autograd unless a closed form is known."""
        return torch.func.grad(lambda points: self.log_density(points).sum())(x)

    @property
    def mean(self) -> Tensor:
        """Exact mean ``(dim,)``, float64.

        Raises:
            DomainError: If no closed form is known.
        """
        raise DomainError(f"{type(self).__name__} has no known mean")

    @property
    def variance(self) -> Tensor:
        """Exact variances of the coordinates ``(dim,)``, float64.

        Raises:
            DomainError: If no closed form is known.
        """
        raise DomainError(f"{type(self).__name__} has no known variance")

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws ``(n, dim)`` in float64, strictly inside.

        Raises:
            DomainError: If no exact sampler is known.
        """
        raise DomainError(f"{type(self).__name__} has no exact sampler; use mirrorgen.sample")
