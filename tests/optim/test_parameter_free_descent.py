"""Descent without step sizes: the wealth of bettors in closed form, bounds, and what rules share."""

import io
import math

import pytest
import torch
from torch import nn

from mirrorgen.betting import Bets, bet
from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Euclidean, Simplex
from mirrorgen.geometry.mirror_maps import Quadratic, SimplexEntropy
from mirrorgen.optim import ParameterFreeDescent
from mirrorgen.optim.online import ParameterFree

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def played(outcomes, **options):
    """All offsets ``(T + 1, ...)``, the first zero, and the last memory."""
    zero = torch.zeros_like(outcomes[0])
    offsets, bets = [zero], Bets(zero, zero, zero, zero)
    for g in outcomes:
        offset, bets = bet(offsets[-1], g, bets, **options)
        offsets.append(offset)
    return torch.stack(offsets), bets


def test_coins_are_bet_on_like_krichevsky_and_trofimov():
    """Wealth after ``h`` heads of ``T``: ``2^T Gamma(h + 1/2) Gamma(T - h + 1/2) / (pi Gamma(T + 1))``."""
    coins = 2 * (torch.rand(60, 9, generator=torch.Generator().manual_seed(0), dtype=F64) < 0.7).double() - 1
    offsets, bets = played(coins)
    heads, rounds = (coins > 0).sum(0).double(), len(coins)
    log_wealth = torch.lgamma(heads + 0.5) + torch.lgamma(rounds - heads + 0.5) - math.lgamma(rounds + 1)
    wealth = torch.exp(log_wealth + rounds * math.log(2) - math.log(math.pi))
    assert torch.allclose(1 + bets.reward, wealth, rtol=1e-11)
    assert torch.allclose(offsets[-1], coins.sum(0) / (rounds + 1) * wealth, rtol=1e-11)


def test_bets_keep_the_regret_of_coin_betting():
    """``sum -g (w - u) <= |u| sqrt(T log(1 + 24 T^2 u^2)) + 1`` for outcomes of one size and every ``u``."""
    rounds = 400
    t = torch.arange(rounds, dtype=F64)
    alternating, constant = 1 - 2 * (t % 2), torch.ones_like(t)
    drift = 2 * (torch.rand(rounds, generator=torch.Generator().manual_seed(1), dtype=F64) < 0.55).double() - 1
    outcomes = torch.stack([alternating, constant, drift, torch.where(t < 250, 1.0, -1.0).double()], -1)
    offsets, _ = played(outcomes)
    for u in (0.0, 0.3, -1.0, 7.0, 100.0):
        regret = (outcomes * (u - offsets[:-1])).sum(0)
        kept = 1 + abs(u) * math.sqrt(rounds * math.log(1 + 24 * rounds**2 * u**2))
        assert (regret <= kept).all()
    # Whoever forgives what was lost does not keep it.
    assert (-(outcomes * played(outcomes, forgive=True)[0][:-1]).sum(0)).max() > 2


def test_units_do_not_matter():
    """Factors on losses change nothing: offsets are in units of parameters."""
    g = normal(40, 3)
    small, large = played(g)[0], played(1e6 * g)[0]
    assert torch.allclose(small, large, rtol=1e-9)


def descend(optimizer, loss, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


@pytest.mark.parametrize("rule", ["coin", "radial"])
@pytest.mark.parametrize("distance", [0.1, 30.0])
def test_absolute_losses_at_any_distance(rule, distance):
    """``mean |x - c|`` in three dimensions: the average is near the minimum, with the same settings at all scales."""
    steps, centre = 2000, distance * torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    p = nn.Parameter(torch.zeros(3, dtype=F64))
    optimizer = ParameterFreeDescent([p], Quadratic(Euclidean(3)), rule=rule, average="uniform")
    descend(optimizer, lambda: (p - centre).abs().mean(), steps)
    (average,) = optimizer.averages()
    if rule == "coin":  # Of gradients of one size, 1/3, per coordinate; its scale is one.
        u = centre.abs()
        bound = ((1 + u * torch.sqrt(steps * torch.log(1 + 24 * steps**2 * u.square()))) / 3).sum() / steps
    else:
        learner, squares = ParameterFree(), 4 + torch.tensor(steps / 3, dtype=F64)
        level = torch.log1p(centre.norm() / learner.unit(squares))
        bound = (4 + 6 * centre.norm() * torch.maximum((squares * level).sqrt(), level)) / steps
    gap = (average - centre).abs().mean()
    assert gap <= bound
    assert gap <= 0.25 * centre.abs().mean()


def test_radial_steps_are_those_of_the_online_learner():
    learner, g = ParameterFree(gradient_bound=5.0, scale=0.2), normal(15, 4, 3)
    start, state = normal(4, 3, seed=2), learner.init(torch.zeros(4, 3, dtype=F64))
    p = nn.Parameter(start.clone())
    optimizer = ParameterFreeDescent([p], Quadratic(Euclidean(3)), rule="radial", gradient_bound=5.0, scale=0.2)
    for gradient in g:
        p.grad, state = gradient, learner.update(state, gradient)
        optimizer.step()
        assert torch.allclose(p, start + learner.predict(state), rtol=1e-12)
    p.grad = torch.full((4, 3), 5.0, dtype=F64)
    with pytest.raises(DomainError, match="clip"):
        optimizer.step()


def test_groups_have_rules_of_their_own_and_state_goes_on():
    def made():
        a, b = nn.Parameter(torch.zeros(2, dtype=F64)), nn.Parameter(torch.full((3, 4), 0.25, dtype=F64))
        groups = [
            {"params": [a], "mirror_map": Quadratic(Euclidean(2)), "rule": "radial", "gradient_bound": 9.0},
            {"params": [b], "mirror_map": SimplexEntropy(Simplex(4)), "maximize": True},
        ]
        return a, b, ParameterFreeDescent(groups)

    def loss(a, b):
        return (a - 1).square().sum() + (b * torch.arange(4)).sum()

    a, b, optimizer = made()
    descend(optimizer, lambda: loss(a, b), 5)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    c, d, again = made()
    with torch.no_grad():
        c.copy_(a)
        d.copy_(b)
    again.load_state_dict(torch.load(buffer, weights_only=True))
    descend(optimizer, lambda: loss(a, b), 20)
    descend(again, lambda: loss(c, d), 20)
    assert torch.equal(a, c)
    assert torch.equal(b, d)
    # The ascent goes to the vertex of the largest coefficient, strictly inside.
    assert (b[:, 3] > 0.9).all()
    assert Simplex(4).contains(b.detach()).all()


def test_resync_starts_anew():
    p = nn.Parameter(torch.zeros(2, dtype=F64))
    optimizer = ParameterFreeDescent([p], Quadratic(Euclidean(2)))
    descend(optimizer, lambda: (p - 3).abs().sum(), 30)
    with torch.no_grad():
        p.fill_(7.0)
    optimizer.resync()
    fresh = nn.Parameter(torch.full((2,), 7.0, dtype=F64))
    other = ParameterFreeDescent([fresh], Quadratic(Euclidean(2)))
    for o, x in ((optimizer, p), (other, fresh)):
        descend(o, lambda x=x: (x - 3).abs().sum(), 30)
    assert torch.equal(p, fresh)


def test_errors():
    def make(**options):
        return ParameterFreeDescent([nn.Parameter(torch.zeros(2))], Quadratic(Euclidean(2)), **options)

    with pytest.raises(DomainError, match="rule"):
        make(rule="dice")
    with pytest.raises(DomainError, match="gradient_bound"):
        make(rule="radial", gradient_bound=0.0)
