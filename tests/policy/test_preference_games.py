"""Preference games and their algorithms: equilibria, rates, floors, averages, oracles, bad input."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.geometry.divergences import kl
from mirrorgen.policy import preference as pref

F64 = torch.float64


def both(beta: float, size: int = 50, seed: int = 0) -> pref.PreferenceGame:
    """A random game and a tournament as one batch."""
    generator = torch.Generator().manual_seed(seed)
    games = [make(size, beta=beta, generator=generator) for make in (pref.random_game, pref.tournament_game)]
    stacked = (torch.stack([getattr(g, name) for g in games]) for name in ("preferences", "reference"))
    return pref.PreferenceGame(*stacked, beta)


def distances(learner: pref.Learner, game: pref.PreferenceGame, steps: int) -> Tensor:
    """``KL(pi* || pi_k)`` for ``k`` from 0 to ``steps``, ``(steps + 1, *batch)``."""
    star = game.nash()
    found = [kl(star, learner.init(game).policy)]
    pref.run(learner, game, steps, callback=lambda state, _: found.append(kl(star, state.policy)))
    return torch.stack(found)


@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0])
def test_equilibrium_is_its_own_best_response(beta):
    game = both(beta)
    star = game.nash()
    assert float((star.exp() - game.best_response(star).exp()).abs().max()) < 1e-12
    assert float(game.duality_gap(star).max()) < 1e-12
    assert torch.allclose(game.regularised_value(star, star), torch.full((2,), 0.5, dtype=F64))


def test_equilibrium_of_rock_paper_scissors():
    cycle = torch.tensor([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]], dtype=F64)
    star = pref.PreferenceGame(cycle, beta=0.05).nash()
    assert torch.allclose(star.exp(), torch.full((3,), 1 / 3, dtype=F64))


def test_gap_is_what_its_definition_says():
    game = both(0.1, size=6)
    policy = torch.randn(2, 6, generator=torch.Generator().manual_seed(1), dtype=F64).log_softmax(-1)
    best = game.best_response(policy)
    written_out = game.regularised_value(best, policy) - game.regularised_value(policy, best)
    assert torch.allclose(game.duality_gap(policy), written_out)
    pure = torch.eye(6, dtype=F64).log().unsqueeze(1)
    plain = pref.PreferenceGame(game.preferences)
    values = plain.value(pure, policy)
    assert torch.allclose(plain.duality_gap(policy), values.amax(0) - (1 - values).amin(0))
    assert torch.allclose(
        game.regularised_value(best, policy) + game.regularised_value(policy, best), torch.ones(2).to(F64)
    )


@pytest.mark.parametrize(("beta", "steps", "factor"), [(0.1, 60, (0.67, 0.71)), (0.01, 400, (0.94, 0.97))])
def test_mirror_prox_is_linear_with_the_stated_rate(beta, steps, factor):
    found = distances(pref.NashMirrorProx(2.0), both(beta), steps)
    ratios = found[1:] / found[:-1]
    live = found[1:] > 1e-18
    assert bool((ratios[live.expand_as(ratios)] <= 1 / (1 + 2 * beta)).all())
    last = (found[steps // 2] / found[steps // 4]).pow(4 / steps)
    assert bool(((last > factor[0]) & (last < factor[1])).all()), last


def test_one_query_methods_reach_the_equilibrium():
    game = both(0.1)
    prox = distances(pref.NashMirrorProx(2.0), game, 50)[-1]
    for two_sequences in (True, False):
        hopeful = distances(pref.OptimisticMirrorDescent(1.0, two_sequences), game, 100)[-1]
        # Per query mirror prox and optimism do the same.
        assert bool((hopeful < 3 * prox).all())
    assert bool((distances(pref.MirrorDescent(0.5), game, 300)[-1] < 1e-12).all())
    assert bool((distances(pref.MirrorDescent(0.5, linear=True), game, 300)[-1] < 1e-12).all())


def test_linear_penalty_is_the_published_update():
    game = both(0.1, size=7)
    policy = torch.randn(2, 7, generator=torch.Generator().manual_seed(2), dtype=F64).log_softmax(-1)
    learner = pref.MirrorDescent(0.8, linear=True)
    published = (1 - 0.08) * policy + 0.08 * game.reference + 0.8 * game.win_rates(policy)
    step = learner.step(game, learner.init(game, policy)).policy
    assert torch.allclose(step, published.log_softmax(-1))


def test_nash_md_is_biased_at_constant_steps():
    game = both(0.1)
    floors = [distances(pref.NashMD(eta), game, steps)[-1] for eta, steps in ((0.5, 500), (1.0, 250), (2.0, 120))]
    for small, large in pairwise(floors):
        assert bool((large / small > 3).all() & (large / small < 5).all()), (small, large)


def test_nash_md_with_decreasing_steps_keeps_its_bound():
    found = distances(pref.NashMD(), both(0.1), 400)
    bound = 8 / (0.1**2 * torch.arange(1, 401, dtype=F64))
    assert bool((found[1:] <= bound.unsqueeze(-1)).all())
    assert bool((found[400] < 1e-5).all())
    assert bool((found[100] / found[400] > 8).all())


def test_averages_and_last_iterates_without_reference():
    game = pref.PreferenceGame(both(0.0).preferences)
    gaps: list[Tensor] = []
    optimistic = pref.OptimisticMirrorDescent(1.0, two_sequences=False)
    pref.run(optimistic, game, 1500, callback=lambda _, average: gaps.append(game.duality_gap(average)))
    times = torch.logspace(2, math.log10(1500), 40).long()
    x, y = times.to(F64).log(), torch.stack(gaps)[times - 1].log()
    slope = torch.linalg.lstsq(torch.stack([x, torch.ones_like(x)], -1), y).solution[0]
    assert bool(((slope + 1).abs() < 0.05).all()), slope
    last: list[Tensor] = []
    _, average = pref.run(
        pref.MirrorDescent(0.5), game, 800, callback=lambda s, _: last.append(game.duality_gap(s.policy))
    )
    assert bool((game.duality_gap(average) < 0.1).all())
    # The last iterate comes near and leaves again.
    assert bool((torch.stack(last[-200:]).amax(0) > 10 * game.duality_gap(average)).all())


def test_two_sequences_are_one_without_reference():
    game = pref.PreferenceGame(both(0.0, size=5).preferences)
    two, one = (pref.run(pref.OptimisticMirrorDescent(0.7, flag), game, 30)[0].policy for flag in (True, False))
    assert torch.allclose(two, one, atol=1e-12)


def test_step_sizes_may_be_a_batch():
    game = both(0.1, size=5)
    sizes = torch.tensor([0.2, 0.9], dtype=F64)
    for make in (pref.MirrorDescent, pref.NashMD, pref.NashMirrorProx, pref.OptimisticMirrorDescent):
        batch = pref.run(make(sizes), game, 5)[0].policy
        for i, size in enumerate(sizes):
            one = pref.PreferenceGame(game.preferences[i], game.reference[i], 0.1)
            assert torch.allclose(batch[i], pref.run(make(float(size)), one, 5)[0].policy)


def test_oracle_is_unbiased_and_usable():
    game = both(0.1, size=4)
    generator = torch.Generator().manual_seed(3)
    policy = game.reference
    estimate = game.sampled_win_rates(policy, 20_000, generator=generator)
    assert float((estimate - game.win_rates(policy)).abs().max()) < 5 * 0.5 / math.sqrt(20_000)
    first, second, won = game.sample_pairs(policy, game.nash(), 40_000, generator=generator)
    assert first.shape == second.shape == won.shape == (2, 40_000)
    rate = won.to(F64).mean(-1)
    assert float((rate - game.value(policy, game.nash())).abs().max()) < 5 * 0.5 / math.sqrt(40_000)
    noisy = lambda opponent: game.sampled_win_rates(opponent, 200, generator=generator)  # noqa: E731
    last, _ = pref.run(pref.MirrorDescent(0.2), game, 300, oracle=noisy)
    assert float(kl(game.nash(), last.policy).max()) < 0.02


def test_bad_games():
    half = torch.full((3, 3), 0.5, dtype=F64)
    with pytest.raises(ShapeError, match="square"):
        pref.PreferenceGame(half[:2])
    with pytest.raises(DomainError, match=r"in \[0, 1\]"):
        pref.PreferenceGame(half + 0.6)
    with pytest.raises(DomainError, match=r"P \+ P\^T"):
        pref.PreferenceGame(half + 0.1)
    with pytest.raises(DomainError, match="log_softmax"):
        pref.PreferenceGame(half, torch.zeros(3, dtype=F64))
    with pytest.raises(ShapeError, match="log_reference"):
        pref.PreferenceGame(half, torch.zeros(2, dtype=F64).log_softmax(-1))
    with pytest.raises(DomainError, match="beta"):
        pref.PreferenceGame(half, beta=-1.0)
    with pytest.raises(DomainError, match="beta > 0"):
        pref.PreferenceGame(half).nash()
    with pytest.raises(ConvergenceError, match="residual"):
        both(0.01, size=9).nash(iterations=1)
    with pytest.raises(DomainError, match="decreasing"):
        pref.run(pref.NashMD(), pref.PreferenceGame(half), 1)
    with pytest.raises(DomainError, match="at most 1"):
        pref.run(pref.NashMD(2.0), pref.PreferenceGame(half, beta=0.6), 1)
    with pytest.raises(DomainError, match="below 1"):
        pref.run(pref.MirrorDescent(2.0, linear=True), pref.PreferenceGame(half, beta=0.6), 1)
