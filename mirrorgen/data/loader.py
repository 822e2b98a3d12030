"""Batches of tensors: shuffled, sharded and resumable as a function of the batch index."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.seeding import counter_generator

__all__ = ["TensorLoader", "Transform"]

Transform = Callable[[Tensor, torch.Generator], Tensor]
"""Randomised preprocessing of a batch of points, such as dequantisation."""


class TensorLoader:
    """Iterates over batches of tensors that share their first axis, without a Python loop over items.

    Shuffled, the data are an endless stream: pass ``p`` is a permutation that depends on ``(seed, p)`` only, and
    global batch ``k`` holds the stream's entries ``k B W, ..., (k+1) B W - 1`` of which rank ``r`` of ``W`` takes
    every ``W``-th. Every batch is full, batches may straddle two passes, and where the loader stands is one number.
    Unshuffled it is one pass in order, the last batch being short.

    ``state_dict`` and ``load_state_dict`` follow the protocol that Lightning looks for when it resumes.

    Args:
        tensors: The points ``(n, dim)``, and optionally their conditions ``(n, ...)``.
        batch_size: Entries per batch and process.
        shuffle: Endless shuffled stream (training) or one ordered pass (evaluation).
        batches: Batches per epoch; by default as many as one pass takes. Only with ``shuffle``.
        seed: Seed of order and transform.
        transform: Applied to the points of each batch, with a generator that depends on seed, rank and batch.
        rank: Index of this process.
        world_size: Number of processes.

    Raises:
        ShapeError: If there are no entries or the first axes differ.
        DomainError: If a number is out of range.
    """

    def __init__(
        self,
        tensors: tuple[Tensor, ...],
        batch_size: int,
        *,
        shuffle: bool = False,
        batches: int | None = None,
        seed: int = 0,
        transform: Transform | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not tensors or len({len(t) for t in tensors}) != 1 or len(tensors[0]) == 0:
            raise ShapeError("a loader needs tensors with the same, positive number of rows")
        if batch_size < 1 or (batches is not None and batches < 1):
            raise DomainError(f"batch_size and batches must be positive, got {batch_size} and {batches}")
        if not 0 <= rank < world_size:
            raise DomainError(f"rank must lie in 0..{world_size - 1}, got {rank}")
        self.tensors, self.batch_size, self.shuffle = tensors, batch_size, shuffle
        self.seed, self.transform, self.rank, self.world_size = seed, transform, rank, world_size
        passes = math.ceil(len(tensors[0]) / (batch_size * world_size))
        self.batches = batches if batches is not None and shuffle else passes
        self._position = self._begun = 0
        self._resumed = False
        self._order: tuple[int, Tensor] | None = None

    @property
    def points(self) -> Tensor:
        """All points of all processes, transformed once with a fixed generator."""
        return self._transformed(self.tensors[0], counter_generator(self.seed, -1))

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        if not self.shuffle:
            yield from map(self.batch, range(self.batches))
            return
        if not self._resumed:
            self._begun = self._position
        self._resumed = False
        while self._position < self._begun + self.batches:
            self._position += 1
            yield self.batch(self._position - 1)

    def batch(self, k: int) -> tuple[Tensor, ...]:
        """Batch ``k`` of the stream, whatever was drawn before."""
        rows = self.rows(k)
        points = self._transformed(self.tensors[0][rows], counter_generator(self.seed, 1, self.rank, k))
        return (points, *(t[rows] for t in self.tensors[1:]))

    def rows(self, k: int) -> Tensor:
        """Indices of the entries in batch ``k``."""
        n, size = len(self.tensors[0]), self.batch_size * self.world_size
        start, stop = k * size, (k + 1) * size
        if not self.shuffle:
            return torch.arange(start + self.rank, min(stop, n), self.world_size)
        pieces = []
        for p in range(start // n, (stop - 1) // n + 1):
            pieces.append(self._permutation(p)[max(start - p * n, 0) : stop - p * n])
        return torch.cat(pieces)[self.rank :: self.world_size]

    def state_dict(self) -> dict[str, int]:
        """Where the stream stands."""
        return {"position": self._position, "begun": self._begun}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where ``state`` was taken, in the middle of an epoch if that is where it was."""
        self._position, self._begun = state["position"], state["begun"]
        # A state from the end of an epoch has nothing left of it.
        self._resumed = self._position < self._begun + self.batches

    def _permutation(self, p: int) -> Tensor:
        if self._order is None or self._order[0] != p:
            n = len(self.tensors[0])
            self._order = p, torch.randperm(n, generator=counter_generator(self.seed, 0, p))
        return self._order[1]

    def _transformed(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x if self.transform is None else self.transform(x, generator)
