"""Shared by these scripts: what all studies share, draws, and means with their intervals."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import torch
from report import COLORS, clean, figure, options, save, show, write_csv
from torch import Tensor

__all__ = [
    "COLORS",
    "F64",
    "clean",
    "figure",
    "generator",
    "interval",
    "marks",
    "normal",
    "options",
    "save",
    "show",
    "uniform",
    "write_csv",
]

F64 = torch.float64


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=F64)


def uniform(n: int, *batch: int) -> Tensor:
    """The centre of the simplex."""
    return torch.full((*batch, n), 1 / n, dtype=F64)


def marks(last: int, first: int = 1) -> list[int]:
    """1, 2, 5, 10, 20, 50, and so on from ``first`` up to ``last``."""
    return [m * 10**k for k in range(7) for m in (1, 2, 5) if first <= m * 10**k <= last]


def interval(values: Tensor) -> tuple[float, float]:
    """Mean of independent values, and half the width of its 95 % interval by Student's law."""
    from scipy.stats import t

    n = len(values)
    half = float(t.ppf(0.975, n - 1)) * float(values.std()) / n**0.5 if n > 1 else 0.0
    return float(values.mean()), half
