"""Elementary functions and root finders that stay accurate in floating point.

Everything here is batched, free of masked assignment, and differentiable unless a docstring says otherwise.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = [
    "bisect_then_newton",
    "check_finite",
    "eager_values",
    "inverse_cdf",
    "log1mexp",
    "log1p_gap",
    "monotone_root",
    "saturating_exp",
    "softplus",
    "softplus_inverse",
    "sqrt1p_square",
    "upcast",
    "xlogx",
    "xlogy",
]


def eager_values(*tensors: Tensor) -> bool:
    """Whether Python may branch on the values of ``tensors``.

    False while ``torch.compile`` traces and inside ``torch.func`` transforms, where values are symbolic.
    """
    if torch.compiler.is_compiling():
        return False
    return not any(torch._C._functorch.is_functorch_wrapped_tensor(t) for t in tensors)


def check_finite(value: Tensor) -> bool:
    """Whether every entry is finite; True without looking where values cannot be read."""
    return not eager_values(value) or bool(torch.isfinite(value).all())


def inverse_cdf(cumulative: Tensor, uniform: Tensor) -> Tensor:
    """The index ``(*batch)`` of the first of ``cumulative (*batch, K)`` sums above ``uniform`` times the last one.

    A draw from weights, whatever their sum, if ``uniform (*batch)`` is drawn from ``[0, 1)``: rounding of the sum
    leads to no index past the last.
    """
    level = (uniform * cumulative[..., -1]).unsqueeze(-1)
    return (cumulative <= level).sum(-1).clamp_max(cumulative.shape[-1] - 1)


def upcast(x: Tensor) -> Tensor:
    """``x`` in float64 where the device has it, else float32 (accelerators such as MPS)."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)


def xlogy(x: Tensor, y: Tensor) -> Tensor:
    """``x log y`` with ``0 log 0 = 0``."""
    return torch.special.xlogy(x, y)


def xlogx(x: Tensor) -> Tensor:
    """``x log x`` with ``0 log 0 = 0``."""
    return torch.special.xlogy(x, x)


def softplus(y: Tensor) -> Tensor:
    """``log(1 + e^y)``; ``torch.nn.functional.softplus`` is off by 2e-9 in float64 above its threshold."""
    return torch.logaddexp(y, torch.zeros_like(y))


def softplus_inverse(x: Tensor) -> Tensor:
    """``log(e^x - 1)`` for ``x > 0``, accurate for small and large ``x``."""
    return x + torch.log(-torch.expm1(-x))


def log1mexp(x: Tensor) -> Tensor:
    """``log(1 - e^-x)`` for ``x > 0`` (Maechler, "Accurately computing log(1 - exp(-|a|))", 2012)."""
    small = x < 0.6931471805599453
    near = torch.where(small, x, torch.ones_like(x))
    far = torch.where(small, torch.ones_like(x), x)
    return torch.where(small, torch.log(-torch.expm1(-near)), torch.log1p(-torch.exp(-far)))


def log1p_gap(u: Tensor) -> Tensor:
    """``u - log(1 + u) >= 0`` for ``u > -1``, by its series near zero, where the difference cancels.

    The building block of divergences of near points: the three-term definition loses every digit in
    float32 when the points are 1e-3 apart; this form keeps full relative accuracy.
    """
    near = u.abs() < 0.1
    small = torch.where(near, u, torch.zeros_like(u))
    terms = 16 if u.dtype == torch.float64 else 8
    series = torch.full_like(u, 1.0 / (terms + 1))
    for k in range(terms, 1, -1):
        series = 1.0 / k - small * series
    large = torch.where(near, torch.ones_like(u), u)
    return torch.where(near, small.square() * series, large - torch.log1p(large))


def sqrt1p_square(x: Tensor) -> Tensor:
    """``sqrt(1 + |x|^2)`` over the last axis, smooth at zero, in units of the largest entry: no square overflows."""
    peak = x.detach().abs().amax(-1).clamp_min(1.0)
    return peak * torch.sqrt(peak.reciprocal().square() + (x / peak.unsqueeze(-1)).square().sum(-1))


def saturating_exp(y: Tensor) -> Tensor:
    """``e^y``; where it overflows to infinity its derivative is zero, so that no gradient becomes NaN."""
    return torch.exp(torch.clamp(y, max=math.log(torch.finfo(y.dtype).max) + 1e-3))


def bisect_then_newton(
    function: Callable[[Tensor], tuple[Tensor, Tensor]],
    lower: Tensor,
    upper: Tensor,
    iterations: int = 64,
    start: Tensor | None = None,
) -> Tensor:
    """Root of a batched increasing scalar function on ``[lower, upper]``, safeguarded Newton.

    A Newton step is taken where it stays inside the bracket and is at most half as long as the step before, a
    bisection step elsewhere, so the worst case is bisection's and the end game is quadratic. Where values cannot be
    read, the iteration count is fixed, so that the function compiles and vmaps; elsewhere it ends when no row moves
    any more. Gradients do not flow; see ``monotone_root``.

    Args:
        function: ``t -> (f(t), f'(t))`` elementwise, with ``f`` non-decreasing.
        lower: Where ``f <= 0``.
        upper: Where ``f >= 0``.
        iterations: Largest number of steps.
        start: First iterate; the midpoint if None.

    Returns:
        The roots, the shape of ``lower``.
    """
    with torch.no_grad():
        t = 0.5 * (lower + upper) if start is None else start
        previous = upper - lower
        readable = eager_values(t, lower, upper)
        for left in range(iterations, 0, -1):
            value, slope = function(t)
            lower = torch.where(value <= 0, t, lower)
            upper = torch.where(value >= 0, t, upper)
            newton = t - value / slope
            # At the root steps are rounding noise and need not shrink: the last ones are Newton's in any case.
            fast = (newton - t).abs() <= 0.5 * previous if left > 8 else torch.ones_like(newton, dtype=torch.bool)
            new = torch.where((newton >= lower) & (newton <= upper) & fast, newton, 0.5 * (lower + upper))
            previous, t = (new - t).abs(), new
            # After a Newton step as short as this the next one is rounding noise; looking costs as much as half a step.
            if readable and left % 3 == 0 and bool((previous <= 1e-11 * (1 + t.abs())).all()):
                break
        return t


def monotone_root(
    function: Callable[[Tensor], tuple[Tensor, Tensor]],
    lower: Tensor,
    upper: Tensor,
    iterations: int = 64,
    start: Tensor | None = None,
) -> Tensor:
    """As ``bisect_then_newton``, with exact gradients of first, second and third order.

    Two Newton steps are replayed on the detached root: Newton's iteration doubles the order of contact,
    so one replayed step is exact to first derivatives only and two are exact to third (implicit function
    theorem). Derivatives with respect to whatever tensors ``function`` closes over are included.
    """
    root = bisect_then_newton(function, lower.detach(), upper.detach(), iterations, start).detach()
    for _ in range(2):
        value, slope = function(root)
        root = root - value / slope
    return root
