"""Square roots of Gram matrices, truncated and regularised: the adaptive matrix kernel of particles."""

from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.numerics import upcast
from mirrorgen.samplers.stein.kernels import RadialKernel, squared_distances
from mirrorgen.samplers.stein.repulsion import Repulsion

__all__ = ["GramRoot", "decompose"]


class GramRoot(NamedTuple):
    """``G^(1/2)`` and ``G^(-1/2)`` on the leading eigenvectors of ``G (sets, n, n)``.

    Attributes:
        vectors: Orthonormal columns ``(sets, n, n)``; those left out are zero.
        values: Eigenvalues ``(sets, n)``, at least the jitter.
    """

    vectors: Tensor
    values: Tensor

    def power(self, exponent: float, v: Tensor) -> Tensor:
        """``G^exponent v`` for ``v (sets, n, dim)``."""
        scale = self.values.pow(exponent).unsqueeze(-1)
        return self.vectors @ (scale * (self.vectors.mT @ v))


def decompose(gram: Tensor, truncation: float, jitter: float) -> GramRoot:
    """The fewest eigenpairs of a Gram matrix (jitter included) that hold ``truncation`` of its trace.

    Computed in float64: an eigenvalue at rounding level must not turn negative under the root.
    """
    values, vectors = torch.linalg.eigh(upcast(gram))
    values = values.clamp_min(jitter).flip(-1)
    before = torch.cumsum(values, -1) - values
    kept = before < truncation * values.sum(-1, keepdim=True)
    vectors = vectors.flip(-1) * kept.unsqueeze(-2)
    return GramRoot(vectors.to(gram), values.to(gram))


def effective_jitter(jitter: float, n: int, dtype: torch.dtype) -> float:
    """``jitter``, or the rounding error of an eigenvalue of a Gram matrix of ``n`` particles where that is larger."""
    return max(jitter, 4 * n * torch.finfo(dtype).eps)


def decorrelated_direction(
    z: Tensor, scores: Tensor, kernel: RadialKernel, repulsion: Repulsion, truncation: float, jitter: float
) -> tuple[GramRoot, Tensor]:
    """The root of ``G = K + jitter I`` and ``G^(-1/2) Phi`` with ``Phi = (G S + R) / n`` ``(sets, n, dim)``."""
    n = z.shape[1]
    jitter = effective_jitter(jitter, n, z.dtype)
    products, squared = squared_distances(z, z)
    value, weight = kernel.value_and_weight(squared, kernel.select(z))
    gram = value + jitter * torch.eye(n, dtype=z.dtype, device=z.device)
    phi = (gram @ scores + repulsion.rows(slice(0, n), weight, products)) / n
    root = decompose(gram, truncation, jitter)
    return root, root.power(-0.5, phi)
