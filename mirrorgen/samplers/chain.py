"""What a run of a sampler returns."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mirrorgen.errors import SamplingWarning
from mirrorgen.metrics.ess import effective_sample_size
from mirrorgen.metrics.rhat import rhat
from mirrorgen.samplers import chain_files
from mirrorgen.samplers.base import Kernel
from mirrorgen.samplers.diagnosis import diagnose
from mirrorgen.samplers.summary import Summary, summarize

__all__ = ["Chain"]


@dataclass(frozen=True, eq=False, repr=False)
class Chain:
    """Draws of many chains with what is known about them.

    Attributes:
        positions: Points ``(draws, chains, dim)``, strictly inside the domain.
        dual: Their dual points ``(draws, chains, dual_dim)``, or None for kernels that move in the primal.
        stats: Per draw and chain ``(draws, chains)``: ``acceptance`` and ``accepted`` (means over the steps between
            draws), ``nonfinite`` (their count) and, where the kernel has it, ``log_density``.
        kernel: The kernel as it ran, with its tuned settings.
        state: The state after the last step, for warm restarts; None if the chain was loaded from a file.
        seed: The seed of the noise, with ``steps`` all that exact continuation needs.
        steps: Steps taken so far, warm-up included.
        meta: Plain facts about the run, such as ``thin``.
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

    def __repr__(self) -> str:
        draws, chains, dim = self.positions.shape
        return f"Chain({self.kernel.name}, draws={draws}, chains={chains}, dim={dim}, dtype={self.positions.dtype})"

    def ess(self, kind: Literal["bulk", "tail", "mean"] = "bulk") -> Tensor:
        """Effective sample size of each coordinate ``(dim,)``, see ``metrics.effective_sample_size``."""
        return effective_sample_size(self.positions, kind)

    def rhat(self) -> Tensor:
        """R-hat of each coordinate ``(dim,)``, see ``metrics.rhat``."""
        return rhat(self.positions)

    def summary(self) -> Summary:
        """Moments, quantiles and reliability of all coordinates, with acceptance and feasibility; prints as a table."""
        return summarize(self.positions, self.stats, self.kernel)

    def diagnose(self) -> list[str]:
        """What looks wrong, one sentence per cause with what to change; empty if nothing does."""
        return diagnose(self.positions, self.stats, self.kernel, int(self.meta.get("thin", 1)))

    def warn(self, stacklevel: int = 2) -> None:
        """Emit every sentence of ``diagnose`` as a ``SamplingWarning``, from ``stacklevel - 1`` callers up."""
        for sentence in self.diagnose():
            warnings.warn(sentence, SamplingWarning, stacklevel=stacklevel)

    def to_arviz(self) -> Any:
        """The chain for ArviZ: ``InferenceData`` before ArviZ 1, ``DataTree`` from then on.

        Group ``posterior`` holds ``x (chain, draw, coordinate)``, ``unconstrained_posterior`` its dual points ``y`` if
        there are any, and ``sample_stats`` holds ``acceptance_rate``, ``accepted``, ``nonfinite``, ``diverging``
        (whether ``nonfinite`` is positive) and ``lp``.

        Raises:
            MissingExtraError: If ArviZ is not installed.
        """
        return chain_files.to_arviz(self)

    def save(self, path: str | Path) -> Path:
        """Write draws, dual points, statistics and plain facts; ``.safetensors``, or ``.nc`` with ArviZ.

        Neither the log-density nor the state is written: to interrupt and go on, give ``run`` a directory.

        Args:
            path: The file; its folder is created.

        Returns:
            The path.

        Raises:
            DomainError: If the suffix is another one.
            MissingExtraError: If ``.nc`` is asked for and ArviZ is not installed.
        """
        return chain_files.save(self, Path(path))

    @classmethod
    def load(cls, path: str | Path, *, allow: tuple[str, ...] = ()) -> "Chain":
        """Read what ``save`` wrote; nothing in the file is executed. The kernel is a record that cannot step.

        Args:
            path: The file.
            allow: Further package prefixes that the domain may come from, see ``spec.from_spec``.

        Raises:
            DomainError: If the file does not exist or holds no chain.
            MissingExtraError: If it ends in ``.nc`` and ArviZ is not installed.
        """
        return cls(**chain_files.load(Path(path), allow))
