"""Gibbs and elliptical slices against exact moments, rejection sampling and a grid of angles."""

import math

import pytest
import torch

from mirrorgen import domains as D
from mirrorgen import targets as T
from mirrorgen.errors import DomainError
from mirrorgen.samplers import LinearEllipticalSlice, TruncatedGaussianGibbs, run
from mirrorgen.samplers.walks.elliptical_slice import draw_angle

KERNELS = {
    "gibbs": TruncatedGaussianGibbs,
    "gibbs_plain": lambda target: TruncatedGaussianGibbs(target, whiten=False),
    "elliptical": lambda target: LinearEllipticalSlice(target, moves=2),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def last(kernel, x, steps, seed=1):
    return run(kernel, x, steps, thin=steps, generator=generator(seed)).positions[-1]


def two_sample_scores(x, y):
    """z-scores of the differences of means and of all second moments of independent samples."""

    def moments(v):
        pairs = torch.triu_indices(v.shape[1], v.shape[1])
        return torch.cat([v, v[:, pairs[0]] * v[:, pairs[1]]], -1)

    a, b = moments(x), moments(y)
    return (a.mean(0) - b.mean(0)) / (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()


def by_rejection(target, n, seed=11):
    """Exact draws: of the untruncated law those that fall inside, or uniform points of a simplex by their density."""
    if target.domain.dual_dim == target.domain.dim:
        law = torch.distributions.MultivariateNormal(target.location, target.covariance)
        noise = torch.randn(30 * n, target.domain.dim, generator=generator(seed), dtype=torch.float64)
        x = target.location + noise @ law.scale_tril.mT
        return x[target.domain.contains(x)][:n]
    x = target.domain.sample_uniform(20 * n, generator=generator(seed), dtype=torch.float64)
    value = target(x)
    # Any bound that no value exceeds keeps the accepted ones exact.
    u = torch.rand(len(x), generator=generator(seed + 1), dtype=torch.float64)
    return x[u.log() < value - value.max() - 1e-3][:n]


def skewness(x, z):
    """Largest z-score of skew-symmetric statistics, of mean zero if the step from ``x`` to ``z`` is reversible."""
    skew = torch.stack([x[:, i] * z[:, j].square() - z[:, i] * x[:, j].square() for i, j in ((0, 1), (0, 2), (1, 2))])
    return float((skew.mean(-1) / (skew.std(-1) / len(x) ** 0.5)).abs().max())


COVARIANCE = torch.tensor([[1.0, 0.8, 0.0], [0.8, 1.0, -0.3], [0.0, -0.3, 0.5]], dtype=torch.float64)
TARGETS = {
    "cut box": T.TruncatedNormal(
        D.Intersection(D.Box(-1.0, 1.5, dim=3), D.Halfspace([1.0, 1.0, 1.0], 1.0)), [0.4, -0.5, 0.2], COVARIANCE
    ),
    "simplex": T.TruncatedNormal(D.Simplex(3), [0.9, 0.3, -0.4], 0.3 * COVARIANCE),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("which", TARGETS)
def test_correlated_laws_against_rejection_sampling(name, which):
    target = TARGETS[which]
    exact, kernel = by_rejection(target, 10_000), KERNELS[name](target)
    assert len(exact) == 10_000
    # One step from exact draws, and many steps from one point, against exact draws.
    moved = last(kernel, exact, 1)
    assert ((moved - exact).abs().amax(-1) > 1e-3).double().mean() > 0.9
    assert two_sample_scores(moved, by_rejection(target, 10_000, seed=21)).abs().max() < 4.5
    arrived = last(kernel, exact[:1].expand(6000, -1).clone(), 20)
    assert two_sample_scores(arrived, exact).abs().max() < 4.5


@pytest.mark.parametrize("name", ["gibbs", "gibbs_plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distance", [10.0, 1000.0])
def test_locations_far_outside(name, dtype, distance):
    target = T.TruncatedNormal(D.Orthant(2), [-distance, 0.5], [1.0, 4.0])
    start = torch.ones(20_000, 2, dtype=dtype)
    x = last(KERNELS[name](target), start, 1).double()
    square = (x - target.mean).square()
    assert ((x.mean(0) - target.mean) / (target.variance.sqrt() / len(x) ** 0.5)).abs().max() < 4.5
    assert ((square.mean(0) - target.variance) / (square.std(0) / len(x) ** 0.5)).abs().max() < 4.5
    assert (x > 0).all()


def test_elliptical_slices_ten_standard_deviations_outside():
    target = T.TruncatedNormal(D.Box(0.0, 2.0, dim=2), [-10.0, 11.0])
    x = last(KERNELS["elliptical"](target), target.sample(4000, generator=generator(0)), 20)
    assert ((x.mean(0) - target.mean) / (target.variance.sqrt() / len(x) ** 0.5)).abs().max() < 4.5
    start = torch.ones(4000, 2, dtype=torch.float64)
    x = last(KERNELS["elliptical"](target), start, 150)
    assert ((x.mean(0) - target.mean) / (target.variance.sqrt() / len(x) ** 0.5)).abs().max() < 4.5


def test_independent_coordinates_are_drawn_at_once():
    target = T.TruncatedNormal(D.Box(0.0, 2.0, dim=5), 0.5, [1.0, 2.0, 3.0, 0.1, 5.0])
    kernel = TruncatedGaussianGibbs(target)
    assert len(kernel.scan.blocks) == 1
    assert len(TruncatedGaussianGibbs(TARGETS["cut box"]).scan.blocks) == 3
    # One step forgets the start: the correlation with it is that of independent numbers.
    x = target.sample(20_000, generator=generator(0))
    z = last(kernel, x, 1)
    correlation = ((x - target.mean) * (z - target.mean)).mean(0) / target.variance
    assert correlation.abs().max() < 4.5 / len(x) ** 0.5


def test_elliptical_slices_are_reversible():
    target = TARGETS["cut box"]
    x = by_rejection(target, 25_000)
    assert skewness(x, last(LinearEllipticalSlice(target), x, 1)) < 4.5
    # A sweep of the Gibbs sampler has an order, and the statistics see it.
    assert skewness(x, last(TruncatedGaussianGibbs(target), x, 1)) > 4.5


def test_angles_are_uniform_on_what_is_allowed():
    # Many draws for each of a few ellipses with 12 constraints, against a fine grid of angles.
    p = torch.randn(30, 12, generator=generator(1), dtype=torch.float64)
    q = torch.randn(30, 12, generator=generator(2), dtype=torch.float64)
    level = torch.maximum(p + 0.02, torch.tensor(0.6, dtype=torch.float64))
    theta = torch.linspace(0, 2 * math.pi, 200_001, dtype=torch.float64)[:-1]
    draws = (torch.arange(500, dtype=torch.float64) + 0.5) / 500
    shares = []
    for p_i, q_i, level_i in zip(p, q, level, strict=True):
        allowed = ((p_i * theta[:, None].cos() + q_i * theta[:, None].sin()) < level_i).all(-1)
        shares.append(float(allowed.double().mean()))
        grid = theta[allowed]
        rows = (v.expand(500, -1) for v in (p_i, q_i, level_i))
        angle = draw_angle(*rows, draws)
        # The quantile function of the uniform law on the grid's points, up to their spacing.
        expected = grid[(draws * len(grid)).long()]
        gap = torch.minimum((angle - expected).abs(), 2 * math.pi - (angle - expected).abs())
        # A quantile at the edge of a gap may fall on its other side; apart from those all agree.
        assert (gap > 30 * float(theta[1])).sum() <= 6
        assert ((p_i * angle[:, None].cos() + q_i * angle[:, None].sin()) < level_i + 1e-9).all()
    assert min(shares) < 0.1 < max(shares)


def test_angles_at_the_edge_are_finite():
    one = torch.ones(4, 1, dtype=torch.float64)
    # A point on a wall with everything else forbidden, no active wall, a wall through the centre, zero radius.
    p, level = torch.tensor([[1.0], [0.1], [-1.0], [0.0]]).double(), torch.tensor([[1.0], [5.0], [0.0], [0.5]]).double()
    q = torch.tensor([[0.0], [0.1], [0.0], [0.0]]).double()
    angle = draw_angle(p, q, level, 0.25 * one[:, 0])
    assert torch.isfinite(angle).all()
    torch.testing.assert_close(angle[1], torch.tensor(math.pi / 2, dtype=torch.float64))
    torch.testing.assert_close(angle[2], torch.tensor(math.pi / 4, dtype=torch.float64))


def test_bad_targets():
    for make in (TruncatedGaussianGibbs, LinearEllipticalSlice):
        with pytest.raises(DomainError, match="TruncatedNormal"):
            make(T.Dirichlet([1.0, 1.0]))
        with pytest.raises(DomainError, match="half-spaces"):
            make(T.TruncatedNormal(D.Ball(2), 0.0))
