import math
from dataclasses import FrozenInstanceError
from itertools import pairwise

import pytest
import torch

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.integrate import METHODS, RK4, Euler, FixedStep, Heun, Midpoint, integrate, resolve_method
from mirrorgen.spec import from_spec, to_spec

FIXED = {name: method for name, method in METHODS.items() if isinstance(method, FixedStep)}
each_method = pytest.mark.parametrize("method", FIXED.values(), ids=FIXED.keys())

GENERATOR = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)


def pendulum_like(t, y):
    """Nonlinear and time dependent, with exact solution y(t) = y_0 exp(sin t) per coordinate."""
    return y * t.cos()


def test_declared_orders_and_evaluations():
    table = {"euler": (1, 1), "midpoint": (2, 2), "heun": (2, 2), "rk4": (4, 4)}
    assert {name: (m.order, m.evaluations) for name, m in FIXED.items()} == table


@each_method
def test_measured_order_matches_the_declared_one(method):
    y = torch.tensor([[1.0, -0.4]], dtype=torch.float64)
    exact = y * math.exp(math.sin(1.5))
    counts = [20, 40, 80, 160]
    solutions = [integrate(pendulum_like, y, 0, 1.5, steps=n, method=method) for n in counts]
    errors = [float((solution - exact).norm()) for solution in solutions]
    slopes = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert slopes[-2:] == pytest.approx([method.order] * 2, abs=0.2)


@each_method
def test_measured_order_on_a_coupled_rotation(method):
    y = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    exact = y @ torch.matrix_exp(2.0 * GENERATOR).T
    field = lambda t, z: z @ GENERATOR.T  # noqa: E731
    coarse, fine = ((integrate(field, y, 0, 2, steps=n, method=method) - exact).norm() for n in (64, 128))
    assert math.log2(coarse / fine) == pytest.approx(method.order, abs=0.2)


@each_method
def test_evaluations_are_counted(method):
    calls = []
    integrate(lambda t, y: calls.append(float(t)) or y, torch.ones(1, 1), steps=7, method=method)
    assert len(calls) == 7 * method.evaluations
    assert min(calls) == 0
    assert max(calls) <= 1 + 1e-6


def test_midpoint_and_euler_never_evaluate_the_end():
    for name in ("euler", "midpoint"):
        calls = []
        integrate(lambda t, y, c=calls: c.append(float(t)) or y, torch.ones(1, 1), steps=5, method=name)
        assert max(calls) < 1


@each_method
def test_forward_then_backward_returns(method):
    y = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    there = integrate(pendulum_like, y, 0, 1, steps=400, method=method)
    back = integrate(pendulum_like, there, 1, 0, steps=400, method=method)
    assert float((back - y).abs().max()) < 3 * (1 / 400) ** method.order


@each_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiles_vmaps_and_keeps_dtype(method, dtype):
    y = torch.randn(5, 2, dtype=dtype)
    solve = lambda z: integrate(pendulum_like, z, 0, 1, steps=4, method=method)  # noqa: E731
    expected = solve(y)
    assert expected.dtype == dtype
    torch.testing.assert_close(torch.compile(solve, fullgraph=True, backend="eager")(y), expected)
    torch.testing.assert_close(torch.func.vmap(solve)(y), expected)


@each_method
def test_gradients(method):
    y = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    rate = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    end = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)

    def solve(z, c, t_1):
        return integrate(lambda t, s: c * s.tanh() + t, z, 0.0, t_1, steps=3, method=method)

    assert torch.autograd.gradcheck(solve, (y, rate, end))
    assert torch.autograd.gradgradcheck(solve, (y, rate, end))


def test_grid_trajectory_and_callback():
    y = torch.ones(3, 2, dtype=torch.float64)
    grid = torch.linspace(0, 1, 11) ** 2
    seen = []
    states = integrate(
        pendulum_like,
        y,
        t_grid=grid,
        method="rk4",
        trajectory=True,
        callback=lambda k, t, z: seen.append((k, float(t), z)),
    )
    assert states.shape == (11, 3, 2)
    torch.testing.assert_close(states[0], y)
    torch.testing.assert_close(states[:, 0, 0], grid.double().sin().exp(), rtol=1e-5, atol=0)
    assert [k for k, _, _ in seen] == list(range(1, 11))
    assert [t for _, t, _ in seen] == pytest.approx(grid[1:].tolist())
    torch.testing.assert_close(seen[-1][2], states[-1])
    assert torch.equal(y, torch.ones(3, 2, dtype=torch.float64))


def test_both_ends_of_the_grid_are_exact():
    times = []
    integrate(
        lambda t, y: y,
        torch.ones(1, 1),
        0.1,
        0.7,
        steps=13,
        method="euler",
        callback=lambda k, t, y: times.append(t),
    )
    assert times[-1] == torch.tensor(0.7)


def test_non_finite_samples_raise_or_pass_through():
    def field(t, y):
        return torch.where(y > 5, torch.full_like(y, float("nan")), y)

    y = torch.tensor([[1.0], [6.0], [0.5]])
    with pytest.raises(ConvergenceError, match="1 of 3 samples") as caught:
        integrate(field, y, 0, 0.1)
    assert caught.value.residual == math.inf
    kept = integrate(field, y, 0, 0.1, on_failure="nan")
    assert torch.isnan(kept[:, 0]).tolist() == [False, True, False]


def test_bad_arguments_are_named():
    y = torch.ones(1, 1)
    with pytest.raises(DomainError, match="euler, midpoint, heun, rk4, dopri5"):
        integrate(pendulum_like, y, method="rk5")
    with pytest.raises(DomainError, match="steps"):
        integrate(pendulum_like, y, steps=0)
    with pytest.raises(DomainError, match="on_failure"):
        integrate(pendulum_like, y, on_failure="ignore")
    with pytest.raises(ShapeError, match="floating point"):
        integrate(pendulum_like, torch.ones(1, 1, dtype=torch.long))
    with pytest.raises(ShapeError, match="t_grid"):
        integrate(pendulum_like, y, t_grid=torch.zeros(1))
    with pytest.raises(ShapeError, match="single numbers"):
        integrate(pendulum_like, y, 0.0, torch.ones(3))


def test_methods_are_frozen_records_with_a_spec():
    assert resolve_method("heun") == Heun()
    assert resolve_method(Midpoint()) == Midpoint()
    assert from_spec(to_spec(RK4())) == RK4()
    with pytest.raises(FrozenInstanceError):
        Euler().order = 3
