"""Entropic optimal transport, batched and differentiable."""

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError, DomainError
from mirrorgen.geometry.detached import detached_solve
from mirrorgen.numerics import eager_values
from mirrorgen.transport.newton import attach_derivatives, carries_derivatives, gibbs
from mirrorgen.transport.problem import Problem, centered, check_on_failure, marginal_error, positive, transport_problem
from mirrorgen.transport.result import TransportResult
from mirrorgen.transport.solver import METHODS, Settings, solve_potentials

__all__ = ["sinkhorn"]


def sinkhorn(
    cost: Tensor,
    mu: Tensor | None = None,
    nu: Tensor | None = None,
    *,
    epsilon: float | Tensor = 0.05,
    tolerance: float | Tensor = 1e-9,
    max_iterations: int = 10_000,
    method: str = "newton",
    scaling: float | None = 0.25,
    on_failure: str = "raise",
) -> TransportResult:
    """``min <C, P> + eps sum_ij P_ij (log P_ij - 1)`` over plans with ``P 1 = mu`` and ``P^T 1 = nu``.

    The solution is ``P_ij = exp((f_i + g_j - C_ij) / eps)``. Sinkhorn's iteration sets rows right, then columns, until
    the marginals hold within ``tolerance`` of the mass. It runs in float64 for every dtype of the input.

    - ``method="log"``: every half step takes logarithms; Sinkhorn's algorithm as it stands, the reference.
    - ``method="absorbed"``: half steps are products with a kernel into which the potentials are absorbed, again and
      again before anything over- or underflows. Near the solution they are overrelaxed, which leaves about the root
      of the number of iterations.
    - ``method="newton"``: absorbed, with damped Newton steps on ``g`` where many iterations would be left even so, at
      small ``epsilon``.

    Derivatives with respect to cost, marginals and ``epsilon`` are those of the exact solution (implicit function
    theorem), of first to third order, in reverse and forward mode and under ``torch.func``. Marginals stay of one mass:
    derivatives along changes of the total mass of one of them mean nothing. They cost two solves with a matrix of
    ``min(n, m)`` rows whatever the number of iterations.

    Args:
        cost: ``C``, ``(*batch, n, m)``, finite.
        mu: Row sums ``(*batch, n)``, positive; uniform with mass one if None.
        nu: Column sums ``(*batch, m)``, positive, with the mass of ``mu``; uniform if None.
        epsilon: Weight of the entropy, one number or ``(*batch)``.
        tolerance: Violation over the mass at which a problem is done, one number or ``(*batch)``.
        max_iterations: Bound for each problem.
        method: ``"newton"``, ``"absorbed"`` or ``"log"``.
        scaling: Factor between 0 and 1 by which ``epsilon`` shrinks from the spread of the cost to its value, each
            stage starting where the last one ended; None to start at the value.
        on_failure: ``"raise"``, or return problems that did not converge as ``"nan"``, or ``"keep"`` their last
            iterate, whose ``error`` says how far it is.

    Raises:
        ConvergenceError: If a problem has not converged at the bound and ``on_failure="raise"``.
        DomainError: If a cost or marginal is not finite, a marginal has an entry without mass, masses differ, or an
            argument is out of range.
        ShapeError: If shapes do not fit.

    Sources: Cuturi, "Sinkhorn Distances: Lightspeed Computation of Optimal Transport", 2013; Schmitzer, "Stabilized
    Sparse Scaling Algorithms for Entropy Regularized Transport Problems", 2019; Brauer, Clason, Lorenz, Wirth, "A
    Sinkhorn-Newton Method for Entropic Optimal Transport", 2017.
    """
    if method not in METHODS:
        raise DomainError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if scaling is not None and not 0 < scaling < 1:
        raise DomainError(f"scaling must be between 0 and 1, or None, got {scaling}")
    if max_iterations < 1:
        raise DomainError(f"max_iterations must be at least 1, got {max_iterations}")
    check_on_failure(on_failure)
    problem = transport_problem(cost, mu, nu)
    batch = problem.mu.shape[:-1]
    eps, limit = (positive(v, k, problem.mu, batch) for v, k in ((epsilon, "epsilon"), (tolerance, "tolerance")))
    turned = problem.cost.shape[-2] < problem.cost.shape[-1]
    # The Newton system has one row per column of the plan: the shorter side.
    view = Problem(problem.cost.mT, problem.nu, problem.mu) if turned else problem
    f, g, iterations = _solve(view, eps, limit, Settings(method, max_iterations, scaling))
    if carries_derivatives(*view, eps):
        f, g = attach_derivatives(view, eps, f, g)
    f, g = (g, f) if turned else (f, g)
    return _finish(problem, eps, limit, f, g, iterations, cost.dtype, on_failure)


def _solve(problem: Problem, epsilon: Tensor, tolerance: Tensor, settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """``solve_potentials`` on any batch: one packed tensor goes in and one comes out, where ``vmap`` maps it."""
    n, m = problem.cost.shape[-2:]
    if eager_values(*problem, epsilon):
        with torch.no_grad():
            f, g, used = _solve_flat(Problem(*(t.detach() for t in problem)), epsilon.detach(), tolerance, settings)
        return f, g, used.squeeze(-1).to(torch.int64)

    def solver(packed: Tensor) -> Tensor:
        cost, row, column, corner = packed[..., :n, :m], packed[..., :n, m], packed[..., n, :m], packed[..., n, m]
        return torch.cat(_solve_flat(Problem(cost, row, column), corner, tolerance, settings), -1)

    upper = torch.cat([problem.cost, problem.mu.unsqueeze(-1)], -1)
    lower = torch.cat([problem.nu, epsilon.unsqueeze(-1)], -1)
    solved = detached_solve(solver, torch.cat([upper, lower.unsqueeze(-2)], -2))
    f, g, used = solved.split([n, m, 1], -1)
    return f, g, used.squeeze(-1).to(torch.int64)


def _solve_flat(
    problem: Problem, epsilon: Tensor, tolerance: Tensor, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """As ``solve_potentials`` on any batch; iterations as ``(*batch, 1)``."""
    batch = problem.cost.shape[:-2]
    flat = Problem(*(t.reshape(-1, *t.shape[len(batch) :]) for t in problem))
    limit = tolerance.detach().expand(batch).reshape(-1)
    f, g, used = solve_potentials(flat, epsilon.reshape(-1), limit, settings)
    return f.reshape(*batch, -1), g.reshape(*batch, -1), used.reshape(*batch, 1)


def _finish(
    problem: Problem,
    epsilon: Tensor,
    tolerance: Tensor,
    f: Tensor,
    g: Tensor,
    iterations: Tensor,
    dtype: torch.dtype,
    on_failure: str,
) -> TransportResult:
    """The plan and its error, after the gauge ``<nu, g> = 0``; failures as asked."""
    f, g = centered(f, g, problem.nu)
    plan = gibbs(problem.cost, f, g, epsilon)
    error = marginal_error(plan, problem.mu, problem.nu).detach()
    failed = _failed(problem, epsilon.detach(), tolerance.detach(), error)
    if on_failure == "raise" and eager_values(failed) and bool(failed.any()):
        worst = float(error.amax())
        raise ConvergenceError(
            f"{int(failed.sum())} of {failed.numel()} problems stopped after {int(iterations.amax())} iterations with "
            f"marginal violation {worst:.2e}; raise epsilon, tolerance or max_iterations, or pass on_failure='keep'",
            worst,
        )
    if on_failure == "nan":
        plan = torch.where(failed[..., None, None], torch.nan, plan)
        f, g = (torch.where(failed.unsqueeze(-1), torch.nan, t) for t in (f, g))
    plan, f, g, error = (t.to(dtype) for t in (plan, f, g, error))
    return TransportResult(plan, f, g, error, iterations)


def _failed(problem: Problem, epsilon: Tensor, tolerance: Tensor, error: Tensor) -> Tensor:
    """Where the error exceeds the tolerance and what rounding of the exponents alone explains."""
    failed = ~(error <= tolerance)
    if eager_values(failed) and not bool(failed.any()):
        return failed
    size = problem.cost.detach().flatten(-2).abs().amax(-1) / epsilon.detach()
    return ~(error <= tolerance + 8 * torch.finfo(epsilon.dtype).eps * (1 + size))
