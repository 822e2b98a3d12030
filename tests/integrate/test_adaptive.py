import math

import pytest
import torch
from scipy.integrate import solve_ivp

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.integrate import Adaptive, integrate, odeint_adaptive
from mirrorgen.integrate.adaptive import ADAPTIVE_METHODS
from mirrorgen.spec import from_spec, to_spec


def lotka(t, y):
    a, b = y[..., 0], y[..., 1]
    return torch.stack([a * (1.5 - b), b * (a - 1.0)], dim=-1)


@pytest.mark.parametrize("method", ADAPTIVE_METHODS)
def test_agrees_with_scipy(method):
    y = torch.tensor([[1.0, 1.0], [0.5, 2.0]], dtype=torch.float64)
    end = 0.5 if method in ("fehlberg2", "adaptive_heun", "bosh3") else 3.0
    ours = odeint_adaptive(lotka, y, 0, end, method=method, rtol=1e-8, atol=1e-8, max_evaluations=100_000)
    for row, start in zip(ours, y, strict=True):
        reference = solve_ivp(
            lambda t, s: [s[0] * (1.5 - s[1]), s[1] * (s[0] - 1.0)],
            (0, end),
            start.tolist(),
            rtol=1e-11,
            atol=1e-12,
        )
        torch.testing.assert_close(row, torch.tensor(reference.y[:, -1]), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(("t_0", "t_1"), [(0.0, 1.0), (1.0, 0.0)])
def test_the_field_is_never_evaluated_outside_the_time_span(t_0, t_1):
    times = []

    def field(t, y):
        times.append(float(t))
        return 1e-3 * y

    odeint_adaptive(field, 1e3 * torch.ones(2, 2), t_0, t_1)
    assert min(times) >= 0
    assert max(times) <= 1


def test_forward_then_backward_and_through_integrate():
    y = torch.rand(4, 2, dtype=torch.float64) + 0.5
    method = Adaptive("dopri5", rtol=1e-9, atol=1e-9)
    there = integrate(lotka, y, 0, 2, method=method)
    torch.testing.assert_close(integrate(lotka, there, 2, 0, method=method), y, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(integrate(lotka, y, 0, 2, method="dopri8"), there, rtol=1e-4, atol=1e-4)


def test_trajectory_lies_on_the_requested_times():
    y = torch.ones(1, 1, dtype=torch.float64)
    states = integrate(lambda t, z: z, y, 0, 1, steps=4, method=Adaptive(rtol=1e-9, atol=1e-9), trajectory=True)
    expected = torch.linspace(0, 1, 5, dtype=torch.float64).exp()
    torch.testing.assert_close(states[:, 0, 0], expected, rtol=1e-8, atol=1e-8)


def test_gradients_flow():
    y = torch.rand(2, 2, dtype=torch.float64, requires_grad=True)
    rate = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)

    def solve(z, c):
        return odeint_adaptive(lambda t, s: c * s.sin(), z, 0, 0.5, rtol=1e-10, atol=1e-10)

    assert torch.autograd.gradcheck(solve, (y, rate), atol=1e-6)


def test_one_outlier_among_many_keeps_its_accuracy_only_with_the_per_sample_norm():
    """999 samples at rest and one fast rotation: the mean over the batch dilutes its error by sqrt(1000)."""
    frequency = torch.zeros(1000, 1, dtype=torch.float64)
    frequency[17] = 40.0
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    y = torch.ones(1000, 2, dtype=torch.float64)
    exact = torch.matrix_exp(40.0 * turn) @ y[17]
    calls = {"max": 0, "mean": 0}

    def error(norm):
        def field(t, z):
            calls[norm] += 1
            return frequency * (z @ turn.T)

        end = odeint_adaptive(field, y, 0, 1, rtol=1e-5, atol=1e-5, norm=norm)
        return float((end[17] - exact).norm())

    alone = odeint_adaptive(lambda t, z: 40.0 * (z @ turn.T), y[17:18], 0, 1, rtol=1e-5, atol=1e-5)
    assert error("max") == pytest.approx(float((alone[0] - exact).norm()), rel=1e-3)
    assert error("mean") > 5 * error("max")
    assert calls["mean"] < calls["max"]


def test_bound_on_evaluations_reports_count_time_and_culprit():
    frequency = torch.tensor([[1.0], [3000.0], [1.0]], dtype=torch.float64)
    with pytest.raises(ConvergenceError, match="bound of 200 evaluations") as caught:
        odeint_adaptive(lambda t, y: -frequency * y, torch.ones(3, 2, dtype=torch.float64), max_evaluations=200)
    message = str(caught.value)
    assert "after 200 evaluations" in message
    assert "Sample 1 " in message
    assert "fixed-step" in message
    assert math.isfinite(caught.value.residual)


def test_non_finite_field_is_named_with_its_time():
    def field(t, y):
        return torch.where((t > 0.5) & (y > 1.2), torch.full_like(y, float("nan")), y)

    with pytest.raises(ConvergenceError, match=r"not finite for 1 samples") as caught:
        odeint_adaptive(field, torch.tensor([[0.1], [1.0]]))
    assert "t=0" in str(caught.value)


def test_blow_up_is_reported_in_our_words():
    with pytest.raises(ConvergenceError, match=r"below the resolution|not finite|evaluations is reached"):
        odeint_adaptive(lambda t, y: y.square(), torch.full((1, 1), 2.0, dtype=torch.float64), 0, 1)


def test_bad_options_are_rejected():
    y = torch.ones(1, 1)
    with pytest.raises(DomainError, match="dopri5, dopri8"):
        odeint_adaptive(lotka, y, method="rk4")
    with pytest.raises(TypeError, match="rtoll"):
        odeint_adaptive(lotka, y, rtoll=1e-3)
    with pytest.raises(DomainError, match="norm"):
        Adaptive(norm="linf")
    with pytest.raises(DomainError, match="tolerances"):
        Adaptive(rtol=-1.0)
    with pytest.raises(ShapeError, match="returned shape"):
        odeint_adaptive(lambda t, z: z.sum(-1), y)


def test_failures_inside_the_field_stay_themselves():
    def field(t, y):
        raise AssertionError("mine")

    with pytest.raises(AssertionError, match="mine"):
        odeint_adaptive(field, torch.ones(1, 1))
    with pytest.raises(DomainError, match="strictly"):
        odeint_adaptive(lotka, torch.ones(1, 2), 1.0, 1.0)


def test_spec_round_trip():
    method = Adaptive("bosh3", rtol=1e-3)
    assert from_spec(to_spec(method)) == method
