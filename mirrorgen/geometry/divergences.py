"""Divergences between discrete distributions, from their log-probabilities.

Every function is pure, takes ``log_p`` and ``log_q`` of shape ``(..., K)`` whose batch axes broadcast, reduces the
last axis and reads ``D(p, q)``: the first argument is the one that expectations of ``kl`` are taken under. Pass
normalised log-probabilities (``log_softmax``), ``-inf`` for impossible outcomes: outcomes that both forbid
contribute nothing, an outcome that only one forbids contributes its exact limit, which may be ``+inf``. No value
is NaN, gradients are finite, and each term is non-negative, so that near distributions lose no digits. The terms
are those of the generalised divergences of positive measures, whose sums coincide for normalised arguments.

All but ``jensen_shannon`` and ``renyi`` are Bregman or f-divergences of the powers ``t^a / (a (a - 1))`` and share
one formula. References: A. Cichocki and S. Amari, "Families of alpha-, beta- and gamma-divergences", 2010;
L. Zhu, Z. Chen, M. Schlegel and M. White, "General Munchausen reinforcement learning with Tsallis
Kullback-Leibler divergence", 2023.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.special import power_terms

__all__ = [
    "alpha_divergence",
    "chi2",
    "jeffreys",
    "jensen_shannon",
    "kl",
    "renyi",
    "reverse_kl",
    "tsallis_bregman",
    "tsallis_kl",
]


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """``KL(p, q) = sum p log(p / q)``, the divergence of the negative entropy; ``+inf`` where ``p > 0 = q``."""
    return alpha_divergence(log_p, log_q, 1.0)


def reverse_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """``KL(q, p) = sum q log(q / p)``; ``+inf`` where ``q > 0 = p``."""
    return kl(log_q, log_p)


def jeffreys(log_p: Tensor, log_q: Tensor) -> Tensor:
    """``KL(p, q) + KL(q, p) = sum (p - q) log(p / q)``, symmetric."""
    return kl(log_p, log_q) + kl(log_q, log_p)


def alpha_divergence(log_p: Tensor, log_q: Tensor, alpha: float) -> Tensor:
    """``(sum p^alpha q^(1-alpha) - 1) / (alpha (alpha - 1))``, Cressie and Read's family.

    ``alpha = 1`` is ``kl``, 0 is ``reverse_kl``, 2 is half of ``chi2``, 1/2 is four times Hellinger's squared
    distance. ``D_alpha(p, q) = D_(1-alpha)(q, p)``.

    Args:
        log_p: Log-probabilities ``(..., K)``.
        log_q: Log-probabilities ``(..., K)``.
        alpha: Any real number.

    Returns:
        ``(...)``; ``+inf`` where ``p > 0 = q`` if ``alpha >= 1`` and where ``q > 0 = p`` if ``alpha <= 0``.

    Raises:
        ShapeError: If the last axes differ.
    """
    pair = _align(log_p, log_q)
    at_p_only = torch.exp(pair.log_p) / (1 - alpha) if alpha < 1 else torch.full_like(pair.log_p, torch.inf)
    at_q_only = torch.exp(pair.log_q) / alpha if alpha > 0 else torch.full_like(pair.log_q, torch.inf)
    first, second = pair.inside(pair.log_p), pair.inside(pair.log_q)
    inside = power_terms(first, second, first - second, alpha)
    return pair.total(inside, at_p_only, at_q_only)


def tsallis_kl(log_p: Tensor, log_q: Tensor, q: float) -> Tensor:
    """Tsallis relative entropy ``(sum p^q m^(1-q) - 1) / (q - 1)``, ``m = exp(log_q)``; ``q = 1`` is ``kl``.

    It equals ``q`` times ``alpha_divergence`` of order ``q``, and is not the Bregman divergence of Tsallis' entropy,
    which is ``tsallis_bregman``. The expectation of ``ln_q p - ln_q m`` under ``p`` is neither: it takes negative
    values.

    Raises:
        DomainError: If ``q`` is not positive.
    """
    return _positive(q, "q") * alpha_divergence(log_p, log_q, q)


def tsallis_bregman(log_p: Tensor, log_q: Tensor, q: float) -> Tensor:
    """Bregman divergence of ``sum x^q / (q (q - 1))``: ``sum (p^q - q p m^(q-1) + (q-1) m^q) / (q (q-1))``.

    ``m = exp(log_q)``. The divergence of ``TsallisEntropy`` for ``q < 1``; ``q = 1`` is ``kl``, 2 is half the squared
    Euclidean distance, 0 is Itakura-Saito's divergence.

    Returns:
        ``(...)``; ``+inf`` where ``p > 0 = m`` if ``q <= 1`` and where ``m > 0 = p`` if ``q <= 0``.
    """
    pair = _align(log_p, log_q)
    at_p_only = torch.exp(q * pair.log_p) / (q * (q - 1)) if q > 1 else torch.full_like(pair.log_p, torch.inf)
    at_q_only = torch.exp(q * pair.log_q) / q if q > 0 else torch.full_like(pair.log_q, torch.inf)
    # m^q f(p / m): the f-divergence's terms between measures scaled by m^(q-1).
    first, second = pair.inside(pair.log_p), pair.inside(pair.log_q)
    inside = power_terms(first + (q - 1) * second, q * second, first - second, q)
    return pair.total(inside, at_p_only, at_q_only)


def chi2(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Pearson's ``sum (p - q)^2 / q``; ``+inf`` where ``p > 0 = q``."""
    return 2 * alpha_divergence(log_p, log_q, 2.0)


def renyi(log_p: Tensor, log_q: Tensor, alpha: float) -> Tensor:
    """Renyi's ``log(sum p^alpha q^(1-alpha)) / (alpha - 1)`` of normalised arguments; ``alpha = 1`` is ``kl``.

    Args:
        log_p: Log-probabilities ``(..., K)``.
        log_q: Log-probabilities ``(..., K)``.
        alpha: Order, positive.

    Returns:
        ``(...)``; ``+inf`` for disjoint supports, and where ``p > 0 = q`` if ``alpha >= 1``.

    Raises:
        DomainError: If ``alpha`` is not positive.
    """
    if _positive(alpha, "alpha") == 1:
        return kl(log_p, log_q)
    excess = alpha * (alpha - 1) * alpha_divergence(log_p, log_q, alpha)
    pair = _align(log_p, log_q)
    # Far from equality the sum itself, in logarithms; an empty sum is replaced before its gradient is taken.
    overlap = pair.both.any(-1)
    exponent = torch.where(pair.both, alpha * pair.log_p + (1 - alpha) * pair.log_q, -torch.inf)
    log_sum = torch.logsumexp(torch.where(overlap.unsqueeze(-1), exponent, torch.zeros_like(exponent)), -1)
    near = excess.abs() < 0.5
    log_sum = torch.where(near, torch.log1p(torch.where(near, excess, torch.zeros_like(excess))), log_sum)
    infinite = ~overlap | (pair.p_only.any(-1) & (alpha > 1))
    return torch.where(infinite, torch.inf, log_sum / (alpha - 1))


def jensen_shannon(log_p: Tensor, log_q: Tensor) -> Tensor:
    """``(KL(p, m) + KL(q, m)) / 2`` with ``m = (p + q) / 2``: symmetric, at most ``log 2``, never infinite."""
    pair = _align(log_p, log_q)
    first, second = pair.inside(pair.log_p), pair.inside(pair.log_q)
    gap = first - second
    # log(p / m) from log(p / q), not from the difference of rounded logarithms.
    log_m = torch.logaddexp(first, second) - math.log(2.0)
    inside = power_terms(first, log_m, -_log_mean(-gap), 1.0) + power_terms(second, log_m, -_log_mean(gap), 1.0)
    log_two = math.log(2.0)
    return 0.5 * pair.total(inside, log_two * torch.exp(pair.log_p), log_two * torch.exp(pair.log_q))


def _log_mean(d: Tensor) -> Tensor:
    """``log((1 + e^d) / 2)``, accurate near zero."""
    positive = d > 0
    value = torch.log1p(0.5 * torch.expm1(torch.where(positive, -d, d)))
    return torch.where(positive, d + value, value)


def _positive(value: float, name: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise DomainError(f"{name} must be a positive number, got {value!r}")
    return value


class _Pair(NamedTuple):
    """Broadcast log-probabilities with ``-inf`` replaced by 0, and where which of them is positive."""

    log_p: Tensor
    log_q: Tensor
    p_only: Tensor
    q_only: Tensor
    both: Tensor

    def inside(self, value: Tensor) -> Tensor:
        """``value`` on the common support, 0 elsewhere, where an unused infinity would spoil gradients."""
        return torch.where(self.both, value, torch.zeros_like(value))

    def total(self, inside: Tensor, at_p_only: Tensor, at_q_only: Tensor) -> Tensor:
        outside = torch.where(self.p_only, at_p_only, torch.where(self.q_only, at_q_only, torch.zeros_like(inside)))
        return torch.where(self.both, inside, outside).sum(-1)


def _align(log_p: Tensor, log_q: Tensor) -> _Pair:
    for name, value in (("log_p", log_p), ("log_q", log_q)):
        if not value.is_floating_point() or value.ndim < 1:
            raise ShapeError(f"{name} must be a floating-point tensor of shape (..., K)")
    if log_p.shape[-1] != log_q.shape[-1]:
        raise ShapeError(f"log_p and log_q need equal last axes, got {log_p.shape[-1]} and {log_q.shape[-1]}")
    log_p, log_q = torch.broadcast_tensors(log_p, log_q)
    has_p, has_q = log_p != -torch.inf, log_q != -torch.inf
    first = torch.where(has_p, log_p, torch.zeros_like(log_p))
    second = torch.where(has_q, log_q, torch.zeros_like(log_q))
    return _Pair(first, second, has_p & ~has_q, has_q & ~has_p, has_p & has_q)
