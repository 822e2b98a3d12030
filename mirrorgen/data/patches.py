"""Patches of the two photographs that scikit-learn brings, and what PNG makes of them."""

import io
import struct
from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mirrorgen.data.base import SPLITS, TensorDataModule
from mirrorgen.data.digits import dequantize
from mirrorgen.data.images import pillow
from mirrorgen.data.loader import Transform
from mirrorgen.errors import DomainError, MissingExtraError, ShapeError
from mirrorgen.geometry import domains

__all__ = ["Patches", "png_bits_per_dim"]

CHANNELS, LEVELS = 3, 256
# 7 x 10 cells of 61 x 64 pixels make a photograph of 427 x 640.
CELL_HEIGHT, CELL_WIDTH, CELLS_PER_ROW = 61, 64, 10


class Patches(TensorDataModule):
    """Square colour patches of two photographs with 8 bits per channel, a temple and a flower.

    Points are vectors ``(3 * size * size,)``, channel after channel, each row by row; every batch is dequantised
    afresh (``dequantize``). Each photograph is divided into 7 rows of 10 cells of 61x64 pixels; in every row one
    cell is for validation and one for tests, spread over the photograph. Training patches lie anywhere outside those
    cells, held-out ones entirely within one, so that the splits share no pixel; they do share photographs.

    Sources: china.jpg by danielbuechele and flower.jpg by vultilion, both CC BY 2.0, as bundled with scikit-learn.

    Args:
        size: Height and width, 16 or 32.
        stride: Pixels between neighbouring training patches: 4 gives 24,216 of size 16 and 18,736 of size 32.
        eval_stride: Likewise for held-out patches; half the size if None, which gives 588 and 84 per split.
        labels: Whether batches carry the photograph, 0 or 1, as condition.
        batch_size: See ``TensorDataModule``.
        batches_per_epoch: See ``TensorDataModule``.
        eval_batch_size: See ``TensorDataModule``.
        seed: Seed of the order and the dequantisation; the split does not depend on it.

    Raises:
        DomainError: If ``size`` is not 16 or 32, or a stride is not positive.
        MissingExtraError: On first use, if scikit-learn or Pillow is not installed.
    """

    def __init__(
        self,
        size: Literal[16, 32] = 16,
        stride: int = 4,
        eval_stride: int | None = None,
        labels: bool = False,
        batch_size: int = 64,
        batches_per_epoch: int | None = None,
        eval_batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, batches_per_epoch, eval_batch_size, seed)
        if size not in (16, 32):
            raise DomainError(f"size must be 16 or 32, got {size!r}")
        if stride < 1 or (eval_stride is not None and eval_stride < 1):
            raise DomainError(f"strides must be positive, got stride={stride} and eval_stride={eval_stride}")
        self.size, self.stride, self.eval_stride, self.labels = size, stride, eval_stride, labels

    @property
    def domain(self) -> domains.Box:
        return domains.Box(0.0, 1.0, dim=CHANNELS * self.size**2)

    @property
    def transform(self) -> Transform:
        return partial(dequantize, levels=LEVELS)

    def build(self) -> dict[str, tuple[Tensor, ...]]:
        photographs = _photographs()
        parts: dict[str, tuple[Tensor, ...]] = {}
        for name in SPLITS:
            stride = self.stride if name == "train" else self.eval_stride or self.size // 2
            pieces = [
                _crops(photo, _places(region_map(photo), name, self.size, stride), self.size) for photo in photographs
            ]
            labels = torch.arange(len(pieces)).repeat_interleave(torch.tensor([len(p) for p in pieces]))
            pixels = torch.cat(pieces)
            parts[name] = (pixels, labels) if self.labels else (pixels,)
        return parts


def region_map(photo: Tensor) -> Tensor:
    """For every pixel 0 if it is for training, ``r`` for validation and ``-r`` for tests, ``r`` the row of its cell,
    counted from 1; ``(height, width)``. Every row of cells has one of either kind, in columns far from one another.
    """
    row, column = torch.arange(photo.shape[-2]) // CELL_HEIGHT, torch.arange(photo.shape[-1]) // CELL_WIDTH
    turn = (column - 3 * row.unsqueeze(1)) % CELLS_PER_ROW
    kind = (turn == 0).long() - (turn == CELLS_PER_ROW // 2).long()
    return kind * (row + 1).unsqueeze(1)


def _places(regions: Tensor, split: str, size: int, stride: int) -> Tensor:
    """Upper left corners ``(n, 2)`` of the patches that a split may use."""
    least, most = (
        extreme(extreme(regions.unfold(0, size, 1), -1).unfold(1, size, 1), -1) for extreme in (torch.amin, torch.amax)
    )
    wanted = {"train": least == 0, "val": least > 0, "test": least < 0}[split] & (least == most)
    # Counted from the corner of the cell, so that all held-out cells give equally many.
    row, column = torch.arange(wanted.shape[0]) % CELL_HEIGHT, torch.arange(wanted.shape[1]) % CELL_WIDTH
    return (wanted & (row % stride == 0).unsqueeze(1) & (column % stride == 0)).nonzero()


def _crops(photo: Tensor, places: Tensor, size: int) -> Tensor:
    """Patches ``(n, 3 * size * size)`` of a photograph ``(3, height, width)``."""
    windows = photo.unfold(1, size, 1).unfold(2, size, 1)
    return windows[:, places[:, 0], places[:, 1]].movedim(0, 1).flatten(1)


def _photographs() -> list[Tensor]:
    """The photographs as bytes ``(3, height, width)``."""
    try:
        from sklearn.datasets import load_sample_images
    except ImportError as error:
        raise MissingExtraError.for_extra("scikit-learn", "data") from error
    pillow()
    return [torch.tensor(np.asarray(image)).movedim(-1, 0) for image in load_sample_images().images]


def png_bits_per_dim(pixels: Tensor, container: bool = False) -> Tensor:
    """Bits per value of every patch as a PNG file of its own, level 9 of zlib: the yardstick of density models.

    Args:
        pixels: Patches of bytes ``(n, 3 * size * size)``, as ``Patches.split`` holds them.
        container: Whether the whole file counts. By default only its compressed data do: the signature and the
            headers, 57 bytes, say the same for every patch.

    Returns:
        ``(n,)`` in float64.

    Raises:
        ShapeError: If the patches are not bytes, or not square with three channels.
        MissingExtraError: If Pillow is not installed.
    """
    size = round((pixels.shape[-1] / CHANNELS) ** 0.5)
    if pixels.dtype != torch.uint8 or pixels.ndim != 2 or pixels.shape[1] != CHANNELS * size**2:
        raise ShapeError(f"pixels must be uint8 of shape (n, 3 * size * size), got {pixels.dtype} {pixels.shape}")
    images = pixels.cpu().reshape(-1, CHANNELS, size, size).movedim(1, -1).contiguous().numpy()
    files = [png_file(image) for image in images]
    bytes_used = [len(file) if container else sum(map(len, png_chunks(file, b"IDAT"))) for file in files]
    return 8 * torch.tensor(bytes_used, dtype=torch.float64) / pixels.shape[1]


def png_file(image: np.ndarray) -> bytes:
    """The smallest PNG file of ``image (size, size, 3)`` that Pillow makes with any of the strategies of zlib."""
    picture, files = pillow().fromarray(image), []
    for strategy in range(4):
        buffer = io.BytesIO()
        picture.save(buffer, "png", optimize=True, compress_level=9, compress_type=strategy)
        files.append(buffer.getvalue())
    return min(files, key=len)


def png_chunks(file: bytes, kind: bytes) -> Iterator[bytes]:
    """The contents of the chunks of one kind."""
    start = 8
    while start < len(file):
        length, name = struct.unpack(">I4s", file[start : start + 8])
        if name == kind:
            yield file[start + 8 : start + 8 + length]
        start += length + 12
