"""What a run of a sampler returns."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mirrorgen.samplers.base import Kernel

__all__ = ["Chain"]


@dataclass(frozen=True, eq=False)
class Chain:
    """Draws of many chains with what is known about them.

    Attributes:
        positions: Points ``(draws, chains, dim)``, strictly inside the domain.
        dual: Their dual points ``(draws, chains, dual_dim)``, or None for kernels that move in the primal.
        stats: Per draw and chain ``(draws, chains)``: ``acceptance`` and ``accepted`` (means over the steps between
            draws), ``nonfinite`` (their count) and, where the kernel has it, ``log_density``.
        kernel: The kernel as it ran, with its tuned settings.
        state: The state after the last step, for warm restarts.
        seed: The seed of the noise, with ``steps`` all that exact continuation needs.
        steps: Steps taken so far, warm-up included.
    """

    positions: Tensor
    dual: Tensor | None
    stats: dict[str, Tensor]
    kernel: Kernel
    state: Any
    seed: int
    steps: int
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def num_draws(self) -> int:
        """Draws per chain."""
        return self.positions.shape[0]

    @property
    def num_chains(self) -> int:
        """Number of chains."""
        return self.positions.shape[1]

    def flatten(self) -> Tensor:
        """All draws of all chains, ``(draws * chains, dim)``."""
        return torch.flatten(self.positions, 0, 1)
