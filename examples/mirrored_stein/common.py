"""Shared by these scripts: batches of particle sets, energy distances with their floor, and what all studies share."""

import sys
from pathlib import Path

import torch
from torch import Tensor

from mirrorgen.metrics import energy_distance
from mirrorgen.samplers import Kernel, run

sys.path.append(str(Path(__file__).resolve().parents[1]))

from report import COLORS, clean, figure, options, show, write_csv

__all__ = ["COLORS", "clean", "figure", "floor", "options", "show", "trajectories", "write_csv"]


def trajectories(kernel: Kernel, starts: list[Tensor], num_steps: int, every: int) -> Tensor:
    """Positions ``(sets, draws, n, dim)``, the start first: all sets run side by side as one batch."""
    x = torch.cat(starts)
    positions = torch.cat([x.unsqueeze(0), run(kernel, x, num_steps, thin=every).positions])
    return positions.unflatten(1, (len(starts), -1)).transpose(0, 1)


def floor(draws: Tensor, n: int, reference: Tensor, repeats: int = 100) -> tuple[float, float]:
    """Mean and standard deviation of the V-statistic between ``n`` exact draws and ``reference``."""
    values = torch.stack([energy_distance(part, reference) for part in draws.split(n)[:repeats]])
    return float(values.mean()), float(values.std())
