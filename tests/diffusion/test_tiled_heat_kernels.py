"""Heat kernels of triangles and ordered simplices against literal sums, quadrature and draws."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch

from mirrorgen import domains as D
from mirrorgen.diffusion.heat_kernel.box import BoxHeatKernel
from mirrorgen.diffusion.heat_kernel.ordered import (
    OrderedSimplexHeatKernel,
    is_ordered_simplex,
    ordered_simplex,
    sorted_motion,
)
from mirrorgen.diffusion.heat_kernel.triangle import EquilateralHeatKernel, RightIsoscelesHeatKernel
from mirrorgen.errors import DomainError

F32, F64 = torch.float32, torch.float64
CORNER = D.Polytope([[-1.0, 0.0], [0.0, -1.0], [1.0, 1.0]], [0.0, 0.0, 1.0])
KERNELS = {
    "equilateral": EquilateralHeatKernel(D.Simplex(3)),
    "right isosceles": RightIsoscelesHeatKernel(CORNER),
    "ordered 2": OrderedSimplexHeatKernel(ordered_simplex(2)),
    "ordered 3": OrderedSimplexHeatKernel(ordered_simplex(3)),
}
PLANAR = ["equilateral", "right isosceles", "ordered 2"]
SIGMAS = [1e-3, 0.01, 0.05, 0.2, 0.5, 0.8, 1.3, 3.0]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pairs(kernel, n, sigma, seed=0):
    """Independent pairs, pairs from the kernel, and the same on walls and at corners."""
    domain = kernel.domain
    x_0 = domain.sample_uniform(n, generator=generator(seed), dtype=F64)
    x = kernel.sample(x_0, sigma, generator=generator(seed + 1))
    far = domain.sample_uniform(n, generator=generator(seed + 2), dtype=F64)
    corners = vertices(domain)
    ends = torch.cat([x, far, corners, on_walls(corners), corners])
    starts = torch.cat([x_0, x_0, x_0[: len(corners)], corners.roll(1, 0), corners.roll(1, 0)])
    return ends, starts


def vertices(domain):
    if isinstance(domain, D.Simplex):
        return torch.eye(3, dtype=F64)
    if domain is CORNER:
        return torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=F64)
    return torch.ones(domain.dim + 1, domain.dim, dtype=F64).tril(-1)


def on_walls(corners):
    """A point inside every wall: the mean of all corners but one, by unequal weights."""
    weights = torch.arange(1.0, len(corners), dtype=F64) / sum(range(1, len(corners)))
    return torch.stack([(weights.unsqueeze(-1) * corners.roll(i, 0)[1:]).sum(0) for i in range(len(corners))])


def quadrature(domain, n):
    """Gauss nodes and weights of a simplex, in the measure of its densities, from the collapsed cube."""
    corners = vertices(domain)
    dim = len(corners) - 1
    node, weight = (torch.from_numpy(v) / 2 for v in np.polynomial.legendre.leggauss(n))
    cube = torch.cartesian_prod(*[node + 0.5] * dim)
    total = torch.cartesian_prod(*[weight] * dim).prod(-1)
    points = corners[0].expand(len(cube), -1)
    for i in range(dim):
        # Towards corner i + 1: sections shrink as the power i of the remaining height.
        t = cube[:, i : i + 1] ** (1 / (i + 1)) if i == 0 else cube[:, i : i + 1]
        points = corners[i + 1] + t * (points - corners[i + 1])
        total = total * t.squeeze(-1) ** i
    edges = (corners[1:] - corners[0])[:, :dim]
    return points, total * torch.linalg.det(edges).abs()


def z_scores(draws):
    """Mean over its standard error, for every column."""
    return (draws.mean(0) / (draws.std(0) / math.sqrt(len(draws)))).abs()


# ---- the equilateral triangle against a double sum over the lattice


def lattice_sum(p, q, sigma, reach):
    """Log-density on Simplex(3) by images of ``q``.

    The coordinates of a point are the gaps of three ordered numbers around a circle of length one. In these numbers
    the group is all permutations and all shifts by integers that add up to zero.
    """
    t, s = ordered_numbers(p), ordered_numbers(q)
    total = mpmath.mpf(0)
    for perm in itertools.permutations(range(3)):
        for a, b in itertools.product(range(-reach, reach + 1), repeat=2):
            image = [s[i] + n for i, n in zip(perm, (a, b, -a - b), strict=True)]
            # One unit of the ordered numbers is sqrt(3) units of the simplex.
            total += mpmath.exp(-3 * mpmath.fsum((u - v) ** 2 for u, v in zip(t, image, strict=True)) / (2 * sigma**2))
    return mpmath.log(total / (2 * mpmath.pi * sigma**2)) + mpmath.log(3) / 2


def ordered_numbers(p):
    """Three numbers of sum zero with gaps ``p_1`` and ``p_2``, of the point nearest to ``p`` whose sum is one."""
    p = [mpmath.mpf(float(v)) for v in p]
    rest = (1 - mpmath.fsum(p)) / 3
    t = [mpmath.mpf(0), -(p[0] + rest), -(p[0] + p[1] + 2 * rest)]
    mean = mpmath.fsum(t) / 3
    return [v - mean for v in t]


def simplex_points(dtype):
    grid = [0.0, 1e-6, 0.3]
    first = torch.tensor(list(itertools.combinations_with_replacement(grid, 2)), dtype=dtype)
    x = torch.cat([first, 1 - first.sum(-1, keepdim=True)], -1)
    return torch.where(torch.arange(len(x)).unsqueeze(-1) % 2 == 0, x, x.roll(1, -1))


@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 2e-14), (F32, 5e-7)])
def test_equilateral_against_the_lattice(dtype, tolerance):
    x = simplex_points(dtype)
    x_0 = x[torch.randperm(len(x), generator=generator(3))]
    for sigma in (0.003, 0.05, 0.3, 0.9, 2.0):
        found = KERNELS["equilateral"].log_prob(x, x_0, sigma)
        assert found.dtype == dtype
        with mpmath.workdps(50):
            spread = mpmath.mpf(float(torch.tensor(sigma, dtype=dtype)))
            exact = [lattice_sum(p, q, spread, 1 + int(4 * sigma)) for p, q in zip(x, x_0, strict=True)]
            # Coordinates in the plane are rounded to 2e-16; log p has slopes of a few 1 / sigma between near points.
            bound = [tolerance * max(1, abs(v)) + 2e-15 / sigma for v in exact]
        for value, reference, most in zip(found.tolist(), exact, bound, strict=True):
            assert abs(value - reference) < most


# ---- permanents


def one_dimensional(x, x_0, sigma):
    """``log k(x_i | x_0j)``, ``(d, d)``, by the kernel of an interval, which has 60-digit tests of its own."""
    box = BoxHeatKernel(D.Box(0.0, 1.0))
    return torch.stack([torch.stack([box.log_prob(a.reshape(1), b.reshape(1), sigma) for b in x_0]) for a in x])


@pytest.mark.parametrize("dim", [1, 3, 6, 8])
def test_permanent_against_all_permutations(dim):
    kernel = OrderedSimplexHeatKernel(ordered_simplex(dim))
    permutations = torch.tensor(list(itertools.permutations(range(dim))))
    for sigma in (1e-3, 0.1, 2.0):
        x, x_0 = (kernel.domain.sample_uniform(2, generator=generator(i), dtype=F64) for i in (1, 2))
        for end, start, value in zip(x, x_0, kernel.log_prob(x, x_0, sigma).tolist(), strict=True):
            terms = one_dimensional(end, start, sigma)[torch.arange(dim), permutations].sum(-1)
            exact = float(torch.logsumexp(terms, 0))
            assert abs(value - exact) < 1e-14 * max(10.0, abs(exact))


def test_two_ordered_coordinates_are_a_right_isosceles_triangle():
    kernel, domain = KERNELS["ordered 2"], ordered_simplex(2)
    triangle = RightIsoscelesHeatKernel(domain)
    for sigma in SIGMAS:
        x, x_0 = pairs(kernel, 50, sigma)
        first, second = kernel.log_prob_and_score(x, x_0, sigma), triangle.log_prob_and_score(x, x_0, sigma)
        assert ((first[0] - second[0]).abs() / first[0].abs().clamp_min(10)).max() < 1e-14 + 1e-16 / sigma
        assert ((first[1] - second[1]).norm(dim=-1) * sigma / (1 + sigma * first[1].norm(dim=-1))).max() < 1e-13 / sigma


def test_position_and_size_of_a_triangle():
    """A motion and its image under a similarity have one law; the density scales with the area."""
    scale, shift = 3.7, torch.tensor([5.0, -2.0], dtype=F64)
    turn = torch.tensor([[math.cos(0.4), -math.sin(0.4)], [math.sin(0.4), math.cos(0.4)]], dtype=F64)
    for name, rows, level in (
        ("right isosceles", CORNER.A, CORNER.b),
        ("equilateral", *KERNELS["equilateral"].domain.halfspaces()),
    ):
        kernel = KERNELS[name]
        moved = rows.flip(0) @ turn.mT
        other = type(kernel)(D.Polytope(2.0 * moved, 2.0 * (scale * level.flip(0) + moved @ shift)))
        x, x_0 = pairs(kernel, 20, 0.3)
        log_prob, score = kernel.log_prob_and_score(x, x_0, 0.3)
        y, y_0 = (scale * kernel.domain.to_chart(v) @ turn.mT + shift for v in (x, x_0))
        found, slope = other.log_prob_and_score(y, y_0, 0.3 * scale)
        expected = log_prob - kernel.domain.chart_log_volume - 2 * math.log(scale)
        assert (found - expected).abs().max() < 1e-12
        assert (slope - kernel.domain.to_tangent(score) @ turn.mT / scale).abs().max() < 1e-11
    # The same triangle in a plane of three-dimensional space, where densities are per area.
    flat = D.Polytope(-torch.eye(3, dtype=F64), torch.zeros(3, dtype=F64), torch.ones(1, 3, dtype=F64), [1.0])
    x, x_0 = pairs(KERNELS["equilateral"], 20, 0.3)
    first, second = (k.log_prob_and_score(x, x_0, 0.3) for k in (KERNELS["equilateral"], EquilateralHeatKernel(flat)))
    assert (first[0] - second[0] - 0.5 * math.log(3)).abs().max() < 1e-12
    assert (first[1] - second[1]).abs().max() < 1e-11


# ---- properties of every kernel


@pytest.mark.parametrize("name", KERNELS)
def test_mass_symmetry_and_semigroup(name):
    kernel = KERNELS[name]
    flat = name in PLANAR
    z, weight = quadrature(kernel.domain, 60 if flat else 20)
    ends = torch.cat([kernel.domain.sample_uniform(2, generator=generator(5), dtype=F64), vertices(kernel.domain)[:2]])
    for sigma in (0.07, 0.25, 0.7, 3.0) if flat else (0.3, 0.8):
        mass = [float(weight @ torch.exp(kernel.log_prob(z, x, sigma))) for x in ends]
        assert max(abs(m - 1) for m in mass) < 1e-12
    for sigma in SIGMAS:
        x, x_0 = pairs(kernel, 30, sigma)
        there, back = kernel.log_prob(x, x_0, sigma), kernel.log_prob(x_0, x, sigma)
        assert ((there - back).abs() / there.abs().clamp_min(1)).max() < 1e-13 + 1e-15 / sigma
    first, second = (0.2, 0.3) if flat else (0.3, 0.4)
    joint = math.hypot(first, second)
    for x, y in itertools.combinations(ends, 2):
        chained = weight @ torch.exp(kernel.log_prob(z, x, first) + kernel.log_prob(z, y, second))
        assert abs(float(torch.log(chained) - kernel.log_prob(y, x, joint))) < 1e-10


@pytest.mark.parametrize("name", KERNELS)
def test_score(name):
    kernel, domain = KERNELS[name], KERNELS[name].domain
    corners = vertices(domain)
    for sigma in SIGMAS:
        x, x_0 = pairs(kernel, 40, sigma)
        x.requires_grad_()
        log_prob, score = kernel.log_prob_and_score(x, x_0, sigma)
        (slope,) = torch.autograd.grad(log_prob.sum(), x)
        score, slope = score.detach(), domain.from_tangent(domain.to_tangent(slope))
        scaled = sigma * (score - slope).norm(dim=-1) / (1 + sigma * slope.norm(dim=-1))
        assert scaled.max() < 1e-10
        # At walls there is no component along the normal; the far start is the opposite corner, the near one is close.
        walls = on_walls(corners)
        near = 0.98 * walls + 0.02 * corners.mean(0)
        normal, _ = domain.halfspaces()
        for start in (near, corners):
            along = domain.to_tangent(kernel.score(walls, start, sigma)) @ normal.mT
            flux = along.gather(-1, (domain.to_tangent(walls) @ normal.mT - domain.halfspaces()[1]).argmax(-1, True))
            ratio = (walls - start).norm(dim=-1, keepdim=True) / sigma
            # Rounding: of coordinates, 2e-16 over sigma^2, and of the exponents of images that cancel, ratio^2 / 2.
            bound = 1e-13 + 2e-15 / sigma + 1e-15 * float(ratio.square().max())
            assert (sigma * flux.abs() / (1 + ratio)).max() < bound


@pytest.mark.parametrize("name", KERNELS)
def test_limits(name):
    """Uniform for large sigma; free motion away from walls for small sigma, far pairs included."""
    kernel, domain = KERNELS[name], KERNELS[name].domain
    x, x_0 = pairs(kernel, 30, 1.0)
    assert (kernel.log_prob(x, x_0, 20.0) + math.log(float(quadrature(domain, 4)[1].sum()))).abs().max() < 1e-12
    assert kernel.score(x, x_0, 20.0).abs().max() < 1e-12
    center = domain.interior_point()
    away = center + 0.3 * (vertices(domain) - center)
    for sigma in (1e-3, 5e-3):
        exact = -((away - center).square().sum(-1)) / (2 * sigma**2) - domain.dual_dim * math.log(
            sigma * math.sqrt(2 * math.pi)
        )
        found = kernel.log_prob(away, center, sigma) - domain.chart_log_volume
        assert ((found - exact) / exact).abs().max() < 1e-13


@pytest.mark.parametrize("name", KERNELS)
def test_single_precision(name):
    kernel, domain = KERNELS[name], KERNELS[name].domain
    for sigma in (0.02, 0.2, 1.0):
        x_0 = domain.sample_uniform(300, generator=generator(1))
        x = kernel.sample(x_0, sigma, generator=generator(2))
        assert x.dtype == F32
        assert domain.contains(x).all()
        log_prob, score = kernel.log_prob_and_score(x, x_0, sigma)
        # What float32 points of the simplex miss of the sum one is projected away, as the kernel does itself.
        wide, wide_0 = (domain.from_chart(domain.to_chart(v.double())) for v in (x, x_0))
        exact, slope = kernel.log_prob_and_score(wide, wide_0, sigma)
        assert (log_prob - exact).abs().max() < 2e-6
        assert (sigma * (score - slope)).abs().max() < 2e-6


@pytest.mark.parametrize("name", KERNELS)
def test_transforms(name):
    kernel = KERNELS[name]
    x_0 = kernel.domain.sample_uniform(6, generator=generator(), dtype=F64)
    spread = torch.tensor([0.01, 0.1, 0.3, 0.6, 1.0, 2.0], dtype=F64)
    x = kernel.sample(x_0, spread, generator=generator(1))
    expected = kernel.log_prob_and_score(x, x_0, spread)
    compiled = torch.compile(kernel.log_prob_and_score, fullgraph=True, backend="eager")
    for transformed in (torch.func.vmap(kernel.log_prob_and_score), compiled):
        for value, reference in zip(transformed(x, x_0, spread), expected, strict=True):
            assert torch.allclose(value, reference, rtol=1e-12, atol=1e-12)
    v = kernel.domain.from_tangent(torch.ones(6, kernel.domain.dual_dim, dtype=F64))
    _, along = torch.func.jvp(lambda p: kernel.log_prob(p, x_0, spread), (x,), (v,))
    assert torch.allclose(along, (expected[1] * v).sum(-1), rtol=1e-10, atol=1e-10)


# ---- motion


@pytest.mark.parametrize("name", KERNELS)
def test_law_of_a_billiard_step(name):
    """Moments of ``domain.reflect`` against quadrature of the kernel."""
    kernel, domain = KERNELS[name], KERNELS[name].domain
    z, weight = quadrature(domain, 80 if name in PLANAR else 30)
    start = 0.85 * vertices(domain)[0] + 0.15 * domain.interior_point()
    for i, sigma in enumerate((0.3, 0.8)):
        noise = sigma * torch.randn(40_000, domain.dual_dim, generator=generator(i), dtype=F64)
        draws = domain.reflect(start.expand(len(noise), -1), domain.from_tangent(noise))
        density = weight * torch.exp(kernel.log_prob(z, start, sigma))
        features = lambda p: torch.cat([p, p.square(), torch.cos(math.pi * p), p[..., :1] * p[..., 1:2]], -1)  # noqa: E731
        assert z_scores(features(draws) - density @ features(z)).max() < 4


@pytest.mark.parametrize("dim", [1, 2, 3, 6])
def test_sorting_is_the_billiard(dim):
    """The same path, not only the same law: unfolding maps both to one straight line."""
    domain = ordered_simplex(dim)
    x_0 = domain.sample_uniform(300, generator=generator(), dtype=F64)
    step = torch.randn(300, dim, generator=generator(1), dtype=F64) * torch.logspace(-3, 1, 300, dtype=F64).unsqueeze(
        -1
    )
    assert (sorted_motion(x_0, step) - domain.reflect(x_0, step)).abs().max() < 1e-12
    drawn = OrderedSimplexHeatKernel(domain).sample(x_0, 0.3, generator=generator(2))
    assert domain.contains(drawn).all()


def test_bad_arguments():
    for domain in (D.Simplex(4), D.Box(0.0, 1.0, dim=2), CORNER, D.Polytope([[-1.0, 0.0], [0.0, -1.0]], [0.0, 0.0])):
        with pytest.raises(DomainError, match="equilateral triangle"):
            EquilateralHeatKernel(domain)
    for domain in (D.Simplex(3), D.Polytope([[-1.0, 0.0], [0.0, -1.0], [1.0, 2.0]], [0.0, 0.0, 1.0])):
        with pytest.raises(DomainError, match="two equal legs"):
            RightIsoscelesHeatKernel(domain)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator(7), dtype=F64)).Q
    turned = D.Polytope(ordered_simplex(3).A @ turn, ordered_simplex(3).b)
    for domain in (CORNER, D.Simplex(4), turned):
        assert not is_ordered_simplex(domain)
        with pytest.raises(DomainError, match="ordered_simplex"):
            OrderedSimplexHeatKernel(domain)
    shuffled = ordered_simplex(3)
    assert is_ordered_simplex(D.Polytope(2.0 * shuffled.A.flip(0), 2.0 * shuffled.b.flip(0)))
    with pytest.raises(DomainError, match="unfolded_draw"):
        OrderedSimplexHeatKernel(ordered_simplex(11))
