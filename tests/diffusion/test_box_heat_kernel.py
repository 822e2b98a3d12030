"""The Neumann heat kernel of a box against 60-digit series, quadrature, the heat equation and literal sums."""

from functools import cache

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

from mirrorgen import domains as D
from mirrorgen.diffusion.heat_kernel import box as module
from mirrorgen.diffusion.heat_kernel.box import BoxHeatKernel
from mirrorgen.diffusion.heat_kernel.interval import Pair, interval, interval_cosines, interval_images
from mirrorgen.errors import DomainError, ShapeError

F32, F64 = torch.float32, torch.float64
WALL_GRID = [0.0, 1e-6, 1e-3, 0.01, 0.1, 0.3, 0.5, 0.77, 0.95, 0.999, 1.0]
SIGMAS = [1e-3, 3e-3, 0.01, 0.05, 0.14, 0.15, 0.21, 0.23, 0.29, 0.31, 0.4, 0.55, 0.6, 0.65, 0.69, 0.71, 0.75, 0.8, 1.0,
          2.0, 5.0]  # fmt: skip


@cache
def reference(a, a_0, width, sigma):
    """Log-density and score in 60 digits, from the gaps to the low end (exact numbers), by a plain sum."""
    x, x_0, s = a / width, a_0 / width, sigma / width
    if s < 0.9:
        images = [sign * x_0 + 2 * k for sign in (1, -1) for k in range(-9, 10) if abs(k) < 3 + 7 * s]
        weights = [mpmath.exp(-((x - z) ** 2) / (2 * s**2)) for z in images]
        total, moment = mpmath.fsum(weights), mpmath.fsum(w * (z - x) for w, z in zip(weights, images, strict=True))
        return mpmath.log(total / (s * width * mpmath.sqrt(2 * mpmath.pi))), moment / total / s**2 / width
    waves = [(n * mpmath.pi, mpmath.exp(-((n * mpmath.pi * s) ** 2) / 2)) for n in range(1, 7)]
    density = 1 + 2 * mpmath.fsum(q * mpmath.cos(n * x) * mpmath.cos(n * x_0) for n, q in waves)
    slope = -2 * mpmath.fsum(n * q * mpmath.sin(n * x) * mpmath.cos(n * x_0) for n, q in waves)
    return mpmath.log(density / width), slope / density / width


def errors(x, x_0, sigma, low, high):
    """Largest error of the log-density over max(1, size), and of sigma times the score over max(1, size)."""
    kernel = BoxHeatKernel(D.Box(low, high))
    log_prob, score = kernel.log_prob_and_score(x, x_0, sigma)
    worst = [0.0, 0.0]
    with mpmath.workdps(60):
        ends = [mpmath.mpf(float(bound.to(x.dtype))) for bound in (kernel.domain.low, kernel.domain.high)]
        s = mpmath.mpf(float(torch.tensor(sigma, dtype=x.dtype)))
        points = zip(x[:, 0].tolist(), x_0[:, 0].tolist(), log_prob.tolist(), score[:, 0].tolist(), strict=True)
        for end, start, value, slope in points:
            exact = reference(mpmath.mpf(end) - ends[0], mpmath.mpf(start) - ends[0], ends[1] - ends[0], s)
            worst[0] = max(worst[0], float(abs(value - exact[0]) / max(1, abs(exact[0]))))
            worst[1] = max(worst[1], float(abs(slope - exact[1]) * s / max(1, abs(exact[1] * s))))
    return worst


def grid(dtype, low=0.0, high=1.0):
    """All pairs of the wall grid, with as many digits left next to the high end as the dtype has."""
    unit = torch.tensor(WALL_GRID, dtype=F64)
    ends = [torch.tensor(bound, dtype=dtype).double() for bound in (low, high)]
    points = torch.where(unit < 0.5, ends[0] + (ends[1] - ends[0]) * unit, ends[1] - (ends[1] - ends[0]) * (1 - unit))
    points = points.to(dtype).clamp(*(bound.to(dtype) for bound in ends))
    return (v.reshape(-1, 1) for v in torch.meshgrid(points, points, indexing="ij"))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_log_density_and_score_on_the_wall_grid(sigma):
    log_error, score_error = errors(*grid(F64), sigma, 0.0, 1.0)
    assert log_error < 1e-14
    assert score_error < 2e-14
    log_error, score_error = errors(*grid(F32), sigma, 0.0, 1.0)
    assert log_error < 5e-7
    assert score_error < 4e-6


@pytest.mark.parametrize(("low", "high"), [(2.0, 7.0), (-1e3, 1e3), (0.0, 1e-3), (0.1, 0.4)])
@pytest.mark.parametrize("ratio", [1e-3, 0.1, 0.25, 0.5, 0.8])
def test_other_bounds(low, high, ratio):
    for dtype, log_bar, score_bar in ((F64, 1e-14, 2e-14), (F32, 5e-7, 1e-5)):
        log_error, score_error = errors(*grid(dtype, low, high), ratio * (high - low), low, high)
        assert log_error < log_bar
        assert score_error < score_bar


def test_far_pairs_have_finite_densities_and_scores():
    sigma = 2.0**-10
    for dtype, bar in ((F32, 1e-7), (F64, 1e-15)):
        x, x_0 = (torch.tensor([[p], [q], [0.75]], dtype=dtype) for p, q in ((1.0, 0.0), (0.0, 1.0)))
        x_0[2] = 2.0**-9
        log_prob, score = BoxHeatKernel(D.Box(0.0, 1.0)).log_prob_and_score(x, x_0, sigma)
        # From corner to corner four images are equally far; from the third starting point only one is near.
        corner = -(2.0**19) + np.log(4) - np.log(sigma * np.sqrt(2 * np.pi))
        torch.testing.assert_close(log_prob[:2].double(), torch.full((2,), corner, dtype=F64), rtol=bar, atol=0)
        assert (score[:2] == 0).all()
        inner = torch.tensor([-(0.75 - 2.0**-9) * 2.0**20], dtype=dtype)
        torch.testing.assert_close(score[2], inner, rtol=bar, atol=0)


@cache
def rule(start, sigma, panels=40, order=24):
    """Gauss-Legendre nodes and weights on [0, 1], refined around the starting point."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    around = start + sigma * np.linspace(-12, 12, panels)
    ends = np.unique(np.clip(np.concatenate([around, np.linspace(0, 1, 9)]), 0, 1))
    half = np.diff(ends) / 2
    x = (ends[:-1] + half)[:, None] + half[:, None] * nodes
    return torch.from_numpy(x.reshape(-1, 1)), torch.from_numpy((half[:, None] * weights).reshape(-1))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_integral_is_one(sigma):
    kernel = BoxHeatKernel(D.Box(0.0, 1.0))
    for start in WALL_GRID:
        x, weight = rule(start, sigma)
        density = kernel.log_prob(x, torch.tensor([start], dtype=F64), sigma).exp()
        assert abs(float((weight * density).sum()) - 1) < 1e-12


@pytest.mark.parametrize(
    ("first", "second"), [(0.01, 0.02), (0.1, 0.15), (0.2, 0.5), (0.6, 0.6), (0.3, 1.0), (2.0, 1.5)]
)
def test_semigroup(first, second):
    kernel = BoxHeatKernel(D.Box(0.0, 1.0))
    for start, end in ((0.0, 0.0), (0.3, 0.35), (1e-3, 0.01), (1.0, 0.97), (0.02, 0.9)):
        x_0, x = (torch.tensor([v], dtype=F64) for v in (start, end))
        middle, weight = rule(start, min(first, second))
        path = kernel.log_prob(middle, x_0, first) + kernel.log_prob(x, middle, second)
        direct = kernel.log_prob(x, x_0, (first**2 + second**2) ** 0.5).exp()
        assert abs(float((weight * path.exp()).sum() - direct)) < 1e-10 * max(1, float(direct))


def test_density_is_symmetric():
    x, x_0 = grid(F64)
    kernel = BoxHeatKernel(D.Box(0.0, 1.0))
    for sigma in SIGMAS:
        there, back = kernel.log_prob(x, x_0, sigma), kernel.log_prob(x_0, x, sigma)
        assert ((there - back).abs() <= 1e-14 * there.abs().clamp_min(1)).all()


def test_images_and_cosines_agree_where_both_serve():
    points = Pair.between(torch.tensor(0.0, dtype=F64), torch.tensor(1.0, dtype=F64), *grid(F64))
    for sigma in (0.66, 0.68, 0.7, 0.72, 0.74):
        value = torch.tensor(sigma, dtype=F64)
        for images, cosines in zip(interval_images(points, value), interval_cosines(points, value), strict=True):
            assert (images - cosines).abs().max() < 1e-12


def test_four_images_are_enough_where_they_are_used():
    for dtype, bar in ((F64, 1e-14), (F32, 5e-7)):
        points = Pair.between(torch.tensor(0.0, dtype=dtype), torch.tensor(1.0, dtype=dtype), *grid(dtype))
        sigma = torch.tensor(module.NEAR[dtype], dtype=dtype)
        few, many = interval_images(points, sigma, near=True), interval_images(points, sigma)
        assert ((few[0] - many[0]).abs() <= bar * many[0].abs().clamp_min(1)).all()
        assert ((few[1] - many[1]).abs() * sigma <= bar * (many[1].abs() * sigma).clamp_min(1)).all()


def test_values_that_are_not_read_make_no_difference():
    for dtype, bar in ((F64, 1e-14), (F32, 5e-7)):
        x, x_0 = grid(dtype)
        for sigma in SIGMAS:
            grouped = BoxHeatKernel(D.Box(0.0, 1.0)).log_prob_and_score(x, x_0, sigma)
            value = torch.tensor(sigma, dtype=dtype)
            everywhere = interval(Pair.between(*torch.tensor([0.0, 1.0], dtype=dtype), x, x_0), value)
            assert ((grouped[0] - everywhere[0][:, 0]).abs() <= bar * grouped[0].abs().clamp_min(1)).all()
            assert ((grouped[1] - everywhere[1]).abs() * sigma <= bar * (grouped[1].abs() * sigma).clamp_min(1)).all()


def test_score_is_zero_at_both_walls():
    starts = torch.tensor(WALL_GRID, dtype=F64).unsqueeze(-1)
    for low, high in ((0.0, 1.0), (-1.3, 0.4), (2.0, 7.0)):
        kernel = BoxHeatKernel(D.Box(low, high))
        for dtype in (F32, F64):
            ends = kernel.domain.low.to(dtype), kernel.domain.high.to(dtype)
            x_0 = (ends[0] + starts.to(dtype) * (ends[1] - ends[0])).clamp(*ends)
            for wall in ends:
                for ratio in SIGMAS:
                    sigma = ratio * (high - low)
                    score = kernel.score(wall.expand_as(x_0), x_0, sigma)
                    # In float32 a few images further away cancel up to rounding only.
                    bar = 1e-12 if dtype == F64 or not 0.22 < ratio < 0.7 else 1e-7
                    assert score.abs().max() <= bar / sigma


def many_points(n=40):
    """Pairs of all kinds: anywhere, on walls, equal, mirrored, in corners; all deviations."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, 1, generator=generator, dtype=F64)
    x_0 = torch.rand(n, 1, generator=generator, dtype=F64)
    x[:8, 0] = torch.tensor([0.0, 1.0, 0.3, 0.3, 0.0, 1.0, 0.5, 1e-9], dtype=F64)
    x_0[:8, 0] = torch.tensor([0.4, 0.9, 0.3, 0.7, 0.0, 0.0, 0.5, 1.0], dtype=F64)
    return x, x_0


def derivative(value, variable):
    return torch.autograd.grad(value.sum(), variable, retain_graph=True, create_graph=True)[0]


@pytest.mark.parametrize("sigma", [0.003, 0.05, 0.2, 0.25, 0.5, 0.69, 0.71, 1.0, 2.0])
def test_score_is_the_gradient_of_the_log_density(sigma):
    for x, x_0 in (tuple(grid(F64)), many_points()):
        x.requires_grad_()
        log_prob, score = BoxHeatKernel(D.Box(0.0, 1.0)).log_prob_and_score(x, x_0, sigma)
        scaled = (derivative(log_prob, x) - score).abs() * sigma
        assert (scaled <= 1e-10 * (score.abs() * sigma).clamp_min(1)).all()


@pytest.mark.parametrize("sigma", [0.003, 0.05, 0.2, 0.25, 0.5, 0.69, 0.7, 0.71, 1.0, 2.0])
@pytest.mark.parametrize("function", ["grouped", "everywhere"])
def test_heat_equation_ties_the_derivatives_together(sigma, function):
    """``dlog p / dsigma = sigma (ds / dx + s^2)`` and its derivative in x; in ``x_0``, the score of the way back."""
    x, x_0 = many_points()
    spread = torch.full((len(x), 1), sigma, dtype=F64, requires_grad=True)
    x.requires_grad_()
    x_0.requires_grad_()

    def kernel(end, start):
        if function == "everywhere":
            low, high = torch.zeros((), dtype=F64), torch.ones((), dtype=F64)
            return interval(Pair.between(low, high, end, start), spread)
        log_prob, score = BoxHeatKernel(D.Box(0.0, 1.0)).log_prob_and_score(end, start, spread[:, 0])
        return log_prob.unsqueeze(-1), score

    log_k, score = kernel(x, x_0)
    back = kernel(x_0, x)[1]
    slope = derivative(score, x)
    # The size of the score of a single image; every derivative in x brings one more factor.
    size = 1 / sigma + (x - x_0).detach().abs() / sigma**2
    for residual, order in (
        (derivative(log_k, x_0) - back, 1),
        (derivative(score, x_0) - derivative(back, x), 2),
        (derivative(log_k, spread) / sigma - slope - score**2, 2),
        (derivative(score, spread) / sigma - derivative(slope, x) - 2 * score * slope, 3),
    ):
        assert (residual.abs() <= 1e-14 * size**order).all()


def test_two_coordinates_against_a_literal_double_sum():
    x, x_0 = torch.tensor([[0.2, -0.4]], dtype=F64), torch.tensor([[0.9, -0.1]], dtype=F64)
    low, high = torch.tensor([0.0, -0.5], dtype=F64), torch.tensor([1.0, 0.0], dtype=F64)
    total = 0.0
    for i in range(-6, 7):
        for j in range(-6, 7):
            for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                image = low + torch.tensor(signs) * (x_0 - low) + 2 * (high - low) * torch.tensor([i, j])
                total = total + torch.exp(-((x - image) ** 2).sum() / (2 * 0.35**2)) / (2 * np.pi * 0.35**2)
    log_prob = BoxHeatKernel(D.Box(low, high)).log_prob(x, x_0, 0.35)
    torch.testing.assert_close(log_prob, torch.log(total).reshape(1), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    ("low", "high"), [([0.0, 0.0], [1.0, 2.0]), ([0.0, 0.5], [1.0, 1.0]), ([-3.0, 5.0], [-2.0, 6.0])]
)
def test_sides_are_independent(low, high):
    domain = D.Box(low, high)
    x, x_0 = (domain.sample_uniform(9, generator=torch.Generator().manual_seed(i), dtype=F64) for i in (0, 1))
    sigma = torch.logspace(-2, 0.5, 9, dtype=F64)
    log_prob, score = BoxHeatKernel(domain).log_prob_and_score(x, x_0, sigma)
    sides = [BoxHeatKernel(D.Box(*ends)) for ends in zip(low, high, strict=True)]
    parts = [side.log_prob_and_score(x[:, [i]], x_0[:, [i]], sigma) for i, side in enumerate(sides)]
    torch.testing.assert_close(log_prob, parts[0][0] + parts[1][0], rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(score, torch.cat([part for _, part in parts], -1), rtol=1e-12, atol=1e-12)


BOXES = {"unit": D.Box(0.0, 1.0, dim=3), "other": D.Box([2.0, -1e3, 0.0], [7.0, 1e3, 1e-3])}


def batch(domain, n=24, dtype=F64):
    x = domain.sample_uniform(n, generator=torch.Generator().manual_seed(1), dtype=dtype)
    x_0 = domain.sample_uniform(n, generator=torch.Generator().manual_seed(2), dtype=dtype)
    width = (domain.high - domain.low).to(dtype)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(3))
    return x, x_0, torch.logspace(-2.5, 0.5, n, dtype=dtype)[order] * width.amax(), width


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_one_batch_of_many_deviations(name, dtype, monkeypatch):
    domain = BOXES[name]
    kernel = BoxHeatKernel(domain)
    x, x_0, sigma, _ = batch(domain, dtype=dtype)
    log_prob, score = kernel.log_prob_and_score(x, x_0, sigma)
    assert (log_prob.dtype, score.dtype) == (dtype, dtype)
    tolerance = {"rtol": 1e-6, "atol": 1e-6} if dtype == F32 else {"rtol": 1e-13, "atol": 1e-13}
    for i in range(len(x)):
        single = kernel.log_prob_and_score(x[i], x_0[i], float(sigma[i]))
        torch.testing.assert_close(single[0], log_prob[i], **tolerance)
        torch.testing.assert_close(single[1], score[i], **tolerance)
    # Blocks and the shape of the batch make no difference.
    monkeypatch.setattr(module, "_BLOCK", 7)
    shaped = kernel.log_prob_and_score(x.reshape(4, 6, 3), x_0.reshape(4, 6, 3), sigma.reshape(4, 6))
    torch.testing.assert_close(shaped[0].flatten(), log_prob, **tolerance)
    torch.testing.assert_close(shaped[1].flatten(0, 1), score, **tolerance)
    assert kernel.score(x[:0], x_0[:0], 0.1).shape == (0, 3)


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_score_alone_is_the_score(name, dtype):
    kernel = BoxHeatKernel(BOXES[name])
    x, x_0, sigma, _ = batch(BOXES[name], dtype=dtype)
    for points in (x, torch.cat([x[:-1], x_0[:1] - 1e6])):
        for spread in (sigma, sigma[5]):
            assert torch.equal(kernel.score(points, x_0, spread), kernel.log_prob_and_score(points, x_0, spread)[1])
    x.requires_grad_()
    slopes = [derivative(v, x) for v in (kernel.score(x, x_0, sigma), kernel.log_prob_and_score(x, x_0, sigma)[1])]
    assert torch.equal(*slopes)


@pytest.mark.parametrize("name", BOXES)
def test_transforms(name):
    domain = BOXES[name]
    kernel = BoxHeatKernel(domain)
    x, x_0, sigma, width = batch(domain)
    expected = kernel.log_prob_and_score(x, x_0, sigma)
    compiled = torch.compile(kernel.log_prob_and_score, fullgraph=True, backend="eager")
    for transformed in (torch.func.vmap(kernel.log_prob_and_score), compiled):
        values = transformed(x, x_0, sigma)
        torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-12)
    number = torch.func.vmap(lambda p: kernel.score(p, x_0[0], 0.1))(x)
    torch.testing.assert_close(number, kernel.score(x, x_0[0], 0.1), rtol=1e-12, atol=1e-12)
    v = width * torch.linspace(-1, 1, x.numel(), dtype=F64).reshape(x.shape)
    _, along = torch.func.jvp(lambda p: kernel.log_prob(p, x_0, sigma), (x,), (v,))
    torch.testing.assert_close(along, (expected[1] * v).sum(-1), rtol=1e-10, atol=1e-10)
    _, in_sigma = torch.func.jvp(lambda s: kernel.log_prob(x, x_0, s), (sigma,), (torch.ones_like(sigma),))
    spread = sigma.clone().requires_grad_()
    torch.testing.assert_close(in_sigma, derivative(kernel.log_prob(x, x_0, spread), spread), rtol=1e-10, atol=1e-10)


def test_samples_have_the_density():
    kernel = BoxHeatKernel(D.Box(-1.0, 1.0))
    start = torch.tensor([-0.8], dtype=F64)
    draws = kernel.sample(start.expand(20_000, 1), 0.7, generator=torch.Generator().manual_seed(0))
    ends = torch.linspace(-1, 1, 4001, dtype=F64)
    density = kernel.log_prob(ends.unsqueeze(-1), start, 0.7).exp()
    distribution = torch.cat([density.new_zeros(1), torch.cumulative_trapezoid(density, ends)])
    result = stats.kstest(draws[:, 0].numpy(), lambda x: np.interp(x, ends.numpy(), distribution.numpy()))
    assert result.pvalue > 1e-3


def test_points_outside():
    kernel = BoxHeatKernel(D.Box(0.0, 1.0, dim=2))
    x, x_0 = torch.tensor([[0.5, 1.2], [0.5, 0.5]]), torch.tensor([0.5, 0.5])
    log_prob, score = kernel.log_prob_and_score(x, x_0, 0.1)
    assert log_prob[0] == -torch.inf
    assert (score[0] == 0).all()
    assert torch.isfinite(log_prob[1])
    for value in (torch.nan, torch.inf, -torch.inf):
        assert kernel.log_prob(torch.tensor([0.5, value]), x_0, 0.1) == -torch.inf
    with pytest.raises(DomainError, match="x_0"):
        kernel.log_prob(x_0, x, 0.1)
    # One unit in the last place beyond a wall is rounding, for any sigma.
    edge = torch.nextafter(torch.tensor([1.0, 1.0]), torch.tensor(2.0))
    for value in kernel.log_prob_and_score(edge, x_0, 1e-5):
        assert torch.isfinite(value).all()
    with pytest.raises(DomainError, match="positive"):
        kernel.log_prob(x_0, x_0, 0.0)
    with pytest.raises(ShapeError, match="sigma"):
        kernel.log_prob(x, x_0, torch.ones(3))
    with pytest.raises(DomainError, match="Box"):
        BoxHeatKernel(D.Ball(2))
