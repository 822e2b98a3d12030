"""Generative modelling and sampling on constrained domains.

Public names load lazily (PEP 562): ``import mirrorgen`` brings torch and the geometry core only.
"""

import importlib
from typing import TYPE_CHECKING

from mirrorgen._version import __version__
from mirrorgen.geometry import domains, mirror_maps, validation

if TYPE_CHECKING:
    from mirrorgen import (
        data,
        diffusion,
        flows,
        integrate,
        metrics,
        nets,
        optim,
        policy,
        samplers,
        targets,
        training,
        transport,
    )
    from mirrorgen.geometry.bregman import bregman_divergence
    from mirrorgen.samplers.api import sample
    from mirrorgen.storage import load, save

__all__ = [
    "__version__",
    "bregman_divergence",
    "data",
    "diffusion",
    "domains",
    "flows",
    "integrate",
    "load",
    "metrics",
    "mirror_maps",
    "nets",
    "optim",
    "policy",
    "sample",
    "samplers",
    "save",
    "targets",
    "training",
    "transport",
    "validation",
]

_MODULES = frozenset(
    {
        "data",
        "diffusion",
        "flows",
        "integrate",
        "metrics",
        "nets",
        "optim",
        "policy",
        "samplers",
        "targets",
        "training",
        "transport",
    }
)
_OBJECTS = {
    "bregman_divergence": "mirrorgen.geometry.bregman",
    "load": "mirrorgen.storage",
    "sample": "mirrorgen.samplers.api",
    "save": "mirrorgen.storage",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(f"mirrorgen.{name}")
    if name in _OBJECTS:
        return getattr(importlib.import_module(_OBJECTS[name]), name)
    raise AttributeError(f"module 'mirrorgen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
