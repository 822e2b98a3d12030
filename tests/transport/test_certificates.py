"""Rounding and dual bounds, beside exact plans."""

import ot
import pytest
import torch
from torch.autograd import gradcheck

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.geometry.domains import Birkhoff, TransportPolytope
from mirrorgen.transport import dual_certificate, duality_gap, exact_plan, marginal_error, round_to_polytope, sinkhorn
from tests.transport.problems import F64, clouds, noise


def test_rounded_plans_keep_their_marginals_and_stay_near():
    _, mu, nu = clouds(5, n=9, m=13)
    plan = noise(5, 9, 13).exp()
    plan = plan / plan.sum((-2, -1), keepdim=True)
    rounded = round_to_polytope(plan, mu, nu)
    assert (rounded >= 0).all()
    assert (marginal_error(rounded, mu, nu) < 1e-14).all()
    moved = (rounded - plan).abs().sum((-2, -1))
    assert (moved <= 2 * marginal_error(plan, mu, nu)).all()


def test_plans_on_the_polytope_are_left_alone():
    _, mu, nu = clouds(3, n=9)
    plan = mu[..., :, None] * nu[..., None, :]
    torch.testing.assert_close(round_to_polytope(plan, mu, nu), plan, rtol=1e-14, atol=0)
    zero = round_to_polytope(torch.zeros(3, 9, 9, dtype=F64), mu, nu)
    torch.testing.assert_close(zero, plan, rtol=1e-14, atol=0)


def test_rounding_three_axes():
    weights = [torch.rand(n, dtype=F64, generator=torch.Generator().manual_seed(n)) + 0.1 for n in (3, 4, 5)]
    weights = [w / w.sum() for w in weights]
    plan = noise(2, 3, 4, 5).exp() / 60
    assert (marginal_error(round_to_polytope(plan, *weights), *weights) < 1e-14).all()


def test_rounded_sinkhorn_plans_are_points_of_the_domain():
    cost, mu, nu = clouds(n=6, m=8)
    polytope = TransportPolytope(mu, nu)
    plan = round_to_polytope(sinkhorn(cost, mu, nu, epsilon=0.1, tolerance=1e-3).plan, mu, nu)
    assert polytope.contains(polytope.pack(plan))
    ones = torch.ones(6, dtype=F64)
    doubly = sinkhorn(noise(6, 6), ones, ones, epsilon=0.5, tolerance=1e-13).plan
    assert Birkhoff(6).contains(doubly.flatten())


def test_dual_values_bound_the_optimum_and_are_feasible():
    cost, mu, nu = clouds(4, n=15, m=11)
    best = exact_plan(cost, mu, nu)
    optimum = (best.plan * cost).sum((-2, -1))
    for f in (noise(4, 15), torch.zeros(4, 15, dtype=F64), sinkhorn(cost, mu, nu, epsilon=0.01).f):
        bound = dual_certificate(cost, f, mu, nu)
        assert (bound.f[..., :, None] + bound.g[..., None, :] - cost).amax() <= 1e-15
        assert (bound.value <= optimum + 1e-15).all()
    torch.testing.assert_close(dual_certificate(cost, best.f, mu, nu).value, optimum, rtol=1e-12, atol=1e-14)


def test_gap_bounds_what_a_plan_loses_and_closes():
    cost, mu, nu = clouds(3, n=15)
    best = exact_plan(cost, mu, nu)
    optimum, last = (best.plan * cost).sum((-2, -1)), torch.inf
    for epsilon in (0.1, 0.01, 0.001):
        r = sinkhorn(cost, mu, nu, epsilon=epsilon, tolerance=1e-4)
        loss = (round_to_polytope(r.plan, mu, nu) * cost).sum((-2, -1)) - optimum
        gap = duality_gap(cost, r.plan, r.f, mu, nu)
        assert (loss <= gap + 1e-15).all()
        assert float(gap.amax()) < 0.3 * last
        last = float(gap.amax())
    assert (duality_gap(cost, best.plan, best.f, mu, nu).abs() < 1e-14).all()


def test_exact_plans_are_those_of_pot():
    cost, mu, nu = clouds(2, 2, n=10, m=12)
    r = exact_plan(cost, mu, nu)
    for i in range(2):
        for j in range(2):
            value = ot.emd2(mu[i, j].numpy(), nu[i, j].numpy(), cost[i, j].numpy())
            assert float((r.plan[i, j] * cost[i, j]).sum()) == pytest.approx(value, rel=1e-12)
    assert (r.error < 1e-14).all()
    torch.testing.assert_close((r.f * mu).sum(-1), (r.plan * cost).sum((-2, -1)), rtol=1e-11, atol=0)
    assert exact_plan(cost[0, 0].float()).plan.dtype == torch.float32
    with pytest.raises(ConvergenceError, match="max_iterations"):
        exact_plan(cost, mu, nu, max_iterations=2)


def test_value_of_an_exact_plan_has_the_derivatives_of_the_linear_programme():
    cost, a, b = noise(4, 3).requires_grad_(), noise(4, seed=1).softmax(-1), noise(3, seed=2).softmax(-1)
    assert gradcheck(lambda c: (exact_plan(c, a, b).plan * c).sum(), (cost,))


def test_derivatives_of_rounding_and_certificates():
    plan, cost, f = (noise(*s, seed=k).requires_grad_() for k, s in enumerate([(3, 4), (3, 4), (3,)]))
    a, b = noise(3, seed=5).requires_grad_(), noise(4, seed=6).requires_grad_()

    def rounded(p, x, y):
        return round_to_polytope(p.exp() / 12, x.softmax(-1), y.softmax(-1))

    assert gradcheck(rounded, (plan, a, b))
    assert gradcheck(lambda c, u, x, y: dual_certificate(c, u, x.softmax(-1), y.softmax(-1)), (cost, f, a, b))
    assert gradcheck(
        lambda c, p, u, x, y: duality_gap(c, p.exp() / 12, u, x.softmax(-1), y.softmax(-1)), (cost, plan, f, a, b)
    )


def test_bad_input():
    cost, mu, nu = clouds(n=4, m=5)
    plan = mu[:, None] * nu
    with pytest.raises(ShapeError, match="one axis per marginal"):
        round_to_polytope(plan, mu)
    with pytest.raises(ShapeError, match="marginal 0 must have shape"):
        round_to_polytope(plan, nu, mu)
    with pytest.raises(DomainError, match="same total mass"):
        round_to_polytope(plan, mu, 2 * nu)
    with pytest.raises(ShapeError, match="f must have shape"):
        dual_certificate(cost, nu, mu, nu)
    with pytest.raises(DomainError, match="finite"):
        duality_gap(cost * torch.nan, plan, mu, mu, nu)
    with pytest.raises(DomainError, match="positive"):
        exact_plan(cost, mu * 0, nu)
