"""Nearest-neighbour estimate of the Kullback-Leibler divergence."""

import math
import warnings

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.metrics.pairwise import check_samples, pair_blocks

__all__ = ["knn_kl"]


@torch.no_grad()
def knn_kl(x: Tensor, y: Tensor, k: int = 3) -> Tensor:
    """Estimate ``KL(P || Q)`` from samples of ``P`` and ``Q`` by distances to the k-th nearest neighbour.

    ``dim / n sum_i log(rho_i / nu_i) + log(m / (n - 1))``, with ``rho_i`` the distance from ``x_i`` to its
    k-th neighbour in ``y`` and ``nu_i`` to its k-th neighbour among the other points of ``x``. Source: Wang,
    Kulkarni and Verdu, "Divergence Estimation for Multidimensional Densities via k-Nearest-Neighbor
    Distances" (2009). It is consistent for densities; it ignores modes of ``Q`` that ``P`` misses, so report
    both directions.

    Repeated points (a sampler that projects onto corners, one that copies its training data) make a distance
    zero and the estimate infinite. Such points are left out of the average and a warning gives their number;
    where they are many, the laws have atoms and the true divergence is infinite or undefined.

    Args:
        x: Sample of ``P``, ``(n, dim)``, the generated points by convention.
        y: Sample of ``Q``, ``(m, dim)``, the reference.
        k: Which neighbour; larger is smoother and more biased.

    Returns:
        A scalar tensor in float64; it may be slightly negative when the laws are equal.

    Raises:
        ShapeError: If the shapes do not fit.
        DomainError: If a sample has fewer than ``k + 1`` points or entries that are not finite, or if every
            distance is zero.
    """
    if k < 1:
        raise DomainError(f"the neighbour's rank k is at least 1; got {k}")
    x, y = check_samples(x, y, at_least=k + 1)
    between, within = _kth_distance(x, y, k, exclude_self=False), _kth_distance(x, x, k, exclude_self=True)
    usable = (between > 0) & (within > 0)
    tied = len(x) - int(usable.sum())
    if tied == len(x):
        raise DomainError(f"every point has {k} exact copies; the samples have no density to compare")
    if tied:
        warnings.warn(
            f"{tied} of {len(x)} points coincide with their {k} nearest neighbours and were left out of the "
            "estimate; the samples have atoms, where the divergence is not defined",
            stacklevel=3,
        )
    ratio = (between[usable] / within[usable]).log().mean()
    return x.shape[1] * ratio + math.log(len(y) / (len(x) - 1))


def _kth_distance(x: Tensor, y: Tensor, k: int, *, exclude_self: bool) -> Tensor:
    """Distance of each ``x_i`` to its k-th nearest ``y_j``; distances of copies are exactly zero."""
    found = []
    for start, squared in pair_blocks(x, y):
        part = x[start : start + len(squared)]
        if exclude_self:
            squared.diagonal(offset=start).fill_(math.inf)
        nearest = squared.topk(k, largest=False).indices
        # The block's distances come from inner products; the few that matter are recomputed exactly.
        exact = (part[:, None] - y[nearest]).square().sum(-1)
        found.append(exact.amax(-1).sqrt())
    return torch.cat(found)
