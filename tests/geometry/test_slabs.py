"""Orthonormal slabs and watermarks against general polyhedra, and in the dimensions of images."""

import math

import pytest
import torch

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.errors import DomainError, ShapeError

F64 = torch.float64


def pair(dim=6, length=3, key=2):
    """The same set twice: by the closed forms of slabs, and as any polyhedron."""
    slabs = D.Watermark(dim, length, key, low=[-0.3, 0.05, -2.0], high=[0.8, 0.9, -1.0])
    return slabs, D.Polytope(*slabs.halfspaces())


def normal(n, dim, scale, seed=0):
    return scale * torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=F64)


def held(domain, n, seed=1):
    """Points whose slacks float64 coordinates hold to 1e-12 and better."""
    x = domain.reflect(domain.interior_point().expand(4 * n, -1), normal(4 * n, domain.dim, 1.0, seed))
    return x[domain.contains(x, atol=-1e-3)][:n]


def relative(a, b):
    return float((a - b).abs().max() / (1 + b.abs().max()))


@pytest.mark.parametrize("kappa", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_map_is_that_of_the_general_solver(kappa, scale):
    slabs, polyhedron = pair()
    ours, general = (M.RegularizedBarrier(d, kappa, weight=0.7, quadratic=1.5) for d in (slabs, polyhedron))
    assert ours.closed_form
    assert not general.closed_form
    y, v = normal(64, 6, scale), normal(64, 6, 1.0, seed=1)
    x = ours.to_primal(y)
    assert relative(x, general.to_primal(y)) < 1e-10
    assert relative(ours.log_det_jacobian_dual(y), general.log_det_jacobian_dual(y)) < 1e-10
    inside = held(slabs, 64)
    assert relative(ours.to_dual(inside), general.to_dual(inside)) < 1e-11
    assert relative(ours.potential(inside), general.potential(inside)) < 1e-12
    assert relative(ours.divergence(inside, inside.flip(0)), general.divergence(inside, inside.flip(0))) < 1e-11
    for name in ("mv", "solve"):
        pieces = [getattr(m.hessian(inside), name)(v) for m in (ours, general)]
        assert relative(*pieces) < 1e-9
    one, other = (m.local(ours.to_dual(inside)) for m in (ours, general))
    assert relative(one.log_det_gradient, other.log_det_gradient) < 1e-10
    assert relative(one.mirrored_score(v), other.mirrored_score(v)) < 1e-10


def test_log_determinant_is_that_of_autograd():
    mirror_map = M.RegularizedBarrier(pair()[0], kappa=0.1, quadratic=2.0)
    x = held(mirror_map.domain, 16)
    jacobian = torch.func.vmap(torch.func.jacrev(mirror_map.to_dual))(x)
    assert torch.allclose(mirror_map.log_det_jacobian(x), torch.linalg.slogdet(jacobian)[1], rtol=0, atol=1e-10)


def test_projection_and_uniform_law_agree_with_those_of_the_polyhedron():
    slabs, polyhedron = pair()
    x = normal(128, 6, 3.0)
    assert torch.allclose(slabs.project(x), polyhedron.project(x), rtol=0, atol=1e-12)
    rotated = D.Watermark(3, 3, low=-1.0, high=[0.5, 2.0, 1.0])
    assert rotated.bounded
    assert rotated.log_volume() == pytest.approx(D.Polytope(*rotated.halfspaces()).log_volume(), abs=1e-10)


@pytest.mark.parametrize("side", [32, 64])
def test_images_with_a_hundred_tokens(side):
    """As in the publications: 100 tokens on colour images, in float32 from the closed form alone."""
    dim = 3 * side**2
    domain = D.Watermark(dim, 100, key=5, low=-0.9, high=0.9)
    mirror_map = M.RegularizedBarrier(domain, kappa=0.05)
    y = 100 * torch.randn(8, dim, generator=torch.Generator().manual_seed(0))
    x = mirror_map.to_primal(y)
    assert x.dtype == torch.float32
    assert domain.contains(x).all()
    # Forces of 100 leave slacks of 1e-40: what float32 keeps of them is the way across.
    flat = y.double() - domain.combine(domain.coefficients(y))
    assert torch.allclose(x.double() - domain.combine(domain.coefficients(x)), flat, rtol=0, atol=1e-4)
    inside = domain.combine(1.79 * torch.rand(4, 100, dtype=F64) - 0.895) + flat[:4] / 100
    assert relative(mirror_map.to_primal(mirror_map.to_dual(inside)), inside) < 1e-12
    assert torch.isfinite(mirror_map.log_det_jacobian_dual(y)).all()


def test_points_far_out_along_free_directions_stay_inside():
    domain = D.Watermark(8, 3, key=1, low=0.05, high=0.1)
    for dtype, size in ((torch.float32, 1e9), (F64, 1e18)):
        far = domain.interior_point().to(dtype) + (size * normal(32, 8, 1.0)).to(dtype)
        inside, moved = domain.pull_inside(far)
        assert domain.contains(inside).all()
        assert moved.all()


def test_tokens_are_orthonormal_and_belong_to_the_key():
    first, again, other = (D.Watermark(48, 6, key).tokens for key in (3, 3, 4))
    assert torch.equal(first, again)
    assert torch.allclose(first @ first.mT, torch.eye(6, dtype=F64), rtol=0, atol=1e-14)
    assert (first @ other.mT).abs().max() < 0.7


def test_signs_of_coefficients_are_fair_and_independent_over_keys():
    # Libraries give the factor R of QR a diagonal of fixed sign: without a correction the first token is biased.
    x = torch.ones(4, dtype=F64)
    signs = torch.stack([D.Watermark(4, 2, key).coefficients(x) > 0 for key in range(2000)])
    counts = torch.bincount(2 * signs[:, 0].long() + signs[:, 1].long(), minlength=4)
    # Six standard deviations of a count.
    assert ((counts - 500).abs() < 6 * math.sqrt(2000 * 0.25 * 0.75)).all()


def test_one_sided():
    assert D.Watermark(8, 2, low=[0.0, -1.0], high=[1.0, -0.5]).one_sided
    assert not D.Watermark(8, 2, low=-0.1).one_sided


def test_typed_errors():
    with pytest.raises(DomainError, match="orthonormal"):
        D.Slabs([[1.0, 0.1]])
    with pytest.raises(ShapeError, match="1 <= m <= dim"):
        D.Slabs(torch.eye(3)[:, :2])
    with pytest.raises(DomainError, match="empty interior"):
        D.Slabs([[1.0, 0.0]], 1.0, 0.5)
    with pytest.raises(DomainError, match="length"):
        D.Watermark(4, 5)
    thin = D.Slabs(torch.eye(2)[:1], 1.0, 1.0 + 1e-12)
    with pytest.raises(DomainError, match="too thin"):
        thin.pull_inside(torch.ones(1, 2))
    with pytest.raises(DomainError, match="unbounded"):
        M.SlackEntropy(D.Watermark(4, 2))


def test_key_does_not_show():
    domain = D.Watermark(8, 2, key=123456789)
    assert "123456789" not in repr(domain) + domain.explain(torch.zeros(1, 8))
