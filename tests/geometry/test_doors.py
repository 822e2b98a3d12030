"""Bad input at every door of the geometry: typed errors, nothing silent."""

import math

import pytest
import torch

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.errors import DomainError, ShapeError

from ..contracts.cases import DOMAINS, MAPS, interior_points

F64 = torch.float64


def bad_points(x, dim):
    """No tensor, integers, halves, a number, and last axes that are too long or would broadcast."""
    wrong = [x.tolist(), None, x.long(), x.half(), x.bfloat16(), x[0, 0], torch.zeros(2, dim + 1, dtype=F64)]
    return wrong if dim == 1 else [*wrong, x[:, :1]]


@pytest.mark.parametrize("domain", [pytest.param(make(), id=name) for name, make in sorted(DOMAINS.items())])
def test_domains_refuse_what_is_no_point(domain):
    x = interior_points(domain, 2)
    for bad in bad_points(x, domain.dim):
        for name in ("contains", "slack", "project", "pull_inside", "explain", "check"):
            with pytest.raises(ShapeError):
                getattr(domain, name)(bad)
        for start, step in ((bad, x), (x, bad)):
            with pytest.raises(ShapeError):
                domain.reflect(start, step)
    assert domain.slack(x=x).shape[0] == 2


@pytest.mark.parametrize("mirror_map", [pytest.param(make(), id=name) for name, make in sorted(MAPS.items())])
def test_maps_refuse_what_is_no_point(mirror_map):
    x = interior_points(mirror_map.domain, 2)
    y = mirror_map.to_dual(x)
    for bad in bad_points(x, mirror_map.domain.dim):
        for name in ("to_dual", "potential", "hessian", "log_det_jacobian"):
            with pytest.raises(ShapeError):
                getattr(mirror_map, name)(bad)
        for pair in ((bad, x), (x, bad)):
            with pytest.raises(ShapeError):
                mirror_map.divergence(*pair)
    for bad in bad_points(y, mirror_map.domain.dual_dim):
        for name in ("to_primal", "conjugate", "hessian_dual", "log_det_jacobian_dual"):
            with pytest.raises(ShapeError):
                getattr(mirror_map, name)(bad)


@pytest.mark.parametrize("mirror_map", [pytest.param(make(), id=name) for name, make in sorted(MAPS.items())])
def test_empty_batches_pass(mirror_map):
    domain = mirror_map.domain
    for shape in ((0,), (2, 0)):
        x, y = torch.zeros(*shape, domain.dim, dtype=F64), torch.zeros(*shape, domain.dual_dim, dtype=F64)
        assert mirror_map.to_dual(x).shape == mirror_map.hessian(x).sqrt_mv(y).shape == y.shape
        assert mirror_map.to_primal(y).shape == domain.project(x).shape == domain.reflect(x, x).shape == x.shape
        assert mirror_map.divergence(x, x).shape == mirror_map.log_det_jacobian_dual(y).shape == shape
        assert domain.contains(x).shape == shape
        assert domain.explain(x) is None


def test_a_point_that_is_not_finite_does_not_disturb_its_neighbours():
    for make in DOMAINS.values():
        domain = make()
        x = domain.interior_point().repeat(2, 1)
        for value in (math.nan, math.inf):
            x[0, 0] = value
            projected = domain.project(x)
            assert torch.allclose(projected[1], x[1], rtol=0, atol=1e-12)
            assert not math.isnan(value) or projected[0].isnan().any()


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: D.Box([0.0, 0.0], [1.0, 1.0, 1.0]), "vectors of length dim"),
        (lambda: D.Box(0.0, 1.0, dim=0), ">= 1"),
        (lambda: D.Box(0.0, 1.0, dim=-1), ">= 1"),
        (lambda: D.Box([], []), ">= 1"),
        (lambda: D.Box("a", 1.0), "must be numbers"),
        (lambda: D.Ball(0), ">= 1"),
        (lambda: D.Ball(2.5), "integer"),
        (lambda: D.Simplex(1), "dim >= 2"),
        (lambda: D.Simplex("3"), "integer"),
        (lambda: D.Orthant(0), ">= 1"),
        (lambda: D.PSD(1.5), "integer"),
        (lambda: D.Product(D.Box(), 3), "only domains, got \\['int'\\]"),
        (lambda: D.Polytope([[1.0, 0.0], [1.0]], [1.0, 1.0]), "rows of equal length"),
        (lambda: D.Polytope(torch.zeros(2, 0), [1.0, 1.0]), "shape"),
        (lambda: M.LogBarrier("box"), "LogBarrier lives on Domain"),
        (lambda: M.SlackEntropy(D.Ball(2)), "mirror_maps.default"),
        (lambda: M.ProductMap(D.Box()), "needs mirror maps, got \\['Box'\\]"),
    ],
)
def test_constructors_name_what_is_wrong(build, reason):
    with pytest.raises((DomainError, ShapeError), match=reason):
        build()


def test_constraint_data_keep_their_digits_when_a_module_changes_precision():
    # Rounded to float32, the bound 0.7 moves up: points between the two would count as inside.
    domain = D.Polytope([[3.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], [0.7, 0.0, 0.0])
    for module in (M.SlackEntropy(domain), M.Quadratic(D.Euclidean(2), [0.1, 0.3])):
        before = {name: value.clone() for name, value in module.state_dict().items()}
        for change in (module.float, module.half, lambda module=module: module.to(torch.float32), module.double):
            after = change().state_dict()
            assert all(torch.equal(after[name], value) for name, value in before.items())
    assert domain.A.dtype == F64
    x = M.SlackEntropy(domain).to_primal(100 * torch.randn(4096, 2, generator=torch.Generator().manual_seed(0)))
    assert (x.double() @ torch.tensor([3.0, 1.0], dtype=F64) < torch.tensor(0.7, dtype=F64)).all()


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("kind", [M.HellingerBall, M.BallLogBarrier])
def test_dual_points_whose_squares_overflow_still_reach_the_sphere(dtype, kind):
    domain = D.Ball(2, 2.0, [0.5, -1.0])
    size = math.sqrt(torch.finfo(dtype).max)
    y = torch.tensor([[3.0, 4.0], [-5.0, 0.0]], dtype=dtype) * size
    x = kind(domain).to_primal(y)
    assert domain.contains(x).all()
    expected = domain.center + 2.0 * torch.tensor([[0.6, 0.8], [-1.0, 0.0]], dtype=F64)
    assert torch.allclose(x.double(), expected, rtol=0, atol=1e-5)
    assert torch.isfinite(kind(domain).conjugate(y)).all()
    assert torch.isfinite(kind(domain).log_det_jacobian_dual(y)).all()


def test_sets_without_a_representable_point_say_so():
    thin = D.Polytope([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], [1 + 1e-9, -1.0, 1.0, 1.0])
    for mirror_map in (M.BoxEntropy(D.Box(1.0, 1 + 1e-8)), M.SlackEntropy(thin)):
        y = torch.zeros(3, mirror_map.domain.dual_dim)
        with pytest.raises(DomainError, match="float64"):
            mirror_map.to_primal(y)
        assert mirror_map.domain.contains(mirror_map.to_primal(y.double())).all()
