"""Selective inference against brute-force simulation, one-dimensional quadrature, SciPy and uniformity of pivots."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import kstest, multivariate_normal, norm

from mirrorgen.errors import DomainError, SamplingWarning, ShapeError
from mirrorgen.geometry.domains import Orthant
from mirrorgen.samplers import TruncatedGaussianGibbs, run
from mirrorgen.samplers.selective_inference import (
    ExactPivot,
    SelectiveLaw,
    given_response,
    log_orthant_probability,
    mirrored_hmc,
    randomized_lasso,
    selective_laws,
    solve_lasso,
    theoretical_penalty,
)
from mirrorgen.samplers.selective_inference.pivots import RootFinder
from mirrorgen.samplers.selective_inference.sampled import Intervals, SampledPivot, draw_intervals, refine
from mirrorgen.targets import TruncatedNormal

LEVELS = (0.8, 0.9, 0.95, 0.99)


def data(seed, n=30, p=6, effect=0.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p)) + 0.6 * rng.standard_normal((n, 1))
    x -= x.mean(0)
    y = x[:, 0] * effect + rng.standard_normal(n)
    return x, y - y.mean()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fitted(seed=3, tau=4.0, penalty=7.0, ridge=1.0, **options):
    x, y = data(seed, **options)
    noise = tau * np.random.default_rng(seed + 100).standard_normal(x.shape[1])
    return solve_lasso(x, y, noise, penalty, ridge)


def gibbs(density, n, generator):
    x = torch.ones(256, density.domain.dim, dtype=torch.float64)
    kernel = TruncatedGaussianGibbs(density)
    return run(kernel, x, n // 256, num_warmup=30, generator=generator).flatten()


# --- the lasso ------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_lasso_is_stationary(seed):
    fit = fitted(seed, effect=0.8)
    b, u = fit.coefficients, fit.subgradient
    residual = fit.y - fit.X @ b
    stationary = -fit.X.T @ residual + fit.ridge * b + fit.penalty * u - fit.noise
    assert np.abs(stationary).max() < 1e-10 * np.abs(fit.X.T @ fit.y).max()
    assert (u[b != 0] == np.sign(b[b != 0])).all()
    assert np.abs(u).max() <= 1 + 1e-10
    assert 0 < len(fit.selected) < len(b)


def test_lasso_is_the_minimum_of_a_smooth_program():
    fit = fitted(1, effect=0.8)
    p = len(fit.noise)

    def value(halves):
        b = halves[:p] - halves[p:]
        loss = 0.5 * np.sum((fit.y - fit.X @ b) ** 2) + 0.5 * fit.ridge * b @ b - fit.noise @ b
        return loss + fit.penalty * halves.sum()

    found = minimize(value, np.full(2 * p, 0.1), bounds=[(0, None)] * (2 * p), options={"ftol": 1e-15, "gtol": 1e-9})
    np.testing.assert_allclose(fit.coefficients, found.x[:p] - found.x[p:], atol=1e-5)


def test_theoretical_penalty_of_one_column():
    x = np.zeros((50, 1))
    x[:5] = 2.0
    # E |N(0, v)| = sqrt(2 v / pi), v = 20; standard error of the mean of 20000 draws: 0.6 %.
    expected = 0.7 * 3 * np.sqrt(2 * 20 / np.pi)
    assert abs(theoretical_penalty(x, 3.0, draws=20_000) / expected - 1) < 4.5 * 0.0054


# --- the laws ------------------------------------------------------------


def test_law_given_the_response_is_that_of_repeated_randomisation():
    """Draw the noise anew until the same selection, signs and inactive subgradient come out: one column is left out."""
    x, y = data(5, p=2)
    tau, penalty, ridge = 5.0, 6.0, 1.0
    rng = np.random.default_rng(0)
    fits = [solve_lasso(x, y, tau * rng.standard_normal(2), penalty, ridge) for _ in range(3000)]
    # Both selected: the inactive subgradient is empty, so that nothing but the signs has to match.
    signs = next(f.signs for f in fits if len(f.selected) == 2)
    same = [f for f in fits if len(f.selected) == 2 and (f.signs == signs).all()]
    sizes = np.stack([np.abs(f.coefficients) for f in same])
    assert len(same) > 100
    target = given_response(same[0], tau)
    drawn = gibbs(target, 200 * 256, seeded()).numpy()
    for f in (lambda o: o, lambda o: o**2, lambda o: o[:, :1] * o[:, 1:]):
        error = f(sizes).mean(0) - f(drawn).mean(0)
        assert (np.abs(error) < 4.5 * f(sizes).std(0) / np.sqrt(len(same))).all()


def test_given_response_is_the_published_exponent():
    fit = fitted(effect=0.8)
    tau, chosen = 4.0, fit.selected
    b = (fit.X.T @ fit.X[:, chosen] + fit.ridge * np.eye(fit.X.shape[1])[:, chosen]) * fit.signs
    o = np.random.default_rng(1).exponential(size=(20, len(chosen)))
    exponent = -((o @ b.T + fit.penalty * fit.subgradient - fit.X.T @ fit.y) ** 2).sum(1) / (2 * tau**2)
    found = given_response(fit, tau)(torch.from_numpy(o)).numpy()
    np.testing.assert_allclose(found - found[0], exponent - exponent[0], rtol=1e-8, atol=1e-8)


def joint(fit, j, theta, sigma, tau):
    """Mean and covariance of (T, o) before truncation from the exponent itself, entry by entry."""
    chosen = fit.selected
    xe = fit.X[:, chosen]
    inverse = np.linalg.inv(xe.T @ xe)
    t, variance = (inverse @ xe.T @ fit.y)[j], sigma**2 * inverse[j, j]
    c = sigma**2 * fit.X.T @ (xe @ inverse[:, j]) / variance
    b = (fit.X.T @ xe + fit.ridge * np.eye(fit.X.shape[1])[:, chosen]) * fit.signs
    v = fit.penalty * fit.subgradient - (fit.X.T @ fit.y - c * t)
    rows = np.concatenate([-c[:, None], b], 1)
    precision = rows.T @ rows / tau**2
    precision[0, 0] += 1 / variance
    linear = -rows.T @ v / tau**2
    linear[0] += theta / variance
    covariance = np.linalg.inv(precision)
    return t, covariance @ linear, covariance


@pytest.mark.parametrize("theta", [-1.0, 0.0, 0.7])
def test_exact_pivot_is_a_ratio_of_orthant_probabilities(theta):
    """The published formula: P(T <= t, o > 0) / P(o > 0) of the joint normal law, by SciPy."""
    sigma, tau = 1.3, 4.0
    fit = fitted(effect=0.8)
    for j, law in enumerate(selective_laws(fit, sigma, tau)):
        t, mean, covariance = joint(fit, j, theta, sigma, tau)
        sizes = np.sqrt(covariance.diagonal())
        signed = np.diag(1 / sizes) @ covariance @ np.diag(1 / sizes)
        flip = np.array([1.0] + [-1.0] * (len(mean) - 1))
        upper = np.concatenate([[(t - mean[0])], mean[1:]]) / sizes
        joint_law = multivariate_normal(np.zeros(len(mean)), signed * np.outer(flip, flip), seed=0)
        marginal = multivariate_normal(np.zeros(len(mean) - 1), signed[1:, 1:], seed=0)
        expected = joint_law.cdf(upper) / marginal.cdf(upper[1:])
        assert abs(ExactPivot(law)(theta) - expected) < 5e-4


def test_density_at_a_parameter_is_the_marginal_of_the_joint_law():
    sigma, tau, theta = 1.3, 4.0, 0.4
    fit = fitted(effect=0.8)
    for j, law in enumerate(selective_laws(fit, sigma, tau)):
        _, mean, covariance = joint(fit, j, theta, sigma, tau)
        density = law.density(theta)
        np.testing.assert_allclose(density.location.numpy() * law.units, mean[1:], rtol=1e-7)
        expected = covariance[1:, 1:] / np.outer(law.units, law.units)
        np.testing.assert_allclose(density.covariance.numpy(), expected, rtol=1e-7)
        np.testing.assert_allclose([law.mean(theta), law.variance], [mean[0], covariance[0, 0]], rtol=1e-7)


def test_orthant_probabilities_against_scipy_and_far_out():
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((4, 4))
    covariance = factor @ factor.T + np.eye(4)
    means = rng.standard_normal((3, 4))
    found = log_orthant_probability(means, covariance)
    expected = [np.log(multivariate_normal(np.zeros(4), covariance, abseps=1e-7, seed=0).cdf(m)) for m in means]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    # Independent coordinates: the sum of the tails, also where probabilities underflow.
    far = np.array([[-60.0, 0.3, -45.0]])
    independent = log_orthant_probability(far, np.diag([1.0, 4.0, 2.25]))
    np.testing.assert_allclose(independent, norm.logcdf(far / [1.0, 2.0, 1.5]).sum(), rtol=1e-12)


# --- pivots ------------------------------------------------------------


def single():
    """One column, selected."""
    x, y = data(2, p=1, effect=0.5)
    fit = solve_lasso(x, y, np.array([1.0]), 5.0, 1.0)
    assert len(fit.selected) == 1
    return fit, selective_laws(fit, 1.2, 3.0)[0]


@pytest.mark.parametrize("theta", [-2.0, -0.1, 0.5, 1.5])
def test_one_column_against_quadrature(theta):
    """T ~ N(theta, v) is selected with the probability that the soft threshold of X^T y + w has its sign."""
    fit, law = single()
    sign, tau, x = fit.signs[0], 3.0, fit.X[:, 0]
    variance = 1.2**2 / (x @ x)

    def weight(t):
        return norm.pdf(t, theta, variance**0.5) * norm.cdf((sign * (x @ x) * t - fit.penalty) / tau)

    t = float(x @ fit.y / (x @ x))
    low, high = theta - 12 * variance**0.5, theta + 12 * variance**0.5
    below = quad(weight, min(low, t), t, limit=200)[0]
    total = below + quad(weight, t, max(high, t), limit=200)[0]
    assert abs(ExactPivot(law)(theta) - below / total) < 1e-7


@pytest.fixture(scope="module")
def nulls():
    """Selective and naive p-values of one selected coefficient in 150 designs without effects."""
    selective, naive = [], []
    for seed in range(150):
        x, y = data(1000 + seed, n=25, p=5)
        fit = solve_lasso(x, y, 2.0 * np.random.default_rng(seed).standard_normal(5), 4.0, 1.0)
        for law in selective_laws(fit, 1.0, 2.0)[:1]:
            selective.append(ExactPivot(law, tail=0.01, points=64)(0.0))
            naive.append(norm.cdf(law.estimate / law.standard_error))
    return selective, naive


def test_exact_pivots_are_uniform_under_the_null_and_naive_ones_are_not(nulls):
    selective, naive = nulls
    assert len(selective) > 110
    assert kstest(selective, "uniform").pvalue > 1e-3
    # The test above has power: without the correction these are the same repetitions.
    assert kstest(naive, "uniform").pvalue < 1e-4


@pytest.mark.parametrize("sampler", [mirrored_hmc, gibbs])
def test_sampled_ends_agree_with_exact_ones(sampler):
    x, y = data(3, effect=0.6)
    options = {"sigma": 1.0, "noise_scale": 4.0, "penalty": 7.0, "levels": LEVELS}
    exact = randomized_lasso(x, y, generator=seeded(4), **options)
    sampled = randomized_lasso(
        x, y, generator=seeded(4), method="sampler", sampler=sampler, **options
    )  # fmt: skip
    assert len(exact.selected) >= 2
    torch.testing.assert_close(exact.selected, sampled.selected)
    width = exact.intervals.diff(dim=-1)
    assert float(((sampled.intervals - exact.intervals) / width).abs().max()) < 0.03
    assert float((sampled.p_values - exact.p_values).abs().max()) < 0.03
    assert bool(sampled.bracketed.all())
    assert float((sampled.monte_carlo_errors / width).max()) < 0.008
    assert float(sampled.effective_sizes.min()) > 200


def test_published_case_has_its_exact_moments():
    """The two-dimensional selective density of the publication's notebook, moments by quadrature on a grid."""
    a = torch.tensor([[2.39859464, -1.90815867], [0.0, 1.18099191]], dtype=torch.float64)
    b, s = torch.tensor([2.39751093, -1.46103937], dtype=torch.float64), 0.2488836156425015
    inverse = torch.linalg.inv(a)
    covariance = s**2 * inverse @ inverse.T
    x = mirrored_hmc(TruncatedNormal(Orthant(2), -inverse @ b, covariance), 2**15, seeded())
    # Published exact values: mean and covariance; about 10000 effective draws.
    assert ((x.mean(0) - torch.tensor([0.15188, 1.38913])).abs() < 4.5 * x.std(0) / 100).all()
    expected = torch.tensor([[0.01346, 0.01231], [0.01231, 0.02342]], dtype=torch.float64)
    torch.testing.assert_close(torch.cov(x.T), expected, rtol=0.08, atol=0)


def test_pooled_draws_of_far_nodes_and_of_one_node_agree():
    fit = fitted(effect=0.8)
    law = selective_laws(fit, 1.0, 4.0)[0]
    generator = seeded()
    far = [law.estimate + k * law.standard_error for k in (-2.0, 0.0, 2.0)]
    pooled = SampledPivot(law, [draw_intervals(law, theta, gibbs, 4096, generator) for theta in far])
    exact = ExactPivot(law)
    for theta in (*far, law.estimate + law.standard_error):
        size = pooled.effective_size(theta)
        p = exact(theta)
        assert abs(pooled(theta) - p) < 4.5 * np.sqrt(p * (1 - p) / size) * 1.5 + 1e-3


def test_an_estimate_at_the_edge_of_the_selection():
    """One column with little randomisation: T was allowed up to a cliff, and the upper end is tens of errors away."""
    law = SelectiveLaw(
        -0.14597, 0.1, 0.0099866, 2.77e-4, 0.99866, *map(np.array, ([-101.8], [-15.789], [[1.0]], [0.0098]))
    )
    exact = RootFinder(ExactPivot(law)).find(0.05)
    assert exact.value > law.estimate + 20 * law.standard_error

    def ends(pivot):
        roots = RootFinder(pivot)
        low, high = roots.find(0.95).value, roots.find(0.05).value
        return [(low, high - low), (high, high - low)]

    generator = seeded()
    pivot = refine(law, ends, lambda theta, n: draw_intervals(law, theta, gibbs, n, generator), 2048, 0.007)
    (low, width), (high, _) = ends(pivot)
    assert abs(high - exact.value) < 0.03 * width
    assert abs(low - RootFinder(ExactPivot(law)).find(0.95).value) < 0.03 * width
    # By quadrature, without any of this code; the constant keeps the integrand from underflowing.
    s, mean = law.variance**0.5, law.mean(exact.value)

    def weight(t):
        return np.exp(0.5 * ((law.estimate - mean) ** 2 - (t - mean) ** 2) / s**2 + norm.logcdf(-15.789 - 101.8 * t))

    below = quad(weight, -0.6, law.estimate, points=[-0.3, -0.2, -0.17, -0.155], limit=500)[0]
    above = quad(weight, law.estimate, 0.5, points=[-0.13, -0.1, 0.0], limit=500)[0]
    assert abs(below / (below + above) - 0.05) < 1e-4


def test_pivot_of_extreme_parameters_is_finite_and_monotone():
    law = selective_laws(fitted(effect=0.8), 1.0, 4.0)[0]
    sampled = SampledPivot(law, [draw_intervals(law, law.estimate, gibbs, 1024, seeded())])
    grid = law.estimate + law.standard_error * np.array([-300.0, -30.0, -3.0, 0.0, 3.0, 30.0, 300.0])
    for pivot in (sampled, ExactPivot(law)):
        values = [pivot(theta) for theta in grid]
        assert np.isfinite(values).all()
        # Exponents of 300 standard errors lose 11 digits.
        assert (np.diff(values) <= 1e-10).all()


def test_an_end_without_a_root_is_infinite_and_marked():
    _, law = single()
    # Every draw says that T cannot lie beyond what was observed: the pivot is one, and there is no upper end.
    stuck = Intervals(law.estimate, np.full(50, law.estimate - 1.0), np.full(50, law.estimate))
    end = RootFinder(SampledPivot(law, [stuck])).find(0.05)
    assert end.value == np.inf
    assert not end.found
    end = RootFinder(ExactPivot(law)).find(0.05)
    assert end.found
    assert abs(ExactPivot(law)(end.value) - 0.05) < 1e-6


# --- the front door ------------------------------------------------------------


def test_scale_equivariance():
    x, y = data(3, effect=0.6)
    found = randomized_lasso(x, y, generator=seeded(4))
    scaled = randomized_lasso(0.01 * x, 100 * y, generator=seeded(4))
    torch.testing.assert_close(found.selected, scaled.selected)
    torch.testing.assert_close(1e4 * found.intervals, scaled.intervals, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.p_values, scaled.p_values, rtol=1e-5, atol=1e-7)


def test_the_table_and_levels():
    x, y = data(3, effect=0.6)
    found = randomized_lasso(x, torch.from_numpy(y), levels=(0.5, 0.9), generator=seeded(4))
    assert len(str(found).splitlines()) == 2 + len(found.selected)
    inner, outer = found.interval(0.5), found.interval(0.9)
    assert bool((outer[:, 0] < inner[:, 0]).all() and (inner[:, 1] < outer[:, 1]).all())
    assert bool((inner[:, 0] < found.estimates).all() and (found.estimates < inner[:, 1]).all())
    with pytest.raises(DomainError, match=r"level 0.8"):
        found.interval(0.8)


def test_nothing_selected():
    x, y = data(0)
    found = randomized_lasso(x, y, penalty=1e4, levels=LEVELS)
    assert found.selected.shape == (0,)
    assert found.intervals.shape == (4, 0, 2)
    assert "nothing selected" in str(found)


def spoiled(kind):
    x, y = data(0)
    if kind == "nan":
        x[3, 2] = np.nan
    elif kind == "infinite":
        y[0] = np.inf
    elif kind == "constant":
        x[:, 4] = 7.0
    elif kind == "flat response":
        y = np.zeros(len(y))
    elif kind == "shape":
        y = y[:-1]
    return x, y


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("nan", DomainError, r"X is not finite at \(3, 2\)"),
        ("infinite", DomainError, r"y is not finite at \(0,\)"),
        ("constant", DomainError, r"columns \[4\] of X are constant"),
        ("flat response", DomainError, "y is constant"),
        ("shape", ShapeError, r"y \(n,\)"),
    ],
)
def test_bad_data(kind, error, message):
    with pytest.raises(error, match=message):
        randomized_lasso(*spoiled(kind))


def test_duplicate_columns():
    x, y = data(0, effect=2.0)
    x = np.concatenate([x, x[:, :1]], 1)
    with pytest.raises(DomainError, match=r"selected columns .* collinear"):
        randomized_lasso(x, y, sigma=1.0, penalty=2.0, noise_scale=0.1, generator=seeded())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": (1.0,)}, "levels in"),
        ({"levels": ()}, "levels in"),
        ({"penalty": -1.0}, "positive penalty"),
        ({"ridge": 0.0}, "positive penalty and ridge"),
        ({"sigma": 0.0}, "sigma and noise_scale"),
        ({"noise_scale": float("nan")}, "sigma and noise_scale"),
        ({"method": "guess"}, '"exact" or "sampler"'),
    ],
)
def test_bad_numbers(options, message):
    with pytest.raises(DomainError, match=message):
        randomized_lasso(*data(0), **options)


def test_sigma_needs_rows():
    with pytest.raises(DomainError, match="pass sigma="):
        randomized_lasso(*data(0, n=6, p=6))


def test_a_sampler_far_from_its_target_is_reported():
    options = {"sigma": 1.0, "noise_scale": 4.0, "penalty": 7.0, "method": "sampler", "generator": seeded(4)}

    def stuck(density, n, generator):
        return torch.full((n, density.domain.dim), 50.0, dtype=torch.float64)

    with pytest.warns(SamplingWarning, match=r"infinite ends|Monte Carlo error"):
        found = randomized_lasso(*data(3, effect=0.6), sampler=stuck, **options)
    assert bool((torch.isinf(found.intervals) == ~found.bracketed).all())


def test_samplers_must_return_points_of_the_orthant():
    options = {"sigma": 1.0, "noise_scale": 4.0, "penalty": 7.0, "method": "sampler", "generator": seeded(4)}
    with pytest.raises(ShapeError, match="the sampler must return"):
        randomized_lasso(*data(3, effect=0.6), sampler=lambda d, n, g: torch.ones(n), **options)
    with pytest.raises(DomainError, match="draws of the sampler"):
        randomized_lasso(*data(3, effect=0.6), sampler=lambda d, n, g: -torch.ones(n, d.domain.dim), **options)
