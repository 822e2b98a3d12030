"""The Neumann heat kernel of a ball against many digits, quadrature, its two forms against each other, and draws."""

import math
from functools import cache

import mpmath
import numpy as np
import pytest
import scipy.special
import torch

from mirrorgen import domains as D
from mirrorgen.diffusion.heat_kernel.ball import BallHeatKernel
from mirrorgen.diffusion.heat_kernel.ball_curvature import CurvatureExpansion, _solve
from mirrorgen.diffusion.heat_kernel.ball_series import neumann_roots
from mirrorgen.diffusion.heat_kernel.box import BoxHeatKernel
from mirrorgen.errors import DomainError

F32, F64 = torch.float32, torch.float64
DIMS = [2, 3, 6, 10]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@cache
def kernel(dim):
    return BallHeatKernel(D.Ball(dim))


def polar(dim, r, u):
    """The point at distance ``r`` whose angle with the first axis has cosine ``u``."""
    x = torch.zeros(*r.shape, dim, dtype=F64)
    x[..., 0], x[..., 1] = r * u, r * (1 - u**2).clamp_min(0).sqrt()
    return x


def drawn_pairs(dim, n, sigma, seed=0):
    """Starts within 5 sigma of the wall (or anywhere), one per 100 on it, and draws from there."""
    domain, g = D.Ball(dim), generator(seed)
    x_0 = domain.sample_uniform(n, generator=g, dtype=F64)
    depth = min(1.0, 5 * sigma) * torch.rand(n, 1, generator=g, dtype=F64)
    depth = torch.where(torch.arange(n).unsqueeze(-1) % 100 == 0, 0.0, depth)
    x_0 = x_0 / x_0.norm(dim=-1, keepdim=True) * (1 - depth)
    x = domain.reflect(0.999999 * x_0, sigma * torch.randn(n, dim, generator=g, dtype=F64))
    x[1::100] /= x[1::100].norm(dim=-1, keepdim=True)
    return x, x_0


def energy(x, x_0, sigma):
    return (x - x_0).square().sum(-1) / (2 * sigma**2)


def quadrature(dim, r_0, sigma, n=50):
    """Nodes and weights for functions of ``r`` and the angle, dense within 9 sigma of a start on the first axis."""
    node, weight = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(n))
    low, high = max(0.0, r_0 - 9 * sigma), min(1.0, r_0 + 9 * sigma)
    widest = min(math.pi, 9 * sigma / max(low, 1e-9) * math.pi / 2) if r_0 > 9 * sigma else math.pi
    r, t = low + (high - low) * (node + 1) / 2, widest * (node + 1) / 2
    # Area of the sphere of dimension dim - 2, the points at one angle.
    area = 2 * math.pi ** ((dim - 1) / 2) / math.gamma((dim - 1) / 2)
    w = area * torch.outer(r ** (dim - 1) * weight * (high - low) / 2, t.sin() ** (dim - 2) * weight * widest / 2)
    return polar(dim, r.unsqueeze(-1).expand(n, n), t.cos().expand(n, n)).flatten(0, 1), w.flatten()


# ---- the series


@pytest.mark.parametrize(("dim", "degree"), [(2, 0), (2, 7), (3, 0), (3, 1), (3, 30), (6, 2), (10, 0), (10, 40)])
def test_roots(dim, degree):
    """All of them, by the zeros of the Bessel function between which there is exactly one, each to rounding."""
    roots = neumann_roots(dim, degree, 120.0)
    order = mpmath.mpf(degree) + mpmath.mpf(dim) / 2 - 1
    with mpmath.workdps(40):
        for a in roots[[0, len(roots) // 2, -1]]:
            f = lambda t: (1 - mpmath.mpf(dim) / 2) * mpmath.besselj(order, t) + t * mpmath.besselj(order, t, 1)  # noqa: E731
            assert abs(mpmath.findroot(f, a) - a) < 1e-13 * a
    grid = np.linspace(0.01, 120.0, 20_001)
    slope = (1 - dim / 2) * scipy.special.jv(float(order), grid) + grid * scipy.special.jvp(float(order), grid)
    relevant = slope[grid > math.sqrt(degree * (degree + dim - 2))]
    assert len(roots) == int((np.sign(relevant[1:]) * np.sign(relevant[:-1]) < 0).sum())
    if (dim, degree) == (3, 1):
        # Published zeros of the derivative of the spherical Bessel function j_1.
        assert np.allclose(roots[:3], [2.08157598, 5.94036999, 9.20584014], atol=1e-8)


def in_digits(dim, points, sigma, digits):
    """Log-densities of the unit ball at ``(r, r_0, u)`` by the series on the methods page, all in ``mpmath``."""
    with mpmath.workdps(digits + 10):
        points, sigma = [[mpmath.mpf(v) for v in point] for point in points], mpmath.mpf(sigma)
        half = mpmath.mpf(dim) / 2
        area = 2 * mpmath.pi**half / mpmath.gamma(half)
        totals, degree = [dim / area for _ in points], 0
        largest = math.sqrt(2 * math.log(10) * digits) / float(sigma)
        while len(roots := neumann_roots(dim, degree, largest)) or degree == 0:
            order, bessel = degree + half - 1, mpmath.besselj
            for a in map(mpmath.mpf, roots.tolist()):
                for _ in range(2):
                    f = (1 - half) * bessel(order, a) + a * bessel(order, a, 1)
                    a -= f / ((2 - half) * bessel(order, a, 1) + a * bessel(order, a, 2))
                scale = 2 * mpmath.exp(-((a * sigma) ** 2) / 2) / (1 - degree * (degree + dim - 2) / a**2)
                scale /= bessel(order, a) ** 2
                for i, (r, r_0, u) in enumerate(points):
                    waves = [v ** (1 - half) * bessel(order, a * v) for v in (r, r_0)]
                    totals[i] += scale * waves[0] * waves[1] * zonal(dim, degree, u, area)
            degree += 1
        return [float(mpmath.log(total)) for total in totals]


def zonal(dim, degree, u, area):
    if dim == 2:
        return mpmath.cos(degree * mpmath.acos(u)) / (mpmath.pi if degree else 2 * mpmath.pi)
    index = mpmath.mpf(dim) / 2 - 1
    # Gegenbauer's polynomial by its generating function's recurrence.
    before, here = mpmath.mpf(0), mpmath.mpf(1)
    for n in range(1, degree + 1):
        before, here = here, (2 * u * (n + index - 1) * here - (n + 2 * index - 2) * before) / n
    return (2 * degree + dim - 2) / ((dim - 2) * area) * here


def at(dim, points):
    """The points of ``in_digits`` and the starts, as tensors."""
    r, r_0, u = torch.tensor(points, dtype=F64).T
    return polar(dim, r, u), polar(dim, r_0, torch.ones_like(u))


@pytest.mark.parametrize("dim", DIMS)
def test_series_in_many_digits(dim):
    points = [(1.0, 1.0, 0.75), (0.25, 0.96875, -0.25), (0.75, 0.125, 0.5), (1.0, 1.0, -1.0)]
    x, x_0 = at(dim, points)
    for sigma in (0.35, 0.75):
        found = kernel(dim).log_prob(x, x_0, sigma)
        bound = 3e-15 * torch.exp(energy(x, x_0, sigma)) + 1e-14
        assert ((found - torch.tensor(in_digits(dim, points, sigma, 22), dtype=F64)).abs() < bound).all()


def test_far_pairs():
    """Beyond what rounding leaves of the series: the exponent, and the factor of the walls, within 0.2 here."""
    points = [(1.0, 1.0, -1.0), (0.96875, 1.0, -1.0), (1.0, 1.0, -0.9375)]
    x, x_0 = at(3, points)
    assert energy(x, x_0, 0.25).min() > 30
    found = kernel(3).log_prob(x, x_0, 0.25)
    assert (found - torch.tensor(in_digits(3, points, 0.25, 26), dtype=F64)).abs().max() < 0.2


# ---- small deviations


@pytest.mark.parametrize("dim", DIMS)
def test_first_order_of_the_curvature(dim):
    (terms,) = _solve(dim, 1)
    c = dim - 1
    formula = {(0, 0, 0): c, (0, 1, 0): c, (0, 0, 2): -c / 2, (1, 0, 2): 0.5, (1, 1, 0): -1.0}
    for key, value in terms.items():
        assert abs(value - formula.get(key, 0.0)) < 1e-12


@cache
def expansion(dim, order):
    return CurvatureExpansion(dim, order)


def between_forms(dim, order, sigma, r, r_0, chord):
    """Errors of the expansion against the series, in the log-density and in sigma times the score; and energies."""
    u, s = 1 - chord / 2, torch.tensor(sigma, dtype=F64)
    near, *slopes = expansion(dim, order)(r, r_0, u, chord / sigma**2, s)
    density, *exact = kernel(dim).series(r, r_0, u, s)
    distance = ((r - r_0) ** 2 + r * r_0 * chord) / (2 * sigma**2)
    free = -distance - dim * math.log(sigma * math.sqrt(2 * math.pi))
    in_r = slopes[0] - (r - r_0 * u) / sigma**2 - exact[0] / density
    in_u = slopes[1] + r * r_0 / sigma**2 - exact[1] / density
    score = sigma * (in_r.square() + (in_u / r).square() * (1 - u**2).clamp_min(0)).sqrt()
    return (free + near - density.clamp_min(1e-300).log()).abs(), score, distance


@pytest.mark.parametrize("dim", DIMS)
def test_the_two_forms_agree(dim):
    """At 0.07, where one takes over from the other: the error that the class states."""
    assert kernel(dim).series.least_sigma == 0.07
    for widen in (1.0, 1.6):
        x, x_0 = drawn_pairs(dim, 2000, widen * 0.07)
        r, r_0 = x.norm(dim=-1), x_0.norm(dim=-1)
        chord = (x / r.unsqueeze(-1) - x_0 / r_0.unsqueeze(-1)).square().sum(-1)
        error, score, distance = between_forms(dim, 6, 0.07, r, r_0, chord)
        assert widen > 1 or (error.mean() < 1e-6 and score.mean() < 5e-6)
        for least, log_error, score_error in ((10, 3e-5, 1e-4), (15, 3e-4, 1e-3), (20, 3e-3, 6e-3)):
            assert error[distance < least].max() < log_error
            assert score[distance < least].max() < score_error


@pytest.mark.parametrize("dim", [2, 6])
def test_orders_of_the_expansion(dim):
    """What is left out after order n is of order sigma^(n + 1), for pairs that keep their place in units of sigma."""
    a, b, w = torch.rand(3, 200, generator=generator(), dtype=F64) * torch.tensor([[2.0], [2.0], [4.0]], dtype=F64)
    for order in (1, 2, 3):
        sigmas = (0.1, 0.07)
        errors = [between_forms(dim, order, s, 1 - s * a, 1 - s * b, s**2 * w)[0].median() for s in sigmas]
        slope = math.log(float(errors[0] / errors[1])) / math.log(sigmas[0] / sigmas[1])
        assert abs(slope - order - 1) < 0.4


# ---- properties


@pytest.mark.parametrize("dim", DIMS)
def test_mass(dim):
    for sigma in (0.01, 0.0699, 0.0701, 0.3):
        for r_0 in (0.0, 0.95, 1.0):
            z, weight = quadrature(dim, r_0, sigma)
            start = torch.zeros(dim, dtype=F64)
            start[0] = r_0
            log_prob = kernel(dim).log_prob(z, start, sigma)
            assert abs(float(weight @ log_prob.exp()) - 1) < (5e-6 if sigma < 0.07 else 1e-8)


def test_semigroup():
    count = 150
    node, weight = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(60))
    angle, r = torch.arange(count, dtype=F64) * (2 * math.pi / count), (node + 1) / 2
    z = torch.stack([torch.outer(r, angle.cos()), torch.outer(r, angle.sin())], -1).flatten(0, 1)
    w = (r * weight * math.pi / count).repeat_interleave(count)
    x, y = torch.tensor([0.98, 0.0], dtype=F64), torch.tensor([0.8, 0.25], dtype=F64)
    # The second chain leads from the expansion to the series.
    for first, second, tolerance in ((0.2, 0.3, 1e-11), (0.068, 0.069, 1e-6)):
        chained = w @ torch.exp(kernel(2).log_prob(z, x, first) + kernel(2).log_prob(z, y, second))
        assert abs(float(chained.log() - kernel(2).log_prob(y, x, math.hypot(first, second)))) < tolerance


@pytest.mark.parametrize("dim", DIMS)
def test_score_symmetry_and_bounds(dim):
    for sigma in (0.003, 0.03, 0.08, 0.3, 1.0, 3.0):
        x, x_0 = drawn_pairs(dim, 300, sigma)
        far, _ = drawn_pairs(dim, 300, sigma, seed=1)
        for end in (x, far):
            end.requires_grad_()
            log_prob, score = kernel(dim).log_prob_and_score(end, x_0, sigma)
            (slope,) = torch.autograd.grad(log_prob.sum(), end)
            scaled = sigma * (score - slope).norm(dim=-1) / (1 + sigma * slope.norm(dim=-1))
            end = end.detach()
            # Rounding errors are 2e-15 of the peak, slopes have ten times as much.
            bound = 2e-14 * torch.exp(energy(end, x_0, sigma).clamp_max(30.0)) + 1e-11
            assert (scaled < bound.clamp_min(1e-8)).all()
            assert ((kernel(dim).log_prob(x_0, end, sigma) - log_prob).abs() < bound).all()
            # A convex wall never lowers the density below that of free motion (I. Chavel, 1986).
            free = -energy(end, x_0, sigma) - dim * math.log(sigma * math.sqrt(2 * math.pi))
            assert (log_prob - free > -bound).all()
        wall = torch.arange(300) % 100 == 1
        normal = (kernel(dim).score(x.detach(), x_0, sigma) * x.detach()).sum(-1)[wall] * sigma
        # The expansion satisfies the condition at the wall as well as the equation.
        most = 1e-4 if sigma < 0.07 else 1e-10 + 1e-13 * torch.exp(energy(x.detach(), x_0, sigma)[wall])
        assert (normal.abs() < most).all()
    uniform = math.lgamma(dim / 2 + 1) - dim / 2 * math.log(math.pi)
    assert (log_prob - uniform).abs().max() < 1e-5


@pytest.mark.parametrize("dim", DIMS)
def test_centre(dim):
    """Polar coordinates have no direction there; values and slopes have limits."""
    zero = torch.zeros(2, dim, dtype=F64)
    x_0 = torch.zeros(2, dim, dtype=F64)
    x_0[1, -1] = 0.4
    for sigma in (0.05, 0.2, 0.7):
        x = zero.clone().requires_grad_()
        log_prob, score = kernel(dim).log_prob_and_score(x, x_0, sigma)
        (slope,) = torch.autograd.grad(log_prob.sum(), x)
        step = torch.full((2, dim), 1e-3 * sigma, dtype=F64)
        around = [kernel(dim).log_prob_and_score(zero + sign * step, x_0, sigma) for sign in (1, -1)]
        mean, mean_score = (0.5 * (a + b) for a, b in zip(*around, strict=True))
        assert (log_prob - mean).abs().max() < 1e-4
        assert (sigma * (score - mean_score)).abs().max() < 1e-4
        assert (sigma * (score - slope)).abs().max() < 1e-7
        assert (sigma * score[0]).abs().max() < 1e-6


@pytest.mark.parametrize(("dim", "fine"), [(2, True), (3, True), (6, False)])
def test_moments_of_reflected_paths(dim, fine):
    """Fine steps of ``domain.reflect``, and ``sample``, against quadrature of the kernel."""
    domain, sigma, r_0, n = D.Ball(dim), 0.5, 0.9, 10_000
    start = polar(dim, torch.tensor(r_0, dtype=F64), torch.tensor(1.0, dtype=F64))
    draws = [kernel(dim).sample(start.expand(n, -1), sigma, generator=generator(1))]
    if fine:
        x, g = start.expand(n, -1), generator(2)
        for _ in range(150):
            x = domain.reflect(x, sigma / math.sqrt(150) * torch.randn(x.shape, generator=g, dtype=F64))
        draws.append(x)
    z, weight = quadrature(dim, r_0, sigma)
    density = weight * kernel(dim).log_prob(z, start, sigma).exp()
    for x in draws:
        features = lambda p: torch.stack([p.norm(dim=-1), p[..., 0], p[..., 0].square()], -1)  # noqa: E731
        found = features(x)
        error = found.mean(0) - density @ features(z)
        assert (error.abs() / (found.std(0) / math.sqrt(n))).max() < 3


def test_interval_position_and_size():
    x_0, x = (D.Ball(1).sample_uniform(50, generator=generator(i), dtype=F64) for i in (0, 1))
    line, box = kernel(1), BoxHeatKernel(D.Box(-1.0, 1.0))
    for sigma in (0.01, 0.5, 3.0):
        assert all(
            torch.allclose(a, b, rtol=1e-13, atol=1e-13)
            for a, b in zip(line.log_prob_and_score(x, x_0, sigma), box.log_prob_and_score(x, x_0, sigma), strict=True)
        )
    x, x_0 = drawn_pairs(3, 50, 0.3)
    domain = D.Ball(3, radius=2.5, center=[1.0, -2.0, 0.5])
    moved = BallHeatKernel(domain).log_prob_and_score(domain.center + 2.5 * x, domain.center + 2.5 * x_0, 0.75)
    log_prob, score = kernel(3).log_prob_and_score(x, x_0, 0.3)
    assert (moved[0] + 3 * math.log(2.5) - log_prob).abs().max() < 1e-9
    assert (2.5 * moved[1] - score).abs().max() < 1e-8
    assert kernel(3).log_prob(torch.tensor([1.1, 0.0, 0.0], dtype=F64), x_0[0], 0.3) == -torch.inf


@pytest.mark.parametrize("dim", [2, 6])
def test_single_precision_and_batches(dim):
    domain = D.Ball(dim, radius=2.0)
    x_0 = domain.sample_uniform(600, generator=generator()).reshape(3, 200, dim)
    sigma = torch.logspace(-2, 0.5, 600).reshape(3, 200)
    single = BallHeatKernel(domain).float()
    x = single.sample(x_0, sigma, generator=generator(1))
    assert x.dtype == F32
    assert domain.contains(x).all()
    log_prob, score = single.log_prob_and_score(x, x_0, sigma)
    assert log_prob.shape == (3, 200)
    exact, slope = BallHeatKernel(domain).log_prob_and_score(x.double(), x_0.double(), sigma.double())
    assert (log_prob - exact).abs().max() < 2e-6
    assert (sigma.unsqueeze(-1) * (score - slope)).abs().max() < 2e-6
    one = single.log_prob_and_score(x[1, 3], x_0[1, 3], float(sigma[1, 3]))
    assert torch.allclose(one[0], log_prob[1, 3], atol=1e-6)
    assert torch.allclose(one[1], score[1, 3], rtol=1e-5)
    assert single.log_prob(x[:0], x_0[:0], 0.1).shape == (0, 200)


@pytest.mark.parametrize("dim", [2, 6])
def test_transforms(dim):
    """There values cannot be read, and every pair goes through both forms."""
    x, x_0 = drawn_pairs(dim, 8, 0.1)
    spread = torch.tensor([0.01, 0.05, 0.069, 0.071, 0.13, 0.3, 0.6, 2.0], dtype=F64)
    expected = kernel(dim).log_prob_and_score(x, x_0, spread)
    compiled = torch.compile(kernel(dim).log_prob_and_score, fullgraph=True, backend="eager")
    for transformed in (torch.func.vmap(kernel(dim).log_prob_and_score), compiled):
        for value, reference in zip(transformed(x, x_0, spread), expected, strict=True):
            assert torch.allclose(value, reference, rtol=1e-8, atol=1e-8)
    v = torch.ones_like(x)
    _, along = torch.func.jvp(lambda p: kernel(dim).log_prob(p, x_0, spread), (x,), (v,))
    assert torch.allclose(along, expected[1].sum(-1), rtol=1e-8, atol=1e-8)


def test_bad_arguments():
    with pytest.raises(DomainError, match="Ball"):
        BallHeatKernel(D.Box(0.0, 1.0, dim=2))
    with pytest.raises(DomainError, match="max_steps"):
        BallHeatKernel(D.Ball(2), max_steps=0)
    with pytest.raises(DomainError, match="starts in the domain"):
        kernel(2).log_prob(torch.zeros(2), torch.ones(2), 0.1)
