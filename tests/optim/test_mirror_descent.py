"""Optimisers: updates against closed forms, the bounds of their theory, state, and torch's conventions."""

import io
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.geometry.bregman import AffineSet, Indicator, L1Norm
from mirrorgen.geometry.domains import Ball, Box, Euclidean, Orthant, Simplex
from mirrorgen.geometry.mirror_maps import BoxEntropy, Hypentropy, NegEntropy, Quadratic, SimplexEntropy, default
from mirrorgen.optim import (
    DualAveraging,
    LineSearchMirrorDescent,
    MirrorDescent,
    MirrorProx,
    accelerated_mirror_descent,
)

F64 = torch.float64


def uniform(n, *batch):
    return torch.full((*batch, n), 1 / n, dtype=F64)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def closure_of(optimizer, loss):
    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value.detach()

    return closure


def descend(optimizer, loss, steps):
    for _ in range(steps):
        optimizer.step(closure_of(optimizer, loss))


# Updates.


def test_simplex_is_exponentiated_gradient():
    start, gradient = normal(5, 4).softmax(-1), normal(5, 4, seed=1)
    p = nn.Parameter(start.clone())
    p.grad = gradient
    MirrorDescent([p], lr=0.7, mirror_map=SimplexEntropy(Simplex(4))).step()
    expected = (start.log() - 0.7 * gradient).softmax(-1)
    assert torch.allclose(p, expected, rtol=1e-12)


def test_quadratic_is_sgd_with_momentum():
    ours, theirs = (nn.Parameter(normal(3, 2)) for _ in range(2))
    a = MirrorDescent([ours], lr=0.1, mirror_map=Quadratic(Euclidean(2)), momentum=0.9)
    b = torch.optim.SGD([theirs], lr=0.1, momentum=0.9)
    for optimizer, p in ((a, ours), (b, theirs)):
        descend(optimizer, lambda p=p: p.square().sum() + p.sum().cos(), 7)
    assert torch.allclose(ours, theirs, rtol=1e-12)


def test_boxes_and_maximisation():
    start, gradient = torch.rand(6, 3, dtype=F64), normal(6, 3)
    p = nn.Parameter(start.clone())
    p.grad = gradient
    MirrorDescent([p], lr=0.3, mirror_map=BoxEntropy(Box(0.0, 1.0, dim=3)), maximize=True).step()
    assert torch.allclose(p, torch.sigmoid(start.logit() + 0.3 * gradient), rtol=1e-12)


def test_optimistic_steps():
    p = nn.Parameter(uniform(3))
    optimizer = MirrorDescent([p], lr=0.5, mirror_map=SimplexEntropy(Simplex(3)), optimistic=True)
    first, second = normal(2, 3)
    for gradient in (first, second):
        p.grad = gradient.clone()
        optimizer.step()
    assert torch.allclose(p, (-0.5 * (first + 2 * second - first)).softmax(-1), rtol=1e-12)


def test_composite_steps_solve_their_problem():
    """``argmin <g, u> + w |u|_1 + D(u, x) / lr``: zero is a subgradient at the result."""
    mirror_map, weight, lr = Hypentropy(Euclidean(6), beta=0.5), 1.2, 0.8
    x = normal(6)
    p = nn.Parameter(x.clone())
    p.grad = normal(6, seed=1)
    MirrorDescent([p], lr=lr, mirror_map=mirror_map, prox=L1Norm(weight)).step()
    residual = p.grad + (mirror_map.to_dual(p) - mirror_map.to_dual(x)) / lr
    live = p.abs() > 1e-9
    assert live.any()
    assert (~live).any()
    assert torch.allclose(residual[live], -weight * p[live].sign(), atol=1e-9)
    assert (residual[~live].abs() <= weight + 1e-9).all()


def test_projected_steps_stay_on_the_plane():
    mirror_map, plane = BoxEntropy(Box(0.0, 1.0, dim=5)), AffineSet(torch.ones(1, 5, dtype=F64), [2.0])
    p = nn.Parameter(torch.full((5,), 0.4, dtype=F64))
    optimizer = MirrorDescent([p], lr=1.0, mirror_map=mirror_map, prox=Indicator(plane))
    cost = normal(5)
    descend(optimizer, lambda: (cost * p).sum(), 300)
    assert abs(p.sum().item() - 2) < 1e-9
    assert torch.allclose(p.detach(), (cost <= cost.sort().values[1]).double(), atol=1e-6)


# The dual is the state.


@pytest.mark.parametrize("kind", ["simplex", "box"])
def test_a_parameter_at_a_vertex_comes_back(kind):
    """Float32: driven to where all digits of the parameter are lost, and back by the same steps."""
    mirror_map = SimplexEntropy(Simplex(3)) if kind == "simplex" else BoxEntropy(Box(0.0, 1.0, dim=3))
    start = torch.tensor([0.5, 0.3, 0.2])
    p = nn.Parameter(start.clone())
    optimizer = MirrorDescent([p], lr=0.01, mirror_map=mirror_map)
    push = torch.tensor([-1.0, 1.0, 1.0])
    first = optimizer.duals()[0].clone()
    for sign in (1.0, -1.0):
        for _ in range(5000):
            p.grad = sign * push
            optimizer.step()
        assert mirror_map.domain.contains(p.detach()).all()
        if sign > 0:
            assert float(p[0].detach()) > 1 - 1e-6
    assert torch.allclose(optimizer.duals()[0], first, atol=2e-3)
    assert torch.allclose(p, start, atol=1e-3)


def test_state_is_plain_and_goes_on_exactly():
    def made():
        p = nn.Parameter(uniform(4, 2))
        options = {"lr": 0.3, "mirror_map": SimplexEntropy(Simplex(4)), "momentum": 0.5, "optimistic": True}
        return p, MirrorDescent([p], **options, average="uniform")

    def loss(p):
        return ((p - 0.1).square() * torch.arange(4)).sum()

    p, optimizer = made()
    descend(optimizer, lambda: loss(p), 5)
    buffer = io.BytesIO()
    torch.save({"p": p.detach(), "optimizer": optimizer.state_dict()}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    q, again = made()
    with torch.no_grad():
        q.copy_(saved["p"])
    again.load_state_dict(saved["optimizer"])
    for o, x in ((optimizer, p), (again, q)):
        descend(o, lambda x=x: loss(x), 5)
    assert torch.equal(p, q)
    assert torch.equal(optimizer.averages()[0], again.averages()[0])


def test_schedulers_groups_and_missing_gradients():
    a, b, idle = nn.Parameter(uniform(3)), nn.Parameter(torch.rand(2, 2, dtype=F64)), nn.Parameter(uniform(3))
    groups = [
        {"params": [a, idle], "mirror_map": SimplexEntropy(Simplex(3)), "lr": 0.2},
        {"params": [b], "mirror_map": BoxEntropy(Box(dim=2)), "maximize": True},
    ]
    optimizer = MirrorDescent(groups, lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    before = b.detach().clone()
    descend(optimizer, lambda: (a * torch.arange(3)).sum() + b.sum(), 1)
    scheduler.step()
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.05]
    assert a[0] > a[2]
    assert (b > before).all()
    assert torch.equal(idle, uniform(3))


def test_resync_takes_what_was_set_by_hand():
    p = nn.Parameter(uniform(3))
    optimizer = MirrorDescent([p], lr=0.1, mirror_map=SimplexEntropy(Simplex(3)))
    descend(optimizer, lambda: p[0], 3)
    with torch.no_grad():
        p.copy_(torch.tensor([0.2, 0.3, 0.5], dtype=F64))
    optimizer.resync()
    p.grad = torch.zeros(3, dtype=F64)
    optimizer.step()
    assert torch.allclose(p, torch.tensor([0.2, 0.3, 0.5], dtype=F64), rtol=1e-12)


def test_bad_settings():
    simplex = SimplexEntropy(Simplex(3))
    with pytest.raises(DomainError, match="mirror_map"):
        MirrorDescent([nn.Parameter(uniform(3))])
    with pytest.raises(ShapeError, match="last axis must be 3"):
        MirrorDescent([nn.Parameter(uniform(4))], mirror_map=simplex)
    with pytest.raises(DomainError, match="parameter"):
        MirrorDescent([nn.Parameter(torch.tensor([1.0, 0.0, 0.0]))], mirror_map=simplex)
    for options, name in (({"lr": 0.0}, "lr"), ({"momentum": 1.0}, "momentum"), ({"average": "all"}, "average")):
        with pytest.raises(DomainError, match=name):
            MirrorDescent([nn.Parameter(uniform(3))], mirror_map=simplex, **options)
    with pytest.raises(DomainError, match="closure"):
        MirrorProx([nn.Parameter(uniform(3))], mirror_map=simplex).step()
    with pytest.raises(DomainError, match="closure"):
        LineSearchMirrorDescent([nn.Parameter(uniform(3))], simplex).step()


# Bounds. Entropy is strongly convex with constant one in the 1-norm; its range over the simplex is log n.


def worst_row(n=40, rows=60):
    """``max_i (A x - b)_i``, its Lipschitz constant in the 1-norm, and its minimum by linear programming."""
    from scipy.optimize import linprog

    A, b = normal(rows, n).clamp(-1, 1), 0.1 * normal(rows, seed=1)
    solved = linprog(
        [*[0.0] * n, 1.0],
        A_ub=torch.cat([A, -torch.ones(rows, 1, dtype=F64)], 1).numpy(),
        b_ub=b.numpy(),
        A_eq=[[*[1.0] * n, 0.0]],
        b_eq=[1.0],
        bounds=[*[(0, None)] * n, (None, None)],
    )
    return (lambda x: (x @ A.T - b).amax(-1)), float(A.abs().max()), solved.fun


@pytest.mark.parametrize("steps", [200, 2000])
def test_mirror_descent_and_dual_averaging_keep_their_bounds(steps):
    f, lipschitz, best = worst_row()
    n, width = 40, math.sqrt(math.log(40))
    p = nn.Parameter(uniform(n))
    optimizer = MirrorDescent([p], width / lipschitz * math.sqrt(2 / steps), default(Simplex(n)), average="uniform")
    descend(optimizer, lambda: f(p), steps)
    gap = f(optimizer.averages()[0]).item() - best
    assert 0 <= gap <= width * lipschitz * math.sqrt(2 / steps)
    p = nn.Parameter(uniform(n))
    optimizer = DualAveraging([p], lr=1.0, mirror_map=default(Simplex(n)))
    for _ in range(steps):
        optimizer.param_groups[0]["lr"] = width / lipschitz * math.sqrt(1 / (2 * steps))
        optimizer.step(closure_of(optimizer, lambda: f(p)))
    gap = f(optimizer.averages()[0]).item() - best
    assert 0 <= gap <= 2 * width * lipschitz * math.sqrt(2 / steps)


def matrix_game(optimizer, steps, n=50, **options):
    """The duality gap of the averages after ``steps``."""
    A = 2 * torch.rand(n, n, generator=torch.Generator().manual_seed(0), dtype=F64) - 1
    x, z = nn.Parameter(uniform(n)), nn.Parameter(uniform(n))
    groups = [{"params": [x]}, {"params": [z], "maximize": True}]
    made = optimizer(groups, mirror_map=SimplexEntropy(Simplex(n)), **options)
    descend(made, lambda: x @ A @ z, steps)
    first, second = made.averages()
    return ((A.T @ first).amax() - (A @ second).amin()).item(), A.abs().max().item()


def test_saddle_points():
    gaps = {}
    for steps in (100, 1000):
        rate = math.sqrt(2 * math.log(50) / steps)
        plain, bound = matrix_game(MirrorDescent, steps, lr=rate, average="uniform")
        assert 0 <= plain <= 2 * rate * bound
        gaps[steps], largest = matrix_game(MirrorProx, steps, lr=0.5)
        assert 0 <= gaps[steps] <= 2 * math.log(50) * largest / (0.5 * steps)
        optimistic, _ = matrix_game(MirrorDescent, steps, lr=0.5, optimistic=True, average="uniform")
        assert 0 <= optimistic <= 2 * math.log(50) * largest / (0.5 * steps)
    # The rate 1 / k: ten times the steps, a tenth of the gap.
    assert gaps[1000] == pytest.approx(gaps[100] / 10, rel=0.1)


def test_relatively_smooth_descent():
    """Poisson regression is smooth relative to Burg's entropy with constant ``sum b``: monotone, ``L D / k``."""
    from mirrorgen.geometry.mirror_maps import BurgEntropy

    A, truth = torch.rand(30, 8, generator=torch.Generator().manual_seed(0), dtype=F64), torch.rand(8, dtype=F64) + 0.5
    b = A @ truth
    p = nn.Parameter(torch.full((8,), 2.0, dtype=F64))
    mirror_map = BurgEntropy(Orthant(8))
    first = mirror_map.divergence(truth, p.detach()).item()
    constant = b.sum().item()
    optimizer = MirrorDescent([p], 1 / constant, mirror_map)

    def loss():
        q = A @ p
        return (q - b - b * torch.log(q / b)).sum()

    values = []
    for k in range(1, 400):
        optimizer.step(closure_of(optimizer, loss))
        values.append(loss().item())
        assert values[-1] <= constant * first / k
    assert all(later <= earlier for earlier, later in pairwise(values))


# Line search.


def box_problem():
    """A convex quadratic on the unit box with active bounds, and its minimum by another solver."""
    from scipy.optimize import minimize

    root, shift = normal(20, 12), 2 * torch.rand(12, generator=torch.Generator().manual_seed(3), dtype=F64) - 0.5
    H = root.T @ root + 0.1 * torch.eye(12, dtype=F64)

    def f(x):
        return 0.5 * (x - shift) @ H @ (x - shift)

    def both(x):
        x = torch.tensor(x, requires_grad=True)
        f(x).backward()
        return f(x).item(), x.grad.numpy()

    tight = {"ftol": 1e-15, "gtol": 1e-12}
    solved = minimize(both, 0.5 * torch.ones(12).numpy(), jac=True, bounds=[(0, 1)] * 12, options=tight)
    return f, solved.fun


@pytest.mark.parametrize("criterion", ["armijo", "bregman"])
def test_line_search_needs_no_step_size(criterion):
    f, best = box_problem()
    p = nn.Parameter(torch.full((12,), 0.5, dtype=F64))
    optimizer = LineSearchMirrorDescent([p], BoxEntropy(Box(dim=12)), criterion=criterion)
    closure = closure_of(optimizer, lambda: f(p))
    values = [optimizer.step(closure) for _ in range(300)]
    assert all(b <= a for a, b in pairwise(values))
    assert f(p).item() - best < 1e-5 * abs(best)
    assert optimizer.evaluations <= 2.5 * 300


def test_line_search_evaluates_once_a_step_where_its_guess_is_good():
    p = nn.Parameter(normal(5))
    optimizer = LineSearchMirrorDescent([p], Quadratic(Euclidean(5)), lr=0.1)
    closure = closure_of(optimizer, lambda: 2 * p.square().sum())
    for _ in range(3):
        optimizer.step(closure)
    # The second guess is exact: the curvature is constant.
    assert optimizer.evaluations == 4
    assert float(p.detach().abs().max()) < 1e-12


def test_line_search_reports_wrong_gradients_and_leaves_the_point():
    p = nn.Parameter(torch.full((3,), 0.5, dtype=F64))
    optimizer = LineSearchMirrorDescent([p], BoxEntropy(Box(dim=3)))

    def closure():
        p.grad = -torch.ones(3, dtype=F64)
        return p.detach().sum()

    with pytest.raises(ConvergenceError, match="check the gradients"):
        optimizer.step(closure)
    assert torch.allclose(p, torch.full((3,), 0.5, dtype=F64), rtol=1e-12)


# Acceleration.


def test_acceleration_keeps_its_bound_and_beats_plain_descent():
    n = 60
    d2 = (
        2 * torch.eye(n, dtype=F64)
        - torch.diag(torch.ones(n - 1, dtype=F64), 1)
        - torch.diag(torch.ones(n - 1, dtype=F64), -1)
    )
    start, target = torch.zeros(n, dtype=F64), normal(n)

    def f(x):
        return 0.5 * (x - target) @ d2 @ (x - target)

    constant, distance = 4.0, 0.5 * target.square().sum().item()
    seen = []
    accelerated_mirror_descent(
        lambda x: d2 @ (x - target), Quadratic(Euclidean(n)), start, smoothness=constant, steps=200,
        callback=lambda k, x: seen.append((k, f(x).item())),
    )  # fmt: skip
    assert all(value <= (2 / (k + 1)) ** 2 * constant * distance for k, value in seen)
    p = nn.Parameter(start.clone())
    descend(MirrorDescent([p], 1 / constant, Quadratic(Euclidean(n))), lambda: f(p), 200)
    assert seen[-1][1] < 0.2 * f(p).item()


def test_acceleration_on_the_simplex_stays_inside():
    A = normal(30, 10)
    constant = float((A.T @ A).abs().max())  # Relative to entropy: the largest entry, by the 1-norm.

    def f(x):
        return 0.5 * (A @ x).square().sum()

    mirror_map = SimplexEntropy(Simplex(10))
    plain = accelerated_mirror_descent(lambda x: A.T @ (A @ x), mirror_map, uniform(10), smoothness=constant, steps=300,
                                       exponent=1.0)  # fmt: skip
    fast = accelerated_mirror_descent(lambda x: A.T @ (A @ x), mirror_map, uniform(10), smoothness=constant, steps=300)
    assert mirror_map.domain.contains(fast).all()
    best = accelerated_mirror_descent(lambda x: A.T @ (A @ x), mirror_map, uniform(10), smoothness=constant, steps=8000)
    assert f(fast) - f(best) < 0.5 * (f(plain) - f(best))
    with pytest.raises(DomainError, match="exponent"):
        accelerated_mirror_descent(lambda x: x, mirror_map, uniform(10), smoothness=1.0, steps=1, exponent=3.0)


@pytest.mark.parametrize("domain", [Simplex(4), Box(dim=3), Ball(3), Orthant(2)])
def test_every_default_map_descends_strictly_inside(domain):
    p = nn.Parameter(domain.interior_point().to(torch.float32))
    optimizer = MirrorDescent([p], lr=5.0, mirror_map=default(domain))
    descend(optimizer, lambda: p[0], 50)
    assert bool(domain.contains(p.detach()))
    assert p[0].item() < float(domain.interior_point()[0])


def test_negative_entropy_is_unnormalised_exponentiated_gradient():
    p = nn.Parameter(torch.tensor([1.0, 2.0], dtype=F64))
    p.grad = torch.tensor([0.3, -0.1], dtype=F64)
    MirrorDescent([p], lr=2.0, mirror_map=NegEntropy(Orthant(2))).step()
    assert torch.allclose(p, torch.tensor([math.exp(-0.6), 2 * math.exp(0.2)], dtype=F64), rtol=1e-12)
