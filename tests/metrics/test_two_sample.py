"""Two-sample distances against double loops, scipy, POT and closed forms."""

import math

import numpy as np
import ot
import pytest
import scipy.linalg
import scipy.stats
import torch
from scipy.spatial import cKDTree

from mirrorgen import metrics
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.metrics import pairwise


def draw(n, dim, seed, scale=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return shift + scale * torch.randn(n, dim, generator=generator, dtype=torch.float64)


@pytest.fixture(params=[2**17, 64], ids=["one block", "many blocks"])
def block(request, monkeypatch):
    """Small blocks run every branch of the blockwise sums on small samples."""
    monkeypatch.setitem(pairwise._BLOCK, "cpu", request.param)


def loop_mean(x, y, function, skip_diagonal=False):
    values = [
        function(math.dist(a, b))
        for i, a in enumerate(x.tolist())
        for j, b in enumerate(y.tolist())
        if not (skip_diagonal and i == j)
    ]
    return sum(values) / len(values)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("bandwidth", [0.5, 1.0, 3.0])
def test_mmd_against_a_double_loop(bandwidth):
    x, y = draw(23, 3, 0), draw(31, 3, 1, shift=0.3)
    kernel = lambda d: math.exp(-(d**2) / (2 * bandwidth**2))  # noqa: E731
    expected = loop_mean(x, x, kernel, True) + loop_mean(y, y, kernel, True) - 2 * loop_mean(x, y, kernel)
    squared = metrics.mmd_squared(x, y, bandwidth)
    assert squared.dtype == torch.float64
    assert float(squared) == pytest.approx(expected, rel=1e-10)
    assert float(metrics.mmd(x, y, bandwidth)) == pytest.approx(math.sqrt(max(0, expected)), rel=1e-10)


def test_mmd_of_gaussians_in_closed_form():
    """E k between N(0, I) and N(m, I): (s^2 / (s^2 + 2))^(d/2) exp(-|m|^2 / (2 (s^2 + 2)))."""
    d, shift = 3, 0.8
    x, y = draw(4000, d, 0), draw(4000, d, 1, shift=shift)
    mass = (1 / 3) ** (d / 2)
    expected = 2 * mass * (1 - math.exp(-d * shift**2 / 6))
    assert float(metrics.mmd_squared(x, y)) == pytest.approx(expected, abs=0.008)


def test_unbiased_mmd_averages_to_zero_and_its_root_is_never_nan():
    values = torch.stack([metrics.mmd_squared(draw(60, 2, 2 * i), draw(50, 2, 2 * i + 1)) for i in range(200)])
    assert float(values.mean().abs()) < 4 * float(values.std()) / math.sqrt(200)
    assert int((values < 0).sum()) > 40
    negative = int(values.argmin())
    assert float(metrics.mmd(draw(60, 2, 2 * negative), draw(50, 2, 2 * negative + 1))) == 0


@pytest.mark.usefixtures("block")
def test_far_from_the_origin_in_float32():
    x, y = draw(40, 3, 0).float(), draw(50, 3, 1, shift=0.5).float()
    near = metrics.mmd_squared(x, y)
    # 1024 is a power of two, and these roundings are exact for points on a grid of 2^-10.
    grid = lambda z: (z * 1024).round() / 1024  # noqa: E731
    moved = metrics.mmd_squared(grid(x) + 1024, grid(y) + 1024)
    assert float(moved) == pytest.approx(float(metrics.mmd_squared(grid(x), grid(y))), rel=1e-9)
    assert float(moved) == pytest.approx(float(near), rel=1e-2)


@pytest.mark.usefixtures("block")
def test_mmd_multi_against_the_pooled_kernel_matrix():
    x, y = draw(20, 2, 0), draw(35, 2, 1, scale=1.5)
    pooled = torch.cat([x, y])
    squared = torch.cdist(pooled, pooled, compute_mode="donot_use_mm_for_euclid_dist").square()
    width = squared.sum() / (55 * 54)
    kernel = sum((-squared / (width * scale)).exp() for scale in (0.25, 0.5, 1, 2, 4))
    expected = kernel[:20, :20].mean() + kernel[20:, 20:].mean() - 2 * kernel[:20, 20:].mean()
    torch.testing.assert_close(metrics.mmd_multi(x, y), expected, rtol=1e-10, atol=0)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("unbiased", [False, True])
def test_energy_distance_against_a_double_loop(unbiased):
    x, y = draw(23, 3, 0), draw(31, 3, 1, shift=0.3)
    parts = [loop_mean(z, z, float, unbiased) for z in (x, y)]
    expected = 2 * loop_mean(x, y, float) - sum(parts)
    assert float(metrics.energy_distance(x, y, unbiased=unbiased)) == pytest.approx(expected, rel=1e-10)


def test_energy_distance_against_scipy_on_the_line():
    x, y = draw(40, 1, 0), draw(57, 1, 1, scale=2)
    expected = scipy.stats.energy_distance(x[:, 0].numpy(), y[:, 0].numpy()) ** 2
    assert float(metrics.energy_distance(x, y)) == pytest.approx(expected, rel=1e-10)
    assert float(metrics.energy_distance(x, x)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 57), (7, 3)])
def test_sliced_wasserstein_on_the_line(n, m):
    x, y = draw(n, 1, 0), draw(m, 1, 1, scale=2)
    a, b = x[:, 0].numpy(), y[:, 0].numpy()
    first = metrics.sliced_wasserstein(x, y, projections=3, order=1)
    assert float(first) == pytest.approx(scipy.stats.wasserstein_distance(a, b), rel=1e-10)
    second = metrics.sliced_wasserstein(x, y, projections=3)
    assert float(second) == pytest.approx(math.sqrt(ot.emd2_1d(a, b)), rel=1e-10)
    third = metrics.sliced_wasserstein(x, y, projections=3, order=3)
    assert float(third) == pytest.approx(ot.wasserstein_1d(a, b, p=3) ** (1 / 3), rel=1e-6)


@pytest.mark.parametrize("m", [50, 33])
def test_sliced_wasserstein_in_the_plane_against_pot(m):
    x, y = draw(50, 4, 0), draw(m, 4, 1, shift=0.5)
    generator = torch.Generator().manual_seed(5)
    ours = metrics.sliced_wasserstein(x, y, projections=70, generator=generator)
    generator = torch.Generator().manual_seed(5)
    directions = torch.randn(70, 4, generator=generator, dtype=torch.float64)
    directions = (directions / directions.norm(dim=1, keepdim=True)).T.numpy()
    expected = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), projections=directions)
    assert float(ours) == pytest.approx(float(expected), rel=1e-8)


def test_sliced_wasserstein_of_a_shift_and_its_default_directions():
    x = draw(200, 5, 0)
    shift = torch.full((5,), 0.6, dtype=torch.float64)
    value = metrics.sliced_wasserstein(x, x + shift, projections=4000)
    assert float(value) == pytest.approx(float(shift.norm()) / math.sqrt(5), rel=0.05)
    assert float(metrics.sliced_wasserstein(x, x.flip(0))) == pytest.approx(0, abs=1e-12)
    y = draw(200, 5, 1)
    assert torch.equal(metrics.sliced_wasserstein(x, y), metrics.sliced_wasserstein(x, y))


def test_frechet_against_scipy_and_closed_form():
    x, y = draw(300, 4, 0), draw(200, 4, 1, scale=1.7, shift=0.2)
    y = y @ draw(4, 4, 2)
    a, b = np.cov(x.numpy().T), np.cov(y.numpy().T)
    root = scipy.linalg.sqrtm(a @ b).real
    expected = float((x.mean(0) - y.mean(0)).square().sum()) + np.trace(a + b - 2 * root)
    assert float(metrics.frechet_distance(x, y)) == pytest.approx(expected, rel=1e-9)
    mean, cov = torch.zeros(3).double(), torch.eye(3).double()
    value = metrics.frechet_distance_gaussian(mean, cov, mean + 2, 9 * cov)
    assert float(value) == pytest.approx(12 + 3 * (3 - 1) ** 2)


def test_frechet_of_singular_covariances():
    """Features that never change: both roots are singular, and only the live coordinate counts."""
    x, y = torch.zeros(100, 6), torch.zeros(100, 6)
    x[:, 0], y[:, 0] = torch.linspace(-1, 1, 100), 2 * torch.linspace(-1, 1, 100)
    spread = float(x[:, 0].double().var())
    assert float(metrics.frechet_distance(x, y)) == pytest.approx(spread, rel=1e-6)
    assert float(metrics.frechet_distance(x, x)) == pytest.approx(0, abs=1e-12)
    assert float(metrics.frechet_distance(x[:, :1], y[:, :1])) == pytest.approx(spread, rel=1e-6)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("k", [1, 3])
def test_knn_kl_against_a_tree(k):
    x, y = draw(80, 3, 0), draw(95, 3, 1, scale=1.3)
    within = cKDTree(x.numpy()).query(x.numpy(), k=[k + 1])[0][:, 0]
    between = cKDTree(y.numpy()).query(x.numpy(), k=[k])[0][:, 0]
    expected = 3 * np.mean(np.log(between / within)) + math.log(95 / 79)
    assert float(metrics.knn_kl(x, y, k)) == pytest.approx(expected, rel=1e-9)


def test_knn_kl_of_gaussians():
    """KL(N(0, I) || N(m, s^2 I)) = d log s + (d + |m|^2) / (2 s^2) - d / 2; standard error about 0.02."""
    d, scale, shift = 2, 1.5, 0.7
    x, y = draw(6000, d, 0), draw(6000, d, 1, scale=scale, shift=shift)
    expected = d * math.log(scale) + (d + d * shift**2) / (2 * scale**2) - d / 2
    assert float(metrics.knn_kl(x, y)) == pytest.approx(expected, abs=0.08)
    assert float(metrics.knn_kl(x, draw(6000, d, 2))) == pytest.approx(0, abs=0.08)


def test_knn_kl_reports_ties():
    x, y = draw(100, 2, 0), draw(100, 2, 1)
    tied = torch.cat([x, x[:1].expand(5, 2)])
    with pytest.warns(UserWarning, match="6 of 105 points coincide"):
        value = metrics.knn_kl(tied, y)
    assert math.isfinite(float(value))
    with pytest.raises(DomainError, match="exact copies"):
        metrics.knn_kl(torch.zeros(20, 2), y)
    # One copy of a training point is no tie at k = 3.
    assert math.isfinite(float(metrics.knn_kl(torch.cat([x, y[:1]]), y)))


def test_ties_are_seen_far_from_the_origin():
    x = draw(50, 2, 0).float() + 1000
    with pytest.warns(UserWarning, match="4 of 53 points coincide"):
        metrics.knn_kl(torch.cat([x, x[:1].expand(3, 2)]), draw(50, 2, 1).float() + 1000)


SYMMETRIC = [
    metrics.mmd,
    metrics.mmd_squared,
    metrics.mmd_multi,
    metrics.energy_distance,
    metrics.sliced_wasserstein,
    metrics.frechet_distance,
]


@pytest.mark.parametrize("metric", SYMMETRIC)
def test_symmetry_and_rigid_motions(metric):
    x, y = draw(30, 3, 0), draw(40, 3, 1, shift=0.4)
    torch.testing.assert_close(metric(x, y), metric(y, x))
    if metric is not metrics.sliced_wasserstein:
        rotation = torch.linalg.qr(draw(3, 3, 2)).Q
        torch.testing.assert_close(metric(x @ rotation + 5, y @ rotation + 5), metric(x, y))


@pytest.mark.parametrize("metric", [*SYMMETRIC, metrics.knn_kl])
def test_inputs_are_kept_and_bad_ones_named(metric):
    x, y = draw(30, 3, 0), draw(40, 3, 1)
    copies = x.clone(), y.clone()
    value = metric(x.requires_grad_(), y)
    assert value.shape == ()
    assert not value.requires_grad
    assert torch.equal(x, copies[0])
    assert torch.equal(y, copies[1])
    x = x.detach()
    with pytest.raises(ShapeError, match="dim"):
        metric(x, y[:, :2])
    with pytest.raises(ShapeError, match="Flatten"):
        metric(x[None], y)
    with pytest.raises(DomainError, match="1 of 30 points are not finite"):
        metric(x.index_fill(0, torch.tensor([4]), math.nan), y)
    with pytest.raises(DomainError, match="at least"):
        metric(x[:0], y)


def test_bad_options_are_named():
    x, y = draw(30, 3, 0), draw(40, 3, 1)
    with pytest.raises(DomainError, match="bandwidth"):
        metrics.mmd(x, y, bandwidth=0.0)
    with pytest.raises(DomainError, match="projections"):
        metrics.sliced_wasserstein(x, y, projections=0)
    with pytest.raises(DomainError, match="rank"):
        metrics.knn_kl(x, y, k=0)
    with pytest.raises(DomainError, match="no scale"):
        metrics.mmd_multi(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(ShapeError, match="covariances"):
        metrics.frechet_distance_gaussian(torch.zeros(2), torch.eye(2), torch.zeros(2), torch.eye(3))
