"""Divergences, projections, proximity operators and envelopes against SciPy and optimality conditions."""

import pytest
import torch
from scipy import optimize

import mirrorgen
from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.geometry.bregman import (
    AffineSet,
    CappedSimplex,
    L1Ball,
    L1Norm,
    bregman_divergence,
    bregman_envelope,
    bregman_projection,
    bregman_prox,
)

F64 = torch.float64
BOX = [[-1.0, 0.0, 0.5], [1.0, 0.5, 2.0]]

MAPS = {
    "quadratic": lambda: M.Quadratic(D.Euclidean(3)),
    "hypentropy": lambda: M.Hypentropy(D.Euclidean(3), beta=0.3),
    "neg_entropy": lambda: M.NegEntropy(D.Orthant(3)),
    "burg": lambda: M.BurgEntropy(D.Orthant(3)),
    "softplus": lambda: M.SoftplusDual(D.Orthant(3)),
    "box": lambda: M.BoxEntropy(D.Box(*BOX)),
    "ilr": lambda: M.SimplexEntropy(D.Simplex(4)),
    "alr": lambda: M.SimplexEntropy(D.Simplex(4), chart="alr"),
    "hellinger": lambda: M.HellingerBall(D.Ball(3)),
    "ball_barrier": lambda: M.BallLogBarrier(D.Ball(3, radius=2.0)),
    "log_det": lambda: M.LogDet(D.PSD(2)),
    "von_neumann": lambda: M.VonNeumann(D.PSD(2)),
    "polytope": lambda: M.SlackEntropy(D.Polytope([[1.0, 1.0], [-1.0, 0.2], [0.1, -1.0]], [1.0, 1.0, 1.0])),
}
SCALAR = {
    "neg_entropy": lambda: M.NegEntropy(D.Orthant(1)),
    "burg": lambda: M.BurgEntropy(D.Orthant(1)),
    "hypentropy": lambda: M.Hypentropy(D.Euclidean(1), beta=0.3),
    "box": lambda: M.BoxEntropy(D.Box(0.0, 3.0)),
    "hellinger": lambda: M.HellingerBall(D.Ball(1, radius=3.0)),
}


def points(mirror_map, n, seed=0):
    """Interior points: small dual steps around the dual of the interior point."""
    y = mirror_map.to_dual(mirror_map.domain.interior_point())
    step = 0.3 * torch.randn(n, len(y), generator=torch.Generator().manual_seed(seed), dtype=F64)
    return mirror_map.to_primal(y + step)


def cost(u):
    """A smooth convex function without symmetry."""
    ladder = torch.arange(1.0, u.shape[-1] + 1, dtype=u.dtype)
    return 0.7 * (ladder * (u - 0.2).square()).sum(-1) + torch.exp(0.3 * u).sum(-1)


@pytest.mark.parametrize("name", sorted(MAPS))
def test_divergence_is_the_definition(name):
    mirror_map = MAPS[name]()
    p, q = points(mirror_map, 8, 1), points(mirror_map, 8, 2)
    step = mirror_map.coordinates(p) - mirror_map.coordinates(q)
    expected = mirror_map.potential(p) - mirror_map.potential(q) - (mirror_map.to_dual(q) * step).sum(-1)
    assert torch.allclose(mirrorgen.bregman_divergence(mirror_map, p, q), expected, atol=1e-12)
    assert bregman_divergence(mirror_map, p[:, None], q).shape == (8, 8)


def test_divergence_refuses_points_outside():
    mirror_map = MAPS["neg_entropy"]()
    good = torch.ones(2, 3, dtype=F64)
    with pytest.raises(DomainError, match=r"q: .*x\[1\]"):
        bregman_divergence(mirror_map, good, torch.tensor([1.0, -2.0, 1.0], dtype=F64))
    with pytest.raises(DomainError, match="p: "):
        bregman_divergence(mirror_map, -good, good)
    with pytest.raises(ShapeError, match="p must"):
        bregman_divergence(mirror_map, good[:, :2], good)


# A point of each set that affine equations are drawn through, so that they meet the interior.
@pytest.mark.parametrize("name", sorted(MAPS))
@pytest.mark.parametrize("count", [1, 2])
def test_affine_projection_satisfies_optimality(name, count):
    mirror_map = MAPS[name]()
    if count >= mirror_map.domain.dual_dim:
        count = 1
    x, anchor = points(mirror_map, 16), points(mirror_map, 1, seed=5)[0]
    A = torch.randn(count, mirror_map.domain.dim, generator=torch.Generator().manual_seed(9), dtype=F64)
    u = bregman_projection(mirror_map, x, AffineSet(A, A @ anchor))
    assert mirror_map.domain.contains(u).all()
    assert torch.allclose(u @ A.T, (A @ anchor).expand(16, -1), atol=1e-9)
    # Generalised Pythagoras, an equality on affine sets.
    gap = mirror_map.divergence(anchor.expand_as(x), x)
    split = mirror_map.divergence(anchor.expand_as(x), u) + mirror_map.divergence(u, x)
    assert torch.allclose(gap, split, rtol=1e-8, atol=1e-9)


def test_affine_projection_closed_forms():
    x = torch.tensor([[0.2, 0.5, 4.0]], dtype=F64)
    scaled = bregman_projection(M.NegEntropy(D.Orthant(3)), x, AffineSet([1.0, 1.0, 1.0], 2.0))
    assert torch.allclose(scaled, 2.0 * x / x.sum(), atol=1e-11)
    shifted = bregman_projection(M.Quadratic(D.Euclidean(3)), x, AffineSet([1.0, 1.0, 1.0], 2.0))
    assert torch.allclose(shifted, x + (2.0 - x.sum()) / 3, atol=1e-11)
    cone = D.PSD(3)
    X = torch.tensor([[2.0, 0.3, 0.1], [0.3, 1.0, -0.2], [0.1, -0.2, 0.7]], dtype=F64)
    z, c = torch.tensor([1.0, -1.0, 0.5], dtype=F64), 0.8
    quadratic = z @ X @ z
    expected = X + (c - quadratic) / quadratic**2 * torch.outer(X @ z, X @ z)
    u = bregman_projection(M.LogDet(cone), cone.pack(X), AffineSet(cone.pack(torch.outer(z, z)), c))
    assert torch.allclose(cone.unpack(u), expected, atol=1e-10)
    trace = bregman_projection(M.VonNeumann(cone), cone.pack(X), AffineSet(cone.pack(torch.eye(3, dtype=F64)), 1.0))
    assert torch.allclose(cone.unpack(trace), X / X.trace(), atol=1e-10)


def test_affine_projection_is_differentiable():
    mirror_map = MAPS["ilr"]()
    x = mirror_map.to_dual(points(mirror_map, 2)).requires_grad_()
    target = AffineSet([1.0, 2.0, 3.0, 4.0], 2.3)

    def project(y):
        return bregman_projection(mirror_map, mirror_map.to_primal(y), target)

    assert torch.autograd.gradcheck(project, x)
    assert torch.autograd.gradgradcheck(project, x)


def test_affine_sets_that_are_empty_redundant_or_out_of_reach():
    mirror_map = MAPS["ilr"]()
    x = points(mirror_map, 3)
    ones = [1.0, 1.0, 1.0, 1.0]
    assert torch.allclose(bregman_projection(mirror_map, x, AffineSet(ones, 1.0)), x, atol=1e-12)
    row = [1.0, 0.0, 0.0, 0.0]
    once = bregman_projection(mirror_map, x, AffineSet(row, 0.3))
    assert torch.allclose(bregman_projection(mirror_map, x, AffineSet([row, row, ones], [0.3, 0.3, 1.0])), once)
    with pytest.raises(DomainError, match="contradict"):
        bregman_projection(mirror_map, x, AffineSet(ones, 2.0))
    with pytest.raises(ConvergenceError):
        bregman_projection(mirror_map, x, AffineSet(row, 1.5))
    with pytest.raises(ShapeError, match="AffineSet"):
        bregman_projection(mirror_map, x, AffineSet([1.0, 2.0], 0.0))


@pytest.mark.parametrize("name", ["neg_entropy", "burg", "softplus", "hypentropy", "box"])
def test_box_projection_against_scipy(name):
    mirror_map = MAPS[name]()
    box = D.Box([0.2, 0.1, 0.6], [0.5, 0.4, 0.9])
    x = points(mirror_map, 4)
    u = bregman_projection(mirror_map, x, box)
    for row, ours in zip(x, u, strict=True):
        for i in range(3):

            def objective(t, row=row, i=i):
                return float(mirror_map.divergence(torch.where(torch.arange(3) == i, t, row), row))

            best = optimize.minimize_scalar(
                objective, bounds=(float(box.low[i]), float(box.high[i])), method="bounded", options={"xatol": 1e-9}
            )
            assert abs(best.x - float(ours[i])) < 1e-5


@pytest.mark.parametrize("upper", [0.3, 0.5, [0.6, 0.1, 0.35, 0.2], 1.5])
@pytest.mark.parametrize("chart", ["ilr", "alr"])
def test_capped_simplex_against_scipy(upper, chart):
    mirror_map = M.SimplexEntropy(D.Simplex(4), chart=chart)
    x = torch.softmax(2 * torch.randn(6, 4, generator=torch.Generator().manual_seed(3), dtype=F64), -1)
    u = bregman_projection(mirror_map, x, CappedSimplex(upper))
    caps = torch.as_tensor(upper, dtype=F64).expand(4)
    assert (u <= caps).all()
    assert mirror_map.domain.contains(u).all()
    for row, ours in zip(x.numpy(), u.numpy(), strict=True):
        best = optimize.minimize(
            kl,
            args=(row,),
            x0=(caps / caps.sum()).numpy(),
            method="SLSQP",
            bounds=[(1e-12, float(c)) for c in caps],
            constraints={"type": "eq", "fun": lambda t: t.sum() - 1},
            options={"ftol": 1e-15, "maxiter": 500},
        )
        assert abs(best.x - ours).max() < 2e-5
        assert kl(ours, row) <= best.fun + 1e-12


def kl(p, q):
    p, q = torch.as_tensor(p), torch.as_tensor(q)
    return float(torch.special.xlogy(p, p / q).sum())


def test_capped_simplex_with_saturated_logits_in_float32():
    mirror_map = M.SimplexEntropy(D.Simplex(5))
    x = mirror_map.to_primal(1e4 * torch.eye(4))
    u = bregman_projection(mirror_map, x, CappedSimplex(0.4))
    assert mirror_map.domain.contains(u).all()
    assert (u <= 0.4).all()
    with pytest.raises(DomainError, match="sum exceeds one"):
        bregman_projection(mirror_map, x, CappedSimplex(0.2))


def test_l1_ball_projection_is_optimal():
    mirror_map = M.Hypentropy(D.Euclidean(4), beta=0.2)
    x = torch.tensor([[3.0, -0.5, 0.1, -8.0], [0.1, 0.0, -0.2, 0.1], [1e6, 1e6, 0.0, 1.0]], dtype=F64)
    u = bregman_projection(mirror_map, x, L1Ball(2.0))
    assert torch.allclose(u.abs().sum(-1), torch.tensor([2.0, 0.4, 2.0], dtype=F64), atol=1e-12)
    assert torch.allclose(u[1], x[1], atol=1e-14)
    # Stationarity: the dual moves by one multiplier on the support and by at most that elsewhere.
    change = mirror_map.to_dual(x) - mirror_map.to_dual(u)
    threshold = change.abs().amax(-1, keepdim=True)
    assert torch.allclose(torch.where(u != 0, change, torch.sign(u)), torch.sign(u) * threshold, atol=1e-11)
    y = mirror_map.to_dual(x[:1]).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: bregman_projection(mirror_map, mirror_map.to_primal(v), L1Ball(2.0)), y)


def test_unknown_pairs_are_refused_with_the_known_ones():
    mirror_map = MAPS["hellinger"]()
    with pytest.raises(DomainError, match="known: AffineSet"):
        bregman_projection(mirror_map, torch.zeros(3, dtype=F64), D.Box(-0.1, 0.1, dim=3))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", sorted(SCALAR))
def test_scalar_prox_and_envelope_against_scipy(name, side):
    mirror_map = SCALAR[name]()
    x = torch.tensor([[0.3], [1.1], [2.0]], dtype=F64)
    u = bregman_prox(mirror_map, cost, x, 0.6, side)
    value = bregman_envelope(mirror_map, cost, x, 0.6, side)
    for row, ours, height in zip(x, u, value, strict=True):

        def objective(t, row=row):
            point = torch.tensor([t], dtype=F64)
            pair = (point, row) if side == "left" else (row, point)
            return float(cost(point) + mirror_map.divergence(*pair) / 0.6)

        best = optimize.minimize_scalar(objective, bounds=(1e-6, 2.999), method="bounded", options={"xatol": 1e-10})
        assert abs(best.x - float(ours)) < 1e-6
        assert abs(best.fun - float(height)) < 1e-12


@pytest.mark.parametrize("name", sorted(MAPS))
def test_left_prox_and_envelope_satisfy_optimality(name):
    mirror_map = MAPS[name]()
    x = points(mirror_map, 6)
    u = bregman_prox(mirror_map, cost, x, 0.5)
    slope = torch.func.grad(lambda z: cost(mirror_map.from_coordinates(z)).sum())(mirror_map.coordinates(u))
    assert torch.allclose(mirror_map.to_dual(u) + 0.5 * slope, mirror_map.to_dual(x), atol=1e-9)
    z = mirror_map.coordinates(x)
    gradient = torch.func.grad(lambda v: bregman_envelope(mirror_map, cost, mirror_map.from_coordinates(v), 0.5).sum())(
        z
    )
    expected = mirror_map.hessian(x).mv(z - mirror_map.coordinates(u)) / 0.5
    assert torch.allclose(gradient, expected, atol=1e-8)


@pytest.mark.parametrize("name", sorted(MAPS))
def test_right_prox_and_envelope_satisfy_optimality(name):
    mirror_map = MAPS[name]()
    x = points(mirror_map, 6)
    u = bregman_prox(mirror_map, cost, x, 0.2, "right")
    z = mirror_map.coordinates(u)
    slope = torch.func.grad(lambda v: cost(mirror_map.from_coordinates(v)).sum())(z)
    shift = mirror_map.hessian(u).mv(z - mirror_map.coordinates(x))
    assert torch.allclose(0.2 * slope + shift, torch.zeros_like(z), atol=1e-8)
    gradient = torch.func.grad(
        lambda v: bregman_envelope(mirror_map, cost, mirror_map.from_coordinates(v), 0.2, "right").sum()
    )(mirror_map.coordinates(x))
    assert torch.allclose(gradient, (mirror_map.to_dual(x) - mirror_map.to_dual(u)) / 0.2, atol=1e-8)


def test_prox_derivatives():
    mirror_map = MAPS["neg_entropy"]()
    x = points(mirror_map, 2).requires_grad_()
    for side in ("left", "right"):
        assert torch.autograd.gradcheck(lambda v, side=side: bregman_prox(mirror_map, cost, v, 0.4, side), x)
        assert torch.autograd.gradgradcheck(lambda v, side=side: bregman_prox(mirror_map, cost, v, 0.4, side), x)


@pytest.mark.parametrize("name", ["quadratic", "hypentropy", "neg_entropy", "softplus", "box"])
def test_l1_prox_against_scipy(name):
    mirror_map = MAPS[name]()
    x = points(mirror_map, 3, seed=4)
    x = torch.cat([x, x * torch.tensor([-0.9, 1.0, 1.0])]) if name in ("quadratic", "hypentropy") else x
    u = bregman_prox(mirror_map, L1Norm(0.4), x, 0.5)
    for row, ours in zip(x, u, strict=True):
        for i in range(3):

            def objective(t, row=row, i=i):
                point = torch.where(torch.arange(3) == i, t, row)
                return 0.4 * abs(t) + float(mirror_map.divergence(point, row)) / 0.5

            low = (
                float(mirror_map.domain.low[i])
                if name == "box"
                else (0.0 if name in ("neg_entropy", "softplus") else -2)
            )
            high = float(mirror_map.domain.high[i]) if name == "box" else 4.0
            ends = (low + 1e-9, high - 1e-9)
            best = optimize.minimize_scalar(objective, bounds=ends, method="bounded", options={"xatol": 1e-10})
            assert objective(float(ours[i])) <= best.fun + 1e-12
            assert abs(best.x - float(ours[i])) < 1e-5


def test_bad_arguments_are_refused():
    mirror_map = MAPS["ilr"]()
    x = points(mirror_map, 2)
    with pytest.raises(DomainError, match="side"):
        bregman_prox(mirror_map, cost, x, 0.5, "both")
    with pytest.raises(DomainError, match="step"):
        bregman_prox(mirror_map, cost, x, 0.0)
    with pytest.raises(DomainError, match="L1Norm"):
        bregman_prox(mirror_map, L1Norm(), x, 0.5)


def test_float32_points_stay_inside():
    for make in MAPS.values():
        mirror_map = make()
        x = mirror_map.domain.pull_inside(points(mirror_map, 4).float())[0]
        for side in ("left", "right"):
            u = bregman_prox(mirror_map, cost, x, 0.3, side)
            assert u.dtype == torch.float32
            assert mirror_map.domain.contains(u).all()


@pytest.mark.parametrize("name", ["polytope", "von_neumann", "tsallis"])
def test_functional_derivatives_of_iterative_inverses_within_no_grad(name):
    """Samplers and likelihoods differentiate with ``torch.func`` under ``no_grad``; the derivative must not vanish."""
    mirror_map = M.TsallisEntropy(D.Simplex(3), q=0.5) if name == "tsallis" else MAPS[name]()
    y = mirror_map.to_dual(points(mirror_map, 3))
    v = torch.ones_like(y)
    with torch.no_grad():
        x, tangent = torch.func.jvp(mirror_map.to_primal, (y,), (v,))
    step = mirror_map.coordinates(x + tangent) - mirror_map.coordinates(x)
    assert torch.allclose(step, mirror_map.hessian(x).solve(v), atol=1e-9)
