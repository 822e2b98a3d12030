"""A quadratic law on the simplex, ill-conditioned on purpose."""

import numpy as np
import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Simplex
from mirrorgen.targets.base import Target

__all__ = ["SimplexQuadratic"]


class SimplexQuadratic(Target):
    """``log p(x) = -u^T A u / (2 scale^2)`` on ``Simplex(K)``, ``u`` the first ``K - 1`` coordinates.

    ``A = M M^T / max |M M^T|`` with independent entries of ``M (K-1, K-1)`` uniform on ``(-1, 1)``.

    Args:
        dim: ``K``.
        scale: Positive.
        seed: Of ``M``, from NumPy's legacy generator, so that ``(20, 0.01, 123)`` is the published instance.

    Raises:
        DomainError: If ``scale`` is not positive.

    Source: Shi, Liu, Mackey, "Sampling with mirrored Stein operators", 2022.
    """

    domain: Simplex

    def __init__(self, dim: int = 20, scale: float = 0.01, seed: int = 123) -> None:
        if not scale > 0:
            raise DomainError(f"scale must be positive, got {scale}")
        self.domain, self.scale = Simplex(dim), scale
        # The publication's matrix is defined by this generator; the instance leaves the global one alone.
        m = torch.from_numpy(np.random.RandomState(seed).uniform(-1, 1, (dim - 1, dim - 1)))
        self.matrix = m @ m.T / (m @ m.T).abs().max()

    def log_density(self, x: Tensor) -> Tensor:
        u = x[..., :-1]
        return -0.5 * ((u @ self.matrix.to(x)) * u).sum(-1) / self.scale**2

    def score(self, x: Tensor) -> Tensor:
        gradient = -(x[..., :-1] @ self.matrix.to(x)) / self.scale**2
        return torch.nn.functional.pad(gradient, (0, 1))
