"""Where draws are kept: in memory, or in files that the operating system pages in and out."""

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.samplers.base import Info, Kernel

__all__ = ["Recorder", "load_checkpoint", "save_checkpoint"]

_TUNED = (bool, int, float, str)


class Recorder:
    """Preallocated draws and statistics of a run.

    Args:
        draws: How many draws will be kept.
        state: A state, for shapes, dtype and device.
        directory: Where ``positions.npy`` and its companions are; in memory if None.
        mode: ``"w+"`` to create the files, ``"r+"`` to go on with those that exist.
    """

    def __init__(self, draws: int, state: Any, directory: Path | None = None, mode: str = "w+") -> None:
        self.directory, self.mode = directory, mode
        chains, dual = len(state.x), getattr(state, "y", None)
        self.positions = self._array("positions", state.x, (draws, *state.x.shape))
        self.dual = None if dual is None else self._array("dual", dual, (draws, *dual.shape))
        names = [*Info._fields, *(["log_density"] if hasattr(state, "log_density") else [])]
        self.stats = {name: self._array(name, state.x, (draws, chains)) for name in names}
        self._sums: Info | None = None

    def _array(self, name: str, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        if self.directory is None:
            return like.new_empty(shape)
        path = self.directory / f"{name}.npy"
        if self.mode == "w+":
            dtype = torch.empty(0, dtype=like.dtype).numpy().dtype
            array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        else:
            array = np.lib.format.open_memmap(path, mode="r+")
        return torch.from_numpy(array)

    def count(self, info: Info) -> None:
        """Add what one step did."""
        # Booleans add up to counts in the dtype of the acceptance.
        wide = Info(*[part.to(info.acceptance.dtype) for part in info])
        self._sums = wide if self._sums is None else Info(*[a + b for a, b in zip(self._sums, wide, strict=True)])

    def keep(self, draw: int, state: Any, thin: int) -> None:
        """Keep ``state`` as draw number ``draw``; rates are means over the ``thin`` steps before it."""
        self.positions[draw] = state.x
        if self.dual is not None:
            self.dual[draw] = state.y
        if self._sums is not None:
            for name, total in self._sums._asdict().items():
                self.stats[name][draw] = total if name == "nonfinite" or thin == 1 else total / thin
        self._sums = None
        if "log_density" in self.stats:
            self.stats["log_density"][draw] = state.log_density


def _tuned(kernel: Kernel) -> Iterator[tuple[str, Any]]:
    """The settings of a kernel that are plain numbers or tensors."""
    for entry in fields(kernel):
        value = getattr(kernel, entry.name)
        if entry.init and isinstance(value, (*_TUNED, Tensor)):
            yield entry.name, value


def save_checkpoint(directory: Path, kernel: Kernel, state: Any, counters: dict[str, int]) -> None:
    """Write all that exact continuation needs, at once: state, tuned settings and counters; never half a file."""
    tensors = {f"state.{k}": v.contiguous() for k, v in state._asdict().items() if v is not None}
    plain: dict[str, Any] = {}
    for name, value in _tuned(kernel):
        if isinstance(value, Tensor):
            tensors[f"kernel.{name}"] = value.contiguous()
        else:
            plain[name] = value
    metadata = {"kernel": type(kernel).__name__, "settings": json.dumps(plain), "counters": json.dumps(counters)}
    temporary = directory / "checkpoint.partial"
    save_file(tensors, temporary, metadata=metadata)
    temporary.replace(directory / "checkpoint.safetensors")


def load_checkpoint(directory: Path, kernel: Kernel, device: torch.device) -> tuple[Kernel, dict, dict[str, int]]:
    """The tuned kernel, the tensors of its state and the counters.

    Raises:
        DomainError: If there is no checkpoint, or it belongs to another kernel.
    """
    path = directory / "checkpoint.safetensors"
    if not path.exists():
        raise DomainError(f"{directory} holds no checkpoint.safetensors; start with run(..., directory=...)")
    with safe_open(path, framework="pt", device=str(device)) as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dictionary
    if metadata["kernel"] != type(kernel).__name__:
        raise DomainError(f"{path} was written by {metadata['kernel']}, not by {type(kernel).__name__}")
    settings = json.loads(metadata["settings"])
    settings |= {k.removeprefix("kernel."): v for k, v in tensors.items() if k.startswith("kernel.")}
    state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    return replace(kernel, **settings), state, json.loads(metadata["counters"])
