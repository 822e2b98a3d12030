"""Do chains agree?"""

import torch
from torch import Tensor

from mirrorgen.metrics.chain_statistics import normal_scores, per_coordinate, quantile, split_chains

__all__ = ["folded", "rhat", "rhat_of_halves"]


@torch.no_grad()
def rhat(draws: Tensor) -> Tensor:
    """Rank-normalised split R-hat: the larger of that of the draws and that of their distances from the median.

    ``sqrt((n - 1) / n + B / (n W))`` of normal scores of ranks, with ``B / n`` the variance of the means of the
    half-chains and ``W`` the mean of their variances. Near 1 if all halves have one law: location is judged by the
    draws, scale by the distances. Chains are usually accepted below 1.01.

    Args:
        draws: ``(draws, chains)`` or ``(draws, chains, dim)``. One chain is compared with itself, half against half;
            several chains from spread-out starts tell more.

    Returns:
        A float64 scalar or ``(dim,)``; NaN for a coordinate that is constant or not finite and for fewer than four
        draws per chain, infinite if every chain is constant but not all are equal.

    Raises:
        ShapeError: If ``draws`` has another shape.

    Source: Vehtari, Gelman, Simpson, Carpenter and Buerkner, "Rank-normalization, folding, and localization: an
    improved R-hat for assessing convergence of MCMC", 2021.
    """
    return per_coordinate(_rank_rhat, draws)


def _rank_rhat(x: Tensor) -> Tensor:
    x = split_chains(x)
    # Distances from the median may all be equal, as those of draws with two values are.
    return torch.fmax(rhat_of_halves(normal_scores(x)), rhat_of_halves(normal_scores(folded(x))))


def folded(x: Tensor) -> Tensor:
    """Distances from the median of each coordinate, ``(coordinates, halves, draws)``."""
    return (x - quantile(x, 0.5)[:, None, None]).abs()


def rhat_of_halves(x: Tensor) -> Tensor:
    """Plain R-hat ``(coordinates,)`` of split chains ``(coordinates, halves, draws)``."""
    n = x.shape[-1]
    between, within = x.mean(-1).var(-1), x.var(-1).mean(-1)
    return ((n - 1) / n + between / within).sqrt()
