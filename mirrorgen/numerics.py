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
    "entropy_gap",
    "expm1_gap",
    "fermi_dirac_integral",
    "li2_exp",
    "log1mexp",
    "log1p_gap",
    "log_ratio",
    "monotone_root",
    "power_gap",
    "power_terms",
    "saturating_exp",
    "softplus",
    "softplus_inverse",
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
    series = _horner(small, [1.0 / math.factorial(k) for k in range(2, 16)])
    return torch.where(near, small.square() * series, torch.expm1(large) - large)


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
    """``p log(p / q) - p + q >= 0`` of positive numbers, elementwise, near or far; ``step = q - p`` as in ``log_ratio``."""
    ratio = log_ratio(q, p, step)
    near = ratio.abs() < 0.5
    close = p * expm1_gap(torch.where(near, ratio, 0.0))
    return torch.where(near, close, q - p - p * ratio)


def saturating_exp(y: Tensor) -> Tensor:
    """``e^y``; where it overflows to infinity its derivative is zero, so that no gradient becomes NaN."""
    return torch.exp(torch.clamp(y, max=math.log(torch.finfo(y.dtype).max) + 1e-3))


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


def bisect_then_newton(
    function: Callable[[Tensor], tuple[Tensor, Tensor]],
    lower: Tensor,
    upper: Tensor,
    iterations: int = 64,
    start: Tensor | None = None,
) -> Tensor:
    """Root of a batched increasing scalar function on ``[lower, upper]``, safeguarded Newton.

    A Newton step is taken where it stays inside the bracket and is at most half as long as the step before, a
    bisection step elsewhere, so the worst case is bisection's and the end game is quadratic. The iteration count
    is fixed: no value is read, the function compiles and vmaps. Gradients do not flow; see ``monotone_root``.

    Args:
        function: ``t -> (f(t), f'(t))`` elementwise, with ``f`` non-decreasing.
        lower: Where ``f <= 0``.
        upper: Where ``f >= 0``.
        iterations: Number of steps.
        start: First iterate; the midpoint if None.

    Returns:
        The roots, the shape of ``lower``.
    """
    with torch.no_grad():
        t = 0.5 * (lower + upper) if start is None else start
        previous = upper - lower
        for left in range(iterations, 0, -1):
            value, slope = function(t)
            lower = torch.where(value <= 0, t, lower)
            upper = torch.where(value >= 0, t, upper)
            newton = t - value / slope
            # At the root steps are rounding noise and need not shrink: the last ones are Newton's in any case.
            fast = (newton - t).abs() <= 0.5 * previous if left > 8 else torch.ones_like(newton, dtype=torch.bool)
            new = torch.where((newton >= lower) & (newton <= upper) & fast, newton, 0.5 * (lower + upper))
            previous, t = (new - t).abs(), new
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
