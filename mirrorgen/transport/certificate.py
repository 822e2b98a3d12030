"""How far a plan is from optimal, without knowing the optimum."""

from typing import NamedTuple

from torch import Tensor

from mirrorgen.errors import ShapeError
from mirrorgen.transport.problem import transport_problem
from mirrorgen.transport.rounding import round_to_polytope

__all__ = ["DualCertificate", "dual_certificate", "duality_gap"]


class DualCertificate(NamedTuple):
    """A feasible point of the dual linear programme.

    Attributes:
        value: ``<f, mu> + <g, nu>``, a lower bound on ``<C, P>`` over all plans, ``(*batch)``.
        f: ``(*batch, n)``.
        g: ``(*batch, m)``, with ``f_i + g_j <= C_ij``.
    """

    value: Tensor
    f: Tensor
    g: Tensor


def dual_certificate(cost: Tensor, f: Tensor, mu: Tensor | None = None, nu: Tensor | None = None) -> DualCertificate:
    """The best feasible potentials that two c-transforms make of any ``f``.

    ``g_j = min_i (C_ij - f_i)``, then ``f_i = min_j (C_ij - g_j)``, which is nowhere smaller. The value bounds the
    optimum of transport from below whatever ``f`` is; near-optimal potentials make it tight. With the gradient of a
    convex function at a plan as the cost it bounds the decrease that is left (the gap of Frank and Wolfe).

    Args:
        cost: ``C``, ``(*batch, n, m)``.
        f: Potential of the rows ``(*batch, n)``, such as ``sinkhorn(...).f``.
        mu: Row sums; uniform with mass one if None.
        nu: Column sums; uniform with mass one if None.

    Returns:
        Value and potentials in the dtype of ``cost``; differentiable, with kinks.

    Raises:
        DomainError: If a cost or marginal is bad.
        ShapeError: If shapes do not fit.

    Source: Villani, "Topics in Optimal Transportation", 2003, on c-transforms.
    """
    problem = transport_problem(cost, mu, nu)
    if f.shape[-1:] != problem.mu.shape[-1:]:
        raise ShapeError(f"f must have shape (*batch, {problem.mu.shape[-1]}), got {tuple(f.shape)}")
    g = (problem.cost - f.to(problem.cost.dtype).unsqueeze(-1)).amin(-2)
    rows = (problem.cost - g.unsqueeze(-2)).amin(-1)
    value = (rows * problem.mu).sum(-1) + (g * problem.nu).sum(-1)
    return DualCertificate(*(t.to(cost.dtype) for t in (value, rows, g)))


def duality_gap(cost: Tensor, plan: Tensor, f: Tensor, mu: Tensor | None = None, nu: Tensor | None = None) -> Tensor:
    """``<C, round(P)> - dual value >= <C, round(P)> - optimum``, the most that a rounded plan can lose, ``(*batch)``.

    Args:
        cost: ``C``, ``(*batch, n, m)``.
        plan: ``P``, ``(*batch, n, m)``; rounded first, since plans off the polytope can cost less than the optimum.
        f: Potential of the rows.
        mu: Row sums; uniform with mass one if None.
        nu: Column sums; uniform with mass one if None.

    Raises:
        DomainError: If a cost or marginal is bad.
        ShapeError: If shapes do not fit.
    """
    problem = transport_problem(cost, mu, nu)
    rounded = round_to_polytope(plan.to(problem.cost.dtype), problem.mu, problem.nu)
    value = dual_certificate(problem.cost, f, problem.mu, problem.nu).value
    return ((rounded * problem.cost).sum((-2, -1)) - value).to(cost.dtype)
