"""Uniform points of a bounded polytope by the billiard walk."""

import math

import torch
from torch import Tensor

from mirrorgen.geometry.domains.billiard import billiard

__all__ = ["WALK_STEPS", "billiard_walk"]

WALK_STEPS = 20
"""Paths per point; see ``billiard_walk`` for what they reach."""

_BLOCK = 4096


@torch.no_grad()
def billiard_walk(A: Tensor, b: Tensor, center: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
    """``n`` points ``(n, k)`` of ``{A z < b}``, each the end of its own walk of ``WALK_STEPS`` billiard paths.

    Each path has a uniform direction and an exponential length of mean ``3 sqrt(m)``, which keeps the uniform
    law exactly (Gryazina and Polyak, "Random sampling: billiard walk algorithm", 2014), in coordinates where
    the log barrier's Hessian at the centre is the identity, so that thin sets mix like round ones. The walk starts
    at the centre; after 20 paths the bias of second moments was below the sampling error on cubes and simplices, of
    20,000 points up to dimension 20 and of 4,000 points at dimension 40. On simplices hit-and-run needs about
    4 k^2 steps.

    Args:
        A: Unit rows ``(m, k)`` of a bounded set.
        b: Right-hand sides ``(m,)``.
        center: Its analytic centre ``(k,)``.
        n: Number of points.
        generator: Source of randomness.
    """
    slack = (b - A @ center).unsqueeze(-1)
    # R^T R is the Hessian; a triangular factor by QR keeps the digits that forming it would lose.
    factor = torch.linalg.qr(A / slack)[1]
    rows = torch.linalg.solve_triangular(factor, A / slack, upper=True, left=False)
    length = torch.linalg.vector_norm(rows, dim=-1)
    rows, level = rows / length.unsqueeze(-1), 1 / length
    mean = 3 * math.sqrt(len(b))
    blocks = [_walk(rows, level, min(_BLOCK, n - done), mean, generator) for done in range(0, n, _BLOCK)]
    u = torch.cat([A.new_zeros(0, A.shape[1]), *blocks])
    return center + torch.linalg.solve_triangular(factor.mT, u, upper=False, left=False)


def _walk(rows: Tensor, level: Tensor, n: int, mean: float, generator: torch.Generator | None) -> Tensor:
    u = rows.new_zeros(n, rows.shape[1])
    for _ in range(WALK_STEPS):
        direction = torch.randn(u.shape, generator=generator, dtype=u.dtype, device=u.device)
        direction = direction / torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
        uniform = torch.rand(n, 1, generator=generator, dtype=u.dtype, device=u.device)
        u = billiard(u, -mean * torch.log1p(-uniform) * direction, rows, level)
    return u
