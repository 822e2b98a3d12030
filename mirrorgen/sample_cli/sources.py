"""The log-density and the domain that the command line names."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from mirrorgen import targets
from mirrorgen.errors import DomainError
from mirrorgen.geometry import domains
from mirrorgen.geometry.domains import Domain
from mirrorgen.sample_cli.expressions import classes, parse_spec
from mirrorgen.spec import from_spec
from mirrorgen.targets.base import Target

__all__ = ["DOMAINS", "TARGETS", "make"]

DOMAINS = classes(domains, Domain)
TARGETS = classes(targets, Target)
EXAMPLE = "'Box(-1, 1, dim=10)'"


def make(target: str, domain: str | None) -> tuple[Callable[[Tensor], Tensor], Domain]:
    """The log-density that ``--target`` names and its domain.

    Args:
        target: A target with its arguments (see ``parse_spec``), ``module:name`` or ``file.py:name``.
        domain: A domain with its arguments, or None if the target has one.

    Raises:
        DomainError: If one cannot be made, or there is no domain, or there are two.
    """
    given = None if domain is None else parse_spec(domain, DOMAINS)
    if ":" in target and not set("{(") & set(target):
        found = _imported(target)
        convex = getattr(found, "domain", None) if given is None else from_spec(given)
    else:
        found = _target(parse_spec(target, {**TARGETS, **DOMAINS}), given)
        convex = found.domain
    if convex is None:
        raise DomainError(f"--target {target} has no domain of its own; add --domain, such as {EXAMPLE}")
    if not isinstance(convex, Domain):
        raise DomainError(f"the domain of --target {target} is a {type(convex).__name__}, which is no domain")
    return found, convex


def _target(spec: dict[str, Any], domain: dict[str, Any] | None) -> Target:
    name, arguments = str(spec["class_path"]).rpartition(".")[2], dict(spec.get("init_args") or {})
    if name not in TARGETS:
        raise DomainError(f"--target names a {name}, which is no target; known: {', '.join(TARGETS)}")
    takes = "domain" in inspect.signature(TARGETS[name]).parameters
    # The domain comes first in every target that takes one.
    has = "domain" in arguments or any(isinstance(a, dict) for a in arguments.get("*", [])[:1])
    if takes and not has and domain is None:
        raise DomainError(f"--target {name} needs a set; add --domain, such as {EXAMPLE}")
    if domain is not None and (has or not takes):
        raise DomainError(f"--target {name} has a domain of its own; leave --domain out")
    if domain is not None:
        arguments["*"] = [domain, *arguments.get("*", [])]
    return from_spec({**spec, "init_args": arguments})


def _imported(path: str) -> Any:
    """The callable behind ``module:name`` or ``file.py:name``."""
    place, _, name = path.rpartition(":")
    found: Any = _file_module(Path(place)) if place.endswith(".py") else _module(place)
    for part in name.split("."):
        if not hasattr(found, part):
            raise DomainError(f"--target {path}: {place} has no {name!r}")
        found = getattr(found, part)
    if not callable(found) or isinstance(found, type):
        raise DomainError(f"--target {path} is a {type(found).__name__}; a function of points or a target is needed")
    return found


def _module(name: str) -> Any:
    """A module that is installed or lies in the working directory, which an installed command does not search."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise DomainError(f"--target: no module {name!r} is here or installed; file.py:function works too") from error
    finally:
        sys.path.remove(here)


def _file_module(path: Path) -> Any:
    if not path.is_file():
        raise DomainError(f"--target: there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise DomainError(f"--target: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
