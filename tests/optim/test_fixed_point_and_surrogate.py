"""Averaged fixed points, target-space surrogates, and AMSGrad with hints."""

import math

import pytest
import torch
from torch import nn

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains import Box, Euclidean, Simplex
from mirrorgen.geometry.mirror_maps import BoxEntropy, Quadratic, SimplexEntropy
from mirrorgen.optim import BregmanSurrogate, OptimisticAMSGrad, averaged_fixed_point, harmonic_weight

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


# Fixed points.


@pytest.mark.parametrize("factor", [0.1, 0.5, 0.9, 0.99])
def test_averaging_slows_contractions_down_to_a_known_power(factor):
    """All dual points shrink by the product of ``1 - 2 (1 - c) / (t + 2)``: exponent ``-2 (1 - c)``."""
    steps = (500, 1000)
    sizes = {}
    start = torch.ones(1, dtype=F64)
    averaged_fixed_point(
        lambda x: factor * x,
        Quadratic(Euclidean(1)),
        start,
        steps=steps[1],
        weight=harmonic_weight,
        callback=lambda k, x: sizes.update({k: float(x)}),
    )
    exact = math.exp(math.lgamma(1000 + 2 * factor) - math.lgamma(2 * factor) - math.lgamma(1002) + math.lgamma(2))
    assert sizes[1000] == pytest.approx(exact, rel=1e-10)
    slope = math.log(sizes[1000] / sizes[500]) / math.log(2)
    assert slope == pytest.approx(-2 * (1 - factor), abs=0.01)
    # The claimed rate 1 / t^2 of the squared distance fails for factors above one half.
    assert (2 * slope < -2 + 0.02) == (factor <= 0.5)
    assert factor**1000 < sizes[1000]


@pytest.mark.parametrize("mirror_map", [SimplexEntropy(Simplex(4)), BoxEntropy(Box(-1.0, 2.0, dim=3))])
def test_averages_are_taken_in_the_dual(mirror_map):
    y = normal(5, mirror_map.domain.dual_dim)
    found = averaged_fixed_point(
        lambda x: mirror_map.to_primal(0.6 * mirror_map.to_dual(x)), mirror_map, mirror_map.to_primal(y), steps=7
    )
    assert torch.allclose(mirror_map.to_dual(found), 0.8**7 * y, rtol=1e-9, atol=1e-12)


def test_averaging_makes_a_rotation_converge():
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=F64)
    start = torch.tensor([1.0, 0.0], dtype=F64)
    space = Quadratic(Euclidean(2))
    averaged = averaged_fixed_point(lambda x: x @ turn.T, space, start, steps=100)
    picard = averaged_fixed_point(lambda x: x @ turn.T, space, start, steps=100, weight=1.0)
    # Eigenvalues (1 + i) / 2 of size 1 / sqrt(2).
    assert averaged.norm() == pytest.approx(2**-50, rel=1e-9)
    assert picard.norm() == pytest.approx(1)
    with pytest.raises(DomainError, match="weights"):
        averaged_fixed_point(lambda x: x, space, start, steps=1, weight=1.5)


# Surrogates.


def logistic_problem():
    """Features of condition number 316, the summed logistic loss of scores, and its minimum by Newton's method."""
    n, d = 500, 10
    left, _, right = torch.linalg.svd(normal(n, d), full_matrices=False)
    X = math.sqrt(n) * left @ torch.diag(torch.logspace(0, -2.5, d, dtype=F64)) @ right
    # Answers depend on all directions alike, those that features hardly show included.
    Q = math.sqrt(n) * left
    draws = torch.rand(n, generator=torch.Generator().manual_seed(2), dtype=F64)
    sign = torch.sign(torch.sigmoid(Q @ normal(d, seed=1) / math.sqrt(d)) - draws)

    def loss(z):
        return torch.nn.functional.softplus(-sign.unsqueeze(-1) * z).mean()

    w = torch.zeros(d, dtype=F64)
    for _ in range(20):
        p = torch.sigmoid(-sign * (Q @ w))
        w = w + torch.linalg.solve((Q.T * (p * (1 - p))) @ Q, Q.T @ (sign * p))
    assert float((Q.T @ (sign * torch.sigmoid(-sign * (Q @ w)))).norm()) < 1e-9
    return X, loss, float(loss((Q @ w).unsqueeze(-1)))


def test_exact_inner_solves_do_not_see_the_condition_number():
    """Each expensive gradient gives one projected step on scores; gradient descent on weights needs far more."""
    X, loss, best = logistic_problem()
    n = len(X)
    scores, step = torch.zeros(n, 1, dtype=F64), 4.0 * n
    calls, gap = 0, math.inf
    while gap > 1e-6 and calls < 200:
        surrogate = BregmanSurrogate(Quadratic(Euclidean(1)), loss, scores, step)
        calls += 1
        scores = X @ torch.linalg.lstsq(X, surrogate.target()).solution
        # It lies above the loss, and so its decrease is one of the loss.
        assert loss(scores) <= surrogate(scores) + 1e-15
        assert surrogate(scores) <= surrogate.value + 1e-15
        gap = float(loss(scores)) - best
    assert calls <= 50, calls
    w = torch.zeros(X.shape[1], 1, dtype=F64)
    rate = 4 * n / float(torch.linalg.matrix_norm(X, 2)) ** 2
    for _ in range(20 * calls):
        w.requires_grad_()
        (g,) = torch.autograd.grad(loss(X @ w), w)
        w = w.detach() - rate * g
    assert float(loss(X @ w)) - best > 1e-4


def test_surrogates_of_policies_are_mirror_descent():
    mirror_map, cost = SimplexEntropy(Simplex(3)), normal(6, 3)
    start = normal(6, 3, seed=1).softmax(-1)
    surrogate = BregmanSurrogate(mirror_map, lambda z: (cost * z).sum(), start, 0.7)
    expected = (start.log() - 0.7 * cost).softmax(-1)
    assert torch.allclose(surrogate.target(), expected, rtol=1e-12)
    logits = expected.log().requires_grad_()
    (slope,) = torch.autograd.grad(surrogate(logits.softmax(-1)), logits)
    assert slope.abs().max() < 1e-12
    assert surrogate(start) == pytest.approx(float((cost * start).sum()))
    other = normal(6, 3, seed=2).softmax(-1)
    by_hand = (cost * other).sum() + (other * (other / start).log()).sum() / 0.7
    assert surrogate(other) == pytest.approx(float(by_hand), rel=1e-12)


def test_surrogate_errors():
    space = Quadratic(Euclidean(2))
    with pytest.raises(DomainError, match="step_size"):
        BregmanSurrogate(space, torch.sum, torch.zeros(3, 2), 0.0)
    with pytest.raises(ShapeError, match="one number"):
        BregmanSurrogate(space, lambda z: z.sum(-1), torch.zeros(3, 2), 1.0)
    with pytest.raises(ShapeError):
        BregmanSurrogate(space, torch.sum, torch.zeros(3, 1), 1.0)


# AMSGrad.


def test_three_steps_by_hand():
    gradients = [0.5, -2.0, 0.1]
    p = nn.Parameter(torch.tensor([1.0], dtype=F64))
    optimizer = OptimisticAMSGrad([p], lr=0.1, betas=(0.8, 0.9), eps=1e-3)
    anchor, mean, square, largest = 1.0, 0.0, 0.0, 0.0
    for g in gradients:
        p.grad = torch.tensor([g], dtype=F64)
        optimizer.step()
        before, mean, square = mean, 0.8 * mean + 0.2 * g, 0.9 * square + 0.1 * g * g
        largest = max(largest, square)
        scale = 0.1 / (math.sqrt(largest) + 1e-3)
        anchor -= scale * mean
        assert float(p.detach()) == pytest.approx(anchor - scale * (0.8 * before + 0.2 * g), rel=1e-12)


def test_hints_make_a_bilinear_game_converge():
    """``min_x max_z x z``: AMSGrad moves away from the saddle, its optimistic sibling to it."""
    distances = {}
    for rule in (OptimisticAMSGrad, torch.optim.Adam):
        x, z = (nn.Parameter(torch.tensor([v], dtype=F64)) for v in (1.0, 0.5))
        groups = [{"params": [x], "maximize": False}, {"params": [z], "maximize": True}]
        extra = {"amsgrad": True} if rule is torch.optim.Adam else {}
        optimizer = rule(groups, lr=0.1, betas=(0.0, 0.9), **extra)
        for _ in range(600):
            optimizer.zero_grad()
            (x * z).sum().backward()
            optimizer.step()
        distances[rule] = math.hypot(float(x.detach()), float(z.detach()))
    assert distances[OptimisticAMSGrad] < 1e-3
    assert distances[torch.optim.Adam] > 1


def test_amsgrad_errors_and_state():
    p = nn.Parameter(torch.ones(2))
    with pytest.raises(DomainError, match="betas"):
        OptimisticAMSGrad([p], betas=(1.0, 0.9))
    optimizer = OptimisticAMSGrad([p])
    p.grad = torch.ones(2)
    optimizer.step()
    q = nn.Parameter(p.detach().clone())
    again = OptimisticAMSGrad([q])
    again.load_state_dict(optimizer.state_dict())
    q.grad = p.grad.clone()
    optimizer.step()
    again.step()
    assert torch.equal(p, q)
