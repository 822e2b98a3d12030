"""Priors against closed forms."""

import math

import pytest
import torch
from scipy import stats

from mirrorgen.errors import DomainError
from mirrorgen.flows import Gaussian, StudentT


@pytest.mark.parametrize("prior", [Gaussian(), StudentT(3.0), StudentT()])
def test_log_prob_is_scipys_multivariate_density(prior):
    z = torch.randn(64, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 5
    law = stats.multivariate_t(df=prior.df, shape=4) if isinstance(prior, StudentT) else None
    mean, cov = [0.0] * 4, [[float(i == j) for j in range(4)] for i in range(4)]
    law = stats.multivariate_t(mean, cov, df=prior.df) if law else stats.multivariate_normal(mean, cov)
    assert torch.allclose(prior.log_prob(z), torch.as_tensor(law.logpdf(z.numpy())), rtol=1e-12)


def test_student_t_is_elliptical_with_one_chi_square_per_sample():
    df, dim, n = 5.0, 6, 40_000
    z = StudentT(df).sample(n, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # |z|^2 / d follows F(d, df), which a product of univariate laws does not.
    radial = stats.kstest((z.square().sum(-1) / dim).numpy(), stats.f(dim, df).cdf)
    assert radial.pvalue > 1e-3
    product = stats.t(df).rvs((n, dim), random_state=2)
    assert stats.kstest((product**2).sum(-1) / dim, stats.f(dim, df).cdf).pvalue < 1e-10
    assert stats.kstest(z[:, 0].numpy(), stats.t(df).cdf).pvalue > 1e-3


def test_student_t_far_tail_is_finite_in_float32():
    z = StudentT(0.05).sample(10_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    assert not torch.isnan(z).any()
    assert torch.isfinite(StudentT().log_prob(torch.full((1, 3), 1e18)))


@pytest.mark.parametrize("df", [0.0, -1.0, math.nan, math.inf])
def test_bad_degrees_of_freedom(df):
    with pytest.raises(DomainError, match="df"):
        StudentT(df)
