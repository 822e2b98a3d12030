"""Proximal steps of Gaussian policies along quadratic critics; natural gradients as steps of Mahalanobis distances."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.geometry.gaussian_divergences import CholeskyGaussian, DiagonalGaussian
from mirrorgen.numerics import eager_values
from mirrorgen.policy.proximal import check_step, step_weights

__all__ = ["gaussian_proximal_step", "natural_gradient_step"]

Law = TypeVar("Law", DiagonalGaussian, CholeskyGaussian)


def gaussian_proximal_step(
    prior: Law,
    gradient: Tensor,
    *,
    step_size: float | Tensor,
    curvature: Tensor | None = None,
    magnet: Law | None = None,
    magnet_weight: float | Tensor = 0.0,
) -> Law:
    """``argmax_pi eta E_pi[<g, a> + a^T H a / 2] - KL(pi, prior) - eta alpha KL(pi, magnet)`` over Gaussians.

    Natural parameters mix linearly, as log-probabilities do in ``proximal_step``: the precision is
    ``(P + eta alpha P_magnet - eta H) / (1 + eta alpha)``, and so is ``precision mean`` with ``g`` for ``-H``. Solved
    in the coordinates where the prior is standard, as a change of the mean: short steps lose no digits.

    Args:
        prior: Mean and scale ``(*batch, d)``, the latter ``(*batch, d, d)`` for a full covariance.
        gradient: ``g``, slope of the critic at ``a = 0``, ``(*batch, d)``. From a slope at the mean subtract
            ``H mean``.
        step_size: ``eta >= 0``, one number or ``(*batch)``; infinite only with a positive weight.
        curvature: ``H``, symmetric: ``(*batch, d, d)``, its diagonal ``(*batch, d)`` for a diagonal prior. None for a
            linear critic.
        magnet: A law of the kind of the prior; None for the flat measure, which makes the weight an entropy bonus.
        magnet_weight: ``alpha >= 0``, one number or ``(*batch)``.

    Returns:
        The policy, of the kind of the prior.

    Raises:
        DomainError: If a number is out of range, or the new precision is not positive definite: the critic curves
            upwards by more than the prior holds. The message says which step is short enough.
        ShapeError: If shapes do not fit.

    Sources: Amari, "Natural Gradient Works Efficiently in Learning", 1998; Abdolmaleki, Lioutikov, Peters, Lau, Reis,
    Neumann, "Model-Based Relative Entropy Stochastic Search", 2015.
    """
    eta, alpha = (
        torch.as_tensor(v, dtype=prior.mean.dtype, device=prior.mean.device) for v in (step_size, magnet_weight)
    )
    if eager_values(prior.mean, eta, alpha):
        check_step(eta, alpha)
    if isinstance(prior, DiagonalGaussian):
        return _diagonal(prior, gradient, eta, curvature, magnet, alpha)
    return _full(prior, gradient, eta, curvature, magnet, alpha)


def natural_gradient_step(
    gradient: Tensor,
    metric: Tensor | Callable[[Tensor], Tensor],
    step_size: float | Tensor = 1.0,
    *,
    iterations: int | None = None,
    tolerance: float = 1e-10,
) -> Tensor:
    """``argmax_x eta <g, x> - x^T F x / 2 = eta F^-1 g``: the move of a proximal step with a Mahalanobis distance.

    Args:
        gradient: ``g (*batch, d)``.
        metric: ``F``, symmetric positive definite: a matrix ``(*batch, d, d)``, or for conjugate gradients a function
            of vectors ``(*batch, d)``: the product with a Fisher matrix that is never formed.
        step_size: ``eta``, one number or ``(*batch)``.
        iterations: Most products of the function with a vector; ``2 d`` if None.
        tolerance: Of ``|F x - g| / |g|`` for conjugate gradients.

    Returns:
        The move ``(*batch, d)``.

    Raises:
        DomainError: If the metric is not positive definite.
        ShapeError: If the shape of the matrix does not fit.
        ConvergenceError: If conjugate gradients are not there after all iterations.

    Sources: Kakade, "A Natural Policy Gradient", 2001; Schulman, Levine, Moritz, Jordan, Abbeel, "Trust Region Policy
    Optimization", 2015.
    """
    eta = torch.as_tensor(step_size, dtype=gradient.dtype, device=gradient.device)
    eta = eta.unsqueeze(-1) if eta.ndim else eta
    if not isinstance(metric, Tensor):
        return eta * _conjugate_gradients(metric, gradient, iterations or 2 * gradient.shape[-1], tolerance)
    if metric.shape[-2:] != (gradient.shape[-1],) * 2:
        raise ShapeError(f"metric must be (*batch, d, d) with d = {gradient.shape[-1]}, got {tuple(metric.shape)}")
    factor, info = torch.linalg.cholesky_ex(metric)
    if eager_values(info) and bool(info.any()):
        raise DomainError("the metric is not positive definite; add a multiple of the identity (damping)")
    return eta * torch.cholesky_solve(gradient.unsqueeze(-1), factor).squeeze(-1)


def _diagonal(
    prior: DiagonalGaussian,
    gradient: Tensor,
    eta: Tensor,
    curvature: Tensor | None,
    magnet: DiagonalGaussian | None,
    alpha: Tensor,
) -> DiagonalGaussian:
    """The step in every coordinate."""
    eta, alpha = (v.unsqueeze(-1) if v.ndim else v for v in (eta, alpha))
    kept, moved, pulled = step_weights(eta, alpha)
    variance = torch.exp(2 * prior.log_scale)
    bend = torch.zeros_like(gradient) if curvature is None else curvature
    if bend.shape[-1:] != prior.mean.shape[-1:] or gradient.shape[-1:] != prior.mean.shape[-1:]:
        raise ShapeError("a diagonal prior takes gradient and the diagonal of the curvature, (*batch, d) each")
    # Precision and slope at the prior's mean, both times the prior's variance.
    ratio = kept - moved * variance * bend
    slope = moved * variance * (gradient + bend * prior.mean)
    pull = torch.zeros_like(ratio)
    if magnet is not None:
        pull = torch.exp(2 * (prior.log_scale - magnet.log_scale))
        ratio, slope = ratio + pulled * pull, slope + pulled * pull * (magnet.mean - prior.mean)
    if eager_values(ratio) and not bool((ratio > 0).all()):
        raise _too_long(float((variance * bend - alpha * pull).max()))
    return DiagonalGaussian(prior.mean + slope / ratio, prior.log_scale - 0.5 * ratio.log())


def _full(
    prior: CholeskyGaussian,
    gradient: Tensor,
    eta: Tensor,
    curvature: Tensor | None,
    magnet: CholeskyGaussian | None,
    alpha: Tensor,
) -> CholeskyGaussian:
    """The step in the coordinates ``a = mean + L z``, where the prior is standard."""
    eta, alpha = (v[..., None, None] if v.ndim else v for v in (eta, alpha))
    kept, moved, pulled = step_weights(eta, alpha)
    L, d = prior.scale_tril, prior.mean.shape[-1]
    bend = torch.zeros_like(L) if curvature is None else curvature
    if bend.shape[-2:] != (d, d) or gradient.shape[-1] != d:
        raise ShapeError(f"a full prior takes a gradient (*batch, {d}) and a curvature (*batch, {d}, {d})")
    ratio = kept * torch.eye(d, dtype=L.dtype, device=L.device) - moved * (L.mT @ bend @ L)
    slope = moved * (L.mT @ (gradient.unsqueeze(-1) + bend @ prior.mean.unsqueeze(-1)))
    pull = torch.zeros_like(ratio)
    if magnet is not None:
        white = torch.linalg.solve_triangular(magnet.scale_tril, L, upper=False)
        gap = (magnet.mean - prior.mean).unsqueeze(-1)
        gap = torch.linalg.solve_triangular(magnet.scale_tril, gap, upper=False)
        pull = white.mT @ white
        ratio, slope = ratio + pulled * pull, slope + pulled * (white.mT @ gap)
    # ratio = U U^T with U upper triangular, so that L U^-T is lower triangular: the new scale.
    lower, info = torch.linalg.cholesky_ex(ratio.flip((-2, -1)))
    if eager_values(info) and bool(info.any()):
        raise _too_long(float(torch.linalg.eigvalsh(L.mT @ bend @ L - alpha * pull).max()))
    half = torch.linalg.solve_triangular(lower.flip((-2, -1)), slope, upper=True)
    scale = torch.linalg.solve_triangular(lower.flip((-2, -1)).mT, L, upper=False, left=False)
    return CholeskyGaussian(prior.mean + (scale @ half).squeeze(-1), scale)


def _too_long(largest: float) -> DomainError:
    # kept - moved times the largest eigenvalue has the sign of 1 - eta times it.
    fix = f"use a step_size below {1 / largest:.3g}" if largest > 0 else "use a finite step_size"
    return DomainError(f"the new precision is not positive definite: the critic curves upwards too much; {fix}")


def _conjugate_gradients(
    product: Callable[[Tensor], Tensor], gradient: Tensor, iterations: int, tolerance: float
) -> Tensor:
    """``x`` with ``product(x) = gradient``, every row of the batch its own problem."""
    x, residual, direction = torch.zeros_like(gradient), gradient, gradient
    square = residual.square().sum(-1, keepdim=True)
    goal = tolerance**2 * square
    for _ in range(iterations):
        active = square > goal
        if not bool(active.any()):
            return x
        image = product(direction)
        curvature = (direction * image).sum(-1, keepdim=True)
        if bool((active & ~(curvature > 0)).any()):
            raise DomainError("the metric is not positive definite along a direction; add damping to its product")
        # Rows that are there stay: their directions may be zero.
        length = torch.where(active, square / torch.where(active, curvature, 1.0), 0.0)
        x, residual = x + length * direction, residual - length * image
        new = residual.square().sum(-1, keepdim=True)
        direction = residual + torch.where(active, new / torch.where(active, square, 1.0), 0.0) * direction
        square = torch.where(active, new, square)
    if bool((square > goal).any()):
        worst = float((square / goal.clamp_min(torch.finfo(goal.dtype).tiny)).max().sqrt()) * tolerance
        raise ConvergenceError(
            f"conjugate gradients are at a relative residual of {worst:.2g}, not {tolerance:.2g}, after {iterations} "
            "products; allow more iterations or add damping",
            worst,
        )
    return x
