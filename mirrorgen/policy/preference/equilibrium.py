"""The equilibrium of a regularised preference game by Newton's method, which no learning algorithm shares."""

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError

__all__ = ["newton_equilibrium"]


def newton_equilibrium(
    preferences: Tensor, log_reference: Tensor, beta: float, *, tolerance: float = 1e-13, iterations: int = 200
) -> Tensor:
    """``log pi = log ref + P pi / beta + c``, by damped Newton steps in the log-probabilities.

    Up to constants the equation reads ``theta = log ref + A softmax(theta) / beta`` with the antisymmetric
    ``A = P - 1/2``. The eigenvalues of its Jacobian have real part one, so that it is never singular and a decrease of
    the residual is always possible.

    Args:
        preferences: ``P``, ``(*batch, K, K)`` with ``P + P^T = 1``.
        log_reference: ``log ref``, broadcast against ``(*batch, K)``.
        beta: Weight of the reference, positive.
        tolerance: Largest norm of the residual, in units of preferences.
        iterations: Bound on the number of steps.

    Returns:
        ``log pi``, ``(*batch, K)``, in float64.

    Raises:
        ConvergenceError: If the bound is reached, with the residual.
    """
    antisymmetric = preferences.double() - 0.5
    reference = log_reference.double().expand(antisymmetric.shape[:-1])
    theta, scale = reference, torch.ones_like(reference[..., :1])
    residual = _residual(theta, reference, antisymmetric, beta)
    for _ in range(iterations):
        size = residual.norm(dim=-1, keepdim=True)
        if float(size.max()) * beta <= tolerance:
            return theta.log_softmax(-1)
        newton = torch.linalg.solve(_jacobian(theta, antisymmetric, beta), -residual)
        # Twice the step that was accepted last, halved in the rows where the residual would not shrink.
        scale = (2 * scale).clamp_max(1.0)
        for _ in range(40):
            trial = theta + scale * newton
            new = _residual(trial, reference, antisymmetric, beta)
            worse = ~(new.norm(dim=-1, keepdim=True) <= (1 - 1e-4 * scale) * size)
            if not bool((worse & (size * beta > tolerance)).any()):
                break
            scale = torch.where(worse, scale / 2, scale)
        theta, residual = trial, new
    worst = float(residual.norm(dim=-1).max()) * beta
    raise ConvergenceError(f"no equilibrium after {iterations} steps; residual {worst:.1e}; raise beta", worst)


def _residual(theta: Tensor, reference: Tensor, antisymmetric: Tensor, beta: float) -> Tensor:
    return theta - reference - (antisymmetric @ theta.softmax(-1).unsqueeze(-1)).squeeze(-1) / beta


def _jacobian(theta: Tensor, antisymmetric: Tensor, beta: float) -> Tensor:
    p = theta.softmax(-1)
    slope = antisymmetric * p.unsqueeze(-2) - (antisymmetric @ p.unsqueeze(-1)) * p.unsqueeze(-2)
    return torch.eye(p.shape[-1], dtype=p.dtype, device=p.device) - slope / beta
