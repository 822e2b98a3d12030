"""The orthonormal chart of the hyperplane ``sum x = 0``, in O(K) operations and no ``K x K`` matrix.

The columns of Helmert's matrix ``V (K, K-1)`` are ``(1, ..., 1, -j, 0, ..., 0) / sqrt(j (j + 1))`` with ``j``
ones, ``j = 1 .. K-1``: ``V^T V = I`` and ``V^T 1 = 0``. Both products are cumulative sums.

Reference: Egozcue, Pawlowsky-Glahn, Mateu-Figueras and Barcelo-Vidal, "Isometric logratio transformations
for compositional data analysis", 2003.
"""

import torch
from torch import Tensor

__all__ = ["from_helmert", "to_helmert"]


def _ranks(v: Tensor, count: int) -> Tensor:
    return torch.arange(1, count + 1, dtype=v.dtype, device=v.device)


def to_helmert(v: Tensor) -> Tensor:
    """``V^T v`` for ``v (..., K)``, shape ``(..., K-1)``; a common offset of the entries drops out."""
    j = _ranks(v, v.shape[-1] - 1)
    mean_before = torch.cumsum(v[..., :-1], -1) / j
    return (mean_before - v[..., 1:]) * torch.sqrt(j / (j + 1))


def from_helmert(z: Tensor) -> Tensor:
    """``V z`` for ``z (..., K-1)``, shape ``(..., K)``; the entries sum to zero."""
    j = _ranks(z, z.shape[-1])
    w = z * torch.rsqrt(j * (j + 1))
    after = torch.cumsum(w.flip(-1), -1).flip(-1)
    zero = torch.zeros_like(z[..., :1])
    return torch.cat([after, zero], -1) - torch.cat([zero, j * w], -1)
