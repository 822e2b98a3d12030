"""Derivatives of entropic plans: finite differences in every mode, closed forms, and the edge of singularity."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from mirrorgen.transport import sinkhorn
from tests.transport.problems import F64, clouds, noise


def solved(cost, a, b, epsilon, **options):
    """Unconstrained ``a`` and ``b`` keep both marginals at mass two."""
    r = sinkhorn(cost, 2 * a.softmax(-1), 2 * b.softmax(-1), epsilon=epsilon, tolerance=1e-13, **options)
    return r.plan, r.f, r.g


def inputs(*batch, n, m):
    parts = (noise(*batch, n, m), noise(*batch, n, seed=1), noise(*batch, m, seed=2), torch.full(batch, 0.4, dtype=F64))
    return tuple(p.requires_grad_() for p in parts)


@pytest.mark.parametrize(
    ("method", "shape"), [("newton", (3, 2)), ("absorbed", (2, 3)), ("log", (2, 2)), ("newton", (1, 2))]
)
def test_first_derivatives(method, shape):
    args = inputs(n=shape[0], m=shape[1])
    assert gradcheck(lambda *a: solved(*a, method=method), args, check_forward_ad=True)


def test_first_derivatives_in_a_batch():
    assert gradcheck(solved, inputs(2, n=3, m=2))


def test_second_derivatives():
    assert gradgradcheck(solved, inputs(n=3, m=2))


def test_value_has_the_derivative_of_the_envelope_theorem():
    cost, mu, nu = clouds(n=12, m=9)
    cost = cost.requires_grad_()
    r = sinkhorn(cost, mu, nu, epsilon=0.05, tolerance=1e-13)
    entropy = 0.05 * (r.plan * (r.plan.log() - 1)).sum()
    (slope,) = torch.autograd.grad((r.plan * cost).sum() + entropy, cost)
    torch.testing.assert_close(slope, r.plan.detach(), rtol=0, atol=1e-12)


def test_transforms_of_torch_func_agree_with_autograd():
    cost, mu, nu = clouds(3, n=4, m=3)

    def loss(c, a, b):
        return sinkhorn(c, a, b, epsilon=0.2, tolerance=1e-13).plan.square().sum()

    mapped = torch.func.vmap(torch.func.grad(loss))(cost, mu, nu)
    (plain,) = torch.autograd.grad(loss(cost.requires_grad_(), mu, nu), cost)
    torch.testing.assert_close(mapped, plain, rtol=0, atol=1e-12)
    one = cost[0].detach()
    hessian = torch.func.hessian(lambda c: loss(c, mu[0], nu[0]))(one)
    reverse = torch.autograd.functional.hessian(lambda c: loss(c, mu[0], nu[0]), one)
    torch.testing.assert_close(hessian, reverse, rtol=0, atol=1e-11)


def test_values_are_the_same_with_and_without_derivatives():
    cost, mu, nu = clouds(2, n=10)
    plain = sinkhorn(cost, mu, nu, epsilon=1e-3)
    watched = sinkhorn(cost.clone().requires_grad_(), mu, nu, epsilon=1e-3)
    for a, b in zip(plain[:4], watched[:4], strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-12, atol=1e-15)
    assert not watched.error.requires_grad


def test_derivatives_stay_finite_where_the_plan_falls_apart():
    cost, mu, nu = clouds(n=12)
    cost = cost.requires_grad_()
    r = sinkhorn(cost, mu, nu, epsilon=1e-5, on_failure="keep")
    (slope,) = torch.autograd.grad((r.plan * noise(12, 12)).sum(), cost)
    assert torch.isfinite(slope).all()


def test_float32_has_float32_derivatives():
    cost, mu, nu = (t.float() for t in clouds(n=8))
    weights = noise(8, 8).float()
    wide = [t.double() for t in (cost, mu, nu)]
    wide[2] = wide[2] * (wide[1].sum() / wide[2].sum())
    slopes = []
    for c, a, b in ((cost, mu, nu), wide):
        c = c.clone().requires_grad_()
        plan = sinkhorn(c, a, b, epsilon=0.05).plan
        slopes.append(torch.autograd.grad((plan * weights.to(plan.dtype)).sum(), c)[0])
    assert slopes[0].dtype == torch.float32
    torch.testing.assert_close(slopes[0].double(), slopes[1], rtol=1e-5, atol=1e-6 * float(slopes[1].abs().max()))
