"""The normal law restricted to a convex set."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains import Box, Domain, Orthant
from mirrorgen.geometry.domains.base import as_buffer
from mirrorgen.targets.base import Target
from mirrorgen.targets.normal_interval import interval_moments, interval_quantile

__all__ = ["TruncatedNormal"]


class TruncatedNormal(Target):
    """``p(x) ~ exp(-(x - mu)^T Sigma^-1 (x - mu) / 2)`` on ``domain``.

    With a diagonal ``Sigma`` on a box or an orthant the coordinates are independent, and moments and draws are exact
    however far outside ``mu`` lies. Elsewhere ``samplers.TruncatedGaussianGibbs`` and
    ``samplers.LinearEllipticalSlice`` draw from it.

    Attributes:
        location: ``mu (dim,)``, the mean of the law before truncation, anywhere.
        precision: ``Sigma^-1``, ``(dim,)`` if it is diagonal, else ``(dim, dim)``.

    Args:
        domain: Any convex domain.
        location: ``mu``, a number or ``(dim,)``.
        covariance: ``Sigma``: None for the identity, a number or ``(dim,)`` for variances, or ``(dim, dim)``.

    Raises:
        ShapeError: If a shape does not fit the domain.
        DomainError: If a value is not finite or the covariance not symmetric and positive definite.
    """

    def __init__(
        self, domain: Domain, location: Tensor | float | list, covariance: Tensor | float | list | None = None
    ) -> None:
        self.domain = domain
        center, spread = as_buffer(location), as_buffer(1.0 if covariance is None else covariance)
        if center.shape not in ((), (domain.dim,)) or spread.shape not in ((), (domain.dim,), (domain.dim,) * 2):
            raise ShapeError(
                f"location and covariance must fit {domain.dim} coordinates, got shapes {tuple(center.shape)} and "
                f"{tuple(spread.shape)}"
            )
        self.location = center.expand(domain.dim).clone()
        self.covariance = spread.clone() if spread.ndim == 2 else spread.expand(domain.dim).clone()
        if not bool(torch.isfinite(self.location).all()):
            raise DomainError("TruncatedNormal needs a finite location")
        self.precision = _inverse(self.covariance)

    def _pull(self, x: Tensor) -> Tensor:
        """``Sigma^-1 (mu - x)``."""
        difference, precision = self.location.to(x) - x, self.precision.to(x)
        return precision * difference if precision.ndim == 1 else difference @ precision

    def log_density(self, x: Tensor) -> Tensor:
        return 0.5 * ((x - self.location.to(x)) * self._pull(x)).sum(-1)

    def score(self, x: Tensor) -> Tensor:
        return self._pull(x)

    def _standardized(self) -> tuple[Tensor, Tensor, Tensor]:
        """Standard deviations and both ends in units of them, for independent coordinates."""
        if self.covariance.ndim != 1 or not isinstance(self.domain, Box | Orthant):
            raise DomainError(
                "a truncated normal has closed forms on a Box or an Orthant with a diagonal covariance only, not on "
                f"{self.domain!r} with a covariance of shape {tuple(self.covariance.shape)}; sample it"
            )
        low, high = (
            (self.domain.low, self.domain.high)
            if isinstance(self.domain, Box)
            else (torch.zeros_like(self.location), torch.full_like(self.location, torch.inf))
        )
        scale = self.covariance.sqrt()
        return scale, (low - self.location) / scale, (high - self.location) / scale

    @property
    def mean(self) -> Tensor:
        scale, low, high = self._standardized()
        return self.location + scale * interval_moments(low, high).mean

    @property
    def variance(self) -> Tensor:
        scale, low, high = self._standardized()
        return scale.square() * interval_moments(low, high).variance

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        scale, low, high = self._standardized()
        u = torch.rand(n, len(scale), generator=generator, dtype=torch.float64)
        return self.domain.pull_inside(self.location + scale * interval_quantile(u, low, high))[0]


def _inverse(covariance: Tensor) -> Tensor:
    """``Sigma^-1``, or ``DomainError``."""
    if covariance.ndim == 1:
        if not bool((torch.isfinite(covariance) & (covariance > 0)).all()):
            raise DomainError("TruncatedNormal needs positive, finite variances")
        return covariance.reciprocal()
    symmetric = torch.allclose(covariance, covariance.mT, rtol=1e-10, atol=0.0)
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if not symmetric or bool(failed) or not bool(torch.isfinite(factor).all()):
        raise DomainError("TruncatedNormal needs a symmetric positive definite covariance")
    return torch.cholesky_inverse(factor)
