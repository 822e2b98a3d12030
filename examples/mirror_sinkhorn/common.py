"""Shared by these scripts: what all studies share, problems, and curves of plans against time."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import torch
from report import COLORS, clean, figure, options, save, show, write_csv
from torch import Tensor

from mirrorgen.transport import MirrorSinkhornStep, mirror_sinkhorn

__all__ = [
    "COLORS",
    "F64",
    "Marked",
    "clean",
    "clouds",
    "figure",
    "marks",
    "options",
    "save",
    "show",
    "timed",
    "watched",
    "write_csv",
]

F64 = torch.float64


def clouds(n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Squared distances between two normal clouds over the largest, and weights of Dirichlet's law (parameter 5)."""
    torch.manual_seed(seed)
    x, y = torch.randn(2, n, 2, dtype=F64)
    cost = torch.cdist(x, 0.7 * y + 1).square()
    weights = torch.distributions.Dirichlet(torch.full((n,), 5.0, dtype=F64))
    return cost / cost.max(), weights.sample(), weights.sample()


@dataclass(frozen=True)
class Marked:
    """A plan on the way: after how many steps, and after how much processor time."""

    steps: int
    seconds: float
    plan: Tensor


def marks(last: int) -> list[int]:
    """1, 2, 5, 10, 20, 50, and so on up to ``last``."""
    return [m * 10**k for k in range(6) for m in (1, 2, 5) if m * 10**k <= last]


def watched(objective, *marginals: Tensor, steps: int, **settings) -> list[Marked]:
    """Iterates of Mirror Sinkhorn at the marks, with the time that it took alone."""
    mirror_sinkhorn(objective, *marginals, steps=1, **settings)  # The first call pays for loading code.
    found, wanted, pause = [], set(marks(steps)), 0.0
    start = time.thread_time()

    def look(step: MirrorSinkhornStep) -> None:
        nonlocal pause
        if step.number - 1 in wanted:
            now = time.thread_time()
            found.append(Marked(step.number - 1, now - start - pause, step.plan.clone()))
            pause += time.thread_time() - now

    mirror_sinkhorn(objective, *marginals, steps=steps + 1, callback=look, **settings)
    return found


def timed(function) -> tuple[object, float]:
    """What a function returns, and its processor time."""
    start = time.thread_time()
    result = function()
    return result, time.thread_time() - start
