"""The entropic map of the simplex beyond its contract."""

import math

import pytest
import torch
from scipy import integrate
from torch.distributions import Dirichlet, MultivariateNormal, TransformedDistribution

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.errors import DomainError

F64 = torch.float64


def maps(k):
    return M.SimplexEntropy(D.Simplex(k)), M.SimplexEntropy(D.Simplex(k), chart="alr")


def randn(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("chart", ["ilr", "alr"])
def test_density_integrates_to_one_over_the_first_coordinates(chart):
    mirror_map = M.SimplexEntropy(D.Simplex(3), chart=chart)
    base = MultivariateNormal(torch.tensor([0.3, -0.2], dtype=F64), 0.8 * torch.eye(2, dtype=F64))
    law = TransformedDistribution(base, mirror_map.transform)

    def density(b, a):
        return float(law.log_prob(torch.tensor([a, b, 1 - a - b], dtype=F64)).exp())

    total, _ = integrate.dblquad(density, 1e-9, 1 - 1e-9, 1e-9, lambda a: 1 - a - 1e-9, epsabs=1e-4)
    assert abs(total - 1) < 1e-3


@pytest.mark.parametrize("chart", ["ilr", "alr"])
def test_pulled_back_dirichlet_is_the_density_of_its_logits(chart):
    """The dual density of a Dirichlet law (torch's ``log_prob`` and the map) integrates to one over the plane."""
    mirror_map = M.SimplexEntropy(D.Simplex(3), chart=chart)
    law = Dirichlet(torch.tensor([2.0, 1.5, 3.0], dtype=F64))
    grid = torch.linspace(-14, 14, 561, dtype=F64)
    y = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1)
    log_density = law.log_prob(mirror_map.to_primal(y)) - mirror_map.log_det_jacobian_dual(y)
    total = log_density.exp().sum() * (grid[1] - grid[0]) ** 2
    assert abs(float(total) - 1) < 1e-6


def test_charts_agree_up_to_the_constant():
    ilr, alr = maps(5)
    x = torch.softmax(randn(64, 5), -1)
    shift = ilr.log_det_jacobian(x) - alr.log_det_jacobian(x)
    assert torch.allclose(shift, torch.full_like(shift, -0.5 * math.log(5)), atol=1e-12)
    assert torch.allclose(alr.log_det_jacobian(x), -x.log().sum(-1), atol=1e-12)
    assert torch.equal(ilr.divergence(x, x.flip(0)), alr.divergence(x, x.flip(0)))
    y = alr.to_dual(x)
    assert torch.allclose(ilr.conjugate(ilr.to_dual(x)), -x.log().mean(-1), atol=1e-12)
    assert torch.allclose(alr.conjugate(y), torch.logaddexp(torch.logsumexp(y, -1), torch.zeros(64, dtype=F64)))


def test_two_coordinates_are_the_logit_map():
    ilr, alr = maps(2)
    t = torch.tensor([[1e-12], [0.2], [0.5], [0.999]], dtype=F64)
    x = torch.cat([t, 1 - t], -1)
    assert torch.allclose(alr.to_dual(x), torch.logit(t), atol=1e-11)
    assert torch.allclose(ilr.to_dual(x), torch.logit(t) / math.sqrt(2), atol=1e-11)
    box = M.BoxEntropy(D.Box(0.0, 1.0))
    assert torch.allclose(alr.log_det_jacobian(x), box.log_det_jacobian(t), atol=1e-10)
    y = randn(9, 1, seed=3)
    assert torch.allclose(alr.to_primal(y)[:, :1], box.to_primal(y))


def test_divergence_is_kullback_leibler():
    ilr, _ = maps(6)
    p, q = torch.softmax(randn(32, 6, seed=1), -1), torch.softmax(randn(32, 6, seed=2), -1)
    assert torch.allclose(ilr.divergence(p, q), (p * (p / q).log()).sum(-1), atol=1e-13)


@pytest.mark.parametrize("chart", ["ilr", "alr"])
def test_thousand_coordinates_in_float32(chart):
    single = M.SimplexEntropy(D.Simplex(1000), chart=chart)
    y = 3 * randn(16, 999, seed=4)
    x, exact = single.to_primal(y.float()), single.to_primal(y)
    assert single.domain.contains(x).all()
    assert ((x.double() - exact).abs() / exact).max() < 3e-5
    assert (single.to_dual(x).double() - y).abs().max() < 1e-4
    error = single.log_det_jacobian_dual(y.float()).double() - single.log_det_jacobian_dual(y)
    assert (error.abs() / single.log_det_jacobian_dual(y).abs()).max() < 1e-6
    h = single.hessian(exact)
    v = randn(16, 999, seed=5)
    assert torch.allclose(h.mv(h.solve(v)), v, atol=1e-8)


@pytest.mark.parametrize("chart", ["ilr", "alr"])
def test_log_det_from_the_dual_survives_underflow(chart):
    mirror_map = M.SimplexEntropy(D.Simplex(3), chart=chart)
    y = torch.tensor([[5e3, -4e3]], dtype=torch.float32)
    assert mirror_map.to_primal(y).min() > 0
    exact = mirror_map.log_det_jacobian_dual(y.double())
    assert exact > 4e3
    assert torch.allclose(mirror_map.log_det_jacobian_dual(y).double(), exact, rtol=1e-6)


def test_unknown_chart_is_refused():
    with pytest.raises(DomainError, match="ilr"):
        M.SimplexEntropy(D.Simplex(3), chart="clr")
