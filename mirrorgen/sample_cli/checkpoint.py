"""``mirrorgen sample --ckpt``: draw from a trained model and write the points."""

import argparse
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.sample_cli.points import check_device, write_points, writer
from mirrorgen.storage import check_writable, load

__all__ = ["parser", "run"]


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(
        prog="mirrorgen sample",
        description="Draw points from a trained model.",
        epilog="To draw from a log-density instead, see: mirrorgen sample --target --help",
        allow_abbrev=False,
    )
    add = options.add_argument
    add("--ckpt", type=Path, required=True, help="checkpoint file or exported folder")
    add("--num", type=int, required=True, help="number of points")
    add("--out", type=Path, required=True, help="file to write: .safetensors, .npy or .csv")
    add("--condition", help="class label, or comma-separated labels to cycle through; numbers of one vector")
    add("--guidance-scale", type=float, default=1.0, help="1 is unguided (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of the noise (default: %(default)s)")
    add("--batch-size", type=int, default=4096, help="points at a time (default: %(default)s)")
    add("--steps", type=int, help="steps (default: 50 for flows, 100 for diffusions)")
    add(
        "--method",
        help="flows: midpoint (default), euler, heun, rk4, dopri5; diffusions: pc (default), em, ode, dopri5",
    )
    add("--t-end", type=float, help="flows: stop at this time, at most 1 (default)")
    add("--grid", help="diffusions: noise levels rho (default) or log")
    add("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    add("--raw-weights", action="store_true", help="use the last step's weights, not their moving average")
    add("--quiet", action="store_true", help="show no progress")
    return options


def run(args: Sequence[str]) -> Tensor:
    """Carry out the command and return the points ``(num, dim)``.

    Raises:
        DomainError: If an option is out of range or the model cannot be read.
    """
    options = parser().parse_args(args)
    if options.num < 1 or options.batch_size < 1:
        raise DomainError("--num and --batch-size must be positive")
    if not 0 <= options.seed < 2**63:
        raise DomainError(f"--seed must lie in [0, 2^63), got {options.seed}")
    writer(options.out)
    check_writable(options.out)
    check_device(options.device)
    model = load(options.ckpt, ema=not options.raw_weights, device=options.device)
    if not callable(getattr(model, "sample", None)):
        raise DomainError(f"{options.ckpt} holds a {type(model).__name__}, which has nothing to sample")
    condition = parse_condition(options.condition, model.net, options.num)
    settings = _settings(options, model)
    with _progress(options.num, options.quiet) as advance:
        points = model.sample(
            options.num,
            condition=condition,
            generator=torch.Generator(options.device).manual_seed(options.seed),
            guidance_scale=options.guidance_scale,
            batch_size=options.batch_size,
            callback=advance,
            **settings,
        ).cpu()
    write_points(options.out, points, condition)
    inside = int(model.domain.cpu().contains(points).sum())
    print(f"{options.out}: {len(points)} points of {points.shape[1]} coordinates, {inside} strictly inside")
    return points


def _settings(options: argparse.Namespace, model: Any) -> dict[str, Any]:
    """Options that only some models know, if they were given."""
    given = {name: getattr(options, name) for name in ("steps", "method", "t_end", "grid")}
    given = {name: value for name, value in given.items() if value is not None}
    if strangers := sorted(given.keys() - inspect.signature(model.sample).parameters.keys()):
        flag = strangers[0].replace("_", "-")
        raise DomainError(f"a {type(model).__name__} has no --{flag}; leave it out")
    return given


def parse_condition(text: str | None, net: Any, num: int) -> Tensor | None:
    """Labels ``(num,)`` that cycle through the given ones, or one vector for all ``(num, k)``."""
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise DomainError(f"--condition takes numbers separated by commas, got {text!r}") from error
    if net.condition_dim:
        if len(numbers) != net.condition_dim:
            raise DomainError(f"--condition needs {net.condition_dim} numbers for this model, got {len(numbers)}")
        return torch.tensor(numbers).expand(num, -1)
    if not net.num_classes:
        raise DomainError("this model takes no condition; leave --condition out")
    if any(v != int(v) or not 0 <= v < net.num_classes for v in numbers):
        raise DomainError(f"--condition labels lie in 0..{net.num_classes - 1}, got {text}")
    labels = torch.tensor([int(v) for v in numbers])
    return labels.repeat(-(-num // len(labels)))[:num]


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar over ``total`` points, as a function that is told how many are done."""
    columns = (TextColumn("sampling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=quiet) as bar:
        task = bar.add_task("sampling", total=total)
        yield lambda done: bar.update(task, completed=done)
