"""The orthonormal chart of the hyperplane ``sum x = 0``, in O(K) operations and no ``K x K`` matrix.

The columns of Helmert's matrix ``V (K, K-1)`` are ``(1, ..., 1, -j, 0, ..., 0) / sqrt(j (j + 1))`` with ``j``
ones, ``j = 1 .. K-1``: ``V^T V = I`` and ``V^T 1 = 0``. Both products are cumulative sums.

Reference: Egozcue, Pawlowsky-Glahn, Mateu-Figueras and Barcelo-Vidal, "Isometric logratio transformations
for compositional data analysis", 2003.
"""

import torch
from torch import Tensor

from mirrorgen.numerics import eager_values

__all__ = ["from_helmert", "to_helmert"]


# Up to this length a product with the stored matrix is faster than cumulative sums, which do not vectorise.
_STORED = 128
_frames: dict[tuple, Tensor] = {}


def _ranks(v: Tensor, count: int) -> Tensor:
    return torch.arange(1, count + 1, dtype=v.dtype, device=v.device)


def _frame(v: Tensor, size: int) -> Tensor | None:
    """``V (size, size - 1)`` in the dtype and on the device of ``v``, or None where sums are the better way."""
    key = (size, v.dtype, v.device)
    if torch.compiler.is_compiling():
        return _frames.get(key)
    if size > _STORED or not eager_values(v):
        return None
    if key not in _frames:
        with torch.inference_mode(False), torch.no_grad():
            _frames[key] = _spread(torch.eye(size - 1, dtype=torch.float64)).mT.to(v).contiguous()
    return _frames[key]


def to_helmert(v: Tensor) -> Tensor:
    """``V^T v`` for ``v (..., K)``, shape ``(..., K-1)``; a common offset of the entries drops out."""
    frame = _frame(v, v.shape[-1])
    if frame is not None:
        return v @ frame
    j = _ranks(v, v.shape[-1] - 1)
    mean_before = torch.cumsum(v[..., :-1], -1) / j
    return (mean_before - v[..., 1:]) * torch.sqrt(j / (j + 1))


def from_helmert(z: Tensor) -> Tensor:
    """``V z`` for ``z (..., K-1)``, shape ``(..., K)``; the entries sum to zero."""
    frame = _frame(z, z.shape[-1] + 1)
    return _spread(z) if frame is None else z @ frame.mT


def _spread(z: Tensor) -> Tensor:
    j = _ranks(z, z.shape[-1])
    w = z * torch.rsqrt(j * (j + 1))
    after = torch.cumsum(w.flip(-1), -1).flip(-1)
    zero = torch.zeros_like(z[..., :1])
    return torch.cat([after, zero], -1) - torch.cat([zero, j * w], -1)
