"""Models on disk: exported folders, and loading from them or from training checkpoints, without Lightning."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mirrorgen._version import __version__
from mirrorgen.errors import DomainError
from mirrorgen.spec import from_spec, to_spec

__all__ = ["atomic_write", "check_writable", "load", "save"]

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT = 1
SLOTS = ("flow", "diffusion")
"""Names under which tasks file a model and its specification."""


def save(model: nn.Module, folder: str | Path) -> Path:
    """Export a model as ``config.json`` (its specification) and ``model.safetensors`` (its weights and buffers).

    Args:
        model: A component with a specification (``to_spec``), such as a ``MirrorFlow``.
        folder: Created if needed; files of these names are replaced.

    Returns:
        The folder.

    Raises:
        DomainError: If the folder cannot be written.
    """
    folder = Path(folder)
    config = {"format": FORMAT, "mirrorgen": __version__, "model": to_spec(model)}
    # Sharing is lost in the file, not in the model: its constructor ties tensors again.
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in model.state_dict().items()}
    atomic_write(folder / WEIGHTS, lambda path: save_file(tensors, path))
    atomic_write(folder / CONFIG, lambda path: path.write_text(json.dumps(config, indent=1), encoding="utf-8"))
    return folder


def load(path: str | Path, *, ema: bool = True, device: torch.device | str = "cpu", allow: tuple[str, ...] = ()) -> Any:
    """Load a model from a training checkpoint (``.ckpt``) or an exported folder, in evaluation mode.

    Nothing in the file is executed: it holds tensors and a specification, whose classes must come from allowed
    packages.

    Args:
        path: A checkpoint file or a folder written by ``save``.
        ema: Whether a checkpoint gives its averaged weights (the default) or the raw ones of the last step.
        device: Where to put the model.
        allow: Further package prefixes that the specification may name, for classes of your own.

    Raises:
        DomainError: If there is no such file or it holds no model of this package.
    """
    path = Path(path)
    if not path.exists():
        raise DomainError(f"there is no file or folder {path}")
    spec, state = _read_folder(path) if path.is_dir() else _read_checkpoint(path, ema)
    model = from_spec(spec, allow=allow)
    try:
        # Assigning keeps the precision that the weights were saved in.
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise DomainError(f"the weights in {path} do not fit its specification: {error}") from error
    return model.to(device).eval()


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` on a temporary file next to ``path`` and rename it: a failure leaves nothing half-written.

    Raises:
        DomainError: If ``path`` cannot be written, see ``check_writable``.
    """
    temporary = _temporary(path)
    try:
        write(temporary)
        # mkstemp makes private files; give the result the mode that open() would have given.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raise ``DomainError`` unless a file can be put at ``path``; makes its folder. For use before long work."""
    _temporary(path).unlink()


def _temporary(path: Path) -> Path:
    """A new empty file next to ``path``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    except OSError as error:
        raise DomainError(f"{path} cannot be written ({error}); choose another place") from error
    os.close(handle)
    return Path(name)


def _read_folder(folder: Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise DomainError(f"{folder} is no exported model: {missing[0]} is missing")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DomainError(f"{folder / CONFIG} is not valid JSON: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else None
        raise DomainError(f"{folder} has format {found!r}; this version reads format {FORMAT}")
    try:
        return config.get("model", {}), load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise DomainError(f"{folder / WEIGHTS} is damaged: {error}; export or copy it again") from error


def _read_checkpoint(path: Path, ema: bool) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DomainError(f"{path} is not a readable checkpoint: {reason}") from error
    settings = checkpoint.get("hyper_parameters") if isinstance(checkpoint, dict) else None
    settings = settings if isinstance(settings, Mapping) else {}
    slot = next((name for name in SLOTS if name in settings), None)
    if slot is None or not isinstance(checkpoint.get("state_dict"), Mapping):
        raise DomainError(f"{path} holds no specification of a model; was it written by one of mirrorgen's tasks?")
    # The averaging callback files the raw weights under another name.
    state = checkpoint["state_dict"] if ema else checkpoint.get("current_model_state", checkpoint["state_dict"])
    prefix = f"{slot}."
    return settings[slot], {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
