"""Evolution strategies: ascent of a black box from the fitness of perturbed parameters, all members at once."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError, ShapeError

__all__ = ["EvolutionRun", "call_population", "centered_ranks", "evolution_strategy"]

Fitness = Callable[[Tensor], Tensor]
"""Members ``(population, parameters)`` to what is to be large ``(population,)``."""


@dataclass(frozen=True)
class EvolutionRun:
    """What a search went through.

    Attributes:
        parameters: The last centre ``(parameters,)``.
        mean: Mean fitness of every generation ``(generations,)``.
        best: Largest fitness of every generation ``(generations,)``.
    """

    parameters: Tensor
    mean: Tensor
    best: Tensor


def centered_ranks(fitness: Tensor) -> Tensor:
    """Ranks from -1/2 to 1/2, equal values sharing theirs; ``(population,)``."""
    ordered = fitness.sort().values
    below, upto = (torch.searchsorted(ordered, fitness.contiguous(), right=right) for right in (False, True))
    return (below + upto - 1).to(fitness.dtype) / 2 / max(len(fitness) - 1, 1) - 0.5


def standard_scores(fitness: Tensor) -> Tensor:
    """``(F - mean) / std``, zero where all are equal; ``(population,)``."""
    spread = fitness.std(correction=0)
    return torch.where(spread > 0, (fitness - fitness.mean()) / spread, 0.0)


SHAPES = {"rank": centered_ranks, "score": standard_scores}


def evolution_strategy(
    fitness: Fitness,
    start: Tensor,
    *,
    population: int = 32,
    scale: float = 0.1,
    step_size: float = 0.05,
    generations: int = 100,
    decay: float = 1.0,
    shaping: str = "rank",
    generator: torch.Generator | None = None,
    callback: Callable[[int, Tensor, Tensor], None] | None = None,
) -> EvolutionRun:
    """Adam along ``sum_i F_i e_i / (population scale)`` with members ``x + scale e_i`` in antithetic pairs ``e, -e``.

    The sum estimates the gradient of the fitness smoothed by a normal law of that scale. ``F`` are shaped: ranks or
    standard scores, so that only the order or the relative size of fitness matters.

    Args:
        fitness: Of all members at once. It is called once per generation, and may draw its own noise; the same noise
            for all members makes comparisons sharper.
        start: ``(parameters,)``.
        population: Number of members, even.
        scale: Standard deviation of perturbations.
        step_size: Of Adam.
        generations: Number of steps.
        decay: Factor on ``scale`` and ``step_size`` after each generation.
        shaping: ``"rank"`` or ``"score"``.
        generator: Of perturbations.
        callback: Called with the generation, its centre and the fitness of its members.

    Raises:
        ShapeError: If ``start`` is no vector, or fitness has another shape than ``(population,)``.
        DomainError: If an option is out of range, or fitness is NaN or infinite.

    Source: Salimans, Ho, Chen, Sidor, Sutskever, "Evolution Strategies as a Scalable Alternative to Reinforcement
    Learning", 2017.
    """
    if start.ndim != 1:
        raise ShapeError(f"start must be one vector of parameters, got shape {tuple(start.shape)}")
    if population < 2 or population % 2 or generations < 0 or not (scale > 0 and step_size > 0 and 0 < decay <= 1):
        raise DomainError(
            "population must be even and positive, generations not negative, scale and step_size positive, "
            "decay in (0, 1]"
        )
    if shaping not in SHAPES:
        raise DomainError(f"shaping must be one of {sorted(SHAPES)}, got {shaping!r}")
    center = nn.Parameter(start.detach().clone())
    adam = torch.optim.Adam([center], lr=step_size)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(adam, decay)
    history = []
    for k in range(generations):
        half = torch.randn(population // 2, len(start), generator=generator, dtype=start.dtype, device=start.device)
        noise, width = torch.cat([half, -half]), scale * decay**k
        found = _checked(fitness(center.detach() + width * noise), population).to(start)
        if callback is not None:
            callback(k, center.detach().clone(), found)
        # Adam descends.
        center.grad = -(SHAPES[shaping](found) @ noise) / (population * width)
        adam.step()
        scheduler.step()
        history.append(torch.stack([found.mean(), found.max()]))
    mean, best = torch.stack(history, 1) if history else start.new_zeros(2, 0)
    return EvolutionRun(center.detach(), mean, best)


def call_population(module: nn.Module, parameters: Tensor, *inputs: Tensor) -> Tensor:
    """``module(*inputs)`` for every row of parameters, with row ``i`` of each input.

    Args:
        module: Whose ``parameters()``, flattened in order, are the columns; see
            ``torch.nn.utils.parameters_to_vector``.
        parameters: ``(population, parameters)``.
        inputs: ``(population, ...)`` each.

    Raises:
        ShapeError: If the number of columns is another one than that of the module's parameters.
    """
    named = dict(module.named_parameters())
    sizes = [p.numel() for p in named.values()]
    if parameters.ndim != 2 or parameters.shape[1] != sum(sizes):
        raise ShapeError(f"parameters must be (population, {sum(sizes)}), got {tuple(parameters.shape)}")

    def call(row: Tensor, *one: Tensor) -> Tensor:
        parts = zip(named.items(), row.split(sizes), strict=True)
        return torch.func.functional_call(module, {name: flat.view_as(p) for (name, p), flat in parts}, one)

    return torch.vmap(call)(parameters, *inputs)


def _checked(fitness: Tensor, population: int) -> Tensor:
    if fitness.shape != (population,):
        raise ShapeError(f"fitness must have shape ({population},), one number per member, got {tuple(fitness.shape)}")
    if not bool(torch.isfinite(fitness).all()):
        raise DomainError("fitness is NaN or infinite; give members that fail a finite number below all others")
    return fitness.detach()
