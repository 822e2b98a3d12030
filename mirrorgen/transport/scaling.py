"""Half steps on a kernel in memory: the absorbed form of Sinkhorn's iteration."""

import math

import torch
from torch import Tensor

__all__ = ["alternate", "scale_to", "within_range"]

_LOOK_EVERY = 10
# Overrelaxation: the largest rate it believes, and the largest relative change of a scaling for which it is in order.
_SLOWEST, _NEAR = 0.99, 0.2


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
    relax = _Relaxation(mass)
    needed = torch.full_like(mass, iterations)
    for k in range(1, iterations + 1):
        plain = relax.idle or k % _LOOK_EVERY == 0 or k == iterations
        for target, sums, scaling in ((nu, columns, v), (mu, rows, u)):
            if scaling is u:
                torch.bmm(v, transposed, out=rows)
            if plain:
                torch.div(target, sums, out=scaling)
            else:
                scaling.lerp_(target / sums, relax.weight)
        torch.bmm(u, kernel, out=columns)
        if k % _LOOK_EVERY == 0 or k == iterations:
            change = v * columns / nu
            error = (nu * (change - 1)).abs().sum((-2, -1)) / mass
            needed = torch.where(error <= tolerance, needed.clamp_max(k), needed)
            left = relax.look(error, change, tolerance)
            slow = (left > patience) & (error > tolerance)
            if bool((error <= tolerance).all() | slow.any()) or not within_range(u, v):
                break
    return u.squeeze(1), v.squeeze(1), error, needed.clamp_max(k)


class _Relaxation:
    """Overrelaxation of the half steps, ``u + w (new - u)``, with the weight of successive overrelaxation.

    Where a plain iteration shrinks the error by ``rho``, the weight ``w = 2 / (1 + sqrt(1 - rho))`` makes that
    ``w - 1``: about the root of the number of iterations is left. ``rho`` follows from the rate ``r`` seen with the
    last weight, ``(r + w - 1)^2 = w^2 r rho`` (Young's relation). Near the solution scalings change by small factors,
    and relaxing them is relaxing potentials.

    Args:
        like: One number per problem.

    Sources: Lehmann, von Renesse, Sambale, Uschmajew, "A note on overrelaxation in the Sinkhorn algorithm", 2022;
    Thibault, Chizat, Dossal, Papadakis, "Overrelaxed Sinkhorn-Knopp Algorithm for Regularized Optimal Transport", 2021.
    """

    def __init__(self, like: Tensor) -> None:
        self.weight = torch.ones_like(like)[:, None, None]
        self.before = torch.full_like(like, torch.nan)
        self.idle = True

    def look(self, error: Tensor, change: Tensor, tolerance: Tensor) -> Tensor:
        """Adapt the weight to the error after a plain iteration; iterations that are left at the rate to come."""
        rate = (error / self.before).pow(1 / _LOOK_EVERY)
        w = self.weight[:, 0, 0]
        rho = ((rate + w - 1).square() / (w.square() * rate)).clamp(0, _SLOWEST)
        near = (change - 1).abs().amax((-2, -1)) < _NEAR
        better = torch.where(near & (rate < 1), 2 / (1 + torch.sqrt(1 - rho)), 1.0)
        self.weight, self.before = better.nan_to_num(1.0)[:, None, None], error
        self.idle = not bool((self.weight > 1).any())
        left = torch.log(error / tolerance) / -torch.log(torch.where(better > 1, better - 1, rate))
        return torch.where(torch.isfinite(left), left, 0.0)
