"""Curved losses: inequalities of single runs for strongly convex and exp-concave ones, and logarithmic regret."""

import math

import pytest
import torch
from scipy.optimize import minimize

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains import Ball, Euclidean
from mirrorgen.geometry.mirror_maps import Quadratic
from mirrorgen.optim.online import OptimisticMirrorDescent, OptimisticNewton, StronglyConvexStepSize

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def inside(x):
    """Into the unit ball."""
    return x / x.norm(dim=-1, keepdim=True).clamp_min(1)


def play(learner, loss, rounds, batch, dim):
    """Points, gradients and states of losses ``(t, x) -> (values (batch), gradients)``."""
    state, points, gradients, states = learner.init(torch.zeros(batch, dim, dtype=F64)), [], [], []
    for t in range(rounds):
        states.append(state)
        points.append(learner.predict(state))
        gradients.append(loss(t, points[-1])[1])
        state = learner.update(state, gradients[-1])
    return torch.stack(points), torch.stack(gradients), states


def changes(gradients):
    return gradients - torch.cat([torch.zeros_like(gradients[:1]), gradients[:-1]])


@pytest.mark.parametrize("kind", ["noise", "drift", "jumps"])
def test_strongly_convex_runs_keep_their_inequality(kind):
    """``c |x - a_t|^2 / 2`` plus a linear term on the unit ball; the best point is a projection of a mean."""
    c, rounds, batch, dim = 0.7, 300, 4, 3
    t = torch.arange(rounds, dtype=F64).reshape(-1, 1, 1) / rounds
    centres = {
        "noise": inside(normal(rounds, batch, dim)),
        "drift": inside(torch.cos(6 * t + normal(batch, dim)) * 0.8),
        "jumps": torch.where(t < 0.5, 1.0, -1.0) * inside(normal(batch, dim, seed=3)),
    }[kind]

    def loss(t, x):
        return 0.5 * c * (x - centres[t]).square().sum(-1), c * (x - centres[t])

    learner = OptimisticMirrorDescent(Quadratic(Euclidean(dim)), Ball(dim), StronglyConvexStepSize(c))
    points, gradients, _ = play(learner, loss, rounds, batch, dim)
    sizes = changes(gradients).square().sum(-1) / (c * torch.arange(1, rounds + 1).unsqueeze(-1))
    for mark in (1, 10, 100, rounds):
        u = Ball(dim).project(centres[:mark].mean(0))
        paid = 0.5 * c * (points[:mark] - centres[:mark]).square().sum((0, -1))
        regret = paid - 0.5 * c * (u - centres[:mark]).square().sum((0, -1))
        assert (regret <= sizes[:mark].sum(0) + 1e-9).all()
        # Gradients are at most 2 c, and changes 4 c.
        assert (regret <= 16 * c * (1 + math.log(mark))).all()
    if kind == "noise":
        # Elsewhere whoever follows beats the best fixed point.
        assert regret.min() > 0.05


def squares(rounds, batch, dim, seed=0):
    """``(<a, x> - b)^2 / 2`` with ``|a|, |b| <= 1``: residuals and gradients at most 2, hence 1/4-exp-concave."""
    a, truth = inside(normal(rounds, batch, dim, seed=seed)), inside(normal(batch, dim, seed=seed + 1))
    b = ((a * truth).sum(-1) + 0.3 * normal(rounds, batch, seed=seed + 2)).clamp(-1, 1)

    def loss(t, x):
        residual = (a[t] * x).sum(-1) - b[t]
        return 0.5 * residual.square(), residual.unsqueeze(-1) * a[t]

    return a, b, loss


def best_in_ball(a, b):
    """The least squares of each experiment on the unit ball, by another solver."""
    found = []
    for features, answers in zip(a.transpose(0, 1), b.T, strict=True):

        def objective(x, features=features, answers=answers):
            x = torch.tensor(x, requires_grad=True)
            value = 0.5 * (features @ x - answers).square().sum()
            value.backward()
            return value.item(), x.grad.numpy()

        ball = {"type": "ineq", "fun": lambda x: 1 - x @ x, "jac": lambda x: -2 * x}
        start = [0.0] * a.shape[-1]
        solved = minimize(objective, start, jac=True, constraints=[ball], method="SLSQP", options={"ftol": 1e-12})
        found.append(solved.fun)
    return torch.tensor(found, dtype=F64)


def test_exp_concave_runs_keep_their_inequality():
    rounds, batch, dim = 600, 3, 4
    a, b, loss = squares(rounds, batch, dim)
    learner = OptimisticNewton(Ball(dim), gradient_bound=2.0, exp_concavity=0.25)
    beta = learner.curvature
    assert beta == pytest.approx(1 / 32)
    points, gradients, states = play(learner, loss, rounds, batch, dim)
    moved, energy = changes(gradients), []
    for t, state in enumerate(states):
        energy.append((moved[t] * torch.linalg.solve(state.metric, moved[t])).sum(-1))
        if t == 50:
            outer = torch.einsum("tbi,tbj->bij", gradients[:t], gradients[:t])
            assert torch.allclose(state.metric, (1 + 2 * beta) * torch.eye(dim, dtype=F64) + beta / 2 * outer)
    regrets = {}
    for mark in (20, 150, rounds):
        paid = 0.5 * ((points * a).sum(-1) - b)[:mark].square().sum(0)
        regrets[mark] = paid - best_in_ball(a[:mark], b[:mark])
        right = 0.5 * (1 + 2 * beta) + 1.5 * torch.stack(energy[:mark]).sum(0)
        assert (regrets[mark] <= right + 1e-9).all()
        # The sum of |g|^2 in the norm of the inverse telescopes into a log-determinant.
        logarithm = dim * math.log(1 + beta * 4 * mark / (2 * dim))
        assert (right <= 1 + 1.5 * 4 * 2 / beta * logarithm).all()
    assert regrets[rounds].min() > 0


def test_steps_are_projections_in_the_metric():
    """``<H (x - z) + g, u - x> >= 0`` for all ``u`` of the ball: the least over ``u`` is known."""
    dim, ball = 3, Ball(3, radius=0.7, center=[0.2, -0.1, 0.4])
    learner = OptimisticNewton(ball, gradient_bound=10.0, exp_concavity=1.0)
    root, g = normal(50, dim, dim), 4 * normal(50, dim, seed=1)
    g[:25] *= 0.01
    start = ball.center + 0.3 * inside(normal(50, dim, seed=2))
    state = learner.init(start)._replace(metric=root @ root.mT + 0.1 * torch.eye(dim, dtype=F64), hint=g)
    x = learner.predict(state)
    slope = (state.metric @ (x - start).unsqueeze(-1)).squeeze(-1) + g
    least = (slope * (ball.center - x)).sum(-1) - 0.7 * slope.norm(dim=-1)
    assert least.min() > -1e-9
    active = (x - ball.center).norm(dim=-1) > 0.7 - 1e-9
    assert 0 < active.sum() < 50
    free = start - torch.linalg.solve(state.metric, g)
    assert torch.allclose(x[~active], free[~active], atol=1e-10)
    assert ball.contains(x).all()


def test_hints_and_errors():
    learner = OptimisticNewton(Ball(2), gradient_bound=1.0, exp_concavity=0.5)
    state, g = learner.init(torch.zeros(2, dtype=F64)), torch.tensor([0.3, -0.1], dtype=F64)
    hinted = learner.predict(learner.hint(state, g))
    assert torch.allclose(hinted, learner.update(state, g).point, rtol=1e-12)
    with pytest.raises(DomainError, match="raise the bound"):
        learner.update(state, 10 * g)
    with pytest.raises(ShapeError, match="gradient"):
        learner.update(state, torch.zeros(3, dtype=F64))
    with pytest.raises(DomainError, match="start"):
        learner.init(torch.ones(2, dtype=F64))
    with pytest.raises(DomainError, match="exp_concavity"):
        OptimisticNewton(Ball(2), 1.0, 0.0)
    with pytest.raises(DomainError, match="strong_convexity"):
        StronglyConvexStepSize(0.0)
