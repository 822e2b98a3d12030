"""Parameter-free learning and implicit steps: closed forms, bounds of single runs, robustness to step sizes."""

import math

import pytest
import torch

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry import validation
from mirrorgen.geometry.domains import Ball, Euclidean, Orthant, Simplex
from mirrorgen.geometry.mirror_maps import HellingerBall, NegEntropy, Quadratic, SimplexEntropy
from mirrorgen.optim.online import FollowRegularizedLeader, ImplicitFTRL, ParameterFree

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


# Parameter-free.


@pytest.mark.parametrize(("length", "far"), [(0.5, False), (20.0, False), (400.0, True)])
def test_points_are_the_inverse_of_the_potentials_gradient(length, far):
    """``Psi'`` by its definition, a minimum over step sizes on a grid, gives back the dual point."""
    learner = ParameterFree(gradient_bound=2.0, scale=0.3)
    state = learner.init(torch.zeros(3, dtype=F64))
    direction = torch.tensor([2.0, -1.0, 2.0], dtype=F64) / 3
    state = state._replace(y=length * direction, squares=torch.tensor(37.0, dtype=F64))
    w = learner.predict(state)
    unit = 0.3 * 2.0 / (math.sqrt(37) * math.log(37 / 4) ** 2)
    level = math.log1p(float(w.norm()) / unit)
    rates = torch.exp(torch.linspace(-12, math.log(0.5), 400001, dtype=F64))
    values = 3 * (level / rates + rates * 37.0)
    assert values.min() == pytest.approx(length, rel=1e-8)
    assert (values.argmin() == len(rates) - 1) == far
    assert torch.allclose(w / w.norm(), direction, rtol=1e-12)


def test_units_of_losses_do_not_matter():
    gradients = 0.3 * normal(50, 2).clamp(-1, 1)
    found = []
    for factor in (1.0, 8.0):
        learner = ParameterFree(gradient_bound=factor)
        state = learner.init(torch.zeros(2, dtype=F64))
        for g in gradients:
            state = learner.update(state, factor * g)
        found.append(learner.predict(state))
    assert torch.allclose(*found, rtol=1e-12)


def regrets(dtype, rounds):
    """Sum of ``<g, w>``, sum of ``g`` and last state of five opponents on the line, one row each.

    The first flips coins, the second always pushes one way, the others pull towards points at distance 0, 1 and 100.
    """
    learner = ParameterFree()
    state = learner.init(torch.zeros(5, 1, dtype=dtype))
    targets = torch.tensor([[0.0], [1.0], [100.0]], dtype=dtype)
    fixed = torch.full((rounds, 2, 1), 0.05, dtype=dtype)
    fixed[:, 0] = torch.rand(rounds, 1, generator=torch.Generator().manual_seed(0)).round().mul(2).sub(1)
    points, gradients = torch.empty(2, rounds, 5, 1, dtype=dtype)
    with validation(False):
        for t in range(rounds):
            points[t] = learner.predict(state)
            torch.cat([fixed[t], torch.sign(points[t, 2:] - targets)], out=gradients[t])
            state = learner.update(state, gradients[t])
    gained = (points.double() * gradients.double()).sum((0, -1))
    return learner, state, gained, gradients.double().sum(0)


def within_bound(learner, squares, gained, total):
    """Whether regret against the best comparators of three lengths keeps the bound."""
    unit, kept = learner.unit(squares.double()), []
    for length in (0.0, 1.0, 100.0):
        level = torch.log1p(length / unit)
        bound = 4 + 6 * length * torch.maximum((squares.double() * level).sqrt(), level)
        kept.append(gained + length * total.norm(dim=-1) <= bound)
    return torch.stack(kept)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_regret_against_every_length_of_comparator(dtype):
    learner, state, gained, total = regrets(dtype, 3_000)
    assert within_bound(learner, state.squares, gained, total).all()
    # The second opponent: points explode, and stay finite.
    assert learner.predict(state)[1].norm() > 1e6
    # Not for want of trying: the pull to distance one is learnt.
    assert (learner.predict(state)[3].norm() - 1).abs() < 0.5


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_hundred_thousand_rounds(dtype):
    """Opponents that do not look: all rounds are one batch, because states are sums of gradients."""
    rounds, learner = 100_000, ParameterFree()
    draws = torch.rand(rounds, generator=torch.Generator().manual_seed(0), dtype=F64)
    half = torch.where(torch.arange(rounds) < rounds // 2, 0.01, -0.01).double()
    drift = (draws < 0.52).double() * 2 - 1
    g = torch.stack([2 * draws.round() - 1, torch.ones(rounds, dtype=F64), half, drift], -1).to(dtype).unsqueeze(-1)
    totals, squares = g.cumsum(0), g.square().sum(-1).cumsum(0)
    zero = learner.init(torch.zeros_like(g))
    y = torch.cat([zero.y[:1], -totals[:-1]])
    V = 4 + torch.cat([torch.zeros_like(squares[:1]), squares[:-1]])
    w = learner.predict(zero._replace(y=y, squares=V))
    # What updates one by one give.
    state = learner.init(torch.zeros_like(g[0]))
    for t in range(50):
        assert torch.allclose(learner.predict(state), w[t], rtol=1e-4, atol=1e-30)
        state = learner.update(state, g[t])
    assert torch.isfinite(w).all()
    # The cut is reached by those that always push, and holds.
    assert w.abs().amax() > 1e30
    gained = (g.double() * w.double()).sum((0, -1))
    assert within_bound(learner, 4 + squares[-1], gained, g.double().sum(0)).all()


def test_damped_updates_solve_their_problem():
    """``grad Psi(w+) + growth |w+| / sqrt(t) = y - g`` along the direction of the right side."""
    learner = ParameterFree(growth=0.7)
    state = learner.init(torch.zeros(4, 3, dtype=F64))
    for t in range(1, 60):
        g = 2 * normal(4, 3, seed=t)
        after = learner.update(state, g)
        w, right = learner.predict(after), state.y - g
        assert torch.allclose(after.y + 0.7 * w / math.sqrt(t), right, rtol=1e-9, atol=1e-9)
        state = after
    # Far out too, where without the damping points would be astronomical.
    after = learner.update(state, torch.full((4, 3), 1e3, dtype=F64))
    w = learner.predict(after)
    assert torch.allclose(after.y + 0.7 * w / math.sqrt(60), state.y - 1e3, rtol=1e-9)
    assert w.norm(dim=-1).max() < 1e4 * math.sqrt(3) * math.sqrt(60)


def test_squared_losses_without_bounds():
    """``(w - c_t)^2 / 2`` on the whole line: regret grows no faster than a root of the rounds."""
    means = torch.tensor([[-0.8], [0.8]], dtype=F64)
    targets = means + 0.2 * normal(1200, 2, 1).clamp(-1, 1)
    learner = ParameterFree(growth=1.0)
    state, lost, found = learner.init(torch.zeros(2, 1, dtype=F64)), 0.0, []
    for t, target in enumerate(targets, 1):
        w = learner.predict(state)
        lost = lost + 0.5 * (w - target).square().squeeze(-1)
        state = learner.update(state, w - target)
        if t in (300, 1200):
            best = targets[:t].mean(0)
            found.append(lost - 0.5 * (best - targets[:t]).square().sum((0, -1)))
    assert (found[1] <= math.sqrt(1200 / 300) * found[0]).all()
    # More than half the way is done.
    assert ((learner.predict(state) - means).abs() < 0.4).all()


def test_parameter_free_errors():
    learner = ParameterFree(gradient_bound=1.0)
    state = learner.init(torch.zeros(2, dtype=F64))
    with pytest.raises(DomainError, match="clip"):
        learner.update(state, torch.tensor([1.0, 1.0], dtype=F64))
    with pytest.raises(ShapeError, match="gradient"):
        learner.update(state, torch.zeros(3, dtype=F64))
    with pytest.raises(DomainError, match="origin"):
        learner.init(torch.ones(2))
    with pytest.raises(ShapeError, match="float32"):
        learner.init(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(DomainError, match="positive"):
        ParameterFree(scale=0.0)


# Implicit steps.


def test_quadratic_steps_are_polyak_steps_that_are_capped():
    learner, x, g = ImplicitFTRL(Quadratic(Euclidean(3)), step_size=0.8), normal(20, 3), normal(20, 3, seed=1)
    loss = torch.rand(20, generator=torch.Generator().manual_seed(2), dtype=F64) + 0.2
    after = learner.predict(learner.update(learner.init(x), g, loss, 0.2))
    polyak = (loss - 0.2) / g.square().sum(-1)
    assert torch.allclose(after, x - polyak.clamp_max(0.8).unsqueeze(-1) * g, rtol=1e-12)
    assert 0 < (polyak < 0.8).sum() < 20


def absolute_loss_run(mirror_map, step_size):
    """Losses ``|<a_t, x> - b_t|`` of eight experiments; ``sum l_t(x_t) - l_t(u)`` and the right side of the bound."""
    domain, rounds = mirror_map.domain, 50
    features, answers = normal(rounds, 8, domain.dim), 0.3 * normal(rounds, 8, seed=1)
    start = domain.interior_point().to(F64).expand(8, -1)
    u = mirror_map.to_primal(0.5 * normal(8, domain.dual_dim, seed=2))
    learner = ImplicitFTRL(mirror_map, step_size=step_size)
    size = step_size if callable(step_size) else lambda t: step_size

    def conjugate(total, t):
        """``psi_t*(-total)`` less the inner product with the start, which telescopes."""
        return mirror_map.divergence(start, mirror_map.to_primal(state.start - size(t) * total)) / size(t)

    state, regret, bound, linear = learner.init(start), 0.0, 0.0, 0
    origin = mirror_map.coordinates(start)
    for t, (a, b) in enumerate(zip(features, answers, strict=True), 1):
        x = learner.predict(state)
        gap = (a * x).sum(-1) - b
        loss, g = gap.abs(), gap.sign().unsqueeze(-1) * a
        regret = regret + loss - ((a * u).sum(-1) - b).abs()
        after = learner.update(state, g, loss)
        pulled = mirror_map.pull_back(g)
        part = ((after.total - state.total) * pulled).sum(-1) / pulled.square().sum(-1)
        there = (pulled * (mirror_map.coordinates(x) - origin)).sum(-1)

        def objective(a, s=state, p=pulled, level=loss, w=there, t=t):
            """``H_t`` at ``a g`` plus ``l_t``, the start's inner product left out on both sides."""
            return conjugate(s.total + a.unsqueeze(-1) * p, t + 1) + a * (w - level) + level

        for other in (0.0, 0.5, 1.0):
            assert (objective(part) <= objective(torch.full_like(part, other)) + 1e-9).all()
        linear += int((part > 1 - 1e-9).sum())
        bound = bound + objective(part) - conjugate(state.total, t)
        state = after
    assert 0 < linear < rounds * 8
    return regret, bound + mirror_map.divergence(u, start) / size(rounds + 1)


@pytest.mark.parametrize("step_size", [0.3, lambda t: 1.5 / math.sqrt(t)], ids=["constant", "falling"])
@pytest.mark.parametrize(
    "mirror_map",
    [SimplexEntropy(Simplex(4)), Quadratic(Euclidean(3)), NegEntropy(Orthant(3)), HellingerBall(Ball(3))],
    ids=lambda m: type(m).__name__,
)
def test_implicit_runs_keep_their_inequality(mirror_map, step_size):
    regret, bound = absolute_loss_run(mirror_map, step_size)
    assert (regret <= bound + 1e-9).all()


def test_large_steps_do_little_harm():
    """Least squares: linear models diverge from a step scale of 10 on, truncated ones keep their loss."""
    rounds, truth = 400, normal(5, seed=3)
    features = normal(rounds, 5, seed=4)
    answers = features @ truth + 0.1 * normal(rounds, seed=5)
    scales = torch.tensor([1.0, 10.0, 100.0], dtype=F64)
    losses = {}
    for rule in (ImplicitFTRL, FollowRegularizedLeader):
        learner = rule(Quadratic(Euclidean(5)), step_size=lambda t: scales / math.sqrt(t))
        state, lost = learner.init(torch.zeros(3, 5, dtype=F64)), torch.zeros(3, dtype=F64)
        for a, b in zip(features, answers, strict=True):
            residual = (learner.predict(state) @ a - b).clamp(-1e50, 1e50)
            loss = 0.5 * residual.square()
            lost = lost + loss / rounds
            g = residual.unsqueeze(-1) * a
            state = learner.update(state, g, loss) if rule is ImplicitFTRL else learner.update(state, g)
        losses[rule] = lost
    implicit, linear = losses[ImplicitFTRL], losses[FollowRegularizedLeader]
    assert implicit.max() <= 2 * implicit.min()
    assert implicit.max() < 0.1
    assert linear[1:].min() > 1e6


def test_implicit_errors():
    learner = ImplicitFTRL(Quadratic(Euclidean(2)))
    state = learner.init(torch.zeros(4, 2, dtype=F64))
    with pytest.raises(DomainError, match="lower_bound"):
        learner.update(state, torch.ones(4, 2, dtype=F64), -torch.ones(4, dtype=F64))
    with pytest.raises(ShapeError, match="loss"):
        learner.update(state, torch.ones(4, 2, dtype=F64), torch.ones(2, dtype=F64))
    with pytest.raises(DomainError, match="constraint"):
        ImplicitFTRL(Quadratic(Euclidean(2)), Ball(2))
