"""``mirrorgen sample``: draw from a trained model or a log-density and write the points; needs no Lightning."""

import argparse
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from mirrorgen.sample_cli import checkpoint
from mirrorgen.sample_cli.points import write_points

__all__ = ["parser", "run", "write_points"]


def parser(args: Sequence[str]) -> argparse.ArgumentParser:
    """The options of the form of the command that ``args`` use."""
    return _form(args).parser()


def run(args: Sequence[str]) -> Any:
    """Carry out the command: with ``--target`` a ``Chain`` from a log-density, else points from a model.

    Raises:
        DomainError: If an option is out of range, or what it names cannot be read.
    """
    return _form(args).run(args)


def _form(args: Sequence[str]) -> ModuleType:
    if not any(a.split("=")[0] == "--target" for a in args):
        return checkpoint
    # Models need no samplers.
    from mirrorgen.sample_cli import density

    return density
