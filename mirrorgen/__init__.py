"""Generative modelling and sampling on constrained domains.

Public names load lazily (PEP 562): ``import mirrorgen`` brings torch and the geometry core only.
"""

import importlib

from mirrorgen.geometry import domains, mirror_maps, validation

__all__ = ["domains", "mirror_maps", "validation"]

_LAZY: dict[str, str] = {}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mirrorgen' has no attribute {name!r}")
