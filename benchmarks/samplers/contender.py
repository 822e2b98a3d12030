"""What the study asks of everyone who takes part."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from benchmarks.samplers.problems import Problem
from mirrorgen.errors import DomainError
from mirrorgen.samplers.api import starting_points
from mirrorgen.seeding import counter_generator

__all__ = ["JITTER", "Contender", "Sampler", "block_of", "leapfrog_setting", "start"]

JITTER = 0.2
"""Relative width of the jitter of all step sizes that are fixed."""


def start(problem: Problem, chains: int, dtype: torch.dtype) -> Tensor:
    """The points ``(chains, dim)`` where all contenders start: exact draws where the law has any."""
    generator = counter_generator(11)
    try:
        return problem.target.sample(chains, generator=generator).to(dtype)
    except DomainError:
        return starting_points(problem.target, problem.mirror_map, chains, dtype=dtype, generator=generator)


class Sampler(Protocol):
    """Chains that go on where they stopped."""

    def __call__(self, draws: int) -> Tensor:
        """The next ``(draws, chains, dim)`` points of the domain; the work is done when it returns."""


@dataclass(frozen=True)
class Contender:
    """One way to draw from a problem.

    Attributes:
        name: In the table.
        chains: Chains side by side.
        dtype: Of the chains.
        setting: Step size and the like, in words.
        prepare: Makes the sampler of a problem: compiles, tunes; its cost is reported apart.
        block: Draws per call: some peers compile anew for another number. One block is thrown away first.
    """

    name: str
    chains: int
    dtype: str
    setting: str
    prepare: Callable[[Problem], Sampler]
    block: int = 200


def block_of(problem: Problem, chains: int) -> int:
    """Draws per call of contenders that run chains side by side: long enough to hide the call."""
    usual = 50 if not problem.closed else 1000 if chains <= 8 else 200
    return max(4, round(problem.effort * usual))


def leapfrog_setting(problem: Problem) -> str:
    """The settings that contenders with fixed paths share."""
    return f"eps {problem.step_size:g}, L {problem.num_steps}"
