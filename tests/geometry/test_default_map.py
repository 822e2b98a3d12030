"""The natural map of every domain."""

import pytest
import torch

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.errors import DomainError

from ..contracts.cases import DOMAINS

EXPECTED = {
    "box": M.BoxEntropy,
    "simplex": M.SimplexEntropy,
    "orthant": M.SoftplusDual,
    "euclidean": M.Quadratic,
    "ball": M.RegularizedBarrier,
    "halfspace": M.RegularizedBarrier,
    "watermark": M.RegularizedBarrier,
    "rotated_box": M.SlackEntropy,
    "polytope": M.SlackEntropy,
    "polyhedron": M.RegularizedBarrier,
    "psd": M.VonNeumann,
    "product": M.ProductMap,
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_natural_map(name):
    mirror_map = M.default(DOMAINS[name]())
    assert type(mirror_map) is EXPECTED[name]


@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_every_domain_has_a_default_with_a_full_dual_space(name):
    domain = DOMAINS[name]()
    mirror_map = M.default(domain)
    assert mirror_map.dual_is_full
    y = torch.randn(16, domain.dual_dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = mirror_map.to_primal(y)
    assert domain.contains(x).all()
    assert torch.allclose(mirror_map.to_dual(x), y, atol=1e-6)


@pytest.mark.parametrize("domain", [D.Box(-1.0, 2.0), D.Ball(1), D.Polytope([[1.0], [-1.0]], [1.0, 1.0]), D.Orthant(1)])
def test_dual_tails_are_exponential(domain):
    """A tenfold smaller slack moves the dual point by the same amount again, not by a factor."""
    center = domain.interior_point()
    edge = center - domain.slack(center).reshape(-1)[0].abs()
    y = [M.default(domain).to_dual(edge + gap) for gap in (1e-6, 1e-7, 1e-8)]
    steps = torch.stack([(y[1] - y[0]).abs(), (y[2] - y[1]).abs()])
    assert torch.allclose(steps[0], steps[1], rtol=1e-4)
    assert steps.min() > 0.5


def test_products_nest():
    inner = D.Product(D.Ball(2), D.Simplex(3))
    mirror_map = M.default(D.Product(D.Box(0.0, 1.0), inner))
    assert isinstance(mirror_map.blocks[1], M.ProductMap)
    assert mirror_map.domain.dual_dim == 1 + 2 + 2


def test_unknown_domains_are_refused_with_the_known_ones():
    class Narrow(D.Box):
        pass

    class Unknown(D.Domain):
        slack = constraint_name = interior_point = project = pull_inside = reflect = None

    assert isinstance(M.default(Narrow()), M.BoxEntropy)
    with pytest.raises(DomainError, match="Unknown has no default mirror map; known: Euclidean, Box"):
        M.default(Unknown())


@pytest.mark.parametrize("kind", [M.SimplexEntropy, M.HellingerBall, M.BallLogBarrier, M.LogDet, M.VonNeumann])
def test_maps_refuse_domains_of_another_kind(kind):
    with pytest.raises(DomainError, match=f"{kind.__name__} lives on"):
        kind(D.Box(0.0, 1.0, dim=3))


def test_the_box_map_refuses_other_domains():
    with pytest.raises(DomainError, match="BoxEntropy lives on Box"):
        M.BoxEntropy(D.Simplex(3))


def test_products_need_a_factor():
    with pytest.raises(DomainError, match="at least one"):
        M.ProductMap()
