"""What is wrong with a run, in sentences that say what to change."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from mirrorgen.metrics.chain_statistics import normal_scores, per_coordinate, split_chains
from mirrorgen.metrics.ess import ess_of_halves
from mirrorgen.metrics.feasibility import feasibility
from mirrorgen.metrics.rhat import folded, rhat_of_halves
from mirrorgen.samplers.base import Kernel

__all__ = ["diagnose"]

RHAT_LIMITS = 1.01, 1.1
"""Limits of R-hat for long and for short chains. A half-chain of ``n`` draws with autocorrelation time ``tau`` gives
``R-hat^2 ~ 1 + (tau - 1) / n`` if all is well (Vats and Knudson, "Revisiting the Gelman-Rubin diagnostic", 2021), so
1.01 for short chains would accuse exact draws; times up to about ten are let pass."""
MANY = 8
"""From so many chains on they are pooled into four as well, which sees a drift that all have in common (Margossian et
al., "Nested R-hat: assessing the convergence of Markov chain Monte Carlo when running many short chains", 2024)."""
LEAST_ESS = 100
LEAST_SHARE = 0.002
GOOD_SHARE = 0.2
"""Effective draws per draw from which on nobody needs longer moves, however high the acceptance."""
NONFINITE_SHARE = 1e-3
# Values looked at for R-hat: more are thinned, which leaves R-hat as it is.
_VALUES = 2**19
_LEAST_DRAWS = 50


@torch.no_grad()
def diagnose(positions: Tensor, stats: dict[str, Tensor], kernel: Kernel, thin: int = 1) -> list[str]:
    """Sentences on points outside, values that are not finite, acceptance, convergence; empty if all looks well.

    Args:
        positions: Draws ``(draws, chains, dim)``.
        stats: Statistics that the runner records, ``(draws, chains)`` each.
        kernel: The kernel that made them.
        thin: Steps per draw.
    """
    steps, some = thin * stats["nonfinite"].numel(), _some(positions[-1:] if kernel.interacting else positions)
    single, pooled, ess = per_coordinate(_convergence, some).unbind(-1)
    share = float(ess.nan_to_num(0.0).amin()) / some[..., 0].numel()
    found = [*_outside(positions, kernel), *_nonfinite(stats, steps), *_acceptance(stats, kernel, share)]
    many = [(pooled, len(some) * (some.shape[1] // 4), " pooled into four")] if some.shape[1] >= MANY else []
    return [*found, *(_mixing([(single, len(some), ""), *many], positions) or _few(ess, positions, thin))]


def _convergence(x: Tensor) -> Tensor:
    """R-hat of the chains, R-hat of the chains in four groups, and bulk effective size, ``(coordinates, 3)``.

    All from the same two rankings, which are what takes time.
    """
    halves = split_chains(x)
    bulk, tails = normal_scores(halves), normal_scores(folded(halves))
    single = torch.fmax(rhat_of_halves(bulk), rhat_of_halves(tails))
    pooled = torch.fmax(rhat_of_halves(_pooled(bulk)), rhat_of_halves(_pooled(tails)))
    return torch.stack([single, pooled, ess_of_halves(bulk)], -1)


def _pooled(halves: Tensor) -> Tensor:
    """First and second halves ``(coordinates, 2 c, n)`` in four groups of ``c // 4`` chains, or as they are."""
    coordinates, both, n = halves.shape
    size = both // 8
    if not size:
        return halves
    grouped = halves.reshape(coordinates, 2, both // 2, n)[:, :, : 4 * size]
    return grouped.reshape(coordinates, 8, size * n)


def _outside(positions: Tensor, kernel: Kernel) -> Iterator[str]:
    report = feasibility(kernel.domain, positions)
    if not report.all_inside:
        yield (
            f"{report.count - report.inside} of {report.count} draws are not strictly inside in {report.dtype} "
            f"({report.worst_constraint}); {kernel.name} must not return such points: check that its domain is the one "
            "you mean, use float64, or report a bug"
        )


def _nonfinite(stats: dict[str, Tensor], steps: int) -> Iterator[str]:
    count = int(stats["nonfinite"].double().sum())
    if count > NONFINITE_SHARE * steps:
        yield (
            f"{count} of {steps} proposals had a log-density or gradient that is not finite and were rejected; make "
            "log_density finite everywhere inside the domain (avoid 0 * inf, exp without bound), use float64, or lower "
            "step_size"
        )


def _acceptance(stats: dict[str, Tensor], kernel: Kernel, share: float) -> Iterator[str]:
    stuck = int((stats["accepted"].amax(0) == 0).sum())
    if stuck:
        yield (
            f"{stuck} of {stats['accepted'].shape[1]} chains never moved; lower step_size, raise num_warmup, or start "
            "elsewhere (initial=...)"
        )
    target, mean = kernel.target_acceptance, float(stats["acceptance"].double().mean())
    if target is None or stuck == stats["accepted"].shape[1]:
        return
    step = f" (now {float(kernel.step_size):.3g})" if hasattr(kernel, "step_size") else ""
    if mean < target / 2:
        yield (
            f"acceptance is {mean:.3f}, {kernel.name} works best near {target:g}; lower step_size{step} or raise "
            "num_warmup so that it is tuned"
        )
    elif mean > 1 - (1 - target) / 4 and share < GOOD_SHARE:
        yield (
            f"acceptance is {mean:.3f}, {kernel.name} works best near {target:g}, so its moves are needlessly short; "
            f"raise step_size{step} or raise num_warmup so that it is tuned"
        )


def _mixing(checks: list[tuple[Tensor, int, str]], positions: Tensor) -> list[str]:
    draws, chains, dim = positions.shape
    for values, length, how in checks:
        limit = min(max(RHAT_LIMITS[0], math.sqrt(1 + 20 / length)), RHAT_LIMITS[1])
        worst = int(values.nan_to_num(-1.0, posinf=math.inf).argmax())
        if float(values[worst]) > limit:
            return [
                f"R-hat of {chains} chains{how} is {float(values[worst]):.3f} for x[{worst}] and above {limit:.3g} for "
                f"{int((values > limit).sum())} of {dim} coordinates: they disagree, or still drift from where they "
                f"started; raise num_warmup and the number of draws per chain (now {draws}); if that does not help, "
                "the law has separate modes or needs another mirror_map"
            ]
    return []


def _few(ess: Tensor, positions: Tensor, thin: int) -> list[str]:
    worst, total = int(ess.nan_to_num(math.inf).argmin()), positions[..., 0].numel()
    value = float(ess[worst])
    if not (value < min(LEAST_ESS, total / 10) or value < LEAST_SHARE * total):
        return []
    return [
        f"x[{worst}] has about {value:.0f} effective draws of {total}; raise the number of draws, "
        f"thin (now {thin}), or num_warmup for a better step_size and scale"
    ]


def _some(positions: Tensor) -> Tensor:
    """Evenly spaced draws, and chains if there are still too many, up to about half a million values."""
    draws, chains, _ = positions.shape
    every = max(1, min(draws // _LEAST_DRAWS, math.ceil(positions.numel() / _VALUES)))
    part = positions[::every]
    apart = max(1, min(chains // 32, math.ceil(part.numel() / _VALUES)))
    return part[:, ::apart]
