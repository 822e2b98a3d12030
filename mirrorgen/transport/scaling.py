"""Half steps on a kernel in memory: the absorbed form of Sinkhorn's iteration."""

import math

import torch
from torch import Tensor

__all__ = ["scale", "scale_to", "within_range"]

_LOOK_EVERY = 10


def within_range(*scalings: Tensor) -> bool:
    """Whether all scalings lie within ``max^(-1/7)`` and ``max^(1/7)`` of their dtype.

    Entries of the kernel that underflowed are then negligible in the plan, and nothing overflows before the next look.
    """
    reach = math.exp(math.log(torch.finfo(scalings[0].dtype).max) / 7)
    low, high = (torch.stack([pick(s) for s in scalings]) for pick in (torch.amin, torch.amax))
    return bool(((low > 1 / reach) & (high < reach)).all())


def scale(kernel: Tensor, mu: Tensor, nu: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """``v = nu / K^T u``, ``u = mu / K v``, repeated: rows of ``diag(u) K diag(v)`` sum to ``mu`` exactly.

    Differentiable. Both orders of the kernel are kept: products of a row with a matrix are twice as fast.

    Args:
        kernel: ``K``, ``(*batch, n, m)``, with row sums near ``mu``.
        mu: ``(*batch, n)``.
        nu: ``(*batch, m)``.
        iterations: At least one.
    """
    transposed = kernel.mT.contiguous()
    u = torch.ones_like(mu)
    v = torch.ones_like(nu)
    for _ in range(iterations):
        v = nu / _times(u, kernel)
        u = mu / _times(v, transposed)
    return u, v


def scale_to(kernel: Tensor, mu: Tensor, nu: Tensor, tolerance: Tensor, iterations: int) -> tuple[Tensor, Tensor, int]:
    """``scale`` that ends when columns sum to ``nu`` within ``tolerance`` of the mass, or a scaling leaves its range.

    Args:
        kernel: As in ``scale``.
        mu: As in ``scale``.
        nu: As in ``scale``.
        tolerance: ``(*batch)``.
        iterations: The most to make.

    Returns:
        ``u``, ``v`` and the number of iterations made.
    """
    transposed = kernel.mT.contiguous()
    u, v = torch.ones_like(mu), torch.ones_like(nu)
    allowed = tolerance * nu.sum(-1)
    columns = _times(u, kernel)
    for k in range(1, iterations + 1):
        v = nu / columns
        u = mu / _times(v, transposed)
        columns = _times(u, kernel)
        if k % _LOOK_EVERY == 0:
            close = ((v * columns - nu).abs().sum(-1) <= allowed).all()
            if bool(close) or not within_range(u, v):
                return u, v, k
    return u, v, iterations


def _times(row: Tensor, matrix: Tensor) -> Tensor:
    return (row.unsqueeze(-2) @ matrix).squeeze(-2)
