"""What every domain must do, over the one list of instances."""

import copy
import math
import pickle

import pytest
import torch
from scipy import stats

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.spec import from_spec, to_spec

from .cases import DOMAINS, interior_points, smallest_slack

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
