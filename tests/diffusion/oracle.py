"""A law on the interval whose diffusion is known in closed form: ``p = 1 + a cos(pi x)`` stays of that kind."""

import math

import torch
from torch import Tensor

A, HIGH, LOW = 0.9, 1.5, 1e-3


def amplitude(sigma: Tensor) -> Tensor:
    """``a e^(-pi^2 sigma^2 / 2)``: the law at level ``sigma`` is ``1 + amplitude cos(pi x)``."""
    return A * torch.exp(-0.5 * (math.pi * sigma).square())


def score(x: Tensor, sigma: Tensor) -> Tensor:
    """``d/dx log(1 + a_sigma cos(pi x))`` of every coordinate."""
    a = amplitude(sigma)
    return -a * math.pi * torch.sin(math.pi * x) / (1 + a * torch.cos(math.pi * x))


def cdf(x: Tensor, sigma: Tensor) -> Tensor:
    """Distribution function ``x + a_sigma sin(pi x) / pi``."""
    return x + amplitude(sigma) / math.pi * torch.sin(math.pi * x)


def inverse_cdf(u: Tensor, sigma: Tensor) -> Tensor:
    """By bisection."""
    low, high = torch.zeros_like(u), torch.ones_like(u)
    for _ in range(60):
        middle = 0.5 * (low + high)
        below = cdf(middle, sigma) < u
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return 0.5 * (low + high)
