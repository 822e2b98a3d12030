"""Newton's method on the semi-dual of entropic transport: the end game of Sinkhorn's algorithm, and its derivatives.

With ``f`` eliminated by an exact row half step, ``g`` solves ``P(g)^T 1 = nu``. The derivative of the left-hand side is
``S / eps``, where ``S = diag(P^T 1) - P^T diag(1 / mu) P`` is the Laplacian of a weighted graph on the columns.
"""

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from mirrorgen.geometry.detached import detached_solve
from mirrorgen.numerics import eager_values
from mirrorgen.transport.problem import Problem

__all__ = ["attach_derivatives", "carries_derivatives", "gibbs", "laplacian_solve", "row_step"]


def carries_derivatives(*tensors: Tensor) -> bool:
    """Whether a derivative may be asked with respect to one of ``tensors``, in any mode."""
    if not eager_values(*tensors) or any(unpack_dual(t).tangent is not None for t in tensors):
        return True
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def gibbs(cost: Tensor, f: Tensor, g: Tensor, epsilon: Tensor) -> Tensor:
    """``P_ij = exp((f_i + g_j - C_ij) / eps)``; ``epsilon`` is ``(*batch)``."""
    exponent, width = f.unsqueeze(-1) + g.unsqueeze(-2), epsilon[..., None, None]
    if carries_derivatives(cost, f, g, epsilon):
        return torch.exp((exponent - cost) / width)
    return exponent.sub_(cost).div_(width).exp_()  # Fresh memory costs more than arithmetic.


def row_step(cost: Tensor, g: Tensor, epsilon: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """The ``f`` for which rows of ``gibbs`` sum to ``mu``, and that plan, for one exponential per entry.

    ``f = eps log mu - eps log sum_j exp((g_j - C_ij) / eps)``.
    """
    scaled = (g.unsqueeze(-2) - cost).div_(epsilon[..., None, None])
    peak = scaled.amax(-1, keepdim=True)
    plan = scaled.sub_(peak).exp_()
    total = plan.sum(-1)
    f = epsilon.unsqueeze(-1) * (torch.log(mu / total) - peak.squeeze(-1))
    return f, plan.mul_((mu / total).unsqueeze(-1))


def laplacian_solve(plan: Tensor, residual: Tensor, row_sums: Tensor, weights: Tensor) -> Tensor:
    """``S^-1 residual`` with ``<weights, solution> = 0``, for a residual ``(*batch, m)`` that sums to zero.

    Off-diagonal entries are weights of edges and the diagonal is their sum, which keeps the digits that
    ``diag(P^T 1) - W`` would lose. ``S`` has the constants as kernel; ``weights weights^T`` fixes the gauge. A ridge of
    a few units in the last place bounds the solution where the plan's graph falls apart, at small ``eps``.

    Args:
        plan: ``P``, ``(*batch, n, m)``.
        residual: Right-hand side.
        row_sums: ``P 1``.
        weights: Positive ``(*batch, m)``.
    """
    edges = plan.mT @ (plan / row_sums.unsqueeze(-1))
    edges = edges - torch.diag_embed(edges.diagonal(dim1=-2, dim2=-1))
    degrees = edges.sum(-1)
    gauge = weights / weights.sum(-1, keepdim=True).sqrt()
    matrix = torch.diag_embed(degrees) - edges + gauge.unsqueeze(-1) * gauge.unsqueeze(-2)
    ridge = 8 * torch.finfo(plan.dtype).eps * (degrees + plan.sum(-2)).detach()
    factor = torch.linalg.cholesky_ex(matrix + torch.diag_embed(ridge)).L
    right = residual.unsqueeze(-1)
    rough = torch.cholesky_solve(right, factor)
    # One round of refinement takes the ridge out again wherever the graph holds together.
    return (rough + torch.cholesky_solve(right - matrix @ rough, factor)).squeeze(-1)


def _frozen(x: Tensor) -> Tensor:
    """``x`` without derivatives of any order or kind."""
    return detached_solve(torch.clone, x)


def attach_derivatives(problem: Problem, epsilon: Tensor, f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """``f`` and ``g`` of a solution, unchanged, with exact derivatives of first to third order.

    Two Newton steps are replayed with differentiable operations, as in ``geometry.mirror_maps.newton``; here only
    their derivatives are kept, because next to a singular ``S`` their values would be rounding noise.

    Args:
        problem: What was solved; derivatives flow to its tensors and to ``epsilon``.
        epsilon: ``(*batch)``.
        f: Solution without derivatives ``(*batch, n)``.
        g: Solution without derivatives ``(*batch, m)``.
    """
    cost, mu, nu = problem
    for _ in range(2):
        plan = gibbs(cost, f, g, epsilon)
        # Elimination of f needs P 1 as it is: replacing it by mu would be wrong to second order.
        rows = plan.sum(-1)
        row_gap = (mu - rows) / rows
        residual = nu - plan.sum(-2) - (plan.mT @ row_gap.unsqueeze(-1)).squeeze(-1)
        step_g = laplacian_solve(plan, residual, rows, nu)
        step_f = row_gap - (plan @ step_g.unsqueeze(-1)).squeeze(-1) / rows
        step_f, step_g = (epsilon.unsqueeze(-1) * step for step in (step_f, step_g))
        f, g = f + (step_f - _frozen(step_f)), g + (step_g - _frozen(step_g))
    return f, g
