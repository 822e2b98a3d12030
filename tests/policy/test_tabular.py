"""Policy mirror descent and regularised value iteration against their theory."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.policy.tabular import (
    TabularMDP,
    adaptive_steps,
    averaged_value_iteration,
    garnet,
    geometric_steps,
    grid_world,
    mirror_value_iteration,
    munchausen_value_iteration,
    policy_mirror_descent,
    softmax_mirror_ascent,
)

F64 = torch.float64
MDP = garnet(batch=5)
UNIFORM = MDP.state_values(MDP.uniform_policy())


def test_optimal_values_are_those_of_the_linear_program():
    mdp = garnet(20, 3, 2, batch=1, seed=3)
    P, r = mdp.transitions[0], mdp.rewards[0]
    rows = (torch.eye(20, dtype=F64).unsqueeze(1) - mdp.discount * P).reshape(60, 20).numpy()
    found = linprog(np.ones(20), A_ub=-rows, b_ub=-r.reshape(60).numpy(), bounds=(None, None), method="highs")
    assert np.allclose(found.x, mdp.optimal_values[0], atol=1e-8)


def test_occupancy_and_values_agree():
    logs = torch.randn(MDP.shape, generator=torch.Generator().manual_seed(1), dtype=F64).log_softmax(-1)
    reward = (MDP.occupancy(logs).unsqueeze(-1) * logs.exp() * MDP.rewards).sum((-1, -2)) / (1 - MDP.discount)
    assert torch.allclose(reward, MDP.value_of(logs))
    assert torch.allclose(MDP.occupancy(logs).sum(-1), torch.ones(5, dtype=F64))


@pytest.mark.parametrize("eta", [1.0, 10.0])
def test_sublinear_bound_of_constant_steps(eta):
    # (log actions / eta + 1 / (1 - discount)) / ((1 - discount) (k + 1)) from a uniform start.
    gaps = policy_mirror_descent(MDP, 60, eta).gaps(MDP.optimal_values)
    k = torch.arange(61, dtype=F64).unsqueeze(-1)
    bound = (math.log(4) / eta + 10) * 10 / (k + 1)
    assert bool((gaps <= bound).all())
    assert bool((gaps.diff(dim=0) <= 1e-12).all())


def test_adaptive_steps_have_the_rate_of_the_discount():
    gaps = policy_mirror_descent(MDP, 100, adaptive_steps(MDP)).gaps(MDP.optimal_values)
    k = torch.arange(101, dtype=F64).unsqueeze(-1)
    assert bool((gaps <= MDP.discount**k * (gaps[0] + 1 / (1 - MDP.discount)) + 1e-12).all())


def test_geometric_steps_and_the_euclidean_potential_reach_the_optimum():
    assert float(policy_mirror_descent(MDP, 100, geometric_steps(MDP)).gaps(MDP.optimal_values)[-1].max()) < 1e-10
    assert float(policy_mirror_descent(MDP, 200, 10.0, q=2.0).gaps(MDP.optimal_values)[-1].max()) < 1e-10


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0, 2.0])
def test_every_potential_improves_monotonically(q):
    run = policy_mirror_descent(MDP, 30, 0.5, q=q)
    assert bool((run.values.diff(dim=0) >= -1e-12).all())


@pytest.mark.parametrize("tau", [0.1, 0.01])
@pytest.mark.parametrize("eta", [1.0, 10.0])
def test_linear_rate_with_entropy(tau, eta):
    mdp = garnet(batch=1)
    best = policy_mirror_descent(mdp, 60, torch.inf, entropy_weight=tau)
    assert float((best.values[-1] - best.values[10]).abs().max()) < 1e-10
    run = policy_mirror_descent(mdp, 60, eta, entropy_weight=tau)
    errors = (mdp.discount * (best.values[-1] - run.values)).abs().amax((-1, -2))
    share = 1 / (1 + eta * tau)
    # Rates are asymptotic; below 1e-11 the difference is rounding.
    ratio = (errors[-1] / errors[30]).clamp_min(1e-300) ** (1 / 30)
    assert float(errors[-1]) < 1e-11 or float(ratio) <= share + (1 - share) * mdp.discount


def test_entropy_solution_is_the_soft_optimum():
    mdp, tau = garnet(batch=1), 0.1
    logs = policy_mirror_descent(mdp, 40, torch.inf, entropy_weight=tau).log_policy
    q = torch.zeros_like(mdp.rewards)
    for _ in range(2000):
        # The bonus is the entropy less log 4.
        q = mdp.action_values(tau * (torch.logsumexp(q / tau, -1) - math.log(4)))
    assert torch.allclose(logs, torch.log_softmax(q / tau, -1), atol=1e-9)


def test_softmax_mirror_ascent():
    gaps = softmax_mirror_ascent(MDP, 200, 1 - MDP.discount).gaps(MDP.optimal_values)
    assert bool((gaps.diff(dim=0) <= 1e-12).all())
    assert float(gaps[-1].max()) < 0.3
    with pytest.raises(DomainError, match="1 - discount"):
        softmax_mirror_ascent(MDP, 50, 100.0)


@pytest.mark.parametrize(("kl_weight", "tau"), [(0.5, 0.0), (0.3, 0.2), (0.0, 0.2)])
def test_three_forms_of_one_iteration(kl_weight, tau):
    noise = lambda k: torch.randn(MDP.shape, generator=torch.Generator().manual_seed(k), dtype=F64)  # noqa: E731
    for errors in (None, noise):
        mirror, q = mirror_value_iteration(MDP, 50, kl_weight, tau, errors)
        averaged, same = averaged_value_iteration(MDP, 50, kl_weight, tau, errors)
        assert float((mirror - averaged).abs().max()) < 1e-10
        assert float((q - same).abs().max()) < 1e-10
        total = kl_weight + tau
        munchausen, _ = munchausen_value_iteration(MDP, 50, kl_weight / total, total, errors)
        assert float((mirror - munchausen).abs().max()) < 1e-10


def test_averages_beat_noise():
    def final(kl_weight: float, tau: float) -> float:
        generator = torch.Generator().manual_seed(0)
        errors = lambda k: torch.randn(MDP.shape, generator=generator, dtype=F64)  # noqa: E731
        logs, _ = mirror_value_iteration(MDP, 500, kl_weight, tau, errors)
        return float((MDP.optimal_values - MDP.state_values(logs)).abs().amax(-1).mean())

    plain = final(0.0, 0.0)
    assert final(1.0, 0.0) < plain / 15
    assert final(0.0, 0.1) > plain / 3


def test_bound_on_the_average_of_errors():
    # |q* - q_pi_k| <= 2 / (1 - g) |mean of errors| + 4 v_max / ((1 - g) k), with v_max = (1 + lambda log A) / (1 - g).
    weight, k, total = 1.0, 200, torch.zeros(MDP.shape, dtype=F64)
    generator = torch.Generator().manual_seed(4)

    def errors(_: int) -> torch.Tensor:
        drawn = torch.randn(MDP.shape, generator=generator, dtype=F64)
        total.add_(drawn)
        return drawn

    logs, _ = mirror_value_iteration(MDP, k, weight, 0.0, errors)
    gap = MDP.action_values(MDP.optimal_values) - MDP.action_values(MDP.state_values(logs))
    bound = 20 * (total / k).abs().amax() + 40 * (1 + weight * math.log(4)) * 10 / k
    assert float(gap.abs().amax()) <= float(bound)


def test_grid_world_is_solved():
    mdp = grid_world(4)
    run = policy_mirror_descent(mdp, 400, geometric_steps(mdp))
    assert float(run.gaps(mdp.optimal_values)[-1]) < 1e-8


def test_bad_processes():
    P, r = MDP.transitions[0], MDP.rewards[0]
    with pytest.raises(ShapeError, match="transitions are"):
        TabularMDP(P, r[:, :2], 0.9)
    with pytest.raises(DomainError, match="discount"):
        TabularMDP(P, r, 1.0)
    with pytest.raises(DomainError, match="probabilities"):
        TabularMDP(2 * P, r, 0.9)
    with pytest.raises(DomainError, match="finite"):
        TabularMDP(P, r * torch.nan, 0.9)
    with pytest.raises(DomainError, match="branching"):
        garnet(5, 2, 6)
    with pytest.raises(DomainError, match="dual averaging"):
        averaged_value_iteration(MDP, 3, 0.0, 0.0)
