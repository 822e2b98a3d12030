"""Neumann heat kernels in one dimension, elementwise: log-density and score on intervals and on the half-line.

All functions broadcast their arguments and return the log-density ``log k(x | x_0)`` and its derivative in ``x``.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.numerics import upcast

__all__ = [
    "NEAR",
    "SWITCH",
    "Pair",
    "cosine_sum",
    "half_line",
    "image_sum",
    "interval",
    "interval_cosines",
    "interval_images",
    "log_image",
    "log_normal",
]

SWITCH = {torch.float64: 0.7, torch.float32: 0.55}
"""Ratio of ``sigma`` to the width from which on cosines take over from images."""

NEAR = {torch.float64: 0.22, torch.float32: 0.3}
"""Ratio of ``sigma`` to the width up to which rounding leaves nothing of all but the four nearest images."""

# Exponents of weights that are added to 1. What is smaller counts for nothing, products of two such weights are still
# normal numbers, and numbers that are not cost a processor a hundred times as much.
_LEAST = {torch.float64: -80.0, torch.float32: -40.0}


class Pair(NamedTuple):
    """Points of a closed interval, and their distances to its ends, none of which is one minus another.

    Attributes:
        x: End point.
        x_0: Starting point.
        a: ``x - low``.
        b: ``high - x``.
        a_0: ``x_0 - low``.
        b_0: ``high - x_0``.
        width: ``high - low``.
    """

    x: Tensor
    x_0: Tensor
    a: Tensor
    b: Tensor
    a_0: Tensor
    b_0: Tensor
    width: Tensor

    @classmethod
    def between(cls, low: Tensor, high: Tensor, x: Tensor, x_0: Tensor) -> "Pair":
        """Points of the interval from ``low`` to ``high``, all in one dtype."""
        return cls(x, x_0, x - low, high - x, x_0 - low, high - x_0, high - low)


def log_normal(x: Tensor, x_0: Tensor, sigma: Tensor) -> Tensor:
    """``-(x - x_0)^2 / (2 sigma^2) - log(sigma sqrt(2 pi))`` in float64, because its terms cancel each other."""
    spread = upcast(sigma)
    rate, peak = -0.5 / spread.square(), torch.log(spread) + 0.5 * math.log(2 * math.pi)
    return rate * (upcast(x) - upcast(x_0)).square() - peak


def _weight(exponent: Tensor) -> Tensor:
    # Never above 1: next to a wall a point may be outside by rounding, which e^(1 / sigma^2) would magnify.
    return torch.exp(torch.clamp(exponent, _LEAST[exponent.dtype], 0.0))


def log_image(product: Tensor) -> Tensor:
    """``log(1 + e^(-2 product))``: what a wall at distances ``a, a_0`` adds, ``product = a a_0 / sigma^2``."""
    return torch.log1p(_weight(-2 * product))


def half_line(a: Tensor, a_0: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The kernel of Brownian motion reflected at zero, for ``a, a_0 >= 0``.

    One image behind the wall is exact: ``log k = -(a - a_0)^2 / (2 sigma^2) - log(sigma sqrt(2 pi)) +
    log(1 + e^(-2 a a_0 / sigma^2))`` and ``dlog k / da = (a_0 tanh(a a_0 / sigma^2) - a) / sigma^2``, zero at the wall.
    """
    variance = sigma.square()
    product = a * a_0 / variance
    log_k = log_normal(a, a_0, sigma) + log_image(product)
    return log_k.to(a.dtype), (a_0 * torch.tanh(product) - a) / variance


def interval(points: Pair, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The kernel on an interval for every ``sigma``: images below ``SWITCH`` widths, cosines above.

    Both are evaluated, each on values of ``sigma`` that suit it, and no value is read. A caller who knows on which
    side of ``SWITCH`` all values lie calls that one.
    """
    limit = SWITCH[sigma.dtype] * points.width
    small = sigma < limit
    images = interval_images(points, torch.where(small, sigma, limit))
    cosines = interval_cosines(points, torch.where(small, limit, sigma))
    return torch.where(small, images[0], cosines[0]), torch.where(small, images[1], cosines[1])


def interval_images(points: Pair, sigma: Tensor, near: bool = False) -> tuple[Tensor, Tensor]:
    """The kernel on an interval as a sum over mirror images, see ``image_sum``."""
    total, score = image_sum(points, sigma, near)
    log_k = log_normal(points.x, points.x_0, sigma) + torch.log(total)
    return log_k.to(points.x.dtype), score


def image_sum(points: Pair, sigma: Tensor, near: bool = False) -> tuple[Tensor, Tensor]:
    """The sum over mirror images relative to the direct one, and the score, for ``sigma`` up to ``SWITCH`` widths.

    With the low end at 0 and width ``L``, images of ``x_0`` are at ``z = 2 k L + x_0`` (shifts) and ``2 k L - x_0``
    (mirrors). The direct one, ``x_0``, is the nearest to ``x``. Weights relative to it are at most 1 and known
    from the gaps without cancellation, ``u = x - x_0``::

        mirror at 0, at L:    e^(-2 a a_0 / sigma^2),           e^(-2 b b_0 / sigma^2)
        shifted by 2 L, -2 L: e^(-2 L (b + a_0) / sigma^2),     e^(-2 L (a + b_0) / sigma^2)
        log k = -u^2 / (2 sigma^2) - log(sigma sqrt(2 pi)) + log(1 + sum of weights)
        dlog k / dx = (-u + sum of weights times (z - x)) / (sigma^2 (1 + sum of weights))

    ``near`` stops there, with the nearer one of the shifts. What it leaves out weighs at most
    ``Q = e^(-2 L^2 / sigma^2)``: 1e-18 at ``0.22 L`` and 2e-10 at ``0.3 L``. Otherwise three images of each
    of the four families are summed, by their ratios; the first left out weighs ``Q^9``, 1e-16 at ``0.7 L``. In float32
    two are enough, which leaves out ``Q^4``, 3e-12 at ``0.55 L``.

    The sum of ``z - x`` is taken in two orders, of which one cancels exactly at the low wall and the other at the
    high one, and interpolated linearly: the score at a wall is zero, not a rounding error over ``sigma^2``.

    Passes over the points, making ``points`` included: 39 (``near``), of which 3 exponentials and 1 quotient; 94 with 6
    and 1 otherwise, 78 in float32. The log-density takes 9 more, 7 of them in float64.
    """
    _, _, a, b, a_0, b_0, width = points
    rate = -2 / sigma.square()
    # Products in this order are equal, not only close, for pairs of images that cancel at a wall.
    span = rate * width
    at_low, at_high = _weight(a * rate * a_0), _weight(b * rate * b_0)
    step, first, second = points.x - points.x_0, at_low * (a + a_0), at_high * (b + b_0)
    if near:
        total, rest = _nearer_shift(points, span, step)
    else:
        total, rest = _farther_images(points, span, at_low, at_high)
    total = total + at_low + at_high
    pull = torch.addcmul(b * ((second + rest) - (first + step)), a, (second - step) + (rest - first))
    return total, pull * (-0.5 * rate / width) / total


def _nearer_shift(points: Pair, span: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """One plus the weight of the shift to the side of ``x``, and its weight times ``z - x``."""
    gap = torch.minimum(points.b + points.a_0, points.a + points.b_0)
    weight = _weight(span * gap)
    return 1 + weight, torch.copysign(points.width + gap, step) * weight


def _farther_images(points: Pair, span: Tensor, at_low: Tensor, at_high: Tensor) -> tuple[Tensor, Tensor]:
    """One plus the weights of all images but the nearest mirrors, and the sum of their weights times ``z - x``.

    From one member of a family to the next the distance grows by ``2 L``, and the ratio of weights falls by ``Q^2``.
    The ratio begins at ``Q e^(-2 L (a + a_0) / sigma^2)`` for mirrors on the low side, and at ``Q^2`` times the
    first weight for shifts.
    """
    _, _, a, b, a_0, b_0, width = points
    low, high, up, down = a + a_0, b + b_0, b + a_0, a + b_0
    shift_up, shift_down = _weight(span * up), _weight(span * down)
    once, twice = _weight(span * width), _weight(2 * span * width)
    total, pull = 1 + shift_up + shift_down, shift_up * (width + up) - shift_down * (width + down)
    floor = math.exp(_LEAST[a.dtype])
    for weight, ratio, distance, sign in (
        (at_low, once * _weight(span * low), low, -1),
        (at_high, once * _weight(span * high), high, 1),
        (shift_up, twice * shift_up, width + up, 1),
        (shift_down, twice * shift_down, width + down, -1),
    ):
        ratio = ratio + floor
        weight, distance = ratio * weight, distance + 2 * width
        if a.dtype == torch.float32:
            total, pull = total + weight, torch.addcmul(pull, weight, distance, value=sign)
            continue
        last = twice * ratio
        total = torch.addcmul(total + weight, weight, last)
        pull = torch.addcmul(pull, weight, torch.addcmul(distance, last, distance + 2 * width), value=sign)
    return total, pull


def interval_cosines(points: Pair, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The kernel on an interval by eigenfunctions, see ``cosine_sum``."""
    excess, score = cosine_sum(points, sigma)
    return torch.log1p(excess) - torch.log(points.width), score


def cosine_sum(points: Pair, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """``k L - 1`` by eigenfunctions, and the score, for ``sigma`` from ``SWITCH`` widths on.

    With the low end at 0, width ``L`` and ``q = e^(-pi^2 sigma^2 / (2 L^2))``::

        k = (1 + 2 sum_n q^(n^2) cos(n pi x / L) cos(n pi x_0 / L)) / L

    Three terms; the first left out is ``2 q^16``, 3e-17 at ``0.7 L`` and 9e-11 at ``0.55 L``. In the variable
    ``cos(pi x / L)`` this is a polynomial of degree three, whose derivative gives the score. Half angles of both gaps
    give ``cos(pi x / L)`` and ``sin(pi x / L)``, which is zero at both walls and accurate next to them.

    Passes over the points, making ``points`` included: 43, of which 3 sines and cosines and 1 quotient. The log-density
    takes 2 more.
    """
    width = points.width
    half_turn = 0.5 * math.pi / width
    low, high = torch.sin(half_turn * points.a), torch.sin(half_turn * points.b)
    x, y = (high - low) * (high + low), torch.cos(2 * half_turn * points.a_0)
    exponent = -2 * (half_turn * sigma).square()
    q, fourth, ninth = (2 * _weight(n * n * exponent) for n in (1, 2, 3))
    # q^(n^2) T_n(y) and then powers of x, with the Chebyshev polynomials T_n(cos t) = cos(n t).
    squared = y.square()
    second, third = fourth * (2 * squared - 1), ninth * y * (4 * squared - 3)
    linear, quadratic, cubic = q * y - 3 * third, 2 * second, 4 * third
    excess = x * (linear + x * (quadratic + x * cubic)) - second
    slope = linear + x * (2 * quadratic + x * (3 * cubic))
    score = low * high * slope * (-4 * half_turn) / (1 + excess)
    return excess, score
