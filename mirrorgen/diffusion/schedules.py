"""Noise levels: how the deviation of the reflected Brownian motion grows with time, and grids of it for sampling."""

import math
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from mirrorgen.errors import DomainError

__all__ = ["GeometricSchedule", "Schedule", "sigma_grid", "stratified"]

Grid = Literal["log", "rho"]


class Schedule(ABC):
    """Deviation ``sigma(t)`` of the motion, increasing from ``sigma_min`` at ``t = 0`` to ``sigma_max`` at ``t = 1``.

    The data are taken to be at ``sigma_min`` already, as usual where the variance explodes: the law at level ``sigma``
    is that of the motion from a data point with variance ``sigma^2``.
    """

    sigma_min: float
    sigma_max: float

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Deviation at times in ``[0, 1]``."""

    @abstractmethod
    def time(self, sigma: Tensor) -> Tensor:
        """Inverse of ``sigma``."""

    @abstractmethod
    def variance_rate(self, t: Tensor) -> Tensor:
        """``g(t)^2 = d sigma(t)^2 / dt``, the weight that makes the loss a bound on the likelihood."""


class GeometricSchedule(Schedule):
    """``sigma(t) = sigma_min (sigma_max / sigma_min)^t``: uniform times are uniform logarithms of the deviation.

    ``g^2 = 2 log(sigma_max / sigma_min) sigma^2``, so that weighting errors of ``sigma * score`` equally is weighting
    by the likelihood.

    Args:
        sigma_min: Deviation that counts as none, in the units of the domain.
        sigma_max: Deviation at which the law is uniform for practical purposes. On an interval of length ``w`` the
            density deviates from uniform by ``2 exp(-pi^2 sigma^2 / (2 w^2))``: 3e-5 at ``1.5 w``.

    Raises:
        DomainError: Unless ``0 < sigma_min < sigma_max < inf``.

    Source: Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations", 2021; on reflected
    motions: Lou, Ermon, "Reflected Diffusion Models", 2023.
    """

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 1.5) -> None:
        if not 0 < sigma_min < sigma_max < math.inf:
            raise DomainError(f"a schedule needs 0 < sigma_min < sigma_max < inf, got {sigma_min} and {sigma_max}")
        self.sigma_min, self.sigma_max = float(sigma_min), float(sigma_max)

    def __repr__(self) -> str:
        return f"GeometricSchedule(sigma_min={self.sigma_min:g}, sigma_max={self.sigma_max:g})"

    @property
    def log_ratio(self) -> float:
        """``log(sigma_max / sigma_min)``."""
        return math.log(self.sigma_max / self.sigma_min)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min * torch.exp(self.log_ratio * t)

    def time(self, sigma: Tensor) -> Tensor:
        return torch.log(sigma / self.sigma_min) / self.log_ratio

    def variance_rate(self, t: Tensor) -> Tensor:
        return 2 * self.log_ratio * self.sigma(t).square()


def sigma_grid(high: float, low: float, steps: int, grid: Grid = "rho", rho: float = 7.0) -> Tensor:
    """Decreasing deviations ``(steps + 1,)`` from ``high`` to ``low``, float64.

    ``"log"`` is geometric; ``"rho"`` has equal steps of ``sigma^(1 / rho)``, which is finer than geometric near
    ``high``.

    Raises:
        DomainError: If ``steps < 1``, not ``0 < low < high``, or the name or ``rho`` is not allowed.

    Source: Karras, Aittala, Aila, Laine, "Elucidating the Design Space of Diffusion-Based Generative Models", 2022.
    """
    if not isinstance(steps, int) or steps < 1:
        raise DomainError(f"a grid has at least one step, got steps={steps!r}")
    if not 0 < low < high < math.inf:
        raise DomainError(f"a grid falls from high to low with 0 < low < high, got {high} and {low}")
    if grid not in ("log", "rho") or rho <= 0:
        raise DomainError(f"grid is 'log' or 'rho' with rho > 0, got {grid!r} and rho={rho}")
    unit = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    if grid == "log":
        return high * (low / high) ** unit
    return (high ** (1 / rho) * (1 - unit) + low ** (1 / rho) * unit) ** rho


def stratified(levels: int, n: int, *, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Uniform times ``(levels, n)``, one in each of ``levels`` equal parts of ``[0, 1]``, increasing in the level.

    Within a level the ``n`` times are equidistant up to a common shift and a random order, which takes most of the
    variance that the times contribute out of a mean over the batch.

    Source: Kingma, Salimans, Poole, Ho, "Variational Diffusion Models", 2021.
    """
    options: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
    shift = torch.rand(levels, 1, generator=generator, **options)
    order = torch.rand(levels, n, generator=generator, **options).argsort(-1)
    within = torch.remainder(order / n + shift, 1.0)
    return (within + torch.arange(levels, **options).unsqueeze(-1)) / levels
