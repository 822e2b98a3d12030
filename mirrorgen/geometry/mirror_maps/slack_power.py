"""The one-parameter family of barrier terms behind log, power and entropic barriers."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.numerics import log1p_gap, xlogx

__all__ = ["SlackPower"]


@dataclass(frozen=True)
class SlackPower:
    """``f`` of a slack ``s > 0`` with force ``-f'(s) = weight s^-kappa``, convex, as functions of ``sigma = log s``.

    ``kappa = 1`` is ``-log s``, ``0 < kappa < 1`` is ``-s^(1-kappa) / (1-kappa)`` and ``kappa = 0``, the limit of
    ``(s^-kappa - 1) / kappa``, is ``s log s - s`` with force ``-log s``. A slack of ``1e-400`` is zero in
    floating point; its logarithm is not, which is why force and curvature take ``sigma``.

    Args:
        kappa: Exponent in ``[0, 1]``.
        weight: Positive factor.
    """

    kappa: float
    weight: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.kappa <= 1.0:
            raise DomainError(f"kappa must lie in [0, 1] (0 entropic, 1 log barrier), got {self.kappa}")
        if not 0.0 < self.weight < math.inf:
            raise DomainError(f"weight must be positive and finite, got {self.weight}")

    def value(self, s: Tensor) -> Tensor:
        """``f(s)``."""
        if self.kappa == 1:
            return -self.weight * torch.log(s)
        if self.kappa == 0:
            return self.weight * (xlogx(s) - s)
        return -self.weight / (1 - self.kappa) * s ** (1 - self.kappa)

    def force(self, sigma: Tensor) -> Tensor:
        """``-f'(e^sigma)``."""
        return -self.weight * sigma if self.kappa == 0 else self.weight * torch.exp(-self.kappa * sigma)

    def log_slack(self, force: Tensor) -> Tensor:
        """The ``sigma`` of a force, the inverse of ``force``."""
        force = force / self.weight
        return -force if self.kappa == 0 else -torch.log(force) / self.kappa

    def force_rate(self, sigma: Tensor) -> Tensor:
        """``-d force / d sigma = s f''(s)``."""
        return torch.full_like(sigma, self.weight) if self.kappa == 0 else self.kappa * self.force(sigma)

    def log_curvature(self, sigma: Tensor) -> Tensor:
        """``log f''(e^sigma)``."""
        return math.log(self.weight * (self.kappa or 1.0)) - (1 + self.kappa) * sigma

    def divergence(self, t: Tensor, s: Tensor, gap: Tensor) -> Tensor:
        """``f(t) - f(s) - f'(s) (t - s) >= 0`` from ``gap = s - t``, free of cancellation for near slacks."""
        log_ratio = torch.log(t) - torch.log(s)
        if self.kappa == 0:
            return self.weight * _select(gap / t, t * log1p_gap(_near(gap / t)), gap + t * log_ratio)
        v = -gap / s
        if self.kappa == 1:
            return self.weight * _select(v, log1p_gap(_near(v)), v - log_ratio)
        p = 1 - self.kappa
        far = v - torch.expm1(p * log_ratio) / p
        return self.weight * torch.exp(p * torch.log(s)) * _select(v, _power_gap(_near(v), p), far)


def _near(u: Tensor) -> Tensor:
    return torch.where(u.abs() < 0.1, u, torch.zeros_like(u))


def _select(u: Tensor, near: Tensor, far: Tensor) -> Tensor:
    return torch.where(u.abs() < 0.1, near, far)


def _power_gap(v: Tensor, p: float) -> Tensor:
    """``v - ((1+v)^p - 1)/p`` for ``|v| < 0.1`` by the binomial series, whose terms alternate from ``v^2`` on."""
    series = torch.ones_like(v)
    for k in range(17, 2, -1):
        series = 1 - v * series * ((k - 1 - p) / k)
    return 0.5 * (1 - p) * v.square() * series
