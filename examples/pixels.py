"""Shared by studies of digits: bits per dimension of grey levels, and what independent pixels need."""

import math

import torch
from torch import Tensor


def bits(nats: Tensor, dim: int = 64, levels: int = 17) -> tuple[float, float]:
    """Bits per dimension of grey levels dequantised into ``[0, 1]^dim``, and the standard error.

    ``nats / (dim log 2) + log2(levels)`` from negative log-densities ``(n,)``.
    """
    unit = dim * math.log(2)
    return float(nats.mean()) / unit + math.log2(levels), float(nats.std()) / len(nats) ** 0.5 / unit


def independent_pixels(train: Tensor, test: Tensor, levels: int = 17) -> float:
    """Bits per dimension of the histograms of every pixel, one added to each count."""
    counts = (train.unsqueeze(-1) == torch.arange(levels)).sum(0) + 1.0
    logs = (counts / counts.sum(-1, keepdim=True)).log2()
    return -float(logs.gather(-1, test.long().mT).mean())
