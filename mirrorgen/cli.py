"""``mirrorgen fit|validate|test|predict|sample|rl``: the entry point, which loads Lightning only to train."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from mirrorgen._version import __version__
from mirrorgen.errors import MirrorgenError

__all__ = ["console", "main"]

USAGE = """usage: mirrorgen COMMAND [options]

commands:
  fit        train a model from a configuration file
  validate   evaluate a checkpoint on the validation data
  test       evaluate a checkpoint on the test data
  predict    log-densities of the test data under a checkpoint
  sample     draw points from a checkpoint, an exported model or a log-density
  rl         train an agent by policy mirror descent in an environment

examples:
  mirrorgen fit --config configs/flow/digits.yaml
  mirrorgen sample --ckpt runs/digits/version_0/checkpoints/last.ckpt --num 1000 --out samples.safetensors
  mirrorgen sample --target Uniform --domain "Birkhoff(4)" --num 10000 --out samples.npy
  mirrorgen rl --config configs/policy/mdpo_cartpole.yaml

'mirrorgen COMMAND --help' lists the options of a command, and 'mirrorgen --version' prints the version."""
LIGHTNING = ("fit", "validate", "test", "predict")
OTHERS = {"sample": "mirrorgen.sample_cli", "rl": "mirrorgen.rl_cli"}


def main(args: Sequence[str] | None = None) -> Any:
    """Run a command; errors of this package end the process with one line and exit status 2.

    Args:
        args: The command line; ``sys.argv[1:]`` if None.

    Returns:
        The points for ``sample``, a summary per seed for ``rl``; the
        ``CommandLine`` object, which holds trainer, model and data, otherwise.
    """
    argv = list(sys.argv[1:] if args is None else args)
    command = argv[0] if argv else "--help"
    if command in ("-h", "--help"):
        print(USAGE)
        return None
    if command == "--version":
        print(f"mirrorgen {__version__}")
        return None
    if command not in LIGHTNING and command not in OTHERS:
        print(f"{USAGE}\n\nerror: unknown command {command!r}", file=sys.stderr)
        raise SystemExit(2)
    try:
        return importlib.import_module(OTHERS[command]).run(argv[1:]) if command in OTHERS else _lightning(argv)
    except (MirrorgenError, ValueError) as error:
        cause = _own(error)
        if cause is None:
            raise
        print(f"mirrorgen {command}: error: {cause}", file=sys.stderr)
        raise SystemExit(2) from error


def console() -> None:
    """The ``mirrorgen`` command: ``main`` without its value, which a shell would take for an error."""
    main()


def _lightning(argv: list[str]) -> Any:
    # Importing the rooms makes their classes known by their short names.
    importlib.import_module("mirrorgen.data")
    from mirrorgen.training.command_line import CommandLine

    return CommandLine(argv)


def _own(error: BaseException | None) -> MirrorgenError | None:
    """The error of this package behind ``error``: the parser wraps what constructors raise."""
    while error is not None:
        if isinstance(error, MirrorgenError):
            return error
        error = error.__cause__ or error.__context__
    return None


if __name__ == "__main__":
    console()
