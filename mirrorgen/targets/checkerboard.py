"""The uniform law on the dark cells of a checkerboard."""

import math

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Box
from mirrorgen.targets.base import Target

__all__ = ["Checkerboard"]


class Checkerboard(Target):
    """Density 2 on the cells ``i + j`` even of the unit square cut into ``cells x cells``, and 0 elsewhere; normalised.

    Args:
        cells: Even number of cells per side.

    Raises:
        DomainError: If it is not a positive even integer.
    """

    def __init__(self, cells: int = 4) -> None:
        if not isinstance(cells, int) or cells < 2 or cells % 2:
            raise DomainError(f"a checkerboard has an even number of cells per side, got {cells!r}")
        self.cells = cells
        self.domain = Box(0.0, 1.0, dim=2)

    def log_density(self, x: Tensor) -> Tensor:
        dark = (x * self.cells).floor().sum(-1).remainder(2) == 0
        return torch.where(dark, math.log(2), -torch.inf).to(x.dtype)

    def score(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    @property
    def mean(self) -> Tensor:
        return torch.full((2,), 0.5, dtype=torch.float64)

    @property
    def variance(self) -> Tensor:
        # Every row holds as many dark cells as every other: the marginals are uniform.
        return torch.full((2,), 1 / 12, dtype=torch.float64)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        i = torch.randint(self.cells, (n,), generator=generator)
        j = 2 * torch.randint(self.cells // 2, (n,), generator=generator) + i % 2
        within = torch.rand(n, 2, generator=generator, dtype=torch.float64)
        return self.domain.pull_inside((torch.stack([i, j], -1) + within) / self.cells)[0]
