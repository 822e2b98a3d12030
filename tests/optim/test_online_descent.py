"""Online mirror descent, dual averaging and optimistic steps: closed forms and the inequalities of single runs."""

import math

import pytest
import torch

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains import Ball, Box, Euclidean, Orthant, Simplex
from mirrorgen.geometry.mirror_maps import BoxEntropy, HellingerBall, NegEntropy, Quadratic, SimplexEntropy
from mirrorgen.optim.online import (
    FollowRegularizedLeader,
    OnlineMirrorDescent,
    OptimisticMirrorDescent,
    VariationStepSize,
)

F64 = torch.float64
MAPS = [
    SimplexEntropy(Simplex(5)),
    Quadratic(Euclidean(4)),
    BoxEntropy(Box(-1.0, 2.0, dim=3)),
    HellingerBall(Ball(3, radius=2.0)),
    NegEntropy(Orthant(3)),
]


def name_of(mirror_map):
    return type(mirror_map).__name__


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def uniform(n, *batch):
    return torch.full((*batch, n), 1 / n, dtype=F64)


def play(learner, start, losses):
    """The points of linear losses ``(T, *batch, dim)``, and all states."""
    states, points = [learner.init(start)], []
    for gradient in losses:
        points.append(learner.predict(states[-1]))
        states.append(learner.update(states[-1], gradient))
    return torch.stack(points), states


def loss_sequences(rounds, n):
    """Losses in [0, 1], ``(T, 4, n)``: coin flips, one good expert, alternating leaders, a leader that turns bad."""
    coins = torch.rand(rounds, n, generator=torch.Generator().manual_seed(1), dtype=F64).round()
    good = 0.5 + 0.5 * torch.rand(rounds, n, generator=torch.Generator().manual_seed(2), dtype=F64)
    good[:, 3] = 0.2
    t = torch.arange(rounds)
    alternating = torch.stack([((t + k) % 2).double() for k in range(n)], -1)
    turning = torch.ones(rounds, n, dtype=F64)
    turning[: rounds // 2, 0] = 0
    turning[rounds // 2 :, 1] = 0
    return torch.stack([coins, good, alternating, turning], 1)


@pytest.mark.parametrize("rule", [OnlineMirrorDescent, FollowRegularizedLeader])
def test_hedge_keeps_its_bound_and_is_softmax(rule):
    rounds, n = 600, 10
    losses, step = loss_sequences(rounds, n), math.sqrt(8 * math.log(n) / rounds)
    points, _ = play(rule(SimplexEntropy(Simplex(n)), step_size=step), uniform(n, 4), losses)
    before = losses.cumsum(0) - losses
    assert torch.allclose(points, torch.softmax(-step * before, -1), atol=1e-12)
    regret = (points * losses).sum((0, -1)) - losses.sum(0).amin(-1)
    assert (regret <= math.sqrt(rounds * math.log(n) / 2)).all()
    assert regret.max() > 5


@pytest.mark.parametrize("mirror_map", MAPS, ids=name_of)
def test_mirror_descent_identity(mirror_map):
    """``<g, x - u> = [D(u, x) - D(u, x+) + D(x, x+)] / step``, summed over rounds with their own step sizes."""
    domain, rounds = mirror_map.domain, 30
    start = domain.interior_point().to(F64).expand(3, -1)
    losses = normal(rounds, 3, domain.dim)
    points, states = play(OnlineMirrorDescent(mirror_map, step_size=lambda t: 0.3 / math.sqrt(t)), start, losses)
    u = mirror_map.to_primal(normal(3, domain.dual_dim, seed=7))
    right = 0.0
    for t, x in enumerate(points):
        after = mirror_map.to_primal(states[t + 1].y)
        gained = mirror_map.divergence(u, x) - mirror_map.divergence(u, after) + mirror_map.divergence(x, after)
        right = right + gained * math.sqrt(t + 1) / 0.3
    assert torch.allclose((losses * (points - u)).sum((0, -1)), right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mirror_map", MAPS, ids=name_of)
def test_leader_keeps_its_inequality(mirror_map):
    domain, rounds = mirror_map.domain, 40
    start = domain.interior_point().to(F64).expand(3, -1)
    losses = normal(rounds, 3, domain.dim, seed=3)
    learner = FollowRegularizedLeader(mirror_map, step_size=lambda t: 0.4 / math.sqrt(t))
    points, states = play(learner, start, losses)
    u = mirror_map.to_primal(normal(3, domain.dual_dim, seed=8))
    bound = mirror_map.divergence(u, start) * math.sqrt(rounds) / 0.4
    for t, x in enumerate(points):
        size = 0.4 / math.sqrt(t + 1)
        y = states[t + 1].start - size * states[t + 1].total
        bound = bound + mirror_map.divergence(x, mirror_map.to_primal(y)) / size
    regret = (losses * (points - u)).sum((0, -1))
    assert (regret <= bound + 1e-9).all()
    # Constant step sizes of an unconstrained problem are mirror descent.
    same = [play(rule(mirror_map, step_size=0.2), start, losses)[0] for rule in (type(learner), OnlineMirrorDescent)]
    assert torch.allclose(*same, atol=1e-10)


def optimistic_sides(learner, start, losses, u):
    """Regret, and the right side of the inequality of a run."""
    mirror_map = learner.mirror_map
    points, states = play(learner, start, losses)
    right = 0.0
    for t, x in enumerate(points):
        state, size = states[t], learner.step(states[t])
        size = size.squeeze(-1) if isinstance(size, torch.Tensor) else size
        here, after = mirror_map.to_primal(state.y), mirror_map.to_primal(states[t + 1].y)
        hint = losses[t - 1] if t else torch.zeros_like(losses[0])
        distances = mirror_map.divergence(u, here) - mirror_map.divergence(u, after)
        distances = distances - mirror_map.divergence(after, x) - mirror_map.divergence(x, here)
        right = right + ((losses[t] - hint) * (x - after)).sum(-1) + distances / size
    return (losses * (points - u)).sum((0, -1)), right


@pytest.mark.parametrize("step_size", [0.2, lambda t: 0.3 / math.sqrt(t), VariationStepSize(2.0, 0.1, 1.0)])
@pytest.mark.parametrize("mirror_map", MAPS, ids=name_of)
def test_optimistic_identity_of_a_run(mirror_map, step_size):
    domain = mirror_map.domain
    start = domain.interior_point().to(F64).expand(3, -1)
    # Small enough that no point reaches a wall, where divergences of rounded points say less.
    losses = 0.1 * normal(1, 3, domain.dim, seed=3) + 0.3 * normal(40, 3, domain.dim, seed=4)
    u = mirror_map.to_primal(normal(3, domain.dual_dim, seed=8))
    learner = OptimisticMirrorDescent(mirror_map, step_size=step_size)
    left, right = optimistic_sides(learner, start, losses, u)
    assert torch.allclose(left, right, rtol=1e-9, atol=1e-9)


def test_projected_runs_keep_the_inequality():
    learner = OptimisticMirrorDescent(Quadratic(Euclidean(4)), Ball(4), step_size=0.5)
    u = normal(6, 4, seed=5)
    u = 0.9 * u / u.norm(dim=-1, keepdim=True)
    losses = normal(60, 6, 4)
    left, right = optimistic_sides(learner, torch.zeros(6, 4, dtype=F64), losses, u)
    assert (left <= right + 1e-9).all()
    # The projection was active, so that the two sides differ.
    assert (right - left).min() > 0.1
    points, _ = play(learner, torch.zeros(6, 4, dtype=F64), losses)
    assert points.norm(dim=-1).max() == pytest.approx(1, abs=1e-9)


def test_given_hints_are_followed():
    mirror_map = SimplexEntropy(Simplex(4))
    learner = OptimisticMirrorDescent(mirror_map, step_size=0.7)
    state, (hint, gradient) = learner.init(uniform(4)), normal(2, 4)
    hinted = learner.hint(state, hint)
    assert torch.allclose(learner.predict(hinted), torch.softmax(-0.7 * hint, -1), rtol=1e-12)
    after = learner.update(hinted, gradient)
    assert torch.allclose(learner.predict(after), torch.softmax(-1.4 * gradient, -1), rtol=1e-12)


def test_matrix_games_at_the_rate_one_over_t():
    """Both players are one batch; ten times the rounds, a tenth of the gap."""
    n = 50
    A = 2 * torch.rand(n, n, generator=torch.Generator().manual_seed(0), dtype=F64) - 1
    learner = OptimisticMirrorDescent(SimplexEntropy(Simplex(n)), step_size=0.5 / float(A.abs().max()))
    state, total, gaps = learner.init(uniform(n, 2)), torch.zeros(2, n, dtype=F64), {}
    for t in range(1, 1001):
        x = learner.predict(state)
        total += x
        state = learner.update(state, torch.stack([A @ x[1], -A.T @ x[0]]))
        if t in (100, 1000):
            mean = total / t
            gaps[t] = float((A.T @ mean[0]).amax() - (A @ mean[1]).amin())
    assert 0 < gaps[1000] <= 2 * math.log(n) / (0.5 * 1000)
    assert gaps[1000] == pytest.approx(gaps[100] / 10, rel=0.1)


def sea_regrets(marks, noise):
    """``|x - c_t|^2 / 2`` on the unit ball with ``c_t = c + noise * bounded (T, *batch, 3)``: regrets at the marks."""
    centre = torch.tensor([0.6, -0.5, 0.3], dtype=F64)
    learner = OptimisticMirrorDescent(Quadratic(Euclidean(3)), Ball(3), step_size=VariationStepSize(2.0, 1.0, 3.0))
    targets = centre + noise
    state, lost, found = learner.init(torch.zeros_like(targets[0])), 0.0, []
    for t, target in enumerate(targets, 1):
        x = learner.predict(state)
        lost = lost + 0.5 * (x - target).square().sum(-1)
        state = learner.update(state, x - target)
        if t in marks:
            best = Ball(3).project(targets[:t].mean(0))
            found.append(lost - 0.5 * (best - targets[:t]).square().sum((0, -1)))
    return torch.stack(found), state


def test_regret_between_stochastic_and_adversarial_losses():
    """The first run is quiet, in five others targets are drawn within 0.7 of a centre."""
    marks, levels = (200, 1000), torch.tensor([0.0, *[0.7] * 5], dtype=F64).unsqueeze(-1)
    noise = levels * normal(1000, 6, 3, seed=11).clamp(-1, 1) / math.sqrt(3)
    found, state = sea_regrets(marks, noise)
    quiet, noisy = found[:, 0], found[:, 1:].mean(-1)
    # Nothing varies: regret stops growing.
    assert quiet[1] == pytest.approx(float(quiet[0]), rel=1e-6)
    assert quiet[0] > 0.1
    assert noisy[0] > 1.1 * quiet[0]
    # Noise costs its variance times the steps taken, whose sum grows like a root.
    D, L, G, rounds = 2.0, 1.0, 3.0, 1000
    rate = state.variation[1:].mean() / rounds
    sizes = VariationStepSize(D, L, G)(rate * torch.arange(rounds)).squeeze(-1).cumsum(0)
    assert noisy[1] / noisy[0] <= sizes[999] / sizes[199]
    assert sizes[999] / sizes[199] < 0.8 * 5
    variances = 5 * math.sqrt(2) * D * math.sqrt(rounds * 0.7**2)
    assert noisy[1] <= 5 * math.sqrt(10) * D**2 * L + 2.5 * math.sqrt(5) * D * G + variances


def test_experiments_do_not_mix():
    mirror_map, start, losses = SimplexEntropy(Simplex(4)), normal(3, 4).softmax(-1), normal(20, 3, 4)
    sizes = torch.tensor([0.1, 0.5, 2.0], dtype=F64)
    for rule in (OnlineMirrorDescent, FollowRegularizedLeader, OptimisticMirrorDescent):
        together, _ = play(rule(mirror_map, step_size=sizes), start, losses)
        for k, size in enumerate(sizes.tolist()):
            alone, _ = play(rule(mirror_map, step_size=size), start[k], losses[:, k])
            assert torch.allclose(together[:, k], alone, atol=1e-12)


def test_dual_points_come_back_from_a_vertex_in_float32():
    learner = OnlineMirrorDescent(SimplexEntropy(Simplex(3)), step_size=1.0)
    state = first = learner.init(torch.tensor([0.5, 0.3, 0.2]))
    push = torch.tensor([-0.5, 0.25, 0.25])
    for sign in (1, -1):
        for _ in range(200):
            state = learner.update(state, sign * push)
    assert torch.allclose(learner.predict(state), learner.predict(first), atol=1e-4)


def test_errors():
    mirror_map = SimplexEntropy(Simplex(3))
    learner = OnlineMirrorDescent(mirror_map, step_size=lambda t: 1.0 - t)
    with pytest.raises(DomainError, match="round 1"):
        learner.update(learner.init(uniform(3)), uniform(3))
    with pytest.raises(ShapeError, match="start"):
        learner.init(uniform(4))
    with pytest.raises(ShapeError, match="gradient"):
        OptimisticMirrorDescent(mirror_map).update(OptimisticMirrorDescent(mirror_map).init(uniform(3)), uniform(2))
    with pytest.raises(DomainError, match="inside"):
        learner.init(torch.tensor([1.0, 0.0, 0.0]))
    sized = FollowRegularizedLeader(mirror_map, step_size=torch.tensor([1.0, -1.0]))
    with pytest.raises(DomainError, match="smallest"):
        sized.predict(sized.init(uniform(3, 2)))
    with pytest.raises(DomainError, match="diameter"):
        VariationStepSize(0.0, 1.0, 1.0)
