"""Normal-form games: quantal response equilibria, optimism, averages, agreement with the engine for trees."""

import math

import pytest
import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.policy.games import (
    DilatedMirrorDescent,
    MagneticMirrorDescent,
    MatrixGame,
    MirrorProx,
    OptimisticMirrorDescent,
    dilated_gap,
    run,
)

F64 = torch.float64
PERTURBED = torch.tensor([[0.0, -1.0, 3.0], [1.0, 0.0, -3.0], [-3.0, 3.0, 0.0]], dtype=F64)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def policies(game: MatrixGame, *batch: int, seed: int = 0) -> Tensor:
    return torch.where(game.mask, noise(*batch, *game.mask.shape, seed=seed), -torch.inf).log_softmax(-1)


def skew(actions: int, batch: int = 2) -> Tensor:
    """Antisymmetric payoffs in (-1/2, 1/2)."""
    upper = (noise(batch, actions, actions, seed=5) - 0.5).triu(1)
    return upper - upper.mT


def test_values_and_best_responses():
    game = MatrixGame(noise(4, 3, 5) - 0.5)
    logs = policies(game, 4, seed=1)
    x, y = logs.exp()[:, 0, :3], logs.exp()[:, 1]
    a = game.payoff[:, :3, :5]
    assert torch.allclose(game.value(logs), torch.einsum("ni,nij,nj->n", x, a, y))
    rows, columns = torch.einsum("nij,nj->ni", a, y), torch.einsum("ni,nij->nj", x, a)
    gap = rows.amax(-1) - columns.amin(-1)
    assert torch.allclose(2 * game.exploitability(logs), gap)
    assert torch.allclose(game.policy(game.plan(logs)).exp(), logs.exp())


def test_linear_convergence_to_the_quantal_response_equilibrium():
    game, alpha = MatrixGame(PERTURBED), 1.0
    eta = alpha / game.payoff_bound**2
    gaps = []
    state, _ = run(
        MagneticMirrorDescent(eta, alpha), game, 350, start=policies(game),
        callback=lambda s: gaps.append(float(game.saddle_gap(s.log_policy, alpha))),
    )  # fmt: skip
    soft = (game.action_values(state.log_policy) / alpha).log_softmax(-1)
    assert torch.allclose(soft, state.log_policy, atol=1e-9)
    assert gaps[159] <= gaps[59] * (1 + eta * alpha) ** -100
    assert abs(gaps[-1]) < 1e-13
    # A magnet elsewhere pulls the equilibrium with it.
    magnet = policies(game, seed=3)
    state, _ = run(MagneticMirrorDescent(eta, alpha), game, 350, magnet=magnet)
    assert abs(float(game.saddle_gap(state.log_policy, alpha, magnet))) < 1e-13
    assert float(game.saddle_gap(state.log_policy, alpha)) > 1e-3


@pytest.mark.parametrize("learner", [OptimisticMirrorDescent(0.2, 0.5), MirrorProx(0.2, 0.5)])
def test_other_methods_have_the_same_equilibrium(learner):
    game = MatrixGame(torch.stack([PERTURBED, PERTURBED.mT + 0.2]))
    state, _ = run(learner, game, 400)
    assert float(game.saddle_gap(state.log_policy, 0.5).abs().max()) < 1e-12


@pytest.mark.parametrize("learner", [OptimisticMirrorDescent(1.0), MirrorProx(1.0)])
def test_averages_of_optimistic_methods_close_the_gap_at_rate_one_over_steps(learner):
    game = MatrixGame(skew(50))
    start = policies(game, 2)
    gaps = [2 * game.exploitability(run(learner, game, n, start=start)[1]).amax() for n in (100, 1000)]
    slope = math.log10(float(gaps[1]) / float(gaps[0]))
    assert slope < -0.95
    assert float(gaps[1]) < 5e-3


def test_multiplicative_weights_converge_on_average_only():
    game = MatrixGame(skew(20))
    state, average = run(MagneticMirrorDescent(0.5, floor=0.0), game, 2000, start=policies(game, 2))
    assert float(game.exploitability(average).max()) < 0.02
    assert float(game.exploitability(state.log_policy).min()) > 0.1


def test_agrees_with_the_engine_for_trees():
    payoff = noise(3, 4) - 0.4
    game = MatrixGame(payoff)
    tree = game.to_extensive()
    assert tree.payoff_bound == pytest.approx(game.payoff_bound)
    assert (tree.index(0, "x"), tree.index(1, "y")) == (0, 1)
    logs = policies(game, 5)
    for name in ("value", "exploitability", "best_response_values"):
        assert torch.allclose(getattr(game, name)(logs), getattr(tree, name)(logs), atol=1e-14)
    assert torch.allclose(game.saddle_gap(logs, 0.3), dilated_gap(tree, logs, 0.3), atol=1e-14)
    flat, _ = run(MagneticMirrorDescent(0.4, 0.3), game, 30)
    behavioural, _ = run(MagneticMirrorDescent(0.4, 0.3), tree, 30)
    dilated, _ = run(DilatedMirrorDescent(0.3, 0.4), tree, 30)
    assert torch.allclose(flat.log_policy, behavioural.log_policy, atol=1e-14)
    assert torch.allclose(flat.log_policy, dilated.log_policy, atol=1e-14)


def test_integer_payoffs():
    pennies = MatrixGame(torch.tensor([[1, -1], [-1, 1]]))
    assert pennies.uniform().dtype == F64
    assert float(pennies.exploitability(pennies.uniform())) == 0


def test_bad_input():
    with pytest.raises(ShapeError, match="a, b > 0"):
        MatrixGame(torch.zeros(3))
    with pytest.raises(DomainError, match="NaN"):
        MatrixGame(torch.full((2, 2), torch.nan))
    with pytest.raises(ShapeError, match="one game at a time"):
        MatrixGame(torch.zeros(2, 2, 2)).to_extensive()
    with pytest.raises(DomainError, match="magnet_weight"):
        MatrixGame(torch.zeros(2, 2)).saddle_gap(torch.zeros(2, 2), 0.0)
