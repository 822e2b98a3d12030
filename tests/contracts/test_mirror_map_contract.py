"""What every mirror map must do, over the one list of instances, in float64 against autograd."""

import copy
import pickle

import pytest
import torch

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.spec import from_spec, to_spec

from .cases import MAPS, interior_points, near_faces

F64 = torch.float64


@pytest.fixture(params=sorted(MAPS))
def mirror_map(request):
    return MAPS[request.param]()


def relative(a, b):
    """Largest error relative to the row's own scale."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return ((a - b).abs().amax(-1) / (1e-300 + torch.maximum(b.abs().amax(-1), torch.ones(1, dtype=a.dtype)))).max()


def dual_points(mirror_map, n, scale, dtype=F64, seed=11):
    """Admissible dual points of norm about ``scale``."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(4 * n, mirror_map.domain.dual_dim, generator=generator, dtype=F64)
    y = (scale * y / y.norm(dim=-1, keepdim=True)).to(dtype)
    if not mirror_map.dual_is_full:
        flipped = mirror_map.dual_contains(-y)
        y = torch.where(flipped.unsqueeze(-1), -y, y)
        y = torch.cat(
            [
                y[mirror_map.dual_contains(y)],
                -scale * mirror_map.to_dual(interior_points(mirror_map.domain, n)).abs().to(dtype),
            ]
        )
        y = y[mirror_map.dual_contains(y)]
    assert len(y) >= 1
    return y[:n]


def test_gradient_is_autograd_of_the_potential(mirror_map):
    x = interior_points(mirror_map.domain, 64)
    z = mirror_map.coordinates(x)
    oracle = torch.func.vmap(torch.func.grad(lambda u: mirror_map.potential(mirror_map.from_coordinates(u))))(z)
    assert relative(mirror_map.to_dual(x), oracle) < 1e-11
    assert mirror_map.potential(x).shape == (64,)


def test_round_trips(mirror_map):
    x = interior_points(mirror_map.domain, 256)
    y = mirror_map.to_dual(x)
    back = mirror_map.to_primal(y)
    assert relative(mirror_map.coordinates(back), mirror_map.coordinates(x)) < 1e-10
    assert relative(mirror_map.to_dual(back), y) < 1e-9


def test_inverse_is_autograd_of_the_conjugate(mirror_map):
    y = mirror_map.to_dual(interior_points(mirror_map.domain, 32))
    oracle = torch.func.vmap(torch.func.grad(mirror_map.conjugate))(y)
    assert relative(mirror_map.coordinates(mirror_map.to_primal(y)), oracle) < 1e-10


def test_fenchel_equality(mirror_map):
    x = interior_points(mirror_map.domain, 64)
    y = mirror_map.to_dual(x)
    pairing = (mirror_map.coordinates(x) * y).sum(-1)
    gap = mirror_map.potential(x) + mirror_map.conjugate(y) - pairing
    scale = 1 + mirror_map.potential(x).abs() + mirror_map.conjugate(y).abs() + pairing.abs()
    assert (gap.abs() / scale).max() < 1e-11
    # Young's inequality at a pair that is not dual.
    other = mirror_map.potential(x) + mirror_map.conjugate(y.flip(0)) - (mirror_map.coordinates(x) * y.flip(0)).sum(-1)
    assert other.min() > -1e-9


def test_hessian_against_autograd(mirror_map):
    x = interior_points(mirror_map.domain, 16)
    z = mirror_map.coordinates(x)
    oracle = torch.func.vmap(torch.func.hessian(lambda u: mirror_map.potential(mirror_map.from_coordinates(u))))(z)
    h = mirror_map.hessian(x)
    v = torch.randn(16, z.shape[-1], generator=torch.Generator().manual_seed(1), dtype=F64)
    assert relative(h.dense(), oracle) < 1e-11
    assert relative(h.mv(v), torch.einsum("bij,bj->bi", oracle, v)) < 1e-11
    condition = torch.linalg.cond(oracle)
    assert relative(h.mv(h.solve(v)), v) < 1e-14 * condition.max() + 1e-11
    eye = torch.eye(z.shape[-1], dtype=F64).unsqueeze(1).expand(-1, 16, -1)
    root = torch.stack([h.sqrt_mv(e) for e in eye], -1)
    inverse_root = torch.stack([h.inv_sqrt_mv(e) for e in eye], -1)
    assert relative(root @ root.mT, oracle) < 1e-11
    assert relative(inverse_root.mT @ oracle @ inverse_root, eye.transpose(0, 1)) < 1e-14 * condition.max() + 1e-11
    assert relative(h.logdet().unsqueeze(-1), torch.linalg.slogdet(oracle)[1].unsqueeze(-1)) < 1e-11


def test_hessian_from_the_dual_point(mirror_map):
    x = interior_points(mirror_map.domain, 16)
    y = mirror_map.to_dual(x)
    assert relative(mirror_map.hessian_dual(y).dense(), mirror_map.hessian(x).dense()) < 1e-9
    ours = mirror_map.log_det_jacobian_dual(y)
    assert relative(ours.unsqueeze(-1), mirror_map.log_det_jacobian(x).unsqueeze(-1)) < 1e-10


def test_divergence(mirror_map):
    p, q = (interior_points(mirror_map.domain, 64, seed=s) for s in (1, 2))
    z = mirror_map.coordinates(p) - mirror_map.coordinates(q)
    definition = mirror_map.potential(p) - mirror_map.potential(q) - (mirror_map.to_dual(q) * z).sum(-1)
    assert relative(mirror_map.divergence(p, q).unsqueeze(-1), definition.unsqueeze(-1)) < 1e-10
    assert mirror_map.divergence(p, p).abs().max() < 1e-12
    assert mirror_map.divergence(p, q).min() > 0


def test_float32_divergence_of_near_points(mirror_map):
    p = interior_points(mirror_map.domain, 256, torch.float32, seed=1)
    other = interior_points(mirror_map.domain, 256, torch.float32, seed=2)
    q = p + 1e-3 * (other - p)
    keep = mirror_map.domain.contains(q) & ((other - p).abs().amax(-1) > 1e-3)
    p, q = p[keep], q[keep]
    ours = mirror_map.divergence(p, q)
    assert ours.dtype == torch.float32
    assert (ours >= 0).all()
    exact = mirror_map.divergence(p.double(), q.double())
    assert ((ours.double() - exact).abs() / exact).max() < 1e-5
    # Float64 loses about 1e-10 of the three-term form here, so the float64 closed form is checked against it too;
    # the definition holds on the affine hull only, which float32 points of a set with equalities miss.
    z_p, z_q = mirror_map.coordinates(p.double()), mirror_map.coordinates(q.double())
    p, q = mirror_map.from_coordinates(z_p), mirror_map.from_coordinates(z_q)
    pairing = (mirror_map.to_dual(q) * (z_p - z_q)).sum(-1)
    definition = mirror_map.potential(p) - mirror_map.potential(q) - pairing
    exact = mirror_map.divergence(p, q)
    rounding = 1e-15 * (mirror_map.potential(p).abs() + mirror_map.potential(q).abs() + pairing.abs())
    assert ((exact - definition).abs() < 1e-6 * exact + rounding).all()


def test_float32_divergence_of_far_points(mirror_map):
    # Ratios of slacks near rounding: log1p(q / p - 1) has lost them, log q - log p has not.
    domain = mirror_map.domain
    p = interior_points(domain, 64, torch.float32, seed=1)
    q = domain.pull_inside(near_faces(domain, 64, 1e-6, torch.float32))[0]
    for first, second in ((p, q), (q, p)):
        exact = mirror_map.divergence(first.double(), second.double())
        assert ((mirror_map.divergence(first, second).double() - exact).abs() / exact).max() < 1e-4


@pytest.mark.parametrize(("dtype", "largest"), [(torch.float32, 1e4), (F64, 1e8)])
def test_to_primal_is_strictly_inside_for_far_dual_points(mirror_map, dtype, largest):
    for scale in (0.0, 1.0, 1e2, 1e4, 1e6, 1e8):
        if scale > largest or (scale == 0.0 and not mirror_map.dual_is_full):
            continue
        y = dual_points(mirror_map, 128, scale, dtype)
        x, moved = mirror_map.to_primal_with_moved(y)
        assert x.dtype == dtype
        assert torch.isfinite(x).all()
        assert mirror_map.domain.contains(x).all()
        assert moved.shape == x.shape[:-1]
        axis = torch.zeros(1, mirror_map.domain.dual_dim, dtype=dtype)
        axis[0, 0] = -scale
        if bool(mirror_map.dual_contains(axis).all()):
            assert mirror_map.domain.contains(mirror_map.to_primal(axis)).all()


def test_gradients_are_finite_at_centres_and_near_faces(mirror_map):
    domain = mirror_map.domain
    points = torch.cat([domain.interior_point().unsqueeze(0), near_faces(domain, 16, 1e-6)]).requires_grad_()
    y = mirror_map.to_dual(points)
    (gradient,) = torch.autograd.grad(
        y.sum() + mirror_map.potential(points).sum() + mirror_map.log_det_jacobian(points).sum(), points
    )
    assert torch.isfinite(gradient).all()
    y = y.detach()
    if mirror_map.dual_is_full:
        y = torch.cat([y, torch.zeros_like(y[:1])])
    y = y.requires_grad_()
    total = mirror_map.to_primal(y).sum() + mirror_map.conjugate(y).sum() + mirror_map.log_det_jacobian_dual(y).sum()
    assert torch.isfinite(torch.autograd.grad(total, y)[0]).all()


def test_second_derivatives_of_to_primal(mirror_map):
    y = mirror_map.to_dual(interior_points(mirror_map.domain, 3)).detach().requires_grad_()
    assert torch.autograd.gradcheck(mirror_map.to_primal, y)
    assert torch.autograd.gradgradcheck(mirror_map.to_primal, y)


def test_vmap_and_jvp(mirror_map):
    x = interior_points(mirror_map.domain, 6)
    y = mirror_map.to_dual(x)
    assert torch.allclose(torch.func.vmap(mirror_map.to_dual)(x), y, rtol=1e-12, atol=1e-12)
    back = mirror_map.to_primal(y)
    assert torch.allclose(torch.func.vmap(mirror_map.to_primal)(y), back, rtol=1e-9, atol=1e-9)
    v = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=F64)
    _, tangent = torch.func.jvp(mirror_map.to_primal, (y,), (v,))
    expected = mirror_map.hessian(back).solve(v)
    z_tangent = mirror_map.coordinates(back + tangent) - mirror_map.coordinates(back)
    assert relative(z_tangent, expected) < 1e-8


def test_compiles_without_graph_breaks(mirror_map):
    x = interior_points(mirror_map.domain, 6)
    y = mirror_map.to_dual(x)
    names = ["to_dual", "potential", "log_det_jacobian"] + [
        "to_primal",
        "log_det_jacobian_dual",
    ] * mirror_map.closed_form
    for name in names:
        function = getattr(mirror_map, name)
        argument = y if name in ("to_primal", "log_det_jacobian_dual") else x
        torch._dynamo.reset()
        compiled = torch.compile(function, fullgraph=True, backend="eager")
        assert torch.allclose(compiled(argument), function(argument), rtol=1e-12, atol=1e-12), name


def test_batch_shapes_and_untouched_inputs(mirror_map):
    x = interior_points(mirror_map.domain, 6)
    y = mirror_map.to_dual(x)
    for shape in ((), (6,), (2, 3)):
        u = x[0] if shape == () else x.reshape(*shape, -1)
        before = u.clone()
        v = mirror_map.to_dual(u)
        assert v.shape == (*shape, mirror_map.domain.dual_dim)
        assert mirror_map.to_primal(v).shape == u.shape
        assert (
            mirror_map.potential(u).shape
            == mirror_map.log_det_jacobian(u).shape
            == mirror_map.conjugate(v).shape
            == shape
        )
        assert mirror_map.hessian(u).mv(v).shape == v.shape
        assert mirror_map.divergence(u, u).shape == shape
        assert torch.equal(u, before)
    kept = y.clone()
    mirror_map.to_primal(y)
    assert torch.equal(y, kept)


def test_module_round_trips(mirror_map):
    x = interior_points(mirror_map.domain, 8)
    y = mirror_map.to_dual(x)
    spec = to_spec(mirror_map)
    for other in (copy.deepcopy(mirror_map), pickle.loads(pickle.dumps(mirror_map)), from_spec(spec)):
        assert torch.equal(other.to_dual(x), y)
        other.load_state_dict(mirror_map.state_dict())
    assert to_spec(from_spec(spec)) == spec
    single = copy.deepcopy(mirror_map).float()
    assert single.to_primal(y.float()).dtype == torch.float32


def test_bad_input_gets_typed_errors(mirror_map):
    domain = mirror_map.domain
    with pytest.raises(ShapeError):
        mirror_map.to_dual(torch.zeros(3, domain.dim + 1))
    with pytest.raises(ShapeError):
        mirror_map.to_primal(torch.zeros(3, domain.dual_dim + 2))
    with pytest.raises(DomainError, match="NaN"):
        mirror_map.to_dual(torch.full((2, domain.dim), torch.nan))
    with pytest.raises(DomainError, match="dual"):
        mirror_map.to_primal(torch.full((2, domain.dual_dim), torch.nan))


def test_transform_is_a_torch_distributions_transform(mirror_map):
    if not mirror_map.dual_is_full:
        return
    x = interior_points(mirror_map.domain, 8)
    y = mirror_map.to_dual(x)
    transform = mirror_map.transform
    assert torch.equal(transform(y), mirror_map.to_primal(y))
    assert torch.allclose(transform.inv(x), y)
    assert torch.allclose(transform.log_abs_det_jacobian(y, x), -mirror_map.log_det_jacobian(x), rtol=1e-9, atol=1e-9)
    assert transform.codomain.check(x).all()
    assert transform.forward_shape(y.shape) == x.shape
