"""Shared by these scripts: one way to run every method, and to draw what it found."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import torch
from classical import moving_asymptotes, optimality_criterion
from report import COLORS, clean, figure, options, save, show, write_csv
from structures import Structure
from torch import Tensor

from mirrorgen.numerics import bisect_then_newton
from mirrorgen.optim import SiMPL

__all__ = [
    "COLORS", "METHODS", "Trace", "clean", "draw_design", "figure", "options", "run", "save", "show", "summary",
    "write_csv",
]  # fmt: skip

METHODS = ("OC", "MMA", "SiMPL-A", "SiMPL-B")


@dataclass
class Trace:
    """The course of a run by accepted designs, and where it ended.

    Attributes:
        solves: Finite-element solves until the value was known.
        values: Of the function.
        residuals: Projected gradients, see ``projected_gradient``.
        volumes: Shares of the whole volume.
    """

    method: str
    design: Tensor
    solves: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    residuals: list[float] = field(default_factory=list)
    volumes: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def monotone(self) -> bool:
        return all(b <= a for a, b in pairwise(self.values))

    def solves_to(self, goal: float) -> int | str:
        """Solves until a value of at most ``goal`` was known; empty if it never was."""
        return next((s for s, v in zip(self.solves, self.values, strict=True) if v <= goal), "")

    def solves_to_residual(self, goal: float) -> int | str:
        return next((s for s, r in zip(self.solves, self.residuals, strict=True) if r <= goal), "")


def projected_gradient(design: Tensor, gradient: Tensor, weights: Tensor, structure: Structure) -> float:
    """Root mean square of ``P(x - g / w) - x``, ``P`` the Euclidean projection onto densities of this volume.

    Zero where the conditions of Karush, Kuhn and Tucker hold, and at no other point: unlike a measure in the geometry
    of the logits it sees densities at a bound that they should leave. Where less volume is allowed, the projection is
    onto densities of at most the whole of it.
    """
    free = torch.ones_like(design, dtype=torch.bool) if structure.solid is None else ~structure.solid
    x, w = design[free], weights[free]
    target = x - gradient[free] / w
    total = structure.fraction * weights.sum() - weights[~free].sum() if structure.at_most else (w * x).sum()

    def excess(c: Tensor) -> tuple[Tensor, Tensor]:
        moved = target + c
        inside = (moved > 0) & (moved < 1)
        return (w * moved.clamp(0, 1)).sum() - total, (w * inside).sum().clamp_min(1e-300)

    reach = torch.stack([target.min(), target.max()])
    shift = bisect_then_newton(excess, -reach[1], 1 - reach[0], iterations=100)
    shift = shift.clamp_max(0.0) if structure.at_most else shift
    return float(((target + shift).clamp(0, 1) - x).square().mean().sqrt())


def run(
    method: str,
    structure: Structure,
    iterations: int,
    *,
    weights: Tensor | None = None,
    start: Tensor | None = None,
    step_size: float = 1.0,
    move: float = 0.2,
) -> Trace:
    """``iterations`` steps of a method; the start counts as one solve."""
    start = structure.start() if start is None else start
    weights = torch.ones_like(start) if weights is None else weights
    seen: list[tuple[float, float]] = []
    pause = 0.0

    def function(design: Tensor) -> tuple[float, Tensor]:
        nonlocal pause
        value, gradient = structure(design)
        begin = time.process_time()
        seen.append((value, projected_gradient(design, gradient, weights, structure)))
        pause += time.process_time() - begin
        return value, gradient

    trace, begin = Trace(method, start), time.process_time()
    for design, solve in _accepted(method, function, structure, start, weights, iterations, step_size, move):
        trace.design = design
        trace.solves.append(solve)
        trace.values.append(seen[solve - 1][0])
        trace.residuals.append(seen[solve - 1][1])
        trace.volumes.append(float((weights * design).sum() / weights.sum()))
    trace.seconds = time.process_time() - begin - pause
    return trace


def _accepted(
    method: str, function: Callable, structure: Structure, start: Tensor, weights: Tensor, iterations: int,
    step_size: float, move: float,
) -> list[tuple[Tensor, int]]:  # fmt: skip
    """Designs with the number of the solve that gave their value."""
    if method.startswith("SiMPL"):
        criterion = "armijo" if method == "SiMPL-A" else "bregman"
        simpl = SiMPL(
            structure.fraction, weights, structure.solid, at_most=structure.at_most, criterion=criterion,
            step_size=step_size,
        )  # fmt: skip
        found: list[tuple[Tensor, int]] = []
        simpl.minimize(
            function, start, steps=iterations, objective_tolerance=0.0,
            callback=lambda step: found.append((step.design, step.evaluations)),
        )  # fmt: skip
        return found
    total = structure.fraction * float(weights.sum())
    if method == "OC":
        designs = optimality_criterion(function, start, weights, total, move)
    else:
        designs = moving_asymptotes(function, start, weights, total, move, structure.solid)
    return [(design, k + 1) for k, (design, _) in enumerate(islice(designs, iterations + 1))]


def summary(trace: Trace, fraction: float | None = None) -> dict[str, object]:
    """What tables say of every run; of volumes, where they have to be the fraction."""
    errors = [abs(v - fraction) for v in trace.volumes] if fraction else []
    volumes = {"volume error": errors[-1], "largest volume error": max(errors)} if fraction else {}
    return {
        "iterations": len(trace.values) - 1, "solves": trace.solves[-1], "value": trace.values[-1],
        "monotone": trace.monotone, **volumes, "residual": trace.residuals[-1], "seconds": trace.seconds,
    }  # fmt: skip


def draw_design(axis, structure: Structure, trace: Trace, title: str) -> None:
    """The density of a design."""
    axis.imshow(structure.density(trace.design).T, origin="lower", cmap="gray_r", vmin=0, vmax=1)
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])
