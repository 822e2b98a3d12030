"""Randomness as a function of counters, so that an interrupted run continues bit for bit without saved RNG state."""

import hashlib

import torch

__all__ = ["counter_generator", "mix"]


def mix(*key: int) -> int:
    """A well-mixed 63-bit seed for a tuple of integers such as ``(seed, rank, step)``."""
    digest = hashlib.blake2b(",".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def counter_generator(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on ``device`` whose stream is determined by ``key`` alone.

    Streams of different keys are independent for practical purposes; the same key repeats its stream. Drawing
    with the key ``(seed, rank, step)`` needs no state between steps and gives every process its own noise.
    """
    return torch.Generator(device).manual_seed(mix(*key))
