"""The loop behind ``sinkhorn``: blocks of half steps, Newton steps where they help, and a cost that gets sharper."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.transport.newton import laplacian_solve, row_step
from mirrorgen.transport.problem import Problem
from mirrorgen.transport.scaling import scale_to

__all__ = ["METHODS", "Settings", "solve_potentials"]

METHODS = ("newton", "absorbed", "log")
# Marginal violation at which a stage of epsilon scaling hands over to the next.
_HANDOVER = 0.05
_FIRST_BLOCK, _LONGEST_BLOCK = 10, 320


@dataclass(frozen=True)
class Settings:
    """How to iterate.

    Attributes:
        method: One of ``METHODS``.
        max_iterations: Bound on the iterations of a problem at its final ``epsilon``, and again on all stages before.
        scaling: Factor between the ``epsilon`` of successive stages, below one; None to begin at the final one.
    """

    method: str
    max_iterations: int
    scaling: float | None


@dataclass
class _Rows:
    """Unfinished problems in one stage; rows of ``plan`` sum to ``mu``."""

    index: Tensor
    problem: Problem
    epsilon: Tensor
    tolerance: Tensor
    g: Tensor
    f: Tensor
    plan: Tensor
    error: Tensor

    def column_gap(self) -> Tensor:
        return self.problem.nu - self.plan.sum(-2)

    def move(self, g: Tensor) -> None:
        """Replace ``g`` and what follows from it."""
        self.g = g
        self.f, self.plan = row_step(self.problem.cost, g, self.epsilon, self.problem.mu)
        self.error = self.column_gap().abs().sum(-1) / self.problem.mu.sum(-1)

    def select(self, keep: Tensor) -> "_Rows":
        parts = (self.epsilon, self.tolerance, self.g, self.f, self.plan, self.error)
        return _Rows(self.index[keep], Problem(*(t[keep] for t in self.problem)), *(t[keep] for t in parts))


def solve_potentials(
    problem: Problem, epsilon: Tensor, tolerance: Tensor, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """Potentials ``f``, ``g`` with rows exact and columns within ``tolerance``, and iterations made, ``(batch)``.

    Args:
        problem: One batch axis, no derivatives.
        epsilon: ``(batch)``.
        tolerance: ``(batch)``, of the column violation over the mass.
        settings: The method and its bounds.
    """
    # Minima of rows and columns go to the potentials: smaller numbers under the exponential have smaller rounding.
    low_f = problem.cost.amin(-1)
    cost = problem.cost - low_f.unsqueeze(-1)
    low_g = cost.amin(-2)
    cost = cost - low_g.unsqueeze(-2)
    centred = Problem(cost, problem.mu, problem.nu)
    g = torch.zeros_like(problem.nu)
    iterations = torch.zeros_like(epsilon)
    for level in _levels(cost, epsilon, settings.scaling):
        f, g, used = _stage(centred, level, tolerance.clamp_min(_HANDOVER), settings, g)
        iterations += used
    f, g, used = _stage(centred, epsilon, tolerance, settings, g)
    return f + low_f, g + low_g, iterations + used


def _levels(cost: Tensor, epsilon: Tensor, scaling: float | None) -> list[Tensor]:
    """The larger ``epsilon`` of the stages before the last, from the spread of the cost downwards."""
    if scaling is None:
        return []
    spread = cost.flatten(1).amax(-1)
    steps = math.ceil(float((spread / epsilon).clamp_min(1).log().amax()) / -math.log(scaling))
    return [torch.maximum(epsilon, spread * scaling**k) for k in range(1, steps)]


def _stage(
    problem: Problem, epsilon: Tensor, tolerance: Tensor, settings: Settings, g: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Iterate from ``g`` until every problem is within its tolerance or the bound is reached."""
    f, g, used = torch.zeros_like(problem.mu), g.clone(), torch.zeros_like(epsilon)
    rows = _Rows(torch.arange(len(g), device=g.device), problem, epsilon, tolerance, g, f, problem.cost, epsilon)
    rows.move(g)
    count, block = 0, _FIRST_BLOCK
    while True:
        done = ~(rows.error > rows.tolerance) if count < settings.max_iterations else torch.ones_like(rows.error) > 0
        if bool(done.any()):
            ended = rows.select(done)
            f[ended.index], g[ended.index], used[ended.index] = ended.f, ended.g, float(count)
            rows = rows.select(~done)
        if len(rows.index) == 0:
            return f, g, used
        if settings.method == "newton" and count:
            count += 1
            if bool(_newton_step(rows).all()):
                continue
            block = min(2 * block, _LONGEST_BLOCK)
        count += _half_steps(rows, settings.method, min(block, settings.max_iterations - count))


def _newton_step(rows: _Rows) -> Tensor:
    """A full step where it halves the violation; where it was taken."""
    step = rows.epsilon.unsqueeze(-1) * laplacian_solve(rows.plan, rows.column_gap(), rows.problem.mu, rows.problem.nu)
    f, g, plan, error = rows.f, rows.g, rows.plan, rows.error
    rows.move(g + step)
    better = rows.error <= 0.5 * error
    rows.f, rows.g = (torch.where(better.unsqueeze(-1), *pair) for pair in ((rows.f, f), (rows.g, g)))
    rows.plan = torch.where(better[:, None, None], rows.plan, plan)
    rows.error = torch.where(better, rows.error, error)
    return better


def _half_steps(rows: _Rows, method: str, block: int) -> int:
    """A block of Sinkhorn iterations, one where sums have underflowed; how many."""
    problem, columns = rows.problem, rows.plan.sum(-2)
    if bool((columns < 1e-30 * problem.nu).any()):
        # A column nobody wants yet: only logarithms see it. After this step all sums are within range.
        g, _ = row_step(problem.cost.mT, rows.f, rows.epsilon, problem.nu)
        rows.move(g)
        return 1
    epsilon = rows.epsilon.unsqueeze(-1)
    if method == "log":
        rows.move(rows.g + epsilon * torch.log(problem.nu / columns))
        return 1
    _, v, made = scale_to(rows.plan, problem.mu, problem.nu, rows.tolerance, block)
    rows.move(rows.g + epsilon * torch.log(v))
    return made
