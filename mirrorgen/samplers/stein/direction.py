"""The direction of steepest descent of the Kullback-Leibler divergence for sets of particles."""

import torch
from torch import Tensor

from mirrorgen.samplers.stein.kernels import RadialKernel, squared_distances
from mirrorgen.samplers.stein.repulsion import Repulsion, UniformRepulsion

__all__ = ["centered", "stein_direction"]

# Entries of a block of kernel values: within the cache of a core, or enough to fill another device.
_BLOCK = {"cpu": 2**18}
_BLOCK_ELSEWHERE = 2**26
_LEAST_ROWS = 32


def centered(z: Tensor) -> Tensor:
    """``z (sets, n, d)`` less the mean of each set: squared distances of far sets keep their digits."""
    return z - z.mean(-2, keepdim=True)


def stein_direction(
    z: Tensor, scores: Tensor, kernel: RadialKernel, repulsion: Repulsion | None = None, block: int | None = None
) -> Tensor:
    """``(1/n) sum_l [k(z_l, z_m) s_l + H_l^-1 grad_l k(z_l, z_m)]`` for every particle ``m``.

    Args:
        z: Centred particles ``(sets, n, d)``, where distances are taken.
        scores: ``s (sets, n, dim)``.
        kernel: The kernel, with its bandwidth.
        repulsion: The second sum; ``H = I`` if None.
        block: Kernel values held at a time, which bounds memory at about six times as many numbers.

    Returns:
        ``(sets, n, dim)``.
    """
    repulsion = UniformRepulsion(z) if repulsion is None else repulsion
    sets, n = z.shape[:2]
    block = block or _BLOCK.get(z.device.type, _BLOCK_ELSEWHERE)
    count = min(n, max(_LEAST_ROWS, block // (sets * n)))
    h = kernel.select(z)
    parts = []
    for first in range(0, n, count):
        rows = slice(first, min(first + count, n))
        products, squared = squared_distances(z[:, rows], z)
        value, weight = kernel.value_and_weight(squared, h)
        parts.append(value @ scores + repulsion.rows(rows, weight, products))
    return torch.cat(parts, -2) / n
