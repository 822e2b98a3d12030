"""One switch for value checks at the doors of the geometry (shapes are always checked)."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

from mirrorgen.errors import ShapeError
from mirrorgen.numerics import eager_values

__all__ = ["check_shape", "should_check", "validation"]

_enabled: ContextVar[bool] = ContextVar("mirrorgen_validation", default=True)


@contextmanager
def validation(enabled: bool) -> Iterator[None]:
    """Switch value checks (point inside, finite) on or off within a ``with`` block.

    They cost one comparison per coordinate and, on an accelerator, one synchronisation per call.
    """
    token = _enabled.set(enabled)
    try:
        yield
    finally:
        _enabled.reset(token)


def should_check(*tensors: Tensor) -> bool:
    """Whether value checks are on and the values can be read (not while compiling or under ``torch.func``)."""
    return eager_values(*tensors) and _enabled.get()


def check_shape(x: Tensor, dim: int, name: str) -> None:
    """Raise ``ShapeError`` unless ``x`` is a floating tensor whose last axis has length ``dim``."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise ShapeError(f"{name} must be a floating-point tensor of shape (..., {dim}), got {kind}")
    if x.ndim < 1 or x.shape[-1] != dim:
        raise ShapeError(f"{name} must have shape (..., {dim}), got {tuple(x.shape)}; the last axis holds coordinates")
