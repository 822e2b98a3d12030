"""Synthetic laws on constrained sets: the targets of published experiments, exactly reproducible from seeds."""

import itertools
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.geometry.domains import Domain, Simplex

__all__ = ["DirichletMixture", "Target", "TruncatedMixture", "corners"]


class Target(ABC):
    """A law on a domain that can be sampled exactly.

    Attributes:
        domain: The set that holds the draws.
    """

    domain: Domain

    @abstractmethod
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws ``(n, dim)`` in float32, strictly inside ``domain`` in that dtype."""


class TruncatedMixture(Target):
    """Normal components with diagonal covariance, restricted to a domain by rejection.

    The law is proportional to ``1[x in domain] sum_k w_k N(x; mean_k, diag(var_k))``: components are truncated
    jointly, so one with little mass inside contributes little.

    Args:
        domain: The set.
        means: Means ``(k, dim)``; they may lie outside.
        variance: One number, one per component ``(k, 1)``, or ``(k, dim)``.
        weights: Component weights ``(k,)``; equal if None.

    Raises:
        ShapeError: If shapes disagree.
    """

    def __init__(
        self,
        domain: Domain,
        means: Tensor | list,
        variance: Tensor | list | float = 1.0,
        weights: Tensor | list | None = None,
    ) -> None:
        self.domain = domain
        self.means = torch.as_tensor(means, dtype=torch.float64)
        if self.means.ndim != 2 or self.means.shape[1] != domain.dim:
            raise ShapeError(f"means must have shape (k, {domain.dim}), got {tuple(self.means.shape)}")
        self.variance = torch.as_tensor(variance, dtype=torch.float64)
        uniform = torch.ones(len(self.means), dtype=torch.float64)
        self.weights = uniform if weights is None else torch.as_tensor(weights, dtype=torch.float64)
        if self.weights.shape != uniform.shape:
            raise ShapeError(f"weights must have shape ({len(uniform)},), got {tuple(self.weights.shape)}")

    def propose(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` draws of the mixture before truncation, float64."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        deviation = self.variance.sqrt().expand_as(self.means)[k]
        noise = torch.randn(n, self.domain.dim, generator=generator, dtype=torch.float64)
        return self.means[k] + deviation * noise

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """As ``Target.sample``.

        Raises:
            ConvergenceError: If fewer than one proposal in ten thousand is accepted.
        """
        kept: list[Tensor] = []
        count = tried = 0
        while count < n:
            x = self.propose(max(1024, 2 * n), generator).float()
            x = x[self.domain.contains(x)]
            kept.append(x)
            count, tried = count + len(x), tried + max(1024, 2 * n)
            if count < 1e-4 * tried and tried > 1e6:
                raise ConvergenceError(f"rejection accepts {count} of {tried} proposals; move the means inside")
        return torch.cat(kept)[:n]


class DirichletMixture(Target):
    """A mixture of Dirichlet laws on ``Simplex(K)``.

    Args:
        concentration: Parameters ``(K,)`` of one law or ``(k, K)`` of several.
        weights: Component weights ``(k,)``; equal if None.

    Raises:
        DomainError: If a parameter is not positive.
    """

    def __init__(self, concentration: Tensor | list, weights: Tensor | list | None = None) -> None:
        self.concentration = torch.atleast_2d(torch.as_tensor(concentration, dtype=torch.float64))
        if not bool((self.concentration > 0).all()):
            raise DomainError("Dirichlet parameters must be positive")
        self.domain = Simplex(self.concentration.shape[1])
        uniform = torch.ones(len(self.concentration), dtype=torch.float64)
        self.weights = uniform if weights is None else torch.as_tensor(weights, dtype=torch.float64)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        # The draw below torch.distributions.Dirichlet, which takes no generator; Gamma(a) = Gamma(a+1) U^(1/a)
        # in logs keeps small parameters from underflowing to zero.
        a = self.concentration[k]
        log_gamma = torch._standard_gamma(a + 1, generator=generator).log()
        u = torch.rand(a.shape, generator=generator, dtype=torch.float64).clamp_min(1e-300)
        return self.domain.pull_inside(torch.softmax(log_gamma + u.log() / a, -1).float())[0]


def corners(dim: int, scale: float) -> Tensor:
    """The ``2^dim`` points ``{-scale, scale}^dim``, float64."""
    return scale * torch.tensor(list(itertools.product([-1.0, 1.0], repeat=dim)), dtype=torch.float64)


def uniform_box(n: int, dim: int, half_width: float, seed: int) -> Tensor:
    """``n`` uniform points of ``[-half_width, half_width]^dim`` from a seed, float64."""
    generator = torch.Generator().manual_seed(seed)
    return half_width * (2 * torch.rand(n, dim, generator=generator, dtype=torch.float64) - 1)
