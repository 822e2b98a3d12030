"""The loop behind ``sinkhorn``: blocks of half steps, Newton steps where they help, and a cost that gets sharper."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mirrorgen.transport.newton import laplacian_solve, row_step
from mirrorgen.transport.problem import Problem
from mirrorgen.transport.scaling import scale_to

__all__ = ["METHODS", "Settings", "solve_potentials"]

METHODS = ("newton", "absorbed", "log")
# Marginal violation at which a stage of epsilon scaling hands over to the next.
_HANDOVER = 0.05
# The first stage's epsilon over the spread of the cost; above it there is nothing to gain from stages.
_COARSEST = 1 / 50
_FIRST_BLOCK, _LONGEST_BLOCK = 100, 400
# Newton steps are worth trying where at least so many iterations, and one per column, are still to come.
_NEWTON_WORTH = 100
# Lengths of a Newton step that are tried, each a quarter of the one before.
_BACKTRACKS = 5
# Entries of the costs that are worked on at a time on a processor.
_CACHED = 2**16


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
    """Problems in one stage; rows of ``plan`` sum to ``mu``, its columns to ``columns``."""

    index: Tensor
    problem: Problem
    epsilon: Tensor
    tolerance: Tensor
    g: Tensor
    f: Tensor
    plan: Tensor
    columns: Tensor
    error: Tensor
    used: Tensor

    @classmethod
    def start(cls, problem: Problem, epsilon: Tensor, tolerance: Tensor, g: Tensor) -> "_Rows":
        index = torch.arange(len(g), device=g.device)
        rows = cls(index, problem, epsilon, tolerance, g, g, problem.cost, g, epsilon, torch.zeros_like(epsilon))
        rows.move(g)
        return rows

    def move(self, g: Tensor) -> None:
        """Replace ``g`` and what follows from it."""
        self.g = g
        self.f, self.plan = row_step(self.problem.cost, g, self.epsilon, self.problem.mu)
        self.columns = self.plan.sum(-2)
        self.error = (self.problem.nu - self.columns).abs().sum(-1) / self.problem.nu.sum(-1)

    def done(self) -> Tensor:
        return self.error <= self.tolerance

    def count(self, made: float | Tensor) -> None:
        """Charge iterations to the problems that still need them."""
        self.used = torch.where(self.done(), self.used, self.used + made)

    def dual(self) -> Tensor:
        """``<f, mu> + <g, nu>``, the dual value up to a constant where rows are exact."""
        return (self.f * self.problem.mu).sum(-1) + (self.g * self.problem.nu).sum(-1)

    def take(self, other: "_Rows", where: Tensor) -> None:
        """Adopt the iterates of ``other`` for some of the problems."""
        if bool(where.all()):
            self.f, self.g, self.plan, self.columns, self.error = (
                other.f, other.g, other.plan, other.columns, other.error,
            )  # fmt: skip
            return
        vector, matrix = where.unsqueeze(-1), where[:, None, None]
        self.f, self.g = torch.where(vector, other.f, self.f), torch.where(vector, other.g, self.g)
        self.plan = torch.where(matrix, other.plan, self.plan)
        self.columns = torch.where(vector, other.columns, self.columns)
        self.error = torch.where(where, other.error, self.error)

    def select(self, keep: Tensor) -> "_Rows":
        """Copies of some of the problems."""
        parts = (self.epsilon, self.tolerance, self.g, self.f, self.plan, self.columns, self.error, self.used)
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
    size = len(epsilon)
    if problem.cost.device.type == "cpu":
        # As many problems at a time as the cache of a core holds.
        size = max(1, min(size, _CACHED // problem.cost[0].numel()))
    parts = zip(*(t.split(size) for t in (*problem, epsilon, tolerance)), strict=True)
    solved = [_solve_part(Problem(c, mu, nu), eps, limit, settings) for c, mu, nu, eps, limit in parts]
    f, g, iterations = (torch.cat(t) for t in zip(*solved, strict=True))
    return f, g, iterations


def _solve_part(
    problem: Problem, epsilon: Tensor, tolerance: Tensor, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    g, iterations = torch.zeros_like(problem.nu), torch.zeros_like(epsilon)
    for level in _levels(problem.cost, epsilon, settings.scaling):
        _, g, used = _stage(problem, level, tolerance.clamp_min(_HANDOVER), settings, g)
        iterations += used
    f, g, used = _stage(problem, epsilon, tolerance, settings, g)
    return f, g, iterations + used


def _levels(cost: Tensor, epsilon: Tensor, scaling: float | None) -> list[Tensor]:
    """The larger ``epsilon`` of the stages before the last, from a share of the spread of the cost downwards."""
    if scaling is None:
        return []
    spread = cost.flatten(1).amax(-1) - cost.flatten(1).amin(-1)
    first = _COARSEST * spread
    steps = math.ceil(float((first / epsilon).clamp_min(1).log().amax()) / -math.log(scaling))
    return [torch.maximum(epsilon, first * scaling**k) for k in range(steps)]


def _stage(
    problem: Problem, epsilon: Tensor, tolerance: Tensor, settings: Settings, g: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Iterate from ``g`` until every problem is within its tolerance or the bound is reached."""
    rows = _Rows.start(problem, epsilon, tolerance, g)
    f, g, used = rows.f.clone(), rows.g.clone(), rows.used.clone()
    count, block = 0, _FIRST_BLOCK
    while True:
        done = rows.done()
        over = bool(done.all()) or count >= settings.max_iterations
        # Finished problems stay until half of them are: taking them out copies the others.
        if over or int(done.sum()) >= 0.5 * len(done):
            f[rows.index], g[rows.index], used[rows.index] = rows.f, rows.g, rows.used
            if over:
                return f, g, used
            rows = rows.select(~done)
        if settings.method == "newton" and count:
            count += 1
            if _newton_step(rows):
                continue
            block = min(2 * block, _LONGEST_BLOCK)
        count += _half_steps(rows, settings.method, max(1, min(block, settings.max_iterations - count)))


def _newton_step(rows: _Rows) -> bool:
    """A damped step for every unfinished problem; whether all of them took one.

    A length is accepted if it halves the violation, or if the dual value grows as Armijo asks.
    """
    problem, start = rows.problem, replace(rows)
    gap = problem.nu - rows.columns
    step = rows.epsilon.unsqueeze(-1) * laplacian_solve(rows.plan, gap, problem.mu, problem.nu)
    slope, dual = (gap * step).sum(-1), rows.dual()
    taken = rows.done()
    rows.count(1)
    for k in range(_BACKTRACKS):
        trial = replace(start)
        trial.move(start.g + 0.25**k * step)
        better = (trial.error <= 0.5 * start.error) | (trial.dual() >= dual + 0.1 * 0.25**k * slope)
        rows.take(trial, better & ~taken & (trial.error < torch.inf))
        taken = taken | better
        if bool(taken.all()):
            return True
    return False


def _half_steps(rows: _Rows, method: str, block: int) -> int:
    """A block of Sinkhorn iterations, one where sums have underflowed; how many."""
    problem, epsilon = rows.problem, rows.epsilon.unsqueeze(-1)
    if bool((rows.columns < 1e-30 * problem.nu).any()):
        # A column nobody wants yet: only logarithms see it. After this step all sums are within range.
        g, _ = row_step(problem.cost.mT, rows.f, rows.epsilon, problem.nu)
    elif method == "log":
        g = rows.g + epsilon * torch.log(problem.nu / rows.columns)
    else:
        patience = max(_NEWTON_WORTH, rows.g.shape[-1]) if method == "newton" else math.inf
        u, v, error, needed = scale_to(rows.plan, problem.mu, problem.nu, rows.tolerance, block, patience)
        rows.count(needed)
        # A relaxation that went astray leaves one plain iteration.
        fine = ((v > 0) & torch.isfinite(v)).all(-1) & ((u > 0) & torch.isfinite(u)).all(-1)
        error = torch.where(fine, error, torch.inf)
        g = rows.g + epsilon * torch.log(torch.where(fine.unsqueeze(-1), v, problem.nu / rows.columns))
        if bool((error <= rows.tolerance).all()):
            rows.f, rows.g, rows.error = rows.f + epsilon * torch.log(u), g, error
        else:
            rows.move(g)
        return int(needed.amax())
    rows.count(1)
    rows.move(g)
    return 1
