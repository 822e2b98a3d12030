"""Images as bytes in memory: reading, fitting to one size, splitting, and what models see of them."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mirrorgen.data.base import SPLITS, TensorDataModule
from mirrorgen.data.digits import dequantize
from mirrorgen.data.loader import Transform
from mirrorgen.errors import DomainError, MissingExtraError, ShapeError
from mirrorgen.geometry import domains

__all__ = ["BYTES", "ImageData", "LabelledImages", "pillow"]

BYTES = 256
_UNIT = domains.Box(-1.0, 1.0)
_MODES = {1: "L", 3: "RGB"}
_SHOWN = 5


def pillow() -> Any:
    """The package ``PIL.Image``.

    Raises:
        MissingExtraError: If Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError.for_extra("pillow", "images") from error
    return Image


class LabelledImages(NamedTuple):
    """Bytes ``(n, channels * size * size)`` and class indices ``(n,)``, if the source has classes."""

    pixels: Tensor
    labels: Tensor | None


class ImageData(TensorDataModule):
    """Square images of one size with 8 bits per channel; a subclass says where they come from.

    Points are vectors ``(channels * size * size,)``, channel after channel, each row by row. Every batch is dequantised
    afresh, ``2 (k + u) / 256 - 1`` for bytes ``k`` and uniform ``u``: strictly inside ``Box(-1, 1)``. All bytes are
    kept in memory: 10,000 colour images of 64x64 take 123 MB.

    Larger images are shrunk (antialiased) until their shorter side is ``size``, or left as they are, and cut to the
    square in the middle. Orientation tags are obeyed, and transparency is dropped.

    Args:
        size: Height and width.
        channels: 3 for colour, 1 for grey.
        resize: Whether to shrink images before the cut.
        labels: Whether batches carry the classes as conditions.
        fractions: Shares of the images for validation and test, taken at random from the training images where the
            source has no such splits.
        batch_size: See ``TensorDataModule``.
        batches_per_epoch: See ``TensorDataModule``.
        eval_batch_size: See ``TensorDataModule``.
        seed: Seed of the split, the order and the dequantisation.

    Raises:
        DomainError: If a number is out of range. On first use: if there is no image, or one cannot be read.
        ShapeError: On first use: if an image is smaller than ``size`` or has more than 8 bits per channel, or a split
            is left empty.
        MissingExtraError: On first use, if Pillow is not installed.
    """

    def __init__(
        self,
        size: int,
        channels: Literal[1, 3] = 3,
        resize: bool = True,
        labels: bool = False,
        fractions: tuple[float, float] = (0.1, 0.1),
        batch_size: int = 64,
        batches_per_epoch: int | None = None,
        eval_batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, batches_per_epoch, eval_batch_size, seed)
        if size < 1 or channels not in _MODES:
            raise DomainError(f"images need size >= 1 and 1 or 3 channels, got size={size} and channels={channels}")
        if min(fractions) < 0 or sum(fractions) >= 1:
            raise DomainError(f"fractions must be non-negative and sum to less than 1, got {tuple(fractions)}")
        self.size, self.channels, self.resize, self.labels = size, channels, resize, labels
        self.fractions = fractions

    @property
    def domain(self) -> domains.Box:
        return domains.Box(-1.0, 1.0, dim=self.channels * self.size**2)

    @property
    def transform(self) -> Transform:
        return to_points

    @abstractmethod
    def read(self) -> Mapping[str, LabelledImages]:
        """The images of ``"train"``, and of ``"val"`` and ``"test"`` where the source has them."""

    def build(self) -> dict[str, tuple[Tensor, ...]]:
        parts = dict(self.read())
        missing = [name for name in SPLITS if name not in parts]
        if missing:
            parts |= self._divided(parts["train"], missing)
        empty = [name for name in SPLITS if len(parts[name].pixels) == 0]
        if empty:
            counts = ", ".join(f"{name} {len(parts[name].pixels)}" for name in SPLITS)
            raise ShapeError(f"no image is left for {empty[0]} ({counts}); add images, or change fractions")
        return {name: self._tensors(parts[name]) for name in SPLITS}

    def _tensors(self, part: LabelledImages) -> tuple[Tensor, ...]:
        if not self.labels:
            return (part.pixels,)
        if part.labels is None:
            raise DomainError("labels=True, but these images have no classes; pass labels=False")
        return part.pixels, part.labels

    def _divided(self, whole: LabelledImages, missing: list[str]) -> dict[str, LabelledImages]:
        order = torch.randperm(len(whole.pixels), generator=torch.Generator().manual_seed(self.seed))
        shares = dict(zip(("val", "test"), self.fractions, strict=True))
        sizes = [round(shares[name] * len(order)) for name in missing]
        pieces = order.split([*sizes, len(order) - sum(sizes)])
        return {name: _rows(whole, rows) for name, rows in zip([*missing, "train"], pieces, strict=True)}

    def stack(self, images: Iterable[tuple[str, Any]]) -> Tensor:
        """Bytes ``(n, dim)`` of named images that Pillow opened."""
        found = [self._square(name, image) for name, image in images]
        return torch.from_numpy(np.stack(found)) if found else torch.empty(0, self.domain.dim, dtype=torch.uint8)

    def _square(self, name: str, image: Any) -> np.ndarray:
        from PIL import ImageOps

        if image.mode.startswith(("I", "F")):
            raise ShapeError(f"{name} has pixels of mode {image.mode}, more than 8 bits per channel; convert it first")
        if min(image.size) < self.size:
            width, height = image.size
            raise ShapeError(
                f"{name} is {width}x{height}, smaller than size={self.size}; choose a smaller size, or leave it out"
            )
        image = ImageOps.exif_transpose(image).convert(_MODES[self.channels])
        if self.resize:
            pixels = ImageOps.fit(image, (self.size, self.size), pillow().Resampling.LANCZOS)
        else:
            left, top = ((length - self.size) // 2 for length in image.size)
            pixels = image.crop((left, top, left + self.size, top + self.size))
        return np.asarray(pixels, np.uint8).reshape(self.size**2, self.channels).T.reshape(-1)


def _rows(part: LabelledImages, rows: Tensor) -> LabelledImages:
    return LabelledImages(part.pixels[rows], None if part.labels is None else part.labels[rows])


def to_points(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """``2 (k + u) / 256 - 1`` for bytes ``k`` and uniform ``u``, strictly inside ``Box(-1, 1)``."""
    return _UNIT.pull_inside((2 * dequantize(pixels, generator, BYTES) - 1).unsqueeze(-1))[0].squeeze(-1)


def unreadable(names: list[str], total: int) -> DomainError:
    """The error for files that hold no image."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    shown = ", ".join(names[:_SHOWN])
    return DomainError(f"{len(names)} of {total} images cannot be read: {shown}{more}; repair or remove these files")
