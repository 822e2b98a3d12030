"""The standard normal law restricted to intervals, accurate however far out and however narrow they are."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mirrorgen.numerics import eager_values

__all__ = ["IntervalMoments", "interval_moments", "interval_quantile"]

_NODES, _WEIGHTS = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(64))
# Beyond this drop of the log-density the rest of an interval adds less than rounding.
_DROP = 42.0
# Beyond this many standard deviations the tail is solved for in logarithms.
_TAIL = 3.0


class IntervalMoments(NamedTuple):
    """Of a standard normal number given that it lies in an interval.

    Attributes:
        log_mass: Logarithm of the probability of the interval.
        mean: Conditional mean.
        variance: Conditional variance.
    """

    log_mass: Tensor
    mean: Tensor
    variance: Tensor


def interval_moments(low: Tensor, high: Tensor) -> IntervalMoments:
    """Mass and first two moments of ``N(0, 1)`` on ``(low, high)``, elementwise, in float64.

    Gauss-Legendre quadrature of 64 nodes around the point of the interval next to zero, over the part where the
    density is within ``e^-42`` of its largest value. Differences from that point are integrated, so that nothing
    cancels: the closed forms lose every digit of the variance from 1e4 standard deviations on.

    Args:
        low: Lower ends, ``-inf`` allowed.
        high: Upper ends, above ``low``, ``inf`` allowed.
    """
    low, high = torch.broadcast_tensors(low.double(), high.double())
    mode = torch.zeros_like(low).clamp(low, high)
    # Where mode * s + s^2 / 2 reaches the drop, on either side.
    reach = 2 * _DROP / (mode.abs() + torch.sqrt(mode.square() + 2 * _DROP))
    first, last = torch.maximum(low - mode, -reach), torch.minimum(high - mode, reach)
    half = 0.5 * (last - first)
    s = (0.5 * (first + last)).unsqueeze(-1) + half.unsqueeze(-1) * _NODES.to(low)
    weight = _WEIGHTS.to(low) * torch.exp(-(mode.unsqueeze(-1) * s + 0.5 * s.square()))
    total = weight.sum(-1)
    shift = (weight * s).sum(-1) / total
    variance = (weight * (s - shift.unsqueeze(-1)).square()).sum(-1) / total
    log_mass = torch.log(half * total) - 0.5 * mode.square() - 0.5 * math.log(2 * math.pi)
    return IntervalMoments(log_mass, mode + shift, variance)


def interval_quantile(u: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Where ``N(0, 1)`` restricted to ``(low, high)`` has mass ``u`` to the left, elementwise.

    An interval on the positive side is mirrored first. Then the smaller of the two tail masses of the answer is
    inverted, with the normal quantile function for ends within 3 standard deviations and by Newton's method on the
    logarithm of the tail beyond them, where masses underflow and differences of distribution functions cancel.

    Args:
        u: Numbers in ``[0, 1]``.
        low: Lower ends, ``-inf`` allowed.
        high: Upper ends, above ``low``, ``inf`` allowed.

    Returns:
        Points of ``[low, high]``.
    """
    flip = low > -high
    near, far = torch.where(flip, low, -high), torch.where(flip, high, -low)
    # Now the interval is (near, far) with |near| the smaller end; v is the mass to the right of the answer.
    v = torch.where(flip, 1 - u, u)
    tail = near > _TAIL
    t = _body_quantile(v, near.clamp_max(_TAIL), far)
    if not eager_values(tail) or bool(tail.any()):
        t = torch.where(tail, _tail_quantile(v, near.clamp_min(_TAIL), far), t)
    t = torch.maximum(torch.minimum(t, far), near)
    return torch.where(flip, t, -t)


def _body_quantile(v: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """``t`` with ``P(t < Z < far) = v P(near < Z < far)`` from masses, ``near <= 3``."""
    above, below = torch.special.ndtr(-far), torch.special.ndtr(near)
    mass = torch.where(near > 0, torch.special.ndtr(-near) - above, 1 - above - below)
    right, left = above + v * mass, below + (1 - v) * mass
    small = right < left
    t = torch.special.ndtri(torch.where(small, right, left))
    return torch.where(small, -t, t)


def _tail_quantile(v: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """As ``_body_quantile`` for ``near >= 3``: solve ``log(Q(near + s) / Q(near)) = log(share)`` for ``s``."""
    scaled_near = _mills(near)

    def log_share(s: Tensor) -> tuple[Tensor, Tensor]:
        ratio = _mills(near + s)
        return torch.log(ratio / scaled_near) - s * (near + 0.5 * s), ratio

    # share = v + (1 - v) Q(far) / Q(near), kept as a logarithm of a number in (0, 1].
    width = far - near
    at_far = torch.exp(log_share(torch.where(torch.isinf(width), 0.0, width))[0])
    at_far = torch.where(torch.isinf(width), 0.0, at_far)
    share = torch.log1p(-(1 - v) * (1 - at_far)).clamp_min(-700.0)
    # The exponential approximation of the tail with the curvature of its exponent; Newton on a concave function.
    s = -2 * share / (near + torch.sqrt(near.square() - 2 * share))
    for _ in range(3):
        value, ratio = log_share(s)
        s = s + (value - share) * ratio
    return near + s


def _mills(t: Tensor) -> Tensor:
    """Mills' ratio ``Q(t) / density(t)`` for ``t >= 0``."""
    return math.sqrt(math.pi / 2) * torch.special.erfcx(t / math.sqrt(2))
