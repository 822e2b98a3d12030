"""Dilogarithms and gaps of convex functions against scipy, series and float64."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special

from mirrorgen.numerics import saturating_exp, softplus
from mirrorgen.special import entropy_gap, expm1_gap, fermi_dirac_integral, li2_exp, log_ratio, power_gap

F64 = torch.float64


def relative(a, b):
    return float(np.abs(np.asarray(a) / np.asarray(b) - 1).max())


def test_fermi_dirac_integral_against_scipy():
    y = torch.linspace(-3, 300, 4001, dtype=F64)
    assert relative(fermi_dirac_integral(y), -special.spence(1 + np.exp(y.numpy()))) < 1e-13
    # scipy's argument 1 + e^y rounds below; there the power series converges at once.
    y = torch.linspace(-700, -3, 4001, dtype=F64)
    w = np.exp(y.numpy())
    series = sum((-1) ** (k + 1) * w**k / k**2 for k in range(14, 0, -1))
    assert relative(fermi_dirac_integral(y), series) < 1e-13
    assert float(fermi_dirac_integral(torch.zeros(1, dtype=F64))) == pytest.approx(math.pi**2 / 12, rel=1e-15)


def test_li2_exp_against_scipy():
    x = torch.logspace(-12, 0.5, 4001, dtype=F64)
    assert relative(li2_exp(x), special.spence(-np.expm1(-x.numpy()))) < 1e-13
    x = torch.linspace(3, 700, 4001, dtype=F64)
    w = np.exp(-x.numpy())
    assert relative(li2_exp(x), sum(w**k / k**2 for k in range(14, 0, -1))) < 1e-13


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_dilogarithms_in_float32_and_far_out(dtype):
    y = torch.linspace(-80, 1e4, 2001, dtype=dtype)
    assert relative(fermi_dirac_integral(y).double(), fermi_dirac_integral(y.double())) < 20 * torch.finfo(dtype).eps
    x = torch.logspace(-30, 1.8, 2001, dtype=dtype)
    assert relative(li2_exp(x).double(), li2_exp(x.double())) < 100 * torch.finfo(dtype).eps
    assert fermi_dirac_integral(torch.tensor([-1e8, 1e8], dtype=F64)).tolist() == [0.0, 0.5e16 + math.pi**2 / 6]


def test_derivatives_of_dilogarithms():
    y = torch.tensor([-30.0, -2.0, -1e-9, 0.0, 1e-9, 0.5, 40.0], dtype=F64, requires_grad=True)
    (gradient,) = torch.autograd.grad(fermi_dirac_integral(y).sum(), y, create_graph=True)
    assert torch.allclose(gradient, softplus(y), rtol=1e-13, atol=0)
    (second,) = torch.autograd.grad(gradient.sum(), y, create_graph=True)
    assert torch.allclose(second, torch.sigmoid(y), rtol=1e-12, atol=0)
    (third,) = torch.autograd.grad(second.sum(), y)
    assert torch.allclose(third, torch.sigmoid(y) * torch.sigmoid(-y), rtol=1e-10, atol=1e-13)
    x = torch.tensor([1e-6, 0.3, math.log(2.0), 0.7, 3.0, 30.0], dtype=F64, requires_grad=True)
    (gradient,) = torch.autograd.grad(li2_exp(x).sum(), x, create_graph=True)
    expected = torch.where(x < 1, torch.log(-torch.expm1(-x)), torch.log1p(-torch.exp(-x)))
    assert torch.allclose(gradient, expected, rtol=1e-12, atol=0)
    (second,) = torch.autograd.grad(gradient.sum(), x)
    assert torch.allclose(second, 1 / torch.expm1(x), rtol=1e-10, atol=0)


def test_dilogarithms_compile_and_vmap():
    y = torch.linspace(-5, 5, 11, dtype=F64)
    for function, argument in ((fermi_dirac_integral, y), (li2_exp, y.exp())):
        assert torch.equal(torch.compile(function, fullgraph=True, backend="eager")(argument), function(argument))
        assert torch.equal(torch.func.vmap(function)(argument), function(argument))


@pytest.mark.parametrize("a", [-1.0, 0.0, 0.1, 0.5, 1.0, 1.1, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("u", [-0.999, -0.5, -0.29, -1e-2, -1e-9, 1e-9, 1e-4, 0.29, 0.31, 3.0, 1e3])
def test_power_gap_is_an_integral(a, u):
    def integrand(t):
        return (1 - t) * (1 + t * u) ** (a - 2)

    integral, _ = integrate.quad(integrand, 0, 1, epsabs=0, epsrel=1e-12, limit=500)
    assert float(power_gap(torch.tensor(u, dtype=F64), a)) == pytest.approx(u**2 * integral, rel=2e-10)
    single = torch.tensor(u, dtype=torch.float32)
    assert float(power_gap(single, a)) == pytest.approx(float(power_gap(single.double(), a)), rel=2e-5)


def test_entropy_gap_and_log_ratio_near_and_far():
    values = torch.tensor([1e-38, 1e-20, 1e-8, 0.3, 0.3001, 0.45, 0.7, 1e3, 1e30])
    p, q = (v.flatten() for v in torch.meshgrid(values, values, indexing="ij"))
    assert torch.allclose(log_ratio(p, q).double(), torch.log(p.double() / q.double()), rtol=1e-6, atol=0)
    exact = special.kl_div(p.double().numpy(), q.double().numpy())
    near = (p / q - 1).abs() < 1e-2
    assert torch.allclose(entropy_gap(p, q)[~near].double(), torch.from_numpy(exact)[~near], rtol=3e-6, atol=0)
    ratio = (q.double() - p.double()) / p.double()
    series = p.double() * ratio**2 * (0.5 - ratio / 3 + ratio**2 / 4)
    assert torch.allclose(entropy_gap(p, q)[near].double(), series[near], rtol=1e-6, atol=0)


def test_expm1_gap():
    u = torch.tensor([-50.0, -3.0, -0.51, -0.49, -1e-3, -1e-9, 0.0, 1e-9, 1e-3, 0.49, 0.51, 3.0, 50.0], dtype=F64)
    expected = [
        math.exp(v) - 1 - v if abs(v) > 0.1 else v * v / 2 * (1 + v / 3 + v * v / 12 + v**3 / 60) for v in u.tolist()
    ]
    assert torch.allclose(expm1_gap(u), torch.tensor(expected, dtype=F64), rtol=1e-12, atol=0)
    single = u.float()
    assert torch.allclose(expm1_gap(single).double(), expm1_gap(single.double()), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_saturating_exp(dtype):
    y = torch.tensor([-1e4, -1.0, 0.0, 80.0, 1e4], dtype=dtype, requires_grad=True)
    value = saturating_exp(y)
    assert torch.equal(value, torch.exp(y))
    assert value[-1] == math.inf
    (gradient,) = torch.autograd.grad(value, y, torch.zeros_like(y))
    assert torch.equal(gradient, torch.zeros_like(y))
