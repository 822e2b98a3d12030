"""Shared by studies of images: features for Frechet distances, and sheets of small pictures."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def texture_features() -> Callable[[Tensor], Tensor]:
    """Means over positions of two fixed random convolutional layers, ``(n, 64)``, of colours in 0..1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3, stride=2)
    for layer in (first, second):
        nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def features(x: Tensor) -> Tensor:
        size = math.isqrt(x.shape[1] // 3)
        made = []
        for part in x.split(512):
            fine = first(2 * part.reshape(-1, 3, size, size) - 1).relu()
            made.append(torch.cat([fine.mean((-2, -1)), second(fine).relu().mean((-2, -1))], -1))
        return torch.cat(made)

    return features


def some(x: Tensor, n: int) -> Tensor:
    """At most ``n`` rows, at random."""
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(1))[:n]]


def sheet(x: Tensor, columns: int, rows: int) -> Tensor:
    """Images of colours in 0..1, ``(n, 3 * size * size)``, on one ``(height, width, 3)`` with white between them."""
    size = math.isqrt(x.shape[1] // 3)
    y = x[: columns * rows]
    tiles = nn.functional.pad(y, (0, 0, 0, columns * rows - len(y)), value=1).reshape(rows, columns, 3, size, size)
    tiles = nn.functional.pad(tiles, (1, 1, 1, 1), value=1)
    return tiles.permute(0, 3, 1, 4, 2).reshape(rows * (size + 2), columns * (size + 2), 3)
