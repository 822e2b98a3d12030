"""Divergences between Gaussian distributions with diagonal or full covariance.

Every function is pure and reads ``D(p, q)``, ``kl`` with expectations under ``p``; batch axes broadcast, the event is
the last axis, and the result is the divergence of the joint law (summed over coordinates, never averaged).
Reverse divergences are obtained by swapping the arguments. Terms are non-negative and come from differences of
parameters, so that near distributions lose no digits.

References: M. Gil, F. Alajaji and T. Linder, "Renyi divergence measures for commonly used univariate continuous
distributions", 2013; T. van Erven and P. Harremoes, "Renyi divergence and Kullback-Leibler divergence", 2014.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.numerics import log1p_gap
from mirrorgen.special import expm1_gap

__all__ = [
    "CholeskyGaussian",
    "DiagonalGaussian",
    "gaussian_jeffreys",
    "gaussian_kl",
    "gaussian_renyi",
    "gaussian_tsallis_kl",
]


class CholeskyGaussian(NamedTuple):
    """``N(mean, L L^T)``: ``mean (..., d)`` and lower triangular ``scale_tril (..., d, d)``, positive diagonal."""

    mean: Tensor
    scale_tril: Tensor


class DiagonalGaussian(NamedTuple):
    """``N(mean, diag(exp(2 log_scale)))``, both ``(..., d)``."""

    mean: Tensor
    log_scale: Tensor

    def to_cholesky(self) -> CholeskyGaussian:
        """The same law with its scale as a matrix."""
        return CholeskyGaussian(self.mean, torch.diag_embed(torch.exp(self.log_scale)))


Gaussian = DiagonalGaussian | CholeskyGaussian


def gaussian_kl(p: Gaussian, q: Gaussian) -> Tensor:
    """``KL(p, q) = (tr(S_q^-1 S_p) - d - log det(S_q^-1 S_p) + |mean_p - mean_q|^2_(S_q^-1)) / 2``.

    Returns:
        ``(...)``, in O(d) operations if both are diagonal, O(d^3) otherwise.
    """
    if isinstance(p, DiagonalGaussian) and isinstance(q, DiagonalGaussian):
        shift = (p.mean - q.mean) * torch.exp(-q.log_scale)
        return 0.5 * (expm1_gap(2 * (p.log_scale - q.log_scale)) + shift.square()).sum(-1)
    excess, shift = _whitened(p, q)
    diagonal = torch.diagonal(excess, dim1=-2, dim2=-1)
    variance = log1p_gap(diagonal * (2 + diagonal)).sum(-1) + excess.tril(-1).square().sum((-2, -1))
    return 0.5 * (variance + shift.square().sum(-1))


def gaussian_jeffreys(p: Gaussian, q: Gaussian) -> Tensor:
    """``KL(p, q) + KL(q, p)``, symmetric, shape ``(...)``."""
    return gaussian_kl(p, q) + gaussian_kl(q, p)


def gaussian_renyi(p: Gaussian, q: Gaussian, alpha: float) -> Tensor:
    """Renyi's ``log(integral p^alpha q^(1-alpha)) / (alpha - 1)``.

    ``alpha |mean_p - mean_q|^2_(S^-1) / 2 - log(det S / (det S_p^(1-alpha) det S_q^alpha)) / (2 (alpha - 1))`` with
    ``S = alpha S_q + (1 - alpha) S_p``. ``alpha = 1`` is ``gaussian_kl``; 1/2 is twice Bhattacharyya's distance.

    Args:
        p: First Gaussian.
        q: Second Gaussian.
        alpha: Order, positive.

    Returns:
        ``(...)``; ``+inf`` where ``S`` is not positive definite, which needs ``alpha > 1``.

    Raises:
        DomainError: If ``alpha`` is not positive.
    """
    if not (math.isfinite(alpha) and alpha > 0):
        raise DomainError(f"alpha must be a positive number, got {alpha!r}")
    if alpha == 1:
        return gaussian_kl(p, q)
    if isinstance(p, DiagonalGaussian) and isinstance(q, DiagonalGaussian):
        return _diagonal_renyi(p, q, alpha)
    return _cholesky_renyi(p, q, alpha)


def gaussian_tsallis_kl(p: Gaussian, m: Gaussian, q: float) -> Tensor:
    """Tsallis relative entropy ``(integral p^q m^(1-q) - 1) / (q - 1)``; ``q = 1`` is ``gaussian_kl``.

    Returns:
        ``(...)``; ``+inf`` where ``gaussian_renyi`` is.

    Raises:
        DomainError: If ``q`` is not positive.
    """
    renyi = gaussian_renyi(p, m, q)
    return renyi if q == 1 else torch.expm1((q - 1) * renyi) / (q - 1)


def _whitened(p: Gaussian, q: Gaussian) -> tuple[Tensor, Tensor]:
    """``L_q^-1 L_p - I`` and ``L_q^-1 (mean_p - mean_q)``."""
    first = p.to_cholesky() if isinstance(p, DiagonalGaussian) else p
    second = q.to_cholesky() if isinstance(q, DiagonalGaussian) else q
    step = (first.mean - second.mean).unsqueeze(-1)
    solve = torch.linalg.solve_triangular
    excess = solve(second.scale_tril, first.scale_tril - second.scale_tril, upper=False)
    return excess, solve(second.scale_tril, step, upper=False).squeeze(-1)


def _diagonal_renyi(p: DiagonalGaussian, q: DiagonalGaussian, alpha: float) -> Tensor:
    """With ``t = log(variance_p / variance_q)``: ``S`` over ``q``'s variance is ``s = alpha + (1 - alpha) e^t``."""
    t, shift = 2 * (p.log_scale - q.log_scale), (p.mean - q.mean) * torch.exp(-q.log_scale)
    # The fraction s / max(1, e^t) neither overflows nor loses its sign.
    large = t > 0
    up, down = torch.where(large, torch.zeros_like(t), t), torch.where(large, t, torch.zeros_like(t))
    fraction = alpha * torch.exp(-down) + (1 - alpha) * torch.exp(up)
    finite = fraction > 0
    fraction = torch.where(finite, fraction, torch.ones_like(fraction))
    mean_term = alpha * shift.square() * torch.exp(-down) / fraction
    near = finite & (t.abs() < 0.25)
    small = torch.where(near & ((1 - alpha) * t > -0.5), t, torch.zeros_like(t))
    near = near & (small == t)
    close = expm1_gap(small) - log1p_gap((1 - alpha) * torch.expm1(small)) / (1 - alpha)
    apart = (torch.log(fraction) + down) / (1 - alpha) - t
    total = 0.5 * (mean_term + torch.where(near, close, apart)).sum(-1)
    return torch.where(finite.all(-1), total, torch.inf)


def _cholesky_renyi(p: Gaussian, q: Gaussian, alpha: float) -> Tensor:
    excess, shift = _whitened(p, q)
    eye = torch.eye(shift.shape[-1], dtype=shift.dtype, device=shift.device)
    ratio = eye + excess
    matrix = alpha * eye + (1 - alpha) * ratio @ ratio.mT
    finite = torch.linalg.cholesky_ex(matrix.detach()).info == 0
    factor = torch.linalg.cholesky_ex(torch.where(finite[..., None, None], matrix, eye)).L
    log_det = 2 * torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1)
    log_det_p = 2 * torch.log1p(torch.diagonal(excess, dim1=-2, dim2=-1)).sum(-1)
    solved = torch.linalg.solve_triangular(factor, shift.unsqueeze(-1), upper=False).squeeze(-1)
    total = 0.5 * (alpha * solved.square().sum(-1) + log_det / (1 - alpha) - log_det_p)
    return torch.where(finite, total, torch.inf)
