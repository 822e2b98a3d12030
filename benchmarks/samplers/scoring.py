"""One and the same judgement of everyone's draws: effective sample size, and correctness beside it."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.samplers.problems import Problem
from mirrorgen.metrics import effective_sample_size

__all__ = ["Score", "SamplerRow", "score"]

MOST_VALUES = 1_500_000


@dataclass(frozen=True)
class SamplerRow:
    """One contender on one problem.

    Attributes:
        problem: The law.
        contender: The sampler.
        dtype: Of its chains.
        chains: Side by side.
        setting: Step size and the like.
        draws: Draws per chain that were judged.
        setup_seconds: CPU seconds before the first draw that counts: tracing, compilation, tuning, one block.
        seconds_per_draw: CPU seconds per draw of one chain, the best of several repeats in turn.
        ess_per_draw: Effective sample size over the number of draws.
        ess_per_second: Effective sample size per CPU second.
        spread_per_second: The same for squared deviations from the exact mean.
        relative: ``ess_per_second`` over that of the fastest row of the same problem.
        variance_ratio: Of the draws to the exact one, mean over the coordinates.
        max_z: Largest ``|mean - exact| / standard error`` over the coordinates.
        inside: Share of draws strictly inside the domain in their own dtype.
    """

    problem: str
    contender: str
    dtype: str
    chains: int
    setting: str
    draws: int
    setup_seconds: float
    seconds_per_draw: float
    ess_per_draw: float
    ess_per_second: float
    spread_per_second: float
    relative: float
    variance_ratio: float
    max_z: float
    inside: float


class Score(NamedTuple):
    """Effective sample sizes of location and spread, and the correctness columns of ``SamplerRow``."""

    ess: float
    spread: float
    variance_ratio: float
    max_z: float
    inside: float


@torch.no_grad()
def score(problem: Problem, x: Tensor) -> Score:
    """Judge draws ``(draws, chains, dim)``.

    The effective sample size is the least over coordinates of the bulk kind, of ``x`` and of ``x^2``; chains are
    exchangeable, so that a part of them is enough where there are many values.
    """
    truth = problem.moments()
    inside = problem.target.domain.contains(x.flatten(0, 1)).double().mean()
    wide = x.double()
    error = wide.mean((0, 1)) - truth.mean
    variance = wide.flatten(0, 1).var(0)
    part = wide[:, : max(4, MOST_VALUES // (x.shape[0] * x.shape[2]))]
    factor = x.shape[1] / part.shape[1]
    location = effective_sample_size(part).min()
    spread = effective_sample_size((part - truth.mean).square()).min()
    # For positive coordinates x^2 has the ranks of x; the other laws are centred, where x^2 is the squared deviation.
    ess = location if bool((part > 0).all()) else torch.minimum(location, spread)
    of_mean = factor * effective_sample_size(part, kind="mean")
    z = error.abs() / torch.sqrt(truth.variance / of_mean + truth.mean_error.square())
    ratio = (variance / truth.variance).mean()
    return Score(factor * float(ess), factor * float(spread), float(ratio), float(z.max()), float(inside))
