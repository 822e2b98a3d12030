"""Mixtures on convex sets: the laws behind the synthetic data of published experiments."""

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.geometry.domains import Domain, Simplex
from mirrorgen.targets.base import Target
from mirrorgen.targets.dirichlet import log_gamma_draws

__all__ = ["DirichletMixture", "TruncatedMixture"]


class TruncatedMixture(Target):
    """Normal components with diagonal covariance, restricted to a domain by rejection.

    The law is proportional to ``1[x in domain] sum_k w_k N(x; mean_k, diag(var_k))``: components are truncated
    jointly, so one with little mass inside contributes little.

    Args:
        domain: The set.
        means: Means ``(k, dim)``; they may lie outside.
        component_variance: One number, one per component ``(k, 1)``, or ``(k, dim)``.
        weights: Component weights ``(k,)``; equal if None.

    Raises:
        ShapeError: If shapes disagree.
    """

    def __init__(
        self,
        domain: Domain,
        means: Tensor | list,
        component_variance: Tensor | list | float = 1.0,
        weights: Tensor | list | None = None,
    ) -> None:
        self.domain = domain
        self.means = torch.as_tensor(means, dtype=torch.float64)
        if self.means.ndim != 2 or self.means.shape[1] != domain.dim:
            raise ShapeError(f"means must have shape (k, {domain.dim}), got {tuple(self.means.shape)}")
        self.component_variance = torch.as_tensor(component_variance, dtype=torch.float64)
        uniform = torch.ones(len(self.means), dtype=torch.float64)
        self.weights = uniform if weights is None else torch.as_tensor(weights, dtype=torch.float64)
        if self.weights.shape != uniform.shape:
            raise ShapeError(f"weights must have shape ({len(uniform)},), got {tuple(self.weights.shape)}")

    def log_density(self, x: Tensor) -> Tensor:
        mean, variance = self.means.to(x), self.component_variance.expand_as(self.means).to(x)
        exponent = -0.5 * ((x.unsqueeze(-2) - mean).square() / variance + variance.log()).sum(-1)
        return torch.logsumexp(self.weights.log().to(x) + exponent, -1)

    def propose(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` draws of the mixture before truncation, float64."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        deviation = self.component_variance.sqrt().expand_as(self.means)[k]
        noise = torch.randn(n, self.domain.dim, generator=generator, dtype=torch.float64)
        return self.means[k] + deviation * noise

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """As ``Target.sample``, by rejection.

        Raises:
            ConvergenceError: If fewer than one proposal in ten thousand is accepted.
        """
        kept: list[Tensor] = []
        count = tried = 0
        while count < n:
            x = self.propose(max(1024, 2 * n), generator)
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

    def log_density(self, x: Tensor) -> Tensor:
        a = self.concentration.to(x)
        constant = torch.lgamma(a.sum(-1)) - torch.lgamma(a).sum(-1) + self.weights.log().to(x)
        return torch.logsumexp(constant + x.log() @ (a - 1).mT, -1)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        logs = log_gamma_draws(self.concentration[k], generator)
        return self.domain.pull_inside(torch.softmax(logs, -1))[0]
