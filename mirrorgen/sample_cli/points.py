"""Points in files, and what both forms of the command check."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.storage import atomic_write

__all__ = ["check_device", "write_points", "writer"]


def write_points(path: Path, points: Tensor, condition: Tensor | None = None) -> None:
    """Write points by the suffix of ``path``; a failure leaves no file behind.

    ``.safetensors`` holds ``x`` and, if given, ``condition``; ``.npy`` and ``.csv`` hold the points alone.
    """
    write = writer(path)
    atomic_write(path, lambda temporary: write(temporary, points.contiguous(), condition))


def writer(path: Path, *others: str) -> Callable[[Path, Tensor, Tensor | None], None]:
    """The function that writes files of this suffix; ``others`` are written elsewhere and named in the message."""
    if path.suffix not in _WRITERS:
        raise DomainError(f"--out must end in {', '.join([*_WRITERS, *others])}; got {path.name!r}")
    return _WRITERS[path.suffix]


def _write_safetensors(path: Path, points: Tensor, condition: Tensor | None) -> None:
    save_file({"x": points} | ({} if condition is None else {"condition": condition.contiguous()}), path)


def _write_npy(path: Path, points: Tensor, condition: Tensor | None) -> None:
    np.save(path, points.numpy())


def _write_csv(path: Path, points: Tensor, condition: Tensor | None) -> None:
    header = ",".join(f"x{i}" for i in range(points.shape[1]))
    # Nine digits identify a float32, seventeen a float64.
    digits = 9 if points.dtype == torch.float32 else 17
    np.savetxt(path, points.numpy(), fmt=f"%.{digits}g", delimiter=",", header=header, comments="")


_WRITERS: dict[str, Callable[[Path, Tensor, Tensor | None], None]] = {
    ".safetensors": _write_safetensors,
    ".npy": _write_npy,
    ".csv": _write_csv,
}


def check_device(name: str) -> None:
    """Raise ``DomainError`` unless tensors can be made on the device called ``name``."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise DomainError(f"--device {name} cannot be used: {str(error).splitlines()[0]}") from error
