"""The one loop: draws noise, takes steps, keeps draws."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.validation import validation
from mirrorgen.samplers.adaptation import warm_up
from mirrorgen.samplers.base import Kernel, Noise
from mirrorgen.samplers.chain import Chain
from mirrorgen.samplers.record import Recorder, load_checkpoint, save_checkpoint
from mirrorgen.seeding import mix

__all__ = ["NoiseSource", "extend", "resume", "run"]


class NoiseSource:
    """The noise of step ``t`` as a function of ``(seed, t)``, so that nothing but counters is saved to continue.

    Args:
        seed: Seed of the run.
        kernel: The kernel to feed.
        x: A batch of its points, which gives number of chains, dtype and device.
    """

    def __init__(self, seed: int, kernel: Kernel, x: Tensor) -> None:
        self.seed, self.chains, self.dtype, self.device = seed, len(x), x.dtype, x.device
        self.shape = kernel.noise_shape
        self.generator = torch.Generator(x.device)

    def at(self, step: int) -> Noise:
        """The noise of one step."""
        self.generator.manual_seed(mix(self.seed, step))
        options: dict[str, Any] = {"generator": self.generator, "dtype": self.dtype, "device": self.device}
        return Noise(
            torch.randn(self.chains, self.shape.normal, **options),
            torch.rand(self.chains, self.shape.uniform, **options),
        )


@dataclasses.dataclass(frozen=True)
class _Options:
    thin: int
    callback: Callable[[int, Any], None] | None
    progress: bool
    compile: bool
    directory: Path | None = None
    checkpoint_every: int = 1000


def run(
    kernel: Kernel,
    x: Tensor,
    num_steps: int,
    *,
    num_warmup: int = 0,
    thin: int = 1,
    generator: torch.Generator | None = None,
    callback: Callable[[int, Any], None] | None = None,
    progress: bool = False,
    compile: bool = False,
    directory: Path | str | None = None,
    checkpoint_every: int = 1000,
) -> Chain:
    """Run ``kernel`` from points ``x`` and keep every ``thin``-th state.

    Args:
        kernel: The sampler.
        x: Starting points ``(chains, dim)``, strictly inside.
        num_steps: Steps after the warm-up, of which ``num_steps // thin`` are kept.
        num_warmup: Steps before these that tune the kernel (see ``adaptation``) and are not kept.
        thin: Steps per draw that is kept; the others are never stored.
        generator: Source of the seed of the run; the noise of every step follows from the seed alone.
        callback: Called as ``callback(step, state)`` after every draw that is kept.
        progress: Whether to show a progress bar.
        compile: Whether to compile the step, which takes some seconds and pays off on long runs.
        directory: A new or empty folder for the draws (``.npy`` files, paged by the operating system, so that memory
            stays bounded) and a checkpoint, from which ``resume`` continues exactly.
        checkpoint_every: Draws between checkpoints.

    Returns:
        The chain, with ``num_steps // thin`` draws.

    Raises:
        DomainError: If a count is out of range, a starting point is outside, or the folder holds a run already.
        ShapeError: If ``x`` is not a matrix of points.
    """
    if num_steps < 1 or not 1 <= thin <= num_steps or num_warmup < 0 or checkpoint_every < 1:
        raise DomainError(
            "run needs num_steps >= thin >= 1, num_warmup >= 0 and checkpoint_every >= 1, got "
            f"num_steps={num_steps}, thin={thin}, num_warmup={num_warmup}, checkpoint_every={checkpoint_every}"
        )
    folder = None if directory is None else _new_folder(Path(directory))
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device if generator else None))
    state = kernel.init(x)
    noise = NoiseSource(seed, kernel, state.x)
    with torch.no_grad(), validation(False), _progress("warm-up", num_warmup, progress) as advance:
        kernel, state = warm_up(kernel, state, num_warmup, noise.at, advance)
    options = _Options(thin, callback, progress, compile, folder, checkpoint_every)
    counters = {"seed": seed, "warmup": num_warmup, "draw": 0, "draws": num_steps // thin, "thin": thin}
    return _advance(kernel, state, counters, options, Recorder(counters["draws"], state, folder))


def extend(chain: Chain, num_steps: int, *, progress: bool = False, compile: bool = False) -> Chain:
    """``chain`` with more draws, exactly as if its run had been that long; the old draws come first.

    Args:
        chain: A chain that ``run`` or ``extend`` returned.
        num_steps: More steps, of which ``num_steps // thin`` are kept, with the ``thin`` of the chain.
        progress: Whether to show a progress bar.
        compile: Whether to compile the step.

    Raises:
        DomainError: If ``num_steps`` is less than the ``thin`` of the chain, or it was merged from several processes.
    """
    if chain.state is None:
        raise DomainError("this chain comes from a file, which holds no state; run its kernel from chain.positions[-1]")
    if "thin" not in chain.meta:
        raise DomainError("this chain was merged from several processes and has no single continuation; sample anew")
    thin = chain.meta["thin"]
    if num_steps < thin:
        raise DomainError(f"extend needs num_steps >= {thin}, the thinning of the chain, got {num_steps}")
    counters = {"seed": chain.seed, "warmup": chain.steps, "draw": 0, "draws": num_steps // thin, "thin": thin}
    options = _Options(thin, None, progress, compile)
    more = _advance(chain.kernel, chain.state, counters, options, Recorder(counters["draws"], chain.state))
    return dataclasses.replace(
        more,
        positions=torch.cat([chain.positions, more.positions]),
        dual=None if chain.dual is None or more.dual is None else torch.cat([chain.dual, more.dual]),
        stats={name: torch.cat([chain.stats[name], more.stats[name]]) for name in more.stats},
        meta=chain.meta,
    )


def resume(
    kernel: Kernel,
    directory: Path | str,
    *,
    callback: Callable[[int, Any], None] | None = None,
    progress: bool = False,
    compile: bool = False,
    checkpoint_every: int = 1000,
    device: torch.device | str = "cpu",
) -> Chain:
    """Finish a run that was interrupted, draw for draw as it would have gone on.

    Args:
        kernel: A kernel like the one of the run; tuned settings are read from the checkpoint.
        directory: The folder of the run.
        callback: As in ``run``.
        progress: As in ``run``.
        compile: As in ``run``.
        checkpoint_every: As in ``run``.
        device: Where the chains live.

    Raises:
        DomainError: If the folder holds no checkpoint, or one of another kernel.
    """
    folder = Path(directory)
    kernel, tensors, counters = load_checkpoint(folder, kernel, torch.device(device))
    with validation(False):
        template = kernel.init(tensors["x"])
    state = type(template)(**{name: tensors.get(name) for name in template._fields})
    options = _Options(counters["thin"], callback, progress, compile, folder, checkpoint_every)
    return _advance(kernel, state, counters, options, Recorder(counters["draws"], state, folder, "r+"))


def _advance(kernel: Kernel, state: Any, counters: dict[str, int], options: _Options, record: Recorder) -> Chain:
    """Steps from draw ``counters["draw"]`` on."""
    step = torch.compile(kernel.step, dynamic=False) if options.compile else kernel.step
    noise = NoiseSource(counters["seed"], kernel, state.x)
    thin, draws, first = counters["thin"], counters["draws"], counters["draw"]
    with torch.no_grad(), validation(False), _progress("sampling", draws, options.progress, first) as advance:
        for draw in range(first, draws):
            begin = counters["warmup"] + draw * thin
            for t in range(begin, begin + thin):
                state, info = step(state, noise.at(t))
                record.count(info)
            record.keep(draw, state, thin)
            advance()
            if options.callback is not None:
                options.callback(begin + thin, state)
            done = draw + 1
            if options.directory is not None and (done % options.checkpoint_every == 0 or done == draws):
                save_checkpoint(options.directory, kernel, state, counters | {"draw": done})
    steps = counters["warmup"] + draws * thin
    meta = {"thin": thin, "warmup": counters["warmup"]}
    return Chain(record.positions, record.dual, record.stats, kernel, state, counters["seed"], steps, meta)


def _new_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise DomainError(f"{folder} is not empty; finish its run with resume(kernel, directory), or name a new folder")
    return folder


@contextmanager
def _progress(title: str, total: int, shown: bool, done: int = 0) -> Iterator[Callable[[], None]]:
    """A progress bar over ``total`` units, as a function to call after each."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not shown or total == 0) as bar:
        task = bar.add_task(title, total=total, completed=done)
        yield lambda: bar.advance(task)
