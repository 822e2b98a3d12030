"""Elementary functions against multiprecision arithmetic; root finders against known roots."""

import math

import mpmath
import pytest
import torch

from mirrorgen import numerics

F64 = torch.float64


def reference(function, x):
    with mpmath.workdps(300):
        return torch.tensor([float(function(mpmath.mpf(float(v)))) for v in x], dtype=F64)


@pytest.mark.parametrize(
    ("ours", "exact", "low", "high"),
    [
        (numerics.log1mexp, lambda v: mpmath.log(1 - mpmath.exp(-v)), -12, 1.9),
        (numerics.log1p_gap, lambda v: v - mpmath.log(1 + v), -10, 8),
        (numerics.softplus_inverse, lambda v: mpmath.log(mpmath.exp(v) - 1), -12, 2.5),
        (numerics.softplus, lambda v: mpmath.log(1 + mpmath.exp(v)), -6, 2.5),
    ],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (F64, 5e-15)])
def test_relative_accuracy(ours, exact, low, high, dtype, tolerance):
    x = torch.logspace(low, high, 400, dtype=F64).to(dtype)
    expected = reference(exact, x)
    # softplus_inverse has a root at log 2, where only the absolute error can be small.
    scale = expected.abs() + (x.double() if ours is numerics.softplus_inverse else 0.0)
    assert ((ours(x).double() - expected).abs() / scale).max() < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (F64, 5e-15)])
def test_log1p_gap_of_negative_arguments(dtype, tolerance):
    u = -torch.logspace(-10, -0.001, 300, dtype=F64).to(dtype)
    expected = reference(lambda v: v - mpmath.log(1 + v), u)
    assert ((numerics.log1p_gap(u).double() - expected) / expected).abs().max() < tolerance
    assert numerics.log1p_gap(torch.zeros(1)) == 0


def test_torchs_softplus_would_not_do():
    # The threshold of torch's softplus costs seven digits; this is why ours exists.
    x = torch.tensor([20.1], dtype=F64)
    assert (torch.nn.functional.softplus(x) - numerics.softplus(x)).abs() > 1e-9


def test_xlogx_at_zero():
    x = torch.tensor([0.0, 1.0, math.e], dtype=F64)
    assert numerics.xlogx(x).tolist() == pytest.approx([0.0, 0.0, math.e])
    assert numerics.xlogy(x[:1], x[:1]) == 0


def cubic(target):
    return lambda t: (t**3 + t - target, 3 * t**2 + 1)


def test_root_finder_reaches_rounding_from_wide_brackets():
    target = torch.logspace(-8, 12, 200, dtype=F64)
    lower, upper = -torch.ones_like(target), 10 * target.pow(1 / 3) + target
    root = numerics.bisect_then_newton(cubic(target), lower, upper)
    assert ((root**3 + root - target).abs() / target).max() < 1e-14
    vmapped = torch.func.vmap(lambda y, a, b: numerics.bisect_then_newton(cubic(y), a, b))(target, lower, upper)
    assert torch.equal(vmapped, root)


def test_root_has_exact_derivatives_to_third_order():
    def inverse(y):
        return numerics.monotone_root(cubic(y), torch.full_like(y, -5.0), torch.full_like(y, 5.0))

    y = torch.tensor([-3.0, 0.0, 0.5, 20.0], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(inverse, y)
    assert torch.autograd.gradgradcheck(inverse, y)
    # t''' of the inverse of t^3 + t by hand: with f' = 3 t^2 + 1, f'' = 6 t, f''' = 6.
    third = y
    value = inverse(y)
    for _ in range(3):
        (value,) = torch.autograd.grad(value.sum(), third, create_graph=True)
    t = inverse(y).detach()
    slope = 3 * t**2 + 1
    assert torch.allclose(value, (3 * (6 * t) ** 2 - 6 * slope) / slope**5, rtol=1e-9, atol=1e-12)


def test_values_are_not_read_under_transforms():
    seen = []

    def probe(x):
        seen.append(numerics.eager_values(x))
        return x

    probe(torch.zeros(2))
    torch.func.vmap(probe)(torch.zeros(2, 2))
    torch.func.grad(lambda x: probe(x).sum())(torch.zeros(2))
    assert seen == [True, False, False]
    assert not numerics.check_finite(torch.tensor([math.nan]))


def test_sqrt1p_square_neither_overflows_nor_loses_small_points():
    x = torch.tensor([[0.0, 0.0], [3e-5, 4e-5], [0.6, 0.8], [3.0, 4.0], [3e200, 4e200]], dtype=torch.float64)
    expected = torch.tensor([1.0, math.sqrt(1 + 25e-10), math.sqrt(2.0), math.sqrt(26.0), 5e200], dtype=torch.float64)
    assert torch.allclose(numerics.sqrt1p_square(x), expected, rtol=1e-15, atol=0)
    point = x[:4].clone().requires_grad_()
    assert torch.autograd.gradcheck(numerics.sqrt1p_square, point)
    assert torch.autograd.gradgradcheck(numerics.sqrt1p_square, point)
