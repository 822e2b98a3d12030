"""Images from Hugging Face ``datasets``, from local files only."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from mirrorgen.data.images import ImageData, LabelledImages, unreadable
from mirrorgen.errors import DomainError, MissingExtraError, ShapeError

__all__ = ["HuggingFaceImages"]

_SPLITS = {"train": ("train",), "val": ("validation", "valid", "val", "dev"), "test": ("test",)}


class HuggingFaceImages(ImageData):
    """A column of images of a data set in a format of Hugging Face ``datasets``, from local files: nothing is fetched.

    ``path`` is one of: a folder that ``save_to_disk`` wrote; a ``.parquet`` or ``.arrow`` file, or a folder of such
    files; a folder of images, which the ``imagefolder`` builder reads with its ``metadata`` files and split folders.
    Splits named train, validation (valid, val, dev) and test are used; those that are missing are taken from train,
    or from the only split there is. Images are encoded bytes, paths or decoded pixels: whatever the column holds.

    Args:
        path: File or folder.
        size: See ``ImageData``.
        column: Column of the images.
        label_column: Column of integer classes, for ``labels=True``.
        channels: See ``ImageData``.
        resize: See ``ImageData``.
        labels: Whether batches carry the classes.
        fractions: See ``ImageData``.
        cache_dir: Where ``datasets`` keeps what it converts; its own default if None.
        batch_size: See ``TensorDataModule``.
        batches_per_epoch: See ``TensorDataModule``.
        eval_batch_size: See ``TensorDataModule``.
        seed: See ``ImageData``.

    Raises:
        DomainError: If a number is out of range. On first use: if the path does not exist, holds nothing of these
            kinds, or an image cannot be read.
        ShapeError: As ``ImageData``, and if there is no such column.
        MissingExtraError: On first use, if ``datasets`` or Pillow is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        size: int,
        column: str = "image",
        label_column: str = "label",
        channels: Literal[1, 3] = 3,
        resize: bool = True,
        labels: bool = False,
        fractions: tuple[float, float] = (0.1, 0.1),
        cache_dir: str | Path | None = None,
        batch_size: int = 64,
        batches_per_epoch: int | None = None,
        eval_batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__(
            size, channels, resize, labels, fractions, batch_size, batches_per_epoch, eval_batch_size, seed
        )
        self.path, self.column, self.label_column, self.cache_dir = Path(path), column, label_column, cache_dir

    def read(self) -> dict[str, LabelledImages]:
        hub = _datasets()
        if not self.path.exists():
            raise DomainError(f"there is no file or folder {self.path}; check the path of the data set")
        whole = self._load(hub)
        parts = dict(whole) if isinstance(whole, dict) else {"train": whole}
        if len(parts) == 1:
            parts = {"train": next(iter(parts.values()))}
        named = {ours: parts[n] for ours, names in _SPLITS.items() for n in names if n in parts}
        if "train" not in named:
            raise DomainError(f"{self.path} has the splits {', '.join(parts)}, but none called train; rename one")
        return {name: self._read_split(hub, part, f"{self.path.name}[{name}]") for name, part in named.items()}

    def _load(self, hub: Any) -> Any:
        folder = self.path.is_dir()
        if folder and any((self.path / name).is_file() for name in ("state.json", "dataset_dict.json")):
            return hub.load_from_disk(str(self.path))
        options = {"cache_dir": None if self.cache_dir is None else str(self.cache_dir)}
        for kind in ("parquet", "arrow"):
            files = sorted(self.path.rglob(f"*.{kind}")) if folder else [self.path] * (self.path.suffix == f".{kind}")
            if files:
                return hub.load_dataset(kind, data_files=_by_split(files), **options)
        if not folder:
            raise DomainError(f"cannot read {self.path.name}; use .parquet, .arrow, or a folder")
        try:
            return hub.load_dataset("imagefolder", data_dir=str(self.path), **options)
        except (FileNotFoundError, hub.exceptions.DatasetsError, ValueError) as error:
            raise DomainError(f"{self.path} holds no images, .parquet or .arrow files: {error}") from error

    def _read_split(self, hub: Any, part: Any, name: str) -> LabelledImages:
        wanted = [self.column, self.label_column] if self.labels else [self.column]
        missing = [c for c in wanted if c not in part.column_names]
        if missing:
            raise ShapeError(f"{name} has no column {missing[0]!r}; it has {', '.join(part.column_names)}")
        labels = torch.tensor(part[self.label_column][:]) if self.labels else None
        if labels is not None and (labels.ndim != 1 or labels.is_floating_point()):
            raise ShapeError(f"classes are one integer per image; column {self.label_column!r} holds {labels.dtype}")
        bad: list[str] = []
        images = part.select_columns([self.column]).cast_column(self.column, hub.Image())
        pixels = self.stack(self._decoded(images, name, bad))
        if bad:
            raise unreadable(bad, len(part))
        return LabelledImages(pixels, labels)

    def _decoded(self, part: Any, name: str, bad: list[str]) -> Iterator[tuple[str, Any]]:
        for i in range(len(part)):
            try:
                image = part[i][self.column]
                image.load()
            except (OSError, ValueError, SyntaxError, AttributeError):
                # A row without an image decodes to None.
                bad.append(f"{name} row {i}")
            else:
                yield f"{name} row {i}", image


def _by_split(files: list[Path]) -> dict[str, list[str]]:
    """Files by the split that their name begins with, such as ``test-00000-of-00001.parquet``; else for training."""
    found: dict[str, list[str]] = {}
    for file in files:
        stem = file.stem.replace("_", "-").split("-")[0]
        split = next((ours for ours, names in _SPLITS.items() if stem in names), "train")
        found.setdefault(split, []).append(str(file))
    return found


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError.for_extra("datasets", "images") from error
    return datasets
