"""Composite targets against SciPy, autograd and quadrature."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.targets import AnisotropicLaplace, SparseLogistic

F64 = torch.float64
RATES = [0.5, 2.0, 7.0]


def test_moments_and_quantiles_are_those_of_laplace_laws():
    target = AnisotropicLaplace(RATES)
    laws = [stats.laplace(scale=1 / a) for a in RATES]
    levels = torch.tensor([0.01, 0.3, 0.5, 0.77, 0.999], dtype=F64)
    expected = np.stack([law.ppf(levels.numpy()) for law in laws], -1)
    np.testing.assert_allclose(target.quantile(levels).numpy(), expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(target.variance.numpy(), [law.var() for law in laws])
    np.testing.assert_allclose(target.mean_size.numpy(), [law.expect(abs) for law in laws], rtol=1e-6)
    assert target.quantile(0.9).shape == (3,)
    np.testing.assert_array_equal(target.mean.numpy(), np.zeros(3))


def test_log_density_up_to_a_constant_and_its_parts():
    target = AnisotropicLaplace(RATES)
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    expected = sum(stats.laplace(scale=1 / a).logpdf(x[:, i].numpy()) for i, a in enumerate(RATES))
    gap = target(x).numpy() - expected
    np.testing.assert_allclose(gap, gap[0], atol=1e-12)
    torch.testing.assert_close(target.score(x), torch.func.grad(lambda v: target(v).sum())(x))
    torch.testing.assert_close(target(x), target.smooth(x) - target.nonsmooth(x))
    assert target.score(torch.zeros(1, 3)).abs().max() == 0
    assert target(x.float()).dtype == torch.float32


def test_exact_draws():
    target = AnisotropicLaplace(RATES)
    x = target.sample(20_000, generator=torch.Generator().manual_seed(3))
    for i, a in enumerate(RATES):
        assert stats.kstest(x[:, i].numpy(), stats.laplace(scale=1 / a).cdf).pvalue > 1e-3
    assert abs(stats.spearmanr(x[:, 0].numpy(), x[:, 1].numpy()).statistic) < 4.5 / math.sqrt(20_000)


def test_an_integer_counts_rates():
    assert AnisotropicLaplace(4).rates.tolist() == [1.0, 2.0, 3.0, 4.0]
    for rates in ([1.0, 0.0], [[1.0]], [1.0, math.nan]):
        with pytest.raises(DomainError, match="rates"):
            AnisotropicLaplace(rates)


def test_posterior_against_a_literal_sum():
    target = SparseLogistic.synthetic(dim=10, n=30, seed=4)
    t = np.linspace(-1, 2, 10)
    total = 0.0
    for row, label in zip(target.features.numpy(), target.labels.numpy(), strict=True):
        p = 1 / (1 + np.exp(-row @ t))
        total += label * np.log(p) + (1 - label) * np.log(1 - p)
    total -= sum((10 - i) * abs(t[i]) for i in range(10)) + 0.1 * (t**2).sum() / 2
    x = torch.from_numpy(t)
    assert float(target(x)) == pytest.approx(total, rel=1e-12)
    torch.testing.assert_close(target.smooth_score(x), torch.func.grad(target.smooth_value)(x))
    torch.testing.assert_close(target.score(x), torch.func.grad(target.log_density)(x))
    far = 1e4 * torch.ones(2, 10)
    assert torch.isfinite(target(far)).all()
    assert torch.isfinite(target.score(far)).all()


def test_published_data():
    target = SparseLogistic.synthetic()
    # The first numbers of NumPy's legacy stream with seed 0 fill the first coordinate of all rows.
    assert target.features.shape == (1000, 100)
    assert target.features[0, 0] == 1.764052345967664
    assert target.features[1, 0] == 0.4001572083672233
    assert set(target.labels.tolist()) == {0.0, 1.0}
    assert target.truth.tolist()[::10] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert target.nonsmooth.weight.tolist()[::10] == [10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    agreement = ((target.features @ target.truth > 0) == (target.labels > 0)).double().mean()
    assert agreement > 0.8


def test_one_dimensional_posterior_integrates_like_its_formula():
    features, labels = torch.tensor([[1.0], [-0.5], [2.0]]), torch.tensor([1.0, 0.0, 1.0])
    target = SparseLogistic(features, labels, weight=0.7)

    def density(t):
        signs = [(1.0, 1), (-0.5, 0), (2.0, 1)]
        fit = math.prod((1 / (1 + math.exp(-f * t))) if z else (1 / (1 + math.exp(f * t))) for f, z in signs)
        return fit * math.exp(-0.7 * abs(t) - 0.05 * t * t)

    ours = integrate.quad(lambda t: math.exp(float(target(torch.tensor([t], dtype=F64)))), -20, 20, points=[0])[0]
    assert ours == pytest.approx(integrate.quad(density, -20, 20, points=[0])[0], rel=1e-9)


def test_bad_data_are_refused():
    with pytest.raises(ShapeError, match="labels"):
        SparseLogistic(torch.zeros(3, 2), torch.zeros(2), 1.0)
    with pytest.raises(ShapeError, match="multiple of 10"):
        SparseLogistic.synthetic(dim=15)
