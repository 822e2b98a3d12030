"""Constrained processes against the linear program, and mean-field games against their equilibrium."""

import pytest
import torch

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.policy.tabular import (
    ConstrainedMDP,
    CrowdGame,
    constrained_garnet,
    garnet,
    lagrangian_ascent_descent,
    mean_field_mirror_ascent,
    policy_mirror_descent,
)

F64 = torch.float64


def small_problem() -> ConstrainedMDP:
    return constrained_garnet(6, 3, seed=2)


def test_optimism_converges_in_the_last_iterate_and_plain_steps_do_not():
    problem = small_problem()
    best, _ = problem.optimum()

    def residual(optimistic: bool) -> float:
        run = lagrangian_ascent_descent(problem, 800, policy_step=0.5, multiplier_step=0.25, optimistic=optimistic)
        return float(torch.maximum((best - run.rewards[-200:]).abs().max(), run.excess[-200:].max()))

    assert residual(True) < 0.2 * residual(False)
    assert residual(True) < 0.02


def test_the_optimum_satisfies_duality():
    problem = small_problem()
    best, multipliers = problem.optimum()
    assert bool((multipliers >= -1e-9).all())
    # The best policy of the Lagrangian at the multipliers has the same value.
    mdp = problem.mdp
    mixed = type(mdp)(mdp.transitions, mdp.rewards - (multipliers[:, None, None] * problem.costs).sum(0), mdp.discount)
    dual = float((mdp.first * mixed.optimal_values).sum() + (multipliers * problem.limits).sum())
    assert abs(dual - best) < 1e-8


def test_limits_that_nobody_can_keep():
    problem = small_problem()
    with pytest.raises(DomainError, match="no policy keeps"):
        ConstrainedMDP(problem.mdp, problem.costs, problem.limits - 100).optimum()
    with pytest.raises(ShapeError, match="one entry per constraint"):
        ConstrainedMDP(problem.mdp, problem.costs, torch.zeros(2, dtype=F64))
    with pytest.raises(ShapeError, match="costs must"):
        ConstrainedMDP(garnet(batch=2), problem.costs, problem.limits)


def crowd(crowding: float) -> CrowdGame:
    generator = torch.Generator().manual_seed(0)
    transitions = torch.rand(10, 3, 10, generator=generator, dtype=F64).pow(4)
    rewards = torch.rand(10, 3, generator=generator, dtype=F64)
    return CrowdGame(transitions / transitions.sum(-1, keepdim=True), rewards, crowding=crowding)


def test_populations_are_stationary():
    game = crowd(1.0)
    logs = torch.randn(10, 3, generator=torch.Generator().manual_seed(1), dtype=F64).log_softmax(-1)
    law = game.population(logs)
    moved = law @ torch.einsum("sa,sat->st", logs.exp(), game.transitions)
    assert torch.allclose(law, moved)
    assert abs(float(law.sum()) - 1) < 1e-12


@pytest.mark.parametrize("q", [1.0, 2.0])
def test_mirror_ascent_finds_the_equilibrium(q):
    game = crowd(2.0)
    logs, gaps = mean_field_mirror_ascent(game, 25, 1.0, entropy_weight=0.5, q=q)
    assert float(gaps[-1]) < 1e-6
    # At the equilibrium nobody gains by soft policy iteration against the crowd.
    reply = policy_mirror_descent(game.against(game.population(logs)), 25, torch.inf, entropy_weight=0.5, q=q)
    assert torch.allclose(reply.log_policy.exp(), logs.exp(), atol=1e-4)


def test_long_steps_in_a_crowded_game_circle():
    _, gaps = mean_field_mirror_ascent(crowd(20.0), 30, 50.0, entropy_weight=0.5)
    assert float(gaps[-1]) > float(gaps[0])


def test_bad_games():
    with pytest.raises(DomainError, match="crowding"):
        crowd(-1.0)
    split = torch.eye(2, dtype=F64).unsqueeze(1)
    game = CrowdGame(split, torch.zeros(2, 1, dtype=F64))
    with pytest.raises(ConvergenceError, match="stationary law"):
        game.population(torch.zeros(2, 1, dtype=F64))
