"""Exact plans by POT's network simplex method."""

import warnings

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError
from mirrorgen.transport.problem import centered, marginal_error, transport_problem
from mirrorgen.transport.result import TransportResult

__all__ = ["exact_plan"]


def exact_plan(
    cost: Tensor, mu: Tensor | None = None, nu: Tensor | None = None, *, max_iterations: int = 10_000_000
) -> TransportResult:
    """``min <C, P>`` over plans with ``P 1 = mu`` and ``P^T 1 = nu``, one problem after another on the processor.

    Plans of the linear programme are vertices and do not change under small changes of the cost: the result carries no
    derivatives. ``(plan * cost).sum((-2, -1))`` has the right one with respect to ``cost`` all the same, and ``f`` and
    ``g`` are those with respect to the marginals.

    Args:
        cost: ``C``, ``(*batch, n, m)``, finite.
        mu: Row sums ``(*batch, n)``, positive; uniform with mass one if None.
        nu: Column sums ``(*batch, m)``, positive, with the mass of ``mu``; uniform if None.
        max_iterations: Bound on the pivots of one problem.

    Returns:
        As ``sinkhorn``, with zeros for iterations, which are not reported.

    Raises:
        ConvergenceError: If the bound was reached.
        DomainError: If a cost or marginal is bad.
        ShapeError: If shapes do not fit.

    Source: Bonneel, van de Panne, Paris, Heidrich, "Displacement interpolation using Lagrangian mass transport", 2011;
    Flamary et al., "POT: Python Optimal Transport", 2021.
    """
    import ot

    problem = transport_problem(cost, mu, nu)
    batch, (n, m) = problem.cost.shape[:-2], problem.cost.shape[-2:]
    flat = [t.detach().cpu().double().reshape(-1, *t.shape[len(batch) :]).numpy() for t in problem]
    solved = []
    for c, a, b in zip(*flat, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # What they say is in the log, and raised below.
            plan, log = ot.emd(a, b, c, numItermax=max_iterations, log=True, check_marginals=False)
        if log["warning"] is not None:
            raise ConvergenceError(f"exact_plan: {log['warning']}; raise max_iterations or use sinkhorn")
        solved.append((plan, log["u"], log["v"]))
    plan, f, g = (torch.stack([torch.as_tensor(s[k]) for s in solved]).to(problem.cost) for k in range(3))
    plan, (f, g) = plan.reshape(*batch, n, m), centered(f.reshape(*batch, n), g.reshape(*batch, m), problem.nu)
    error = marginal_error(plan, problem.mu, problem.nu).detach()
    plan, f, g, error = (t.detach().to(cost.dtype) for t in (plan, f, g, error))
    return TransportResult(plan, f, g, error, torch.zeros(batch, dtype=torch.int64, device=cost.device))
