"""Half steps on a kernel in memory: the absorbed form of Sinkhorn's iteration."""

import math

import torch
from torch import Tensor

__all__ = ["alternate", "scale_to", "within_range"]

_LOOK_EVERY = 10


def within_range(*scalings: Tensor) -> bool:
    """Whether all scalings lie within ``max^(-1/7)`` and ``max^(1/7)`` of their dtype.

    Entries of the kernel that underflowed are then negligible in the plan, and nothing overflows before the next look.
    """
    reach = math.exp(math.log(torch.finfo(scalings[0].dtype).max) / 7)
    low, high = (torch.stack([pick(s) for s in scalings]) for pick in (torch.amin, torch.amax))
    return bool(((low > 1 / reach) & (high < reach)).all())


def alternate(kernel: Tensor, mu: Tensor, nu: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """``v = nu / K^T u``, ``u = mu / K v``, and so on: scalings of ``diag(u) K diag(v)`` after ``count`` half steps.

    Differentiable. Both orders of the kernel are kept: products of a row with a matrix are twice as fast.

    Args:
        kernel: ``K``, ``(*batch, n, m)``, with row sums near ``mu``.
        mu: ``(*batch, n)``.
        nu: ``(*batch, m)``.
        count: Number of half steps, columns first.
    """
    transposed = kernel.mT.contiguous()
    u, v = kernel.new_ones(kernel.shape[:-1]), kernel.new_ones(kernel.mT.shape[:-1])
    for k in range(count):
        if k % 2:
            u = mu / (v.unsqueeze(-2) @ transposed).squeeze(-2)
        else:
            v = nu / (u.unsqueeze(-2) @ kernel).squeeze(-2)
    return u, v


@torch.no_grad()
def scale_to(
    kernel: Tensor, mu: Tensor, nu: Tensor, tolerance: Tensor, iterations: int, patience: float = math.inf
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``alternate`` that ends when columns sum to ``nu`` within ``tolerance``, or a scaling leaves its range.

    Args:
        kernel: As in ``alternate``, one batch axis.
        mu: As in ``alternate``.
        nu: As in ``alternate``.
        tolerance: ``(batch)``, over the mass.
        iterations: The most to make.
        patience: Ends as well when the rate of the last iterations would need more than so many further ones.

    Returns:
        ``u``, ``v``, the violation ``(batch)``, and the number of iterations after which it was first small enough, or
        of all of them, ``(batch)``.
    """
    transposed = kernel.mT.contiguous()
    mu, nu, mass = mu.unsqueeze(1), nu.unsqueeze(1), nu.sum(-1)
    u, v = torch.ones_like(mu), torch.ones_like(nu)
    rows, columns = torch.empty_like(mu), torch.bmm(u, kernel)
    before, needed = torch.full_like(mass, torch.nan), torch.full_like(mass, iterations)
    for k in range(1, iterations + 1):
        torch.div(nu, columns, out=v)
        torch.div(mu, torch.bmm(v, transposed, out=rows), out=u)
        torch.bmm(u, kernel, out=columns)
        if k % _LOOK_EVERY == 0 or k == iterations:
            error = (v * columns - nu).abs().sum((-2, -1)) / mass
            needed = torch.where(error <= tolerance, needed.clamp_max(k), needed)
            left = _LOOK_EVERY * torch.log(error / tolerance) / torch.log(before / error)
            slow = (left > patience) & (error > tolerance)
            if bool((error <= tolerance).all() | slow.any()) or not within_range(u, v):
                break
            before = error
    return u.squeeze(1), v.squeeze(1), error, needed.clamp_max(k)
