"""Radial reproducing kernels ``k(x, x') = f(|x - x'|^2 / h)`` and rules for the bandwidth ``h``."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from mirrorgen.errors import DomainError

__all__ = ["IMQ", "RBF", "Bandwidth", "RadialKernel", "squared_distances"]

Rule = Literal["median_full", "median_log"]
Bandwidth = Rule | float


def squared_distances(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """``(x z^T, |x_i - z_j|^2)`` of points ``x (..., c, d)`` and ``z (..., n, d)``; centre both for accuracy."""
    products = x @ z.mT
    squared = torch.sub(z.square().sum(-1).unsqueeze(-2), products, alpha=2)
    return products, squared.add_(x.square().sum(-1, keepdim=True)).clamp_(min=0)


@dataclass(frozen=True)
class RadialKernel(ABC):
    """``k(x, x') = f(|x - x'|^2 / h)`` with ``f(0) = 1``.

    Args:
        bandwidth: ``h``, positive, or a rule that is applied anew at every step, without a gradient through ``h``:
            ``"median_full"``, the median of all ``n^2`` squared distances, those of points to themselves included
            (the upper one of the two middle values; one where it is zero); or ``"median_log"``, the median squared
            distance of distinct points over ``log n``, Liu and Wang's.
        exact_up_to: Sets with more particles take the median over this many of them, evenly spaced.

    Raises:
        DomainError: If the bandwidth is neither positive nor a rule.

    Source: Shi, Liu, Mackey, "Sampling with mirrored Stein operators", 2022 (first rule); Liu, Wang, "Stein
    variational gradient descent", 2016 (second).
    """

    bandwidth: Bandwidth = "median_full"
    exact_up_to: int = 500

    def __post_init__(self) -> None:
        rule = self.bandwidth
        if isinstance(rule, str) and rule not in get_args(Rule):
            raise DomainError(f"bandwidth must be positive or one of {get_args(Rule)}, got {rule!r}")
        if not isinstance(rule, str) and not 0 < rule < math.inf:
            raise DomainError(f"bandwidth must be positive and finite, got {rule}")
        if self.exact_up_to < 2:
            raise DomainError(f"exact_up_to must be at least 2, got {self.exact_up_to}")

    @abstractmethod
    def value_and_weight(self, squared: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """``k`` and ``w = -2 dk / d|x - x'|^2``, so that ``grad_x k(x, x') = -w (x - x')``, elementwise."""

    def select(self, z: Tensor) -> Tensor:
        """``h`` for sets of centred particles ``z (..., n, d)``, shape ``(..., 1, 1)``."""
        if not isinstance(self.bandwidth, str):
            return z.new_full((*z.shape[:-2], 1, 1), self.bandwidth)
        n = z.shape[-2]
        if n > self.exact_up_to:
            spaced = torch.arange(self.exact_up_to, device=z.device) * n // self.exact_up_to
            z = z[..., spaced, :]
        median = _median(z, full=self.bandwidth == "median_full")
        scale = 1.0 if self.bandwidth == "median_full" else math.log(max(n, 2))
        return torch.where(median > 0, median / scale, 1.0)[..., None, None]


def _median(z: Tensor, full: bool) -> Tensor:
    """The upper median of squared distances of ``z (..., n, d)``, with or without those of points to themselves."""
    n = z.shape[-2]
    squared = squared_distances(z, z)[1].flatten(-2)
    # Rounding leaves the n distances of points to themselves near zero; without them the ranks move up by n.
    rank = n * n - max(n * n // 2, 1) + 1 if full else n + n * (n - 1) // 2 + 1
    if n == 1:
        return torch.zeros_like(squared[..., 0])
    return squared.kthvalue(rank, -1).values


@dataclass(frozen=True)
class IMQ(RadialKernel):
    """Inverse multiquadric ``(1 + |x - x'|^2 / h)^(-1/2)``, whose heavy tails keep far particles in touch."""

    def value_and_weight(self, squared: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        value = torch.rsqrt(1 + squared / h)
        return value, value * value * value / h


@dataclass(frozen=True)
class RBF(RadialKernel):
    """Gaussian ``exp(-|x - x'|^2 / h)``."""

    def value_and_weight(self, squared: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        value = torch.exp(-squared / h)
        return value, value * (2 / h)
