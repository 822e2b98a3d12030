"""Shared by these scripts: a plain training loop and what all studies share."""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[1]))

from report import COLORS, clean, distances, figure, kept_rows, options, save, show, write_csv

__all__ = [
    "COLORS", "OURS", "PAPER", "Recipe", "clean", "distances", "figure", "kept_rows", "mean_and_spread", "options",
    "replace", "save", "show", "train", "write_csv",
]  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How a model is trained and sampled.

    Attributes:
        hidden: Widths of the network.
        lr: Learning rate of AdamW.
        decay: Factor of the learning rate every 100 iterations.
        weight_decay: Decoupled weight decay.
        average: Decay of the averaged weights that are used in the end; 0 for the last weights.
        clip: Bound on the norm of the gradient; infinite for none.
        batch: Points per iteration.
        iterations: Number of iterations.
        steps: Integration steps per sample.
        method: Integration method.
    """

    hidden: tuple[int, ...]
    lr: float
    decay: float = 1.0
    weight_decay: float = 0.0
    average: float = 0.999
    clip: float = 10.0
    batch: int = 256
    iterations: int = 10_000
    steps: int = 50
    method: str = "midpoint"


PAPER = Recipe((128,) * 3, 5e-3, 0.99, 1e-5, 0.0, float("inf"), steps=99, method="euler")
"""The harness of the publication."""
OURS = Recipe((256,) * 4, 2e-3)
"""A wider network, averaged weights, a constant learning rate."""


def train(model: nn.Module, data: Tensor, recipe: Recipe, seed: int) -> float:
    """Fit the transform of a model, minimise its loss on random batches, leave averaged weights; processor seconds."""
    begin = time.process_time()
    if hasattr(model, "fit_dual_transform"):
        model.fit_dual_transform(data)
    weights = list(model.parameters())
    kept = [w.detach().clone() for w in weights]
    settings = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": True}
    optimizer = torch.optim.AdamW(weights, **settings)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 100, recipe.decay)
    generator = torch.Generator().manual_seed(seed)
    for i in range(recipe.iterations):
        rows = torch.randint(len(data), (recipe.batch,), generator=generator)
        optimizer.zero_grad()
        model.loss(data[rows], generator=generator).backward()
        nn.utils.clip_grad_norm_(weights, recipe.clip)
        optimizer.step()
        schedule.step()
        share = 1 - min(recipe.average, (1 + i) / (10 + i))
        torch._foreach_lerp_(kept, [w.detach() for w in weights], share)
    with torch.no_grad():
        for w, k in zip(weights, kept, strict=True):
            w.copy_(k)
    return time.process_time() - begin


def mean_and_spread(rows: list[dict], keys: tuple[str, ...], names: tuple[str, ...]) -> list[dict]:
    """One row per value of ``keys``: means of ``names`` over the rest, and deviations where there are several."""
    found = []
    for key in dict.fromkeys(tuple(r[k] for k in keys) for r in rows):
        mine = [r for r in rows if tuple(r[k] for k in keys) == key]
        line = dict(zip(keys, key, strict=True)) | {"seeds": len(mine)}
        for name in names:
            values = torch.tensor([float(r[name]) for r in mine if r[name] != ""], dtype=torch.float64)
            line[name] = float(values.mean()) if len(values) else ""
            line[f"{name}_sd"] = float(values.std()) if len(values) > 1 else ""
        found.append(line)
    return found
