"""Delayed feedback: the inequality of every run, what is known without delays, errors; bandits."""

import math

import pytest
import torch

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains import Ball, Box, Simplex
from mirrorgen.geometry.mirror_maps import BallLogBarrier, LogBarrier, SimplexEntropy, TsallisEntropy
from mirrorgen.optim.online import (
    BankerOMD,
    FollowRegularizedLeader,
    axis_action,
    axis_gradient,
    banker_scale,
    draw_actions,
    importance_weighted,
    scale_free,
)

F64 = torch.float64
K = 4


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def uniform(n, *batch):
    return torch.full((*batch, n), 1 / n, dtype=F64)


def random_delays(rounds, largest, seeds=5):
    """Delays ``(rounds, seeds)``, one column for each seed, cut so that all feedback comes in ``rounds`` rounds."""
    columns = [
        torch.randint(0, largest + 1, (rounds,), generator=torch.Generator().manual_seed(s)) for s in range(seeds)
    ]
    return torch.minimum(torch.stack(columns, -1), torch.arange(rounds - 1, -1, -1).unsqueeze(-1))


def arrivals(delays, t, largest):
    """Rounds ``(seeds, largest + 1)`` whose feedback comes at the end of round ``t``; -1 elsewhere."""
    rounds = (t - torch.arange(largest + 1)).expand(delays.shape[1], -1)
    due = (rounds >= 0) & (delays.T.gather(-1, rounds.clamp_min(0)) == t - rounds)
    return torch.where(due, rounds, -1)


@pytest.mark.parametrize("largest", [0, 3, 20])
@pytest.mark.parametrize(
    "mirror_map",
    [SimplexEntropy(Simplex(K)), TsallisEntropy(Simplex(K), q=0.5), LogBarrier(Simplex(K))],
    ids=lambda m: type(m).__name__,
)
def test_every_run_keeps_the_master_inequality(mirror_map, largest):
    rounds, losses = 60, torch.rand(60, 5, K, generator=torch.Generator().manual_seed(1), dtype=F64)
    losses[:, :, 1] *= 0.5
    delays = random_delays(rounds, largest)
    learner = BankerOMD(mirror_map, banker_scale(math.log(K)), capacity=largest + 1)
    state = learner.init(uniform(K, 5))
    points, right, waited, fresh = [], torch.zeros(5, dtype=F64), 0, 0.0
    for t in range(rounds):
        points.append(learner.predict(state))
        z = mirror_map.to_primal(state.y - mirror_map.pull_back(losses[t]) / state.scale.unsqueeze(-1))
        right += state.scale * mirror_map.divergence(points[-1], z)
        fresh, came = state.fresh, arrivals(delays, t, largest)
        by_seed = losses.transpose(0, 1)
        gradients = by_seed.gather(1, came.clamp_min(0).unsqueeze(-1).expand(-1, -1, K))
        # What is not there must not be looked at.
        gradients = torch.where((came >= 0).unsqueeze(-1), gradients, 1e6)
        state = learner.update(state, gradients, came)
        waited += int((state.waiting_scale > 0).sum()) - 5
    assert (waited > 0) == (largest > 0)
    points = torch.stack(points)
    for corner in range(K):
        u = torch.full((5, K), 1e-3 / K, dtype=F64)
        u[:, corner] += 1 - 1e-3
        regret = (losses * (points - u)).sum((0, -1))
        assert (regret <= fresh * mirror_map.divergence(u, uniform(K, 5)) + right + 1e-9).all()
    # The best action was found, so that the losses were really used.
    assert (points[-20:].mean(0).argmax(-1) == 1).all()


def test_without_delays_it_is_dual_averaging():
    """``sigma`` grows: the vault is emptied and the start fills up, ``y_t = y_0 - sum g / sigma_t``."""
    mirror_map, losses = SimplexEntropy(Simplex(K)), normal(40, 3, K)
    start = normal(3, K, seed=5).softmax(-1)
    banker = BankerOMD(mirror_map, banker_scale(2.0), capacity=1)
    leader = FollowRegularizedLeader(mirror_map, step_size=lambda t: math.sqrt(2.0 / t))
    ours, theirs = banker.init(start), leader.init(start)
    for gradient in losses:
        assert torch.allclose(banker.predict(ours), leader.predict(theirs), atol=1e-12)
        ours, theirs = banker.update(ours, gradient), leader.update(theirs, gradient)
    assert torch.allclose(ours.fresh, ours.scale, rtol=1e-12)


def test_two_rounds_by_hand():
    """Two rounds wait, the second's gradient comes first and pays for the third."""
    mirror_map = SimplexEntropy(Simplex(3))
    learner = BankerOMD(mirror_map, lambda t, waiting: torch.tensor([1.0, 2.0, 4.0, 3.0], dtype=F64)[t], capacity=3)
    state = learner.init(uniform(3))
    nothing, g0, g1 = torch.zeros(1, 3, dtype=F64), *normal(2, 1, 3)
    state = learner.update(state, nothing, torch.tensor([-1]))
    state = learner.update(state, g1, torch.tensor([1]))
    assert torch.allclose(learner.predict(state), torch.softmax(-g1[0] / 4, -1), rtol=1e-12)
    assert float(state.fresh) == pytest.approx(1 + 2 + 2)
    state = learner.update(state, g0, torch.tensor([0]))
    # One unit from the vault, whose point is -g0, and two fresh ones.
    assert torch.allclose(learner.predict(state), torch.softmax(-g0[0] / 3, -1), rtol=1e-12)
    assert float(state.fresh) == pytest.approx(7)


def test_errors():
    learner = BankerOMD(SimplexEntropy(Simplex(3)), banker_scale(1.0), capacity=2)
    state, g = learner.init(uniform(3)), torch.zeros(1, 3, dtype=F64)
    with pytest.raises(DomainError, match=r"rounds \[4\]"):
        learner.update(state, g, torch.tensor([4]))
    with pytest.raises(DomainError, match=r"rounds \[0\]"):
        learner.update(state, g.expand(2, 3), torch.tensor([0, 0]))
    settled = learner.update(state, g[0])
    with pytest.raises(DomainError, match=r"rounds \[0\]"):
        learner.update(settled, g, torch.tensor([0]))
    late = learner.update(state, g, torch.tensor([-1]))
    with pytest.raises(DomainError, match="raise capacity"):
        learner.update(late, g, torch.tensor([-1]))
    with pytest.raises(ShapeError, match="rounds"):
        learner.update(state, g, torch.tensor([0, 1]))
    with pytest.raises(DomainError, match="capacity"):
        BankerOMD(SimplexEntropy(Simplex(3)), banker_scale(1.0), capacity=0)
    with pytest.raises(DomainError, match="positive"):
        banker_scale(0.0)
    with pytest.raises(DomainError, match="round 0"):
        BankerOMD(SimplexEntropy(Simplex(3)), lambda t, waiting: -1.0 * waiting, capacity=1).init(uniform(3))


# Bandits.


def test_estimates_are_unbiased_and_draws_have_their_law():
    p, losses = normal(6, K).softmax(-1), normal(6, K, seed=1)
    mean = torch.zeros_like(losses)
    for a in range(K):
        action = torch.full((6,), a)
        mean += p[:, a : a + 1] * importance_weighted(losses[:, a], action, p)
    assert torch.allclose(mean, losses, rtol=1e-12)
    grid = (torch.arange(1000, dtype=F64) + 0.5) / 1000
    drawn = draw_actions(p.unsqueeze(1).expand(-1, 1000, -1), grid.expand(6, -1))
    counts = torch.nn.functional.one_hot(drawn, K).double().mean(1)
    assert (counts - p).abs().max() <= 1e-3
    assert draw_actions(torch.tensor([0.5, 0.5 - 1e-9]), torch.tensor(1 - 1e-10, dtype=F64)) == 1


def test_delayed_bandit_finds_the_best_arm():
    """Sixteen bandits at once, feedback three rounds late."""
    rounds, batch, delay = 600, 16, 3
    means = torch.tensor([0.8, 0.7, 0.2, 0.9], dtype=F64)
    draws = torch.rand(2, rounds, batch, generator=torch.Generator().manual_seed(3), dtype=F64)
    learner = BankerOMD(TsallisEntropy(Simplex(K), q=0.5), banker_scale(2.0), capacity=delay + 1)
    state, late, lost = learner.init(uniform(K, batch)), [], 0.0
    for t in range(rounds):
        x = learner.predict(state)
        action = draw_actions(x, draws[0, t])
        loss = (draws[1, t] < means[action]).double()
        lost = lost + loss.mean() / rounds
        late.append(importance_weighted(loss, action, x).unsqueeze(-2))
        due = t - delay
        came = torch.full((batch, 1), max(due, -1))
        state = learner.update(state, late[max(due, 0)], came)
    assert lost < 0.4
    assert learner.predict(state)[:, 2].min() > 0.5


def test_scales_that_follow_losses_do_not_mind_their_unit():
    """Delayed bandits with a log barrier: the same points for losses a million times as large."""
    rounds, delay, width = 80, 2, K * math.log(80)
    draws = torch.rand(2, rounds, 8, generator=torch.Generator().manual_seed(3), dtype=F64)
    found = []
    for unit in (1.0, 1e6):
        learner = BankerOMD(LogBarrier(Simplex(K)), lambda t, waiting: 1e-12 + 0.0 * waiting, capacity=delay + 1)
        state, late, squares = learner.init(uniform(K, 8)), [], torch.full((8,), 1e-20, dtype=F64)
        points = []
        for t in range(rounds):
            x = learner.predict(state)
            points.append(x)
            action = draw_actions(x, draws[0, t])
            loss = unit * (0.3 + 0.7 * draws[1, t]) * (0.2 + action / K)
            late.append((loss, importance_weighted(loss, action, x)))
            due = max(t - delay, 0)
            squares = squares + late[due][0].square() * (t >= delay)
            came = torch.full((8, 1), t - delay if t >= delay else -1)
            rule = scale_free(width, squares) if t >= delay else None
            state = learner.update(state, late[due][1].unsqueeze(-2), came, rule)
        found.append(torch.stack(points))
    assert torch.allclose(*found, rtol=1e-3)
    assert found[0][-1, :, 0].mean() > 0.4
    with pytest.raises(DomainError, match="width"):
        scale_free(0.0, squares)


@pytest.mark.parametrize(
    "mirror_map",
    [BallLogBarrier(Ball(3, radius=2.0)), LogBarrier(Box(-1.0, 2.0, dim=3))],
    ids=lambda m: type(m).__name__,
)
def test_axes_give_unbiased_gradients_of_one_length(mirror_map):
    x, loss = mirror_map.to_primal(3 * normal(6, 3)), normal(6, 3, seed=1)
    mean, place = torch.zeros_like(x), torch.zeros_like(x)
    for axis in range(3):
        for sign in (-1, 1):
            drawn = torch.full((6,), axis), torch.full((6,), sign)
            action = axis_action(mirror_map, x, *drawn)
            assert mirror_map.domain.contains(action).all()
            paid = (loss * action).sum(-1)
            estimate = axis_gradient(mirror_map, x, *drawn, paid)
            mean, place = mean + estimate / 6, place + action / 6
            local = (estimate * mirror_map.hessian(x).solve(estimate)).sum(-1)
            assert torch.allclose(local, (3 * paid).square(), rtol=1e-9)
    assert torch.allclose(mean, loss, rtol=1e-9, atol=1e-9)
    assert torch.allclose(place, x, rtol=1e-9)
    with pytest.raises(ShapeError, match="axis"):
        axis_action(mirror_map, x, torch.zeros(5, dtype=torch.long), torch.ones(6))
