"""The one loop: draws noise, takes steps, keeps draws."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.validation import validation
from mirrorgen.samplers.base import Kernel, Noise
from mirrorgen.samplers.chain import Chain
from mirrorgen.seeding import mix

__all__ = ["NoiseSource", "run"]


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


def run(
    kernel: Kernel,
    x: Tensor,
    num_steps: int,
    *,
    thin: int = 1,
    generator: torch.Generator | None = None,
    callback: Callable[[int, Any], None] | None = None,
    progress: bool = False,
    compile: bool = False,
) -> Chain:
    """Run ``kernel`` from points ``x`` and keep every ``thin``-th state.

    Args:
        kernel: The sampler.
        x: Starting points ``(chains, dim)``, strictly inside.
        num_steps: Steps, of which ``num_steps // thin`` are kept.
        thin: Steps per draw that is kept; the others are never stored.
        generator: Source of the seed of the run.
        callback: Called as ``callback(step, state)`` after every draw that is kept.
        progress: Whether to show a progress bar.
        compile: Whether to compile the step, which takes some seconds and pays off on long runs.

    Returns:
        The chain, with ``num_steps // thin`` draws.

    Raises:
        DomainError: If a count is not positive, or a starting point is outside.
        ShapeError: If ``x`` is not a matrix of points.
    """
    if num_steps < 1 or not 1 <= thin <= num_steps:
        raise DomainError(f"run needs num_steps >= thin >= 1, got num_steps={num_steps}, thin={thin}")
    seed = int(torch.randint(2**62, (), generator=generator))
    state = kernel.init(x)
    step = torch.compile(kernel.step) if compile else kernel.step
    noise = NoiseSource(seed, kernel, state.x)
    draws = num_steps // thin
    record = _Record(draws, state)
    with torch.no_grad(), validation(False), _progress(draws, progress) as advance:
        for t in range(draws * thin):
            state, info = step(state, noise.at(t))
            record.count(info)
            if (t + 1) % thin == 0:
                record.keep(state, thin)
                advance()
                if callback is not None:
                    callback(t + 1, state)
    return Chain(record.positions, record.dual, record.stats, kernel, state, seed, draws * thin)


class _Record:
    """Preallocated draws."""

    def __init__(self, draws: int, state: Any) -> None:
        chains = len(state.x)
        dual = getattr(state, "y", None)
        self.positions = state.x.new_empty(draws, *state.x.shape)
        self.dual = None if dual is None else dual.new_empty(draws, *dual.shape)
        names = ["acceptance", "accepted", "nonfinite", *(["log_density"] if hasattr(state, "log_density") else [])]
        self.stats = {name: state.x.new_empty(draws, chains) for name in names}
        self._sums = state.x.new_zeros(3, chains)
        self._draw = 0

    def count(self, info: Any) -> None:
        self._sums += torch.stack([part.to(self._sums.dtype) for part in info])

    def keep(self, state: Any, thin: int) -> None:
        i = self._draw
        self.positions[i] = state.x
        if self.dual is not None:
            self.dual[i] = state.y
        self.stats["acceptance"][i], self.stats["accepted"][i] = self._sums[0] / thin, self._sums[1] / thin
        self.stats["nonfinite"][i] = self._sums[2]
        if "log_density" in self.stats:
            self.stats["log_density"][i] = state.log_density
        self._sums.zero_()
        self._draw += 1


@contextmanager
def _progress(total: int, shown: bool) -> Iterator[Callable[[], None]]:
    """A progress bar over ``total`` draws, as a function to call after each."""
    columns = (TextColumn("sampling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not shown) as bar:
        task = bar.add_task("sampling", total=total)
        yield lambda: bar.advance(task)
