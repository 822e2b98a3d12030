"""Plain-data specifications of objects: one form for YAML, checkpoints and exported models.

A spec is ``{"class_path": "package.Class", "init_args": {...}}``. Every mirrorgen component keeps each
constructor argument as an attribute of the same name, so a spec can be read off the object; tensors become
nested lists with their dtype. Reading a spec imports only from allow-listed packages.
"""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mirrorgen.errors import DomainError

__all__ = ["ALLOWED_PREFIXES", "from_spec", "to_spec"]

ALLOWED_PREFIXES: tuple[str, ...] = ("mirrorgen.",)
"""Packages that ``from_spec`` may import from; pass ``allow=`` to trust your own as well."""


def to_spec(obj: object) -> dict[str, Any]:
    """Describe ``obj`` as plain data: its class and its constructor arguments.

    Args:
        obj: A component whose constructor arguments are attributes of the same name, of this package or, with
            ``allow=`` when it is read again, of yours.

    Returns:
        ``{"class_path": ..., "init_args": {...}}`` made of dicts, lists, strings and numbers only.

    Raises:
        TypeError: If an argument is neither plain data, a tensor nor such a component.
    """
    cls = type(obj)
    init_args: dict[str, Any] = {}
    # A class without a constructor of its own inherits one that takes anything.
    own = cls.__init__ not in (torch.nn.Module.__init__, object.__init__)
    for name, parameter in inspect.signature(cls.__init__).parameters.items() if own else ():
        if name == "self" or parameter.kind is parameter.VAR_KEYWORD:
            continue
        if not hasattr(obj, name):
            raise TypeError(f"{cls.__name__} must keep its constructor argument {name!r} as an attribute of that name")
        value = getattr(obj, name)
        if parameter.kind is parameter.VAR_POSITIONAL:
            init_args["*"] = [_encode(v) for v in value]
        elif value is not parameter.default:
            init_args[name] = _encode(value)
    return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": init_args}


def from_spec(spec: Mapping[str, Any], *, allow: tuple[str, ...] = ()) -> Any:
    """Build the object that ``spec`` describes.

    Args:
        spec: What ``to_spec`` returned, possibly after a round trip through YAML or JSON.
        allow: Further package prefixes (each ending with a dot) that may be imported.

    Raises:
        DomainError: If the class lies outside the allow-listed packages, does not exist or takes other arguments.
    """
    if not isinstance(spec, Mapping) or not isinstance(spec.get("init_args") or {}, Mapping):
        raise DomainError(f"a specification is {{'class_path': ..., 'init_args': {{...}}}}, got {spec!r:.80}")
    path = str(spec.get("class_path"))
    if path == "torch.Tensor":
        return _tensor(**spec["init_args"])
    prefixes = ALLOWED_PREFIXES + allow
    if not path.startswith(prefixes):
        raise DomainError(f"class_path {path!r} is not allowed; allowed prefixes: {', '.join(prefixes)}")
    module_name, _, class_name = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise DomainError(f"class_path {path!r} does not exist; check the spelling and version") from error
    if not isinstance(cls, type) or not f"{cls.__module__}.".startswith(prefixes):
        raise DomainError(f"class_path {path!r} is not a class of an allowed package")
    init_args = {k: _decode(v, allow) for k, v in (spec.get("init_args") or {}).items()}
    try:
        inspect.signature(cls).bind(*init_args.get("*", ()), **{k: v for k, v in init_args.items() if k != "*"})
    except TypeError as error:
        raise DomainError(f"{path} does not take these arguments: {error}; was it saved by another version?") from error
    return cls(*init_args.pop("*", ()), **init_args)


def _encode(value: object) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        # float64 represents every float32 exactly, so the lists lose nothing.
        data = {"data": value.detach().cpu().tolist(), "dtype": str(value.dtype).removeprefix("torch.")}
        return {"class_path": "torch.Tensor", "init_args": data}
    if isinstance(value, list | tuple | torch.nn.ModuleList):
        return [_encode(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _encode(v) for k, v in value.items()}
    if isinstance(value, torch.nn.Module) or type(value).__module__.startswith(ALLOWED_PREFIXES):
        return to_spec(value)
    raise TypeError(
        f"{type(value).__name__} has no plain-data form; pass numbers, tensors, modules or mirrorgen objects"
    )


def _decode(value: Any, allow: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        if "class_path" in value:
            return from_spec(value, allow=allow)
        return {k: _decode(v, allow) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_decode(v, allow) for v in value]
    return value


def _tensor(data: Any = None, dtype: str = "") -> Tensor:
    try:
        return torch.tensor(data, dtype=_dtype(dtype))
    except (TypeError, ValueError, RuntimeError) as error:
        raise DomainError(f"{data!r:.60} is no tensor: {error}") from error


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise DomainError(f"{name!r} is not a torch dtype")
    return dtype
