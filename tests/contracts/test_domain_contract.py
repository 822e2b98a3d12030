"""What every domain must do, over the one list of instances."""

import copy
import math
import pickle

import pytest
import torch
from scipy import stats

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.spec import from_spec, to_spec

from .cases import DOMAINS, interior_points, near_faces, smallest_slack

DTYPES = [torch.float32, torch.float64]


@pytest.fixture(params=sorted(DOMAINS))
def domain(request):
    return DOMAINS[request.param]()


def random_steps(domain, n, dtype, scale, seed=3):
    generator = torch.Generator().manual_seed(seed)
    z = scale * torch.randn(n, domain.dual_dim, generator=generator, dtype=torch.float64)
    return (domain.from_chart(z) - domain.from_chart(torch.zeros_like(z))).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_interior_point_is_inside(domain, dtype):
    x = domain.interior_point().to(dtype)
    assert x.shape == (domain.dim,)
    assert domain.contains(x)
    assert domain.explain(x) is None
    assert domain.contains(x.expand(2, 3, -1)).shape == (2, 3)


def test_contains_agrees_with_slack_and_names_the_constraint(domain):
    x = interior_points(domain, 64)
    assert domain.contains(x).all()
    assert domain.slack(x).dtype == x.dtype
    far = domain.interior_point() + random_steps(domain, 256, torch.float64, 1e3)
    outside = ~domain.contains(far)
    worst = smallest_slack(domain, far)
    assert torch.equal(outside, worst <= 0)
    if outside.any():
        column = int(domain.slack(far)[int(worst.argmin())].argmin())
        assert domain.constraint_name(column) in domain.explain(far)
        with pytest.raises(DomainError, match="violates"):
            domain.check(far)


def test_nan_and_wrong_shape_get_typed_errors(domain):
    x = domain.interior_point().repeat(3, 1)
    x[1, 0] = math.nan
    assert domain.contains(x).tolist() == [True, False, True]
    with pytest.raises(DomainError, match="NaN"):
        domain.check(x)
    with pytest.raises(ShapeError, match="last axis"):
        domain.contains(torch.zeros(2, domain.dim + 1))
    with pytest.raises(ShapeError, match="floating"):
        domain.check(torch.zeros(2, domain.dim, dtype=torch.long))


@pytest.mark.parametrize("dtype", DTYPES)
def test_projection_is_the_nearest_point(domain, dtype):
    x = domain.interior_point().to(dtype) + random_steps(domain, 64, dtype, 5.0)
    before = x.clone()
    p = domain.project(x)
    assert torch.equal(x, before)
    tol = 1e-9 if dtype == torch.float64 else 1e-3
    assert smallest_slack(domain, p).amin() > -tol * 10
    assert torch.allclose(domain.project(p), p, atol=tol, rtol=tol)
    # Variational inequality <x - p, u - p> <= 0 for every u of the set characterises the projection.
    u = interior_points(domain, 128, dtype)
    product = torch.einsum("id,ijd->ij", x - p, u - p.unsqueeze(1))
    scale = 1 + torch.linalg.vector_norm(x - p, dim=-1) * torch.linalg.vector_norm(u - p.unsqueeze(1), dim=-1).amax(1)
    assert (product.amax(1) / scale).max() < tol
    inside, _ = domain.pull_inside(p)
    assert domain.contains(inside).all()
    assert torch.allclose(inside, p, atol=1e-4 if dtype == torch.float32 else 1e-11, rtol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pull_inside_leaves_interior_points_alone(domain, dtype):
    x = interior_points(domain, 64, dtype)
    pulled, moved = domain.pull_inside(x)
    assert torch.equal(pulled, x)
    assert not moved.any()
    assert moved.shape == (64,)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_reflect_stays_strictly_inside(domain, dtype, scale):
    x = interior_points(domain, 256, dtype)
    end = domain.reflect(x, random_steps(domain, 256, dtype, scale))
    assert domain.contains(end).all()
    assert end.dtype == dtype
    assert domain.reflect(x[0], torch.zeros_like(x[0])).shape == (domain.dim,)


def test_reflect_is_straight_inside_and_reversible(domain):
    x = interior_points(domain, 64)
    step = random_steps(domain, 64, torch.float64, 0.5)
    straight = domain.contains(x + step)
    assert torch.allclose(domain.reflect(x, step)[straight], (x + step)[straight], atol=1e-10)
    # A billiard path is made of isometries: the mid-point of a long path continues the same path.
    half = domain.reflect(x, 0.5 * step)
    assert torch.allclose(domain.reflect(half, torch.zeros_like(half)), half, atol=1e-12)


def test_unbounded_sets_have_no_uniform_law(domain):
    if domain.bounded:
        assert domain.sample_uniform(5).shape == (5, domain.dim)
    else:
        with pytest.raises(DomainError, match="unbounded"):
            domain.sample_uniform(5)


def projections_pvalue(domain, x, y, seed=0):
    """Smallest Kolmogorov-Smirnov p-value over random projections, Bonferroni-corrected."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(domain.dim, 8, generator=generator, dtype=x.dtype)
    pairs = zip((x @ directions).T.numpy(), (y @ directions).T.numpy(), strict=True)
    return 8 * min(stats.ks_2samp(a, b).pvalue for a, b in pairs)


def rejection_uniform(domain, n, seed):
    """Uniform points that the domain did not draw: rejection from the bounding box of its chart."""
    generator = torch.Generator().manual_seed(seed)
    z = domain.to_chart(interior_points(domain, 4096))
    low, high = z.amin(0) - 0.5 * (z.amax(0) - z.amin(0)), z.amax(0) + 0.5 * (z.amax(0) - z.amin(0))
    found = []
    for _ in range(2000):
        u = torch.rand(20_000, domain.dual_dim, generator=generator, dtype=torch.float64)
        x = domain.from_chart(torch.lerp(low, high, u))
        found.append(x[domain.contains(x)])
        if sum(map(len, found)) >= n:
            return torch.cat(found)[:n]
    raise AssertionError("rejection found too few points")


# Bounded sets of few dimensions, which rejection can sample.
SMALL = [name for name in sorted(DOMAINS) if DOMAINS[name]().bounded and DOMAINS[name]().dual_dim <= 4]


@pytest.mark.parametrize("domain", SMALL, indirect=True)
def test_uniform_law_is_exact_and_reflection_preserves_it(domain):
    oracle = rejection_uniform(domain, 4000, seed=1)
    x = domain.sample_uniform(4000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert domain.contains(x).all()
    assert projections_pvalue(domain, x, oracle) > 1e-4
    for scale in (0.2, 5.0):
        size = scale * (oracle.amax(0) - oracle.amin(0)).mean()
        end = domain.reflect(oracle, random_steps(domain, 4000, torch.float64, 1.0) * size)
        assert projections_pvalue(domain, end, rejection_uniform(domain, 4000, seed=4)) > 1e-4


def test_same_generator_same_points(domain):
    if domain.bounded:
        draws = [domain.sample_uniform(7, generator=torch.Generator().manual_seed(5)) for _ in range(2)]
        assert torch.equal(*draws)
        assert draws[0].dtype == torch.float32
        assert domain.contains(draws[0]).all()


def test_chart_is_an_isometry(domain):
    x = interior_points(domain, 32)
    z = domain.to_chart(x)
    assert z.shape == (32, domain.dual_dim)
    assert torch.allclose(domain.from_chart(z), x, atol=1e-12)
    assert torch.allclose(torch.cdist(z, z), torch.cdist(x, x), atol=1e-6)


def test_halfspaces_describe_the_set(domain):
    try:
        A, b = domain.halfspaces()
    except DomainError:
        return
    assert torch.allclose(A.norm(dim=-1), torch.ones_like(b))
    z = domain.to_chart(domain.interior_point()) + torch.randn(
        256, domain.dual_dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    assert torch.equal((z @ A.T < b).all(-1), domain.contains(domain.from_chart(z)))
    # Row i is column i of the slack, up to the length of that row along the affine hull.
    center = domain.interior_point()
    scale = (b - A @ domain.to_chart(center)) / domain.slack(center)
    assert torch.allclose(domain.slack(domain.from_chart(z)) * scale, b - z @ A.T, rtol=0, atol=1e-12)


def test_module_round_trips(domain):
    x = interior_points(domain, 8)
    spec = to_spec(domain)
    for other in (copy.deepcopy(domain), pickle.loads(pickle.dumps(domain)), from_spec(spec)):
        assert torch.equal(other.slack(x), domain.slack(x))
        other.load_state_dict(domain.state_dict())
        assert repr(other) == repr(domain)
    assert to_spec(from_spec(spec)) == spec
    assert not list(domain.parameters())
    assert domain.float().contains(x.float()).all()


def test_constraint_view(domain):
    x = interior_points(domain, 4)
    assert domain.constraint.check(x).all()
    assert domain.constraint.event_dim == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_vmap_of_membership_and_pull_inside(domain, dtype):
    x = interior_points(domain, 8, dtype)
    assert torch.equal(torch.func.vmap(domain.contains)(x), domain.contains(x))
    assert torch.equal(torch.func.vmap(lambda u: domain.pull_inside(u)[0])(x), x)


# no_flux: vectors without their components normal to nearby walls.


def depth(domain):
    """Slack of the interior point, a length that every case has; 1 where there are no walls."""
    slack = float(smallest_slack(domain, domain.interior_point()))
    return slack if math.isfinite(slack) else 1.0


def random_vectors(domain, n, dtype=torch.float64, seed=21):
    """Vectors in all coordinates, not only along the affine hull."""
    return torch.randn(n, domain.dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def along_hull(domain, v):
    return domain.from_tangent(domain.to_tangent(v))


def length(v):
    return torch.linalg.vector_norm(v, dim=-1)


def nearest_wall(domain, x):
    """Distance to the wall of smallest slack and its unit normal, from the gradient of the slack."""
    x = x.detach().requires_grad_()
    slack = smallest_slack(domain, x)
    if not torch.isfinite(slack).any():
        return torch.full_like(slack, torch.inf).detach(), torch.zeros_like(x)
    gradient = along_hull(domain, torch.autograd.grad(slack.sum(), x)[0])
    return (slack / length(gradient)).detach(), gradient / length(gradient).unsqueeze(-1)


@pytest.mark.parametrize("gap", [1e-6, 1e-4])
def test_no_flux_is_tangent_in_proportion_to_the_distance(domain, gap):
    x = near_faces(domain, 256, gap * depth(domain))
    distance, normal = nearest_wall(domain, x)
    near = distance < 1e-2 * depth(domain)
    v, scale = random_vectors(domain, len(x)), 0.3 * depth(domain)
    flux = (domain.no_flux(x, v, scale) * normal).sum(-1).abs()
    # At one face the constant is one; where two walls meet at a sharp angle it is larger.
    assert (flux <= 1.5 * distance / scale * length(v) + 1e-14)[near].all()
    # Every wall that the rays hit is among them, and only a set without walls has none.
    assert near.any() == (domain.slack(x).shape[-1] > 0)


def test_no_flux_changes_nothing_far_from_walls(domain):
    x = interior_points(domain, 128)
    v = along_hull(domain, random_vectors(domain, 128))
    # Slacks are at most distances, so that every wall is at least eight scales away; one scale per point.
    scale = smallest_slack(domain, x).clamp_max(1e6) / 8
    assert (length(domain.no_flux(x, v, scale) - v) <= 1e-3 * length(v)).all()
    for row in range(3):
        assert torch.allclose(domain.no_flux(x, v, scale)[row], domain.no_flux(x[row], v[row], float(scale[row])))


@pytest.mark.parametrize("relative_scale", [1e-2, 0.3, 10.0])
def test_no_flux_is_a_linear_self_adjoint_contraction_along_the_hull(domain, relative_scale):
    x = torch.cat([interior_points(domain, 64), near_faces(domain, 64, 1e-3 * depth(domain))])
    v, w = (random_vectors(domain, 128, seed=seed) for seed in (1, 2))
    scale = relative_scale * depth(domain)
    u, s = domain.no_flux(x, v, scale), domain.no_flux(x, w, scale)
    assert (length(u) <= (1 + 1e-13) * length(along_hull(domain, v))).all()
    assert torch.allclose(domain.no_flux(x, 2 * v - 3 * w, scale), 2 * u - 3 * s, rtol=0, atol=1e-13)
    assert torch.allclose((u * w).sum(-1), (v * s).sum(-1), rtol=0, atol=1e-12)
    assert torch.allclose(along_hull(domain, u), u, rtol=0, atol=1e-13)
    assert ((u * v).sum(-1) >= -1e-13).all()


def test_no_flux_derivatives_agree_with_differences(domain):
    scale = 0.3 * depth(domain)
    # Far enough inside that the stencil stays there; the nearest points are a hundredth of a scale from a wall.
    x = torch.cat([interior_points(domain, 24), near_faces(domain, 24, 1e-2 * scale)])
    x = x[smallest_slack(domain, x) >= 0.9e-2 * scale]
    v, w = random_vectors(domain, len(x)), along_hull(domain, random_vectors(domain, len(x), seed=5))
    w, h = w / length(w).unsqueeze(-1), 1e-3 * scale

    def slope(p):
        return torch.func.jvp(lambda q: domain.no_flux(q, v, scale), (p,), (w,))[1]

    def difference(f):
        return (8 * (f(x + h * w) - f(x - h * w)) - f(x + 2 * h * w) + f(x - 2 * h * w)) / (12 * h)

    first = slope(x)
    # The stencil is of fourth order: (h / scale)^4 of the field's size over scale, and as much again from rounding.
    assert torch.allclose(first * scale, difference(lambda p: domain.no_flux(p, v, scale)) * scale, rtol=0, atol=1e-9)
    second = torch.func.jvp(slope, (x,), (w,))[1]
    assert torch.allclose(second * scale**2, difference(slope) * scale**2, rtol=0, atol=1e-8)
    # Reverse mode in both arguments is the transpose of forward mode.
    _, pull = torch.func.vjp(lambda p, q: domain.no_flux(p, q, scale), x, v)
    in_x, in_v = pull(w)
    assert torch.allclose((in_x * w).sum(-1), (first * w).sum(-1), rtol=1e-9, atol=1e-9 / scale)
    assert torch.allclose(in_v, domain.no_flux(x, w, scale), rtol=0, atol=1e-12)


def test_no_flux_under_vmap_and_compile(domain):
    x, v, scale = interior_points(domain, 6), random_vectors(domain, 6), torch.linspace(0.1, 2.0, 6).double()
    expected = domain.no_flux(x, v, scale)
    assert torch.allclose(torch.func.vmap(domain.no_flux)(x, v, scale), expected, rtol=0, atol=1e-14)
    # A whole Jacobian, as exact divergences take it: one tangent per coordinate at one point.
    columns = torch.func.vmap(
        lambda e: torch.func.jvp(lambda p: domain.no_flux(p, v[0], 0.5), (x[0],), (e,))[1], out_dims=1
    )(along_hull(domain, torch.eye(domain.dim, dtype=x.dtype)))
    rows = torch.func.jacrev(lambda p: domain.no_flux(p, v[0], 0.5))(x[0])
    assert torch.allclose(columns, rows @ along_hull(domain, torch.eye(domain.dim, dtype=x.dtype)).mT, atol=1e-10)
    torch._dynamo.reset()
    compiled = torch.compile(lambda p, u: domain.no_flux(p, u, scale), fullgraph=True, backend="eager")
    assert torch.allclose(compiled(x, v), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_flux_is_finite_at_the_last_points_inside(domain, dtype):
    # Projections of far points lie on walls and in corners; pulled inside, they are a few units in the last place off.
    far = domain.interior_point().to(dtype) + random_steps(domain, 256, dtype, 20.0)
    x, _ = domain.pull_inside(domain.project(far))
    assert domain.contains(x).all()
    v = random_vectors(domain, 256, dtype).requires_grad_()
    x.requires_grad_()
    for scale in (1e-3 * depth(domain), 0.3 * depth(domain), 1e3 * depth(domain)):
        u = domain.no_flux(x, v, scale)
        assert u.dtype == dtype
        assert torch.isfinite(u).all()
        gradients = torch.autograd.grad((u * v).sum() + 0 * x.sum(), (x, v))
        assert all(torch.isfinite(g).all() for g in gradients)
    distance, normal = nearest_wall(domain, x)
    flux = (domain.no_flux(x, v, 0.3 * depth(domain)) * normal).sum(-1).abs()
    near = distance < 1e-3 * depth(domain)
    # A few units in the last place of the largest coordinate, in layers of 0.3 depth.
    size = 1 + x.detach().abs().amax() / (0.3 * depth(domain))
    assert (flux <= 40 * torch.finfo(dtype).eps * size * length(v))[near].all()


def test_no_flux_flow_stays_inside(domain):
    if not domain.bounded:
        return
    x = interior_points(domain, 64, seed=11)
    corners = interior_points(domain, 1024)
    diameter, scale = float(torch.cdist(corners, corners).max()), 0.5 * depth(domain)
    w = along_hull(domain, random_vectors(domain, 64))
    w = w / length(w).unsqueeze(-1)
    # Times in units of length: alone, every w leaves. Distances to walls shrink by exp(-duration / scale) at most,
    # 5e-12 on the thinnest case, which is above the rounding error of slacks.
    duration = 1.1 * diameter
    assert not domain.contains(x + duration * w).any()
    steps = math.ceil(duration / (0.4 * scale))
    h = duration / steps
    for _ in range(steps):
        k1 = domain.no_flux(x, w, scale)
        k2 = domain.no_flux(x + 0.5 * h * k1, w, scale)
        k3 = domain.no_flux(x + 0.5 * h * k2, w, scale)
        k4 = domain.no_flux(x + h * k3, w, scale)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        assert domain.contains(x).all()


def test_no_flux_refuses_bad_arguments(domain):
    x, v = interior_points(domain, 4), random_vectors(domain, 4)
    for scale in (0.0, -1.0, math.nan, math.inf, torch.tensor([0.1, 0.2, 0.0, 0.1])):
        with pytest.raises(DomainError, match="0 < scale < inf"):
            domain.no_flux(x, v, scale)
    for scale in (torch.ones(3), torch.ones(4, 1)):
        with pytest.raises(ShapeError, match="batch shape"):
            domain.no_flux(x, v, scale)
    with pytest.raises(ShapeError, match="v must have shape"):
        domain.no_flux(x, torch.ones(4, domain.dim + 1), 0.1)
    assert domain.no_flux(x[0], v, 0.1).shape == v.shape
    assert domain.no_flux(x, v[0], torch.tensor(0.1)).shape == x.shape


def test_log_volume_is_that_of_the_uniform_law(domain):
    """The share of a box about the set that it fills, in the coordinates that densities refer to."""
    if not domain.bounded:
        with pytest.raises(DomainError, match="infinite"):
            domain.log_volume()
        return
    center = domain.interior_point()
    points = domain.to_chart(domain.sample_uniform(4000, generator=torch.Generator().manual_seed(0)).double())
    low, high = points.amin(0), points.amax(0)
    room = 0.2 * (high - low)
    low, high = low - room, high + room
    unit = torch.rand(200_000, domain.dual_dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tried = domain.from_chart(low + (high - low) * unit)
    share = domain.contains(tried).double().mean()
    estimate = share.log() + (high - low).log().sum() - domain.chart_log_volume
    error = ((1 - share) / (share * len(unit))) ** 0.5
    # A point outside the box of the draws and its margin would be missed: what there is of them is far below the error.
    assert float((estimate - domain.log_volume()).abs()) < 4.5 * float(error) + 1e-3
    assert domain.contains(center)
