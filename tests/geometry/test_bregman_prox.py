"""Closed Bregman proximity operators against minimisation, optimality conditions and literal formulas in float64."""

import math

import pytest
import torch
from scipy import optimize

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.bregman import (
    GroupNorm,
    Indicator,
    L1Ball,
    L1Norm,
    bregman_divergence,
    bregman_envelope,
    bregman_projection,
    bregman_prox,
    envelope_gradient,
    prox_dual,
)

F64 = torch.float64
BETA = 0.3
LINE, HALF = D.Euclidean(1), D.Orthant(1)
# The map and points of it, zero's neighbourhood included where zero is inside.
MAPS = {
    "energy": (lambda: M.Quadratic(LINE), torch.linspace(-3, 3, 41)),
    "quadratic": (lambda: M.Quadratic(LINE, [2.5]), torch.linspace(-3, 3, 41)),
    "hypentropy": (lambda: M.Hypentropy(LINE, BETA), torch.linspace(-3, 3, 41)),
    "hypentropy_vector": (lambda: M.Hypentropy(LINE, [BETA]), torch.linspace(-3, 3, 41)),
    "exponential": (lambda: M.Exponential(LINE), torch.linspace(-3, 3, 41)),
    "hellinger": (lambda: M.HellingerBall(D.Ball(1)), torch.linspace(-0.98, 0.98, 41)),
    "hellinger_off_centre": (lambda: M.HellingerBall(D.Ball(1, 2.0, [1.5])), torch.linspace(-0.45, 3.4, 41)),
    "box_log_barrier": (lambda: M.LogBarrier(D.Box(-1.0, 1.0)), torch.linspace(-0.98, 0.98, 41)),
    "neg_entropy": (lambda: M.NegEntropy(HALF), torch.logspace(-3, 1, 17)),
    "burg": (lambda: M.BurgEntropy(HALF), torch.logspace(-3, 1, 17)),
    "softplus": (lambda: M.SoftplusDual(HALF), torch.logspace(-3, 1, 17)),
    "fermi_dirac": (lambda: M.BoxEntropy(D.Box(0.0, 1.0)), torch.linspace(0.02, 0.98, 25)),
    "fermi_dirac_below_zero": (lambda: M.BoxEntropy(D.Box(-3.0, -1.0)), torch.linspace(-2.95, -1.05, 25)),
    "fermi_dirac_around_zero": (lambda: M.BoxEntropy(D.Box(-1.0, 2.0)), torch.linspace(-0.98, 1.95, 41)),
}
RIGHT = ["energy", "quadratic", "hypentropy", "hypentropy_vector", "neg_entropy", "burg"] + [
    name for name in MAPS if name.startswith("fermi")
]
CASES = [(name, "left") for name in MAPS] + [(name, "right") for name in RIGHT]
SIZES = [(0.5, 0.6), (2.0, 0.9)]  # step, weight: c = 0.3 and c = 1.8


def soft(v, c):
    return torch.sign(v) * (v.abs() - c).clamp_min(0)


def square_root_form(t, c):
    return ((1 + c) - torch.sqrt((1 + c) ** 2 - 4 * c * t)) / (2 * c)


FORMULAS = {
    ("energy", "left"): soft,
    ("energy", "right"): soft,
    ("quadratic", "left"): lambda t, c: soft(t, c / 2.5),
    ("hypentropy", "left"): lambda t, c: BETA * torch.sinh(soft(torch.asinh(t / BETA), c)),
    ("exponential", "left"): lambda t, c: torch.log(1 + soft(torch.exp(t) - 1, c)),
    ("hellinger", "left"): lambda t, c: (
        soft(t / torch.sqrt(1 - t**2), c) / torch.sqrt(1 + soft(t / torch.sqrt(1 - t**2), c) ** 2)
    ),
    ("box_log_barrier", "left"): lambda t, c: (
        soft(2 * t / (1 - t**2), c) / (1 + torch.sqrt(1 + soft(2 * t / (1 - t**2), c) ** 2))
    ),
    ("neg_entropy", "left"): lambda t, c: t * math.exp(-c),
    ("neg_entropy", "right"): lambda t, c: t / (1 + c),
    ("burg", "left"): lambda t, c: t / (1 + c * t),
    ("burg", "right"): lambda t, c: 2 * t / (1 + torch.sqrt(1 + 4 * c * t)),
    ("fermi_dirac", "left"): lambda t, c: torch.sigmoid(torch.logit(t) - c),
    ("fermi_dirac", "right"): square_root_form,
}


def problem(name):
    make, t = MAPS[name]
    return make(), t.to(F64).unsqueeze(-1)


@pytest.mark.parametrize(("step", "weight"), SIZES)
@pytest.mark.parametrize(("name", "side"), sorted(FORMULAS))
def test_literal_formulas(name, side, step, weight):
    mirror_map, t = problem(name)
    u = bregman_prox(mirror_map, L1Norm(weight), t, step, side)
    torch.testing.assert_close(u, FORMULAS[name, side](t, step * weight), rtol=1e-11, atol=1e-12)


def test_hypentropy_right_formula_below_one():
    mirror_map, t = problem("hypentropy")
    c = 0.3
    size = (t.abs() - c * torch.sqrt(t**2 + BETA**2 * (1 - c**2))) / (1 - c**2)
    expected = torch.where(t.abs() <= c * BETA, 0.0, torch.sign(t) * size)
    u = bregman_prox(mirror_map, L1Norm(0.6), t, 0.5, "right")
    torch.testing.assert_close(u, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("step", "weight"), SIZES)
@pytest.mark.parametrize(("name", "side"), CASES)
def test_optimality(name, side, step, weight):
    mirror_map, t = problem(name)
    u = bregman_prox(mirror_map, L1Norm(weight), t, step, side)
    slope = mirror_map.to_dual(t) - mirror_map.to_dual(u) if side == "left" else mirror_map.hessian(u).mv(t - u)
    slope, zero = slope / (step * weight), u == 0
    torch.testing.assert_close(slope[~zero], torch.sign(u[~zero]), rtol=1e-9, atol=1e-9)
    assert (slope[zero].abs() <= 1 + 1e-12).all()
    inside = t.min() < 0 < t.max()
    assert bool(zero.any()) == bool(inside)


@pytest.mark.parametrize(("step", "weight"), SIZES)
@pytest.mark.parametrize(("name", "side"), CASES)
def test_against_minimisation(name, side, step, weight):
    mirror_map, t = problem(name)
    t = t[::4]
    value = bregman_envelope(mirror_map, L1Norm(weight), t, step, side)
    u = bregman_prox(mirror_map, L1Norm(weight), t, step, side)
    for point, ours, height in zip(t, u, value, strict=True):

        def objective(v, point=point):
            p = torch.tensor([v], dtype=F64)
            pair = (p, point) if side == "left" else (point, p)
            return weight * abs(v) + float(bregman_divergence(mirror_map, *pair)) / step

        # The solution is between zero (or the nearest end) and the point.
        ends = sorted([float(point), 1e-9 if name in ("neg_entropy", "burg", "softplus") else 0.0])
        ends = [ends[0], -1 - 1e-9] if name == "fermi_dirac_below_zero" else ends
        ends = [1e-9, ends[1]] if name == "fermi_dirac" else ends
        best = optimize.minimize_scalar(objective, bounds=ends, method="bounded", options={"xatol": 1e-11})
        assert float(height) <= best.fun + 1e-11
        assert abs(best.x - float(ours)) < 2e-6
        assert abs(objective(float(ours)) - float(height)) < 1e-12


def test_published_value_in_the_dead_zone_is_not_a_minimiser():
    # Public notebooks return the divergence of zero there, sqrt(t^2 + beta^2) - beta.
    mirror_map = M.Hypentropy(LINE, BETA)
    t = torch.tensor([[0.2]], dtype=F64)
    theirs = torch.sqrt(t**2 + BETA**2) - BETA
    assert float(bregman_prox(mirror_map, L1Norm(1.0), t, 1.0)) == 0.0

    def objective(u):
        return float(u.abs() + mirror_map.divergence(u, t))

    assert objective(theirs) > objective(torch.zeros_like(t)) + 1e-3
    assert float(theirs) == pytest.approx(float(bregman_envelope(mirror_map, L1Norm(1.0), t, 1.0)))


@pytest.mark.parametrize(("step", "weight"), [*SIZES, (1e-5, 100.0)])
@pytest.mark.parametrize(("name", "side"), CASES)
def test_envelope_gradient_against_differences(name, side, step, weight):
    mirror_map, t = problem(name)
    h = 1e-4 * torch.minimum(t.abs(), 1 - t.abs() if "hellinger" in name or "box" in name else t.abs()).abs()
    h = torch.clamp(h, 1e-7, 1e-4)

    def envelope(x):
        return bregman_envelope(mirror_map, L1Norm(weight), x, step, side).unsqueeze(-1)

    # Fourth order.
    difference = (8 * (envelope(t + h) - envelope(t - h)) - envelope(t + 2 * h) + envelope(t - 2 * h)) / (12 * h)
    ours = envelope_gradient(mirror_map, L1Norm(weight), mirror_map.to_dual(t), step, side)
    smooth = (bregman_prox(mirror_map, L1Norm(weight), t, step, side) == 0) == (
        bregman_prox(mirror_map, L1Norm(weight), t + 3 * h, step, side) == 0
    )
    assert smooth.sum() > 0.7 * len(t)
    torch.testing.assert_close(ours[smooth], difference[smooth], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_envelope_gradient_against_autograd_with_weights(side):
    mirror_map = M.Hypentropy(D.Euclidean(3), [0.3, 2.0, 20.0])
    function = L1Norm(torch.tensor([0.5, 1.0, 30.0]))
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(2), dtype=F64)
    oracle = torch.func.grad(lambda v: bregman_envelope(mirror_map, function, v, 0.2, side).sum())(x)
    ours = envelope_gradient(mirror_map, function, mirror_map.to_dual(x), 0.2, side)
    torch.testing.assert_close(ours, oracle, rtol=1e-9, atol=1e-9)
    split = [M.Hypentropy(LINE, b) for b in (0.3, 2.0, 20.0)]
    u = [
        bregman_prox(m, L1Norm(w), x[:, [i]], 0.2, side)
        for i, (m, w) in enumerate(zip(split, (0.5, 1.0, 30.0), strict=True))
    ]
    torch.testing.assert_close(bregman_prox(mirror_map, function, x, 0.2, side), torch.cat(u, -1))


def test_small_steps_keep_their_digits_in_float32():
    # (x - P(x)) / lambda in float32 would have two digits left.
    mirror_map = M.Hypentropy(D.Euclidean(3), 2.0)
    y = mirror_map.to_dual(torch.tensor([[50.0, 0.3, -7.0]]))
    ours = envelope_gradient(mirror_map, L1Norm(2.0), y, 1e-6)
    torch.testing.assert_close(ours, 2.0 * torch.sign(y), rtol=1e-5, atol=0)


def test_far_dual_points_in_float32():
    y = torch.tensor([[-80.0, -20.0, 20.0, 80.0]])
    for make, c in ((lambda: M.BoxEntropy(D.Box(0.0, 1.0, dim=4)), 0.5), (lambda: M.Hypentropy(D.Euclidean(4)), 1.7)):
        for side in ("left", "right"):
            w = prox_dual(make(), L1Norm(c), y, 1.0, side)
            exact = prox_dual(make(), L1Norm(c), y.double(), 1.0, side)
            torch.testing.assert_close(w.double(), exact, rtol=1e-5, atol=1e-5)
    # logit u = logit t - log(1 + c) at the lower end, and + log(1 / (1 - c)) off the upper one.
    ends = prox_dual(M.BoxEntropy(D.Box(0.0, 1.0, dim=4)), L1Norm(0.5), y, 1.0, "right")[0]
    assert float(ends[0]) == pytest.approx(-80 - math.log(1.5), abs=1e-4)
    assert float(ends[3]) == pytest.approx(80 + math.log(0.5), abs=1e-4)


def test_group_norm_of_quadratic_and_radial_maps():
    x = 0.4 * torch.randn(12, 4, generator=torch.Generator().manual_seed(1), dtype=F64)
    plain = bregman_prox(M.Quadratic(D.Euclidean(4)), GroupNorm(0.5, 2), x, 0.6)
    groups = x.reshape(12, 2, 2)
    size = groups.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(plain, (groups * (1 - 0.3 / size).clamp_min(0)).reshape(12, 4))
    assert 0 < int((plain == 0).sum()) < plain.numel()
    for mirror_map in (M.HellingerBall(D.Ball(4, 2.5)), M.BallLogBarrier(D.Ball(4, 2.5))):
        function = GroupNorm(0.5, 4)
        u = bregman_prox(mirror_map, function, x, 0.6)
        slope = (mirror_map.to_dual(x) - mirror_map.to_dual(u)) / 0.6
        zero = (u == 0).all(-1)
        torch.testing.assert_close(slope[~zero], function.subgradient(u)[~zero], rtol=1e-9, atol=1e-9)
        assert (slope[zero].norm(dim=-1) <= 0.5).all()
        assert 0 < int(zero.sum()) < 12
    with pytest.raises(ShapeError, match="divide"):
        bregman_prox(M.Quadratic(D.Euclidean(4)), GroupNorm(0.5, 3), x, 0.6)
    with pytest.raises(DomainError, match="GroupNorm"):
        bregman_prox(M.Hypentropy(D.Euclidean(4)), GroupNorm(0.5, 2), x, 0.6)


def test_indicator_is_the_projection():
    box, x = D.Box(-0.5, 1.0, dim=2), torch.tensor([[3.0, 0.2], [-2.0, -4.0]], dtype=F64)
    for mirror_map in (
        M.Quadratic(D.Euclidean(2)),
        M.Quadratic(D.Euclidean(2), [1.0, 3.0]),
        M.Hypentropy(D.Euclidean(2)),
    ):
        u = bregman_prox(mirror_map, Indicator(box), x, 0.7)
        torch.testing.assert_close(u, x.clamp(-0.5, 1.0))
        value = bregman_envelope(mirror_map, Indicator(box), x, 0.7)
        torch.testing.assert_close(value, mirror_map.divergence(x.clamp(-0.5, 1.0), x) / 0.7)
        oracle = torch.func.grad(lambda v, m=mirror_map: bregman_envelope(m, Indicator(box), v, 0.7).sum())(x)
        ours = envelope_gradient(mirror_map, Indicator(box), mirror_map.to_dual(x), 0.7)
        torch.testing.assert_close(ours, oracle)
    ball = D.Ball(2)
    u = bregman_prox(M.Quadratic(D.Euclidean(2)), Indicator(ball), x, 0.7)
    torch.testing.assert_close(u, x / x.norm(dim=-1, keepdim=True))
    assert Indicator(ball)(torch.cat([u, x])).tolist() == [0.0, 0.0, math.inf, math.inf]


def test_missing_closed_forms_and_bad_weights_are_refused():
    x = torch.full((1, 1), 0.3, dtype=F64)
    for mirror_map in (M.Exponential(LINE), M.HellingerBall(D.Ball(1)), M.LogBarrier(D.Box(-1.0, 1.0))):
        with pytest.raises(DomainError, match="right proximity"):
            bregman_prox(mirror_map, L1Norm(), x, 0.5, "right")
    with pytest.raises(DomainError, match="left proximity"):
        bregman_prox(M.HellingerBall(D.Ball(2)), L1Norm(), torch.zeros(1, 2, dtype=F64), 0.5)
    for weight in (-1.0, math.nan, torch.tensor([1.0, -2.0])):
        with pytest.raises(DomainError, match="weight"):
            L1Norm(weight)
    with pytest.raises(ShapeError, match="beta"):
        M.Hypentropy(D.Euclidean(3), [1.0, 2.0])
    with pytest.raises(DomainError, match="beta"):
        M.Hypentropy(D.Euclidean(2), [1.0, 0.0])


def test_l1_ball_with_one_scale_per_coordinate():
    mirror_map = M.Hypentropy(D.Euclidean(4), [0.1, 1.0, 5.0, 0.02])
    x = torch.tensor([[3.0, -0.5, 0.1, -8.0], [0.1, 0.0, -0.2, 0.1], [1e3, 1e6, 0.0, 1.0]], dtype=F64)
    u = bregman_projection(mirror_map, x, L1Ball(2.0))
    torch.testing.assert_close(u.abs().sum(-1), torch.tensor([2.0, 0.4, 2.0], dtype=F64), rtol=1e-12, atol=0)
    change = mirror_map.to_dual(x) - mirror_map.to_dual(u)
    threshold = change.abs().amax(-1, keepdim=True)
    torch.testing.assert_close(torch.where(u != 0, change, torch.sign(u)), torch.sign(u) * threshold)


def test_quadratic_projects_onto_any_domain():
    simplex, x = D.Simplex(3), torch.tensor([[0.9, 0.8, -0.4]], dtype=F64)
    # The two positive coordinates share the excess of 0.7.
    expected = torch.tensor([[0.55, 0.45, 0.0]], dtype=F64)
    torch.testing.assert_close(bregman_projection(M.Quadratic(D.Euclidean(3)), x, simplex), expected)
