"""The handwritten digits of scikit-learn, dequantised."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mirrorgen.data.base import TensorDataModule
from mirrorgen.data.loader import Transform
from mirrorgen.errors import DomainError, MissingExtraError
from mirrorgen.geometry import domains

__all__ = ["Digits", "dequantize"]

LEVELS = 17
HELD_OUT = 297


def dequantize(pixels: Tensor, generator: torch.Generator, levels: int = LEVELS) -> Tensor:
    """``(k + u) / levels`` for pixels ``k`` in ``0 .. levels - 1`` with ``u`` uniform: strictly inside the unit box.

    ``k`` can be read off again: where ``k + u`` rounds to the next level, the number below it is taken.
    """
    k = pixels.float()
    u = torch.rand(k.shape, generator=generator, device=k.device)
    unit = torch.minimum(k + u, torch.nextafter(k + 1, k)) / levels
    # rand returns 0 with small probability.
    return unit.clamp_min(torch.finfo(unit.dtype).eps / levels)


def _dequantize_to_simplex(images: Tensor, generator: torch.Generator) -> Tensor:
    positive = dequantize(images, generator)
    return positive / positive.sum(-1, keepdim=True)


class Digits(TensorDataModule):
    """1,797 real 8x8 images of handwritten digits with 17 grey levels, with their labels as conditions.

    Every batch is dequantised afresh (``dequantize``), so 8.3% of the pixels lie below 0.01. A fixed split,
    stratified by class, keeps 297 images out of training; they serve as validation and as test data.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI repository (1998), as
    bundled with scikit-learn.

    Args:
        batch_size: See ``TensorDataModule``.
        normalize: ``"box"`` for pixels in ``Box(0, 1)^64``; ``"simplex"`` for images divided by their sum, on
            ``Simplex(64)``.
        labels: Whether batches carry the labels.
        batches_per_epoch: See ``TensorDataModule``.
        eval_batch_size: See ``TensorDataModule``.
        seed: Seed of the order and the dequantisation; the split does not depend on it.
    """

    def __init__(
        self,
        batch_size: int = 256,
        normalize: Literal["box", "simplex"] = "box",
        labels: bool = True,
        batches_per_epoch: int | None = None,
        eval_batch_size: int = 2048,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, batches_per_epoch, eval_batch_size, seed)
        if normalize not in ("box", "simplex"):
            raise DomainError(f"normalize must be 'box' or 'simplex', got {normalize!r}")
        self.normalize, self.labels = normalize, labels

    @property
    def domain(self) -> domains.Domain:
        return domains.Box(0.0, 1.0, dim=64) if self.normalize == "box" else domains.Simplex(64)

    @property
    def transform(self) -> Transform:
        return dequantize if self.normalize == "box" else _dequantize_to_simplex

    def build(self) -> dict[str, tuple[Tensor, ...]]:
        try:
            from sklearn.datasets import load_digits
            from sklearn.model_selection import train_test_split
        except ImportError as error:
            raise MissingExtraError.for_extra("scikit-learn", "data") from error
        raw = load_digits()
        images = torch.tensor(raw.data, dtype=torch.float32)
        targets = torch.tensor(raw.target, dtype=torch.long)
        # Stratified: with so few held-out digits, unequal class shares alone would add a third to distances.
        train, held_out = train_test_split(
            np.arange(len(images)), test_size=HELD_OUT, stratify=raw.target, random_state=0
        )
        parts = {"train": torch.tensor(train), "val": torch.tensor(held_out), "test": torch.tensor(held_out)}
        return {name: (images[rows], targets[rows]) if self.labels else (images[rows],) for name, rows in parts.items()}
