"""Special functions of mirror maps: gaps of convex functions and dilogarithms.

A gap is the Bregman divergence of a function of one variable in a form without cancellation. Everything is
elementwise, differentiable to any order and free of branches on values.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mirrorgen.numerics import log1mexp, softplus

__all__ = [
    "entropy_gap",
    "expm1_gap",
    "fermi_dirac_integral",
    "li2_exp",
    "log_ratio",
    "power_gap",
    "power_terms",
    "remainder_integral",
    "tsallis_log",
]


# Gauss-Legendre nodes and weights of order 8 on [0, 1], by symmetry about 1/2.
_OFFSETS = (0.09171732124782490, 0.26276620495816450, 0.39833323870681336, 0.48014492824876810)
_HALF_WEIGHTS = (0.18134189168918100, 0.15685332293894365, 0.11119051722668724, 0.05061426814518813)


def _horner(u: Tensor, coefficients: list[float]) -> Tensor:
    value = torch.full_like(u, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = c + u * value
    return value


def expm1_gap(u: Tensor) -> Tensor:
    """``e^u - 1 - u >= 0``, by its series near zero, where the difference cancels."""
    near = u.abs() < 0.5
    small = torch.where(near, u, torch.zeros_like(u))
    large = torch.where(near, torch.ones_like(u), u)
    return torch.where(near, _expm1_gap_series(small), torch.expm1(large) - large)


def _expm1_gap_series(u: Tensor) -> Tensor:
    """``e^u - 1 - u`` for ``|u| < .5``, to the rounding of the dtype."""
    last = 16 if u.dtype == torch.float64 else 9
    return u.square() * _horner(u, [1.0 / math.factorial(k) for k in range(2, last)])


def power_gap(u: Tensor, a: float) -> Tensor:
    """``((1 + u)^a - 1 - a u) / (a (a - 1)) >= 0`` for ``u > -1``, continuous at ``a = 0`` and ``a = 1``.

    The Bregman divergence of ``t^a / (a (a - 1))`` between ``1 + u`` and 1, by its series near zero; ``a = 0`` gives
    ``u - log(1 + u)``, ``a = 1`` gives ``(1 + u) log(1 + u) - u``.
    """
    near = u.abs() < 0.3
    small = torch.where(near, u, torch.zeros_like(u))
    large = torch.where(near, torch.ones_like(u), u)
    coefficients = [0.5]
    for k in range(2, 30):
        coefficients.append(coefficients[-1] * (a - k) / (k + 1))
    log = torch.log1p(large)
    if a == 0:
        direct = large - log
    elif a == 1:
        direct = (1 + large) * log - large
    else:
        direct = (torch.expm1(a * log) - a * large) / (a * (a - 1))
    return torch.where(near, small.square() * _horner(small, coefficients), direct)


def power_terms(log_p: Tensor, log_q: Tensor, gap: Tensor, a: float) -> Tensor:
    """``q f(p / q)``, ``f(r) = (r^a - 1 - a (r - 1)) / (a (a - 1))``, from finite logarithms.

    ``gap = log_p - log_q`` comes separately because the caller may know it better than the difference; scaling
    both measures leaves it alone.

    Far from ``r = 1`` in the form that is continuous at ``a = 1`` or at ``a = 0``, whichever is nearer. Where a part
    overflows so does the sum, within a small factor: the value is infinite and its derivative zero.
    """
    limit = math.log(torch.finfo(gap.dtype).max) - 1
    largest = torch.maximum(torch.maximum(log_p, log_q), log_q + a * gap)
    overflows = (largest > limit) & (gap != 0)
    log_p, log_q, gap = (torch.where(overflows, 0.0, v).clamp(max=limit) for v in (log_p, log_q, gap))
    if a == 1:
        # In a quarter of the operations of the general form.
        return torch.where(overflows, torch.inf, _entropy_terms(log_p.exp(), log_q.exp(), -gap))
    near = gap.abs() < 0.25
    small = torch.where(near, gap, torch.zeros_like(gap))
    difference = _weighted_power(log_q, gap, 1.0)
    if a >= 0.5:
        far = (_weighted_power(log_p, gap, a - 1) - difference) / a
    else:
        far = (_weighted_power(log_q, gap, a) - difference) / (a - 1)
    value = torch.where(near, torch.exp(log_q) * power_gap(torch.expm1(small), a), far)
    return torch.where(overflows, torch.inf, value)


def _weighted_power(log_weight: Tensor, d: Tensor, s: float) -> Tensor:
    """``e^log_weight (e^(s d) - 1) / s``, and its limit ``e^log_weight d`` at ``s = 0``."""
    weight = torch.exp(log_weight)
    if s == 0:
        return weight * d
    mild = (s * d).abs() < 1
    inner = torch.expm1(torch.where(mild, s * d, torch.zeros_like(d)))
    return torch.where(mild, weight * inner, torch.exp(log_weight + s * d) - weight) / s


def log_ratio(p: Tensor, q: Tensor, step: Tensor | None = None) -> Tensor:
    """``log(p / q)`` of positive numbers, with full relative accuracy for near ones and without overflow.

    ``step = p - q`` may be passed by a caller who knows it better than the difference of rounded numbers.
    """
    step = p - q if step is None else step
    near = step.abs() < 0.5 * q
    return torch.where(near, torch.log1p(torch.where(near, step / q, 0.0)), torch.log(p) - torch.log(q))


def entropy_gap(p: Tensor, q: Tensor, step: Tensor | None = None) -> Tensor:
    """``p log(p / q) - p + q >= 0`` of positive numbers, elementwise, near or far.

    ``step = q - p`` may be passed as in ``log_ratio``.
    """
    return _entropy_terms(p, q, log_ratio(q, p, step))


def _entropy_terms(p: Tensor, q: Tensor, ratio: Tensor) -> Tensor:
    """``p log(p / q) - p + q`` from ``ratio = log(q / p)``."""
    near = ratio.abs() < 0.5
    close = p * _expm1_gap_series(torch.where(near, ratio, 0.0))
    return torch.where(near, close, q - p - p * ratio)


def tsallis_log(log_p: Tensor, q: float) -> Tensor:
    """``(p^(q-1) - 1) / (q - 1)``, the logarithm itself for ``q = 1``: up to a constant, the slope of ``sum p^q``.

    The potential is ``sum p^q / (q (q - 1))``, see ``geometry.divergences.tsallis_bregman``.
    """
    return log_p if q == 1 else torch.expm1((q - 1) * log_p) / (q - 1)


# B_2k / (2k + 1)!, k = 0 .. 9: u - u^2 / 4 + sum_k B_2k u^(2k+1) / (2k+1)! = Li2(1 - e^-u) for |u| < 2 pi.
_BERNOULLI = [1.0, 1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798]
_DEBYE = [b / math.factorial(2 * k + 1) for k, b in enumerate(_BERNOULLI)]


def _li2_of_expm1(u: Tensor) -> Tensor:
    """``Li2(1 - e^-u)`` for ``|u| <= log 2``, where ten terms of its Bernoulli series reach rounding."""
    return u * _horner(u.square(), _DEBYE) - 0.25 * u.square()


def fermi_dirac_integral(y: Tensor) -> Tensor:
    """``-Li2(-e^y)``, the integral of ``softplus`` from minus infinity to ``y``; relative accuracy for every ``y``.

    For ``y <= 0`` the dilogarithm's series in ``log(1 + e^y) <= log 2``; for ``y > 0`` the inversion formula
    ``Li2(-e^y) + Li2(-e^-y) = -pi^2 / 6 - y^2 / 2`` (Lewin, "Polylogarithms and Associated Functions", 1981).
    """
    positive = y > 0
    core = -_li2_of_expm1(-softplus(torch.where(positive, -y, y)))
    return torch.where(positive, math.pi**2 / 6 + 0.5 * y.square() - core, core)


def li2_exp(x: Tensor) -> Tensor:
    """``Li2(e^-x)`` for ``x > 0``, the integral of ``-log(1 - e^-s)`` from ``x`` to infinity.

    For ``x < log 2`` by Euler's reflection ``Li2(z) + Li2(1 - z) = pi^2 / 6 - log z log(1 - z)``.
    """
    near = x < math.log(2.0)
    small = torch.where(near, x, torch.ones_like(x))
    large = torch.where(near, torch.ones_like(x), x)
    reflected = math.pi**2 / 6 + small * log1mexp(small) - _li2_of_expm1(torch.where(near, x, torch.zeros_like(x)))
    return torch.where(near, reflected, _li2_of_expm1(-log1mexp(large)))


def remainder_integral(curvature: Callable[[Tensor], Tensor], start: Tensor, step: Tensor) -> Tensor:
    """``int_0^1 (1 - t) c(start + t step) dt`` by Gauss-Legendre quadrature of 8 nodes.

    With second derivatives ``c`` of ``f`` along ``step`` this is the remainder of Taylor's formula, which is the
    divergence of ``f``: exact to rounding where ``f`` bends over lengths no shorter than ``step``.

    Args:
        curvature: From points of the shape of ``start`` to values of any shape.
        start: Where ``t = 0``.
        step: To where ``t = 1``.
    """
    nodes = [(0.5 + side * offset, weight) for offset, weight in zip(_OFFSETS, _HALF_WEIGHTS, strict=True)
             for side in (-1, 1)]  # fmt: skip
    return torch.stack([weight * (1 - t) * curvature(start + t * step) for t, weight in nodes]).sum(0)
