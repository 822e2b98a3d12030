"""Folders of image files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from mirrorgen.data.images import ImageData, LabelledImages, pillow, unreadable
from mirrorgen.errors import DomainError

__all__ = ["ImageFolder"]

SUFFIXES = {".png", ".jpg", ".jpeg"}


class ImageFolder(ImageData):
    """The PNG and JPEG files below a folder, at any depth, in the order of their paths.

    The class of an image is the first folder on its way down, numbered in alphabetical order: the layout
    ``path/cat/1.png``, ``path/dog/7.png``. Everything else, and the rest of the arguments, is as in ``ImageData``.

    Args:
        path: The folder.
        size: See ``ImageData``.
        channels: See ``ImageData``.
        resize: See ``ImageData``.
        labels: Whether batches carry the classes; all images must then lie in subfolders.
        fractions: See ``ImageData``.
        batch_size: See ``TensorDataModule``.
        batches_per_epoch: See ``TensorDataModule``.
        eval_batch_size: See ``TensorDataModule``.
        seed: See ``ImageData``.

    Raises:
        DomainError: If a number is out of range. On first use: if the folder does not exist or holds no image, or a
            file cannot be read as one; files are named.
        ShapeError: As ``ImageData``.
        MissingExtraError: As ``ImageData``.
    """

    def __init__(
        self,
        path: str | Path,
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
        super().__init__(
            size, channels, resize, labels, fractions, batch_size, batches_per_epoch, eval_batch_size, seed
        )
        self.path = Path(path)

    def files(self) -> list[Path]:
        """The image files, relative to the folder."""
        if not self.path.is_dir():
            raise DomainError(f"there is no folder {self.path}; check the path of the images")
        found = sorted(p.relative_to(self.path) for p in self.path.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not found:
            raise DomainError(f"there is no .png, .jpg or .jpeg file below {self.path}; check the path of the images")
        return found

    def read(self) -> dict[str, LabelledImages]:
        files = self.files()
        labels = None
        if self.labels:
            loose = [str(p) for p in files if len(p.parts) == 1]
            if loose:
                raise DomainError(
                    f"labels=True asks for one folder per class, but {loose[0]} lies directly in {self.path}; "
                    "move it into a class, or pass labels=False"
                )
            classes = sorted({p.parts[0] for p in files})
            labels = torch.tensor([classes.index(p.parts[0]) for p in files])
        bad: list[str] = []
        pixels = self.stack(self._opened(files, bad))
        if bad:
            raise unreadable(bad, len(files))
        return {"train": LabelledImages(pixels, labels)}

    def _opened(self, files: list[Path], bad: list[str]) -> Iterator[tuple[str, Any]]:
        """Every image by its name; those that cannot be read are left out and noted in ``bad``."""
        reader = pillow()
        for file in files:
            try:
                with reader.open(self.path / file) as image:
                    # Decoding is where truncated files fail.
                    image.load()
            except (OSError, ValueError, SyntaxError):
                bad.append(str(file))
            else:
                yield str(file), image
