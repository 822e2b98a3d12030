"""Checks at the doors of the geometry: shapes and dtypes always, values behind one switch."""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.numerics import eager_values

__all__ = ["check_shape", "guard_methods", "require_batch", "require_kind", "should_check", "validation"]

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
    """Raise ``ShapeError`` unless ``x`` is a float32 or float64 tensor whose last axis has length ``dim``."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise ShapeError(f"{name} must be a floating-point tensor of shape (..., {dim}), got {kind}")
    if x.dtype not in (torch.float32, torch.float64):
        raise ShapeError(f"{name} must be float32 or float64, got {x.dtype}: geometry needs their digits; use .float()")
    if x.ndim < 1 or x.shape[-1] != dim:
        raise ShapeError(f"{name} must have shape (..., {dim}), got {tuple(x.shape)}; the last axis holds coordinates")


def require_batch(x: Tensor, dim: int) -> None:
    """Raise ``ShapeError`` unless ``x`` is a matrix with at least one row; ``check_shape`` looks at the last axis."""
    if not isinstance(x, Tensor) or x.ndim != 2 or len(x) == 0:
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ShapeError(f"x must hold at least one point, (n, {dim}), got {shape}")


def require_kind(part: object, kind: type, name: str) -> None:
    """Raise ``DomainError`` unless the argument called ``name`` is a ``kind``."""
    if not isinstance(part, kind):
        raise DomainError(f"{name} must be a {kind.__name__}, got {part!r:.60}")


def guard_methods(cls: type, names: Iterable[str], length: Callable[[Any], int]) -> None:
    """Make the methods that ``cls`` itself defines under ``names`` check the points they are given.

    Base classes call it from ``__init_subclass__``, so that no subclass can forget: a wrong last axis would
    otherwise broadcast against the data of the object and give a wrong answer in silence.

    Args:
        cls: The class.
        names: Methods whose arguments are all points.
        length: Length of the last axis of the points, from the object.
    """
    for name in names:
        method = vars(cls).get(name)
        if callable(method):
            setattr(cls, name, _guarded(method, length))


def _guarded(method: Callable, length: Callable[[Any], int]) -> Callable:
    arguments = list(inspect.signature(method).parameters)[1:]

    @functools.wraps(method)
    def checked(self: Any, *points: Tensor, **named: Tensor) -> Any:
        for name, point in (*zip(arguments, points, strict=False), *named.items()):
            check_shape(point, length(self), name)
        return method(self, *points, **named)

    return checked
