"""What is wrong with a run, in sentences that say what to change."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from mirrorgen.metrics.ess import effective_sample_size
from mirrorgen.metrics.feasibility import feasibility
from mirrorgen.metrics.rhat import rhat
from mirrorgen.samplers.base import Kernel

__all__ = ["diagnose"]

RHAT_LIMIT = 1.01
RHAT_LIMIT_OF_MANY = 1.1
"""Limit for single chains when there are at least ``MANY``: ``R-hat ~ sqrt(1 + chains / ess)`` (Vats and Knudson,
"Revisiting the Gelman-Rubin diagnostic", 2021), so that 1.01 would ask hundreds of short chains for far more than an
estimate needs. Pooled into four (Margossian et al., "Nested R-hat", 2024) they have to meet 1.01."""
MANY = 8
LEAST_ESS = 100
LEAST_SHARE = 0.002
NONFINITE_SHARE = 1e-3
# Values looked at for R-hat: more are thinned, which leaves R-hat as it is.
_VALUES = 2**20
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
    steps = thin * stats["nonfinite"].numel()
    found = [*_outside(positions, kernel), *_nonfinite(stats, steps), *_acceptance(stats, kernel)]
    return [*found, *_mixing(_some(positions), positions.shape, thin)]


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


def _acceptance(stats: dict[str, Tensor], kernel: Kernel) -> Iterator[str]:
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
    elif mean > 1 - (1 - target) / 4:
        yield (
            f"acceptance is {mean:.3f}, {kernel.name} works best near {target:g}, so its moves are needlessly short; "
            f"raise step_size{step} or raise num_warmup so that it is tuned"
        )


def _mixing(some: Tensor, shape: torch.Size, thin: int) -> Iterator[str]:
    draws, chains, dim = shape
    many = chains >= MANY
    checks = [(rhat(some), RHAT_LIMIT_OF_MANY if many else RHAT_LIMIT, f"R-hat of {chains} chains")]
    if many:
        checks.append((rhat(_pooled(some)), RHAT_LIMIT, f"R-hat of {chains} chains pooled into four"))
    for values, limit, name in checks:
        worst = int(values.nan_to_num(-1.0).argmax())
        if not float(values[worst]) <= limit and not math.isnan(float(values[worst])):
            bad = int((values > limit).sum())
            yield (
                f"{name} is {float(values[worst]):.3f} for x[{worst}] and above {limit} for {bad} of {dim} "
                "coordinates: they disagree, or still drift from where they started; raise num_warmup and the number of "
                f"draws per chain (now {draws}), and if that does not help the law has separate modes or needs another mirror_map"
            )
            return
    ess = effective_sample_size(some)
    worst = int(ess.nan_to_num(math.inf).argmin())
    value, total = float(ess[worst]), draws * chains
    if value < min(LEAST_ESS, total / 4) or value < LEAST_SHARE * total:
        yield (
            f"x[{worst}] has about {value:.0f} effective draws of {total}; raise the number of draws, "
            f"thin (now {thin}), or num_warmup for a better step_size and scale"
        )


def _some(positions: Tensor) -> Tensor:
    """Evenly spaced draws, and chains if there are still too many, up to about a million values."""
    draws, chains, _ = positions.shape
    every = max(1, min(draws // _LEAST_DRAWS, math.ceil(positions.numel() / _VALUES)))
    part = positions[::every]
    apart = max(1, min(chains // 32, math.ceil(part.numel() / _VALUES)))
    return part[:, ::apart]


def _pooled(positions: Tensor) -> Tensor:
    """Chains in four groups; time runs first, so that halves in time stay halves."""
    _, chains, dim = positions.shape
    return positions[:, : chains - chains % 4].reshape(-1, 4, dim)
