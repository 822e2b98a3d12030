"""Entropic plans against POT, against the conditions that define them, and at the edges of floating point."""

import numpy as np
import ot
import pytest
import torch

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.transport import marginal_error, sinkhorn
from tests.transport.problems import F64, clouds, noise

METHODS = ["newton", "absorbed", "log"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scaling", [None, 0.25])
@pytest.mark.parametrize("epsilon", [0.2, 0.02])
def test_plans_are_those_of_pot(method, scaling, epsilon):
    cost, mu, nu = clouds(3, n=17, m=23)
    found = sinkhorn(cost, mu, nu, epsilon=epsilon, tolerance=1e-12, method=method, scaling=scaling)
    for k in range(3):
        args = (mu[k].numpy(), nu[k].numpy(), cost[k].numpy(), epsilon)
        plan = ot.sinkhorn(*args, stopThr=1e-12, numItermax=100_000)
        np.testing.assert_allclose(found.plan[k].numpy(), plan, atol=1e-8 / 17, rtol=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(12, 12), (9, 14), (14, 9), (1, 5), (5, 1), (1, 1)])
def test_solution_is_a_gibbs_plan_with_its_marginals(method, shape):
    cost, mu, nu = clouds(2, n=shape[0], m=shape[1], seed=1)
    mu, nu, epsilon = 3 * mu, 3 * nu, torch.tensor([0.05, 0.5], dtype=F64)
    r = sinkhorn(cost, mu, nu, epsilon=epsilon, tolerance=1e-13, method=method)
    gibbs = torch.exp((r.f[..., :, None] + r.g[..., None, :] - cost) / epsilon[:, None, None])
    torch.testing.assert_close(r.plan, gibbs, rtol=1e-12, atol=0)
    torch.testing.assert_close(r.plan.sum(-1), mu, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(r.plan.sum(-2), nu, rtol=1e-11, atol=1e-13)
    assert (r.error <= 1e-12).all()
    torch.testing.assert_close((r.g * nu).sum(-1), torch.zeros(2, dtype=F64), atol=1e-13, rtol=0)


def test_a_batch_is_a_loop():
    cost, mu, nu = clouds(2, 3, n=16, seed=2)
    epsilon = torch.tensor([[0.3, 0.1, 0.05], [0.02, 0.01, 0.005]], dtype=F64)
    batch = sinkhorn(cost, mu, nu, epsilon=epsilon, tolerance=1e-13)
    for i in range(2):
        for j in range(3):
            one = sinkhorn(cost[i, j], mu[i, j], nu[i, j], epsilon=float(epsilon[i, j]), tolerance=1e-13)
            torch.testing.assert_close(batch.plan[i, j], one.plan, rtol=0, atol=1e-10)
    assert batch.plan.shape == (2, 3, 16, 16)
    assert batch.iterations.shape == batch.error.shape == (2, 3)


def test_batches_broadcast_and_marginals_default_to_uniform():
    cost, mu, _ = clouds(4, n=6, m=8)
    r = sinkhorn(cost[0], mu, None, epsilon=0.1)
    assert r.plan.shape == (4, 6, 8)
    torch.testing.assert_close(r.plan.sum(-2), torch.full((4, 8), 1 / 8, dtype=F64), rtol=1e-7, atol=0)
    torch.testing.assert_close(r.plan[1], sinkhorn(cost[0], mu[1], epsilon=0.1).plan, rtol=0, atol=1e-9)


def test_problems_stop_at_their_own_tolerance():
    cost, mu, nu = (t.expand(2, *t.shape) for t in clouds(n=30))
    tolerance = torch.tensor([1e-2, 1e-10], dtype=F64)
    r = sinkhorn(cost, mu, nu, epsilon=0.01, tolerance=tolerance, method="absorbed", scaling=None)
    assert (r.error <= tolerance * 1.001).all()
    assert r.iterations[0] < r.iterations[1]


def test_overrelaxation_takes_a_fraction_of_the_iterations():
    cost, mu, nu = clouds(n=40)
    plain = sinkhorn(cost, mu, nu, epsilon=5e-3, tolerance=1e-11, method="log")
    fast = sinkhorn(cost, mu, nu, epsilon=5e-3, tolerance=1e-11, method="absorbed")
    torch.testing.assert_close(fast.plan, plain.plan, rtol=0, atol=1e-8 / 40)
    assert 2 * fast.iterations < plain.iterations


def test_newton_steps_converge_where_half_steps_do_not():
    cost, mu, nu = clouds(n=40)
    options = {"epsilon": 1e-4, "max_iterations": 600}
    assert sinkhorn(cost, mu, nu, **options).error < 1.1e-9
    with pytest.raises(ConvergenceError):
        sinkhorn(cost, mu, nu, method="absorbed", **options)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("method", METHODS)
def test_huge_costs_over_tiny_epsilon_are_finite(scale, method):
    cost, mu, nu = clouds(n=25)
    for epsilon in (1e-3, 1e-6, 1e-12):
        r = sinkhorn(scale * cost, mu, nu, epsilon=scale * epsilon, method=method, max_iterations=60, on_failure="keep")
        assert all(bool(torch.isfinite(t).all()) for t in r[:4])
        torch.testing.assert_close(marginal_error(r.plan, mu, nu), r.error)
        assert r.error < 0.5


def test_scaling_the_cost_and_epsilon_changes_nothing():
    cost, mu, nu = clouds(n=25)
    small = sinkhorn(cost, mu, nu, epsilon=1e-3, tolerance=1e-11)
    large = sinkhorn(1e6 * cost + 1e6, mu, nu, epsilon=1e3, tolerance=1e-11)
    torch.testing.assert_close(large.plan, small.plan, rtol=0, atol=1e-11)


def test_constants_on_rows_and_columns_change_only_potentials():
    cost, mu, nu = clouds(n=15, m=18)
    a, b = noise(15, seed=1), noise(18, seed=2)
    plain, moved = sinkhorn(cost, mu, nu, tolerance=1e-13), sinkhorn(cost + a[:, None] + b, mu, nu, tolerance=1e-13)
    torch.testing.assert_close(moved.plan, plain.plan, rtol=0, atol=1e-13)
    torch.testing.assert_close(moved.f - moved.f.mean(), (plain.f + a) - (plain.f + a).mean(), rtol=0, atol=1e-12)


def test_float32_is_solved_in_float64():
    cost, mu, nu = (t.float() for t in clouds(4, n=30))
    r = sinkhorn(cost, mu, nu, epsilon=0.01)
    assert {t.dtype for t in r[:4]} == {torch.float32}
    nu64 = nu.double() * (mu.double().sum(-1) / nu.double().sum(-1)).unsqueeze(-1)
    exact = sinkhorn(cost.double(), mu.double(), nu64, epsilon=0.01)
    torch.testing.assert_close(r.plan.double(), exact.plan, rtol=6e-8, atol=1e-30)
    assert (marginal_error(r.plan, mu, nu) < 1e-6).all()


def test_unfinished_problems_raise_or_are_marked():
    cost, mu, nu = clouds(2, n=20)
    options = {"epsilon": torch.tensor([1.0, 1e-3]), "max_iterations": 30, "method": "absorbed", "scaling": None}
    with pytest.raises(ConvergenceError, match="1 of 2 problems stopped after 30 iterations") as caught:
        sinkhorn(cost, mu, nu, **options)
    kept = sinkhorn(cost, mu, nu, on_failure="keep", **options)
    assert caught.value.residual == pytest.approx(float(kept.error[1]))
    assert kept.iterations.tolist()[1] == 30
    marked = sinkhorn(cost, mu, nu, on_failure="nan", **options)
    assert torch.isnan(marked.plan[1]).all()
    assert torch.isnan(marked.f[1]).all()
    torch.testing.assert_close(marked.plan[0], kept.plan[0])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"cost": torch.ones(3, 4, dtype=torch.int64)}, ShapeError, "float32 or float64"),
        ({"cost": torch.ones(3)}, ShapeError, "n, m"),
        ({"cost": torch.ones(0, 4)}, ShapeError, "without empty axes"),
        ({"cost": torch.full((3, 4), torch.nan)}, DomainError, "finite"),
        ({"cost": torch.full((3, 4), torch.inf)}, DomainError, "large finite cost"),
        ({"mu": torch.ones(4) / 4}, ShapeError, r"marginal 0 must have shape \(\*batch, 3\)"),
        ({"mu": torch.tensor([0.5, 0.5, 0.0])}, DomainError, "drop the rows or columns without mass"),
        ({"mu": torch.tensor([0.5, 0.6, -0.1])}, DomainError, "positive"),
        ({"mu": torch.tensor([0.5, 0.5, torch.nan])}, DomainError, "positive and finite"),
        ({"nu": torch.ones(4)}, DomainError, "same total mass, got 1.* and 4; rescale"),
        ({"mu": torch.full((2, 3), 1 / 3), "nu": torch.full((5, 4), 0.25)}, ShapeError, "batches that broadcast"),
        ({"epsilon": 0.0}, DomainError, "epsilon must be positive"),
        ({"epsilon": -1.0}, DomainError, "epsilon must be positive"),
        ({"epsilon": torch.tensor([0.1, torch.nan])}, DomainError, "epsilon must be positive"),
        ({"epsilon": torch.ones(2)}, ShapeError, "epsilon must be one number"),
        ({"tolerance": 0.0}, DomainError, "tolerance must be positive"),
        ({"max_iterations": 0}, DomainError, "max_iterations"),
        ({"scaling": 1.0}, DomainError, "scaling must be between 0 and 1"),
        ({"method": "greedy"}, DomainError, "newton, absorbed, log"),
        ({"on_failure": "ignore"}, DomainError, "'raise', 'nan' or 'keep'"),
    ],
)
def test_bad_input(change, error, words):
    arguments = {"cost": torch.rand(3, 4), "mu": torch.ones(3) / 3, "nu": torch.ones(4) / 4} | change
    with pytest.raises(error, match=words):
        sinkhorn(arguments.pop("cost"), arguments.pop("mu"), arguments.pop("nu"), **arguments)
