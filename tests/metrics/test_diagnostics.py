"""Feasibility reports and tail indices."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains import Box, Euclidean
from mirrorgen.metrics import boundary_exponent, feasibility, hill_estimator


class Interval:
    """The open cube (0, 1)^dim with the three members that a report asks for."""

    def slack(self, x):
        return torch.cat([x, 1 - x], dim=-1)

    def contains(self, x, atol=0.0):
        return (self.slack(x) > atol).all(-1)

    def explain(self, x):
        outside = x[~self.contains(x)]
        if len(outside) == 0:
            return None
        slack = self.slack(outside)
        return f"constraint {int(slack.argmin()) % slack.shape[-1]} is violated"


def test_all_inside():
    x = torch.tensor([[0.5, 0.25], [0.125, 0.75]])
    report = feasibility(Interval(), x)
    assert report.all_inside
    assert report.share == 1
    assert (report.count, report.inside, report.nonfinite) == (2, 2, 0)
    assert (report.worst_slack, report.worst_index) == (0.125, 1)
    assert report.worst_constraint is None
    assert report.dtype == "float32"
    assert "100%" in str(report)


def test_boundary_points_and_outside_points():
    x = torch.tensor([[[0.5, 1.0], [0.5, 0.5]], [[1.25, 0.5], [0.5, 0.5]]], dtype=torch.float64)
    report = feasibility(Interval(), x)
    assert (report.count, report.inside) == (4, 2)
    assert (report.worst_slack, report.worst_index) == (-0.25, 2)
    assert report.worst_constraint == "constraint 2 is violated"
    assert "constraint 2" in str(report)


def test_the_verdict_is_in_the_dtype_given():
    x = torch.tensor([[1 - 1e-12, 0.5]], dtype=torch.float64)
    assert feasibility(Interval(), x).all_inside
    assert not feasibility(Interval(), x.float()).all_inside
    assert feasibility(Interval(), x.float()).worst_slack == 0


def test_non_finite_points_count_as_outside():
    x = torch.tensor([[0.5, 0.5], [math.nan, 0.5], [math.inf, 0.5]])
    report = feasibility(Interval(), x)
    assert (report.inside, report.nonfinite) == (1, 2)
    assert report.worst_slack == 0.5
    assert report.worst_constraint is not None
    assert "2 not finite" in str(report)
    nothing = feasibility(Interval(), x[1:])
    assert math.isnan(nothing.worst_slack)
    assert nothing.worst_index == -1


def test_domain_without_constraints_and_empty_sample():
    class Everything(Interval):
        def slack(self, x):
            return x[..., :0]

        def contains(self, x, atol=0.0):
            return torch.ones_like(x[..., 0], dtype=torch.bool)

    report = feasibility(Everything(), torch.zeros(3, 2))
    assert report.all_inside
    assert math.isnan(report.worst_slack)
    assert math.isnan(feasibility(Interval(), torch.zeros(0, 2)).share)


def test_shape_is_checked():
    with pytest.raises(ShapeError):
        feasibility(Interval(), torch.ones(3, 2, dtype=torch.long))
    with pytest.raises(ShapeError):
        feasibility(Interval(), torch.tensor(0.5))


@pytest.mark.parametrize("alpha", [1.0, 3.0])
def test_hill_on_exact_quantiles_and_draws(alpha):
    n, k = 20_000, 2_000
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pareto = uniform ** (-1 / alpha)
    assert float(hill_estimator(pareto, k)) == pytest.approx(alpha, abs=4 * alpha / math.sqrt(k))
    levels = (torch.arange(1, n + 1, dtype=torch.float64) - 0.5) / n
    quantiles = torch.tensor(scipy.stats.pareto(alpha).ppf(levels.numpy()))
    assert float(hill_estimator(quantiles, k)) == pytest.approx(alpha, rel=2e-3)
    assert float(hill_estimator(5 * quantiles, k)) == pytest.approx(float(hill_estimator(quantiles, k)))


def test_hill_by_hand():
    assert float(hill_estimator(torch.tensor([1.0, 8.0, 2.0, 4.0]), 2)) == pytest.approx(2 / math.log(8))


def test_hill_rejects_bad_input():
    norms = torch.rand(10)
    for k in (0, 10):
        with pytest.raises(DomainError, match="k lies"):
            hill_estimator(norms, k)
    with pytest.raises(ShapeError, match="vector"):
        hill_estimator(torch.rand(3, 3), 1)
    with pytest.raises(DomainError, match="finite"):
        hill_estimator(torch.tensor([1.0, math.inf, 2.0]), 1)
    with pytest.raises(DomainError, match="positive"):
        hill_estimator(torch.tensor([1.0, 0.0, 0.0]), 1)


@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_boundary_exponent_of_beta_laws(beta):
    # x ~ Beta(beta, 50) on the unit interval: all mass near 0, with P(x < s) ~ s^beta.
    n, k = 100_000, 1000
    uniform = torch.tensor(scipy.stats.beta(beta, 50).ppf((np.arange(n) + 0.5) / n)).unsqueeze(-1)
    box = Box([0.0], [1.0])
    assert float(boundary_exponent(box, uniform, k)) == pytest.approx(beta, rel=0.06)
    with pytest.raises(DomainError, match="boundary"):
        boundary_exponent(Euclidean(1), uniform, k)
