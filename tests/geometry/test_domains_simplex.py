"""The simplex: chart, projection, uniform law and billiard against other sources."""

import math

import pytest
import torch
from scipy import linalg, optimize, stats

from mirrorgen import domains as D
from mirrorgen.errors import DomainError

F64 = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_chart_is_the_helmert_basis():
    domain = D.Simplex(6)
    helmert = torch.as_tensor(linalg.helmert(6))
    v = torch.randn(5, 6, generator=generator(), dtype=F64)
    assert torch.allclose(domain.to_tangent(v), v @ helmert.T, atol=1e-14)
    assert torch.allclose(domain.from_tangent(v[:, :5]), v[:, :5] @ helmert, atol=1e-14)


def test_chart_volume_is_that_of_the_first_coordinates():
    domain = D.Simplex(5)

    def chart(u):
        return domain.to_chart(torch.cat([u, 1 - u.sum(-1, keepdim=True)]))

    jacobian = torch.func.jacrev(chart)(torch.full((4,), 0.2, dtype=F64))
    assert torch.linalg.slogdet(jacobian)[1].item() == pytest.approx(domain.chart_log_volume, abs=1e-14)


def test_projection_against_a_root_finder():
    x = 3 * torch.randn(20, 7, generator=generator(), dtype=F64)
    ours = D.Simplex(7).project(x)
    for row, p in zip(x.numpy(), ours.numpy(), strict=True):
        shift = optimize.brentq(lambda t, r=row: (r - t).clip(0).sum() - 1, row.min() - 1, row.max(), xtol=1e-15)
        assert abs(p - (row - shift).clip(0)).max() < 1e-13
    assert torch.allclose(torch.func.vmap(D.Simplex(7).project)(x), ours, atol=0)
    # A common shift of 1e6 costs the digits that the input lost, no more.
    assert torch.allclose(D.Simplex(7).project(x + 1e6), ours, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("dim", [2, 10, 1000])
def test_softmax_outputs_are_members_and_wrong_sums_are_not(dtype, dim):
    domain = D.Simplex(dim)
    x = torch.softmax(3 * torch.randn(2000, dim, generator=generator(), dtype=dtype), -1)
    assert domain.contains(x).all()
    assert not domain.contains(x * (1 + 2e3 * math.sqrt(dim) * torch.finfo(dtype).eps)).any()
    assert "equality" in domain.explain(x * 1.01)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_pull_inside_keeps_the_small_coordinates(dtype):
    x = torch.softmax(torch.tensor([[0.0, -30.0, -2000.0], [0.0, 0.0, 0.0]], dtype=dtype), -1)
    pulled, moved = D.Simplex(3).pull_inside(x)
    assert moved.tolist() == [True, False]
    assert D.Simplex(3).contains(pulled).all()
    assert pulled[0, 1].item() == pytest.approx(math.exp(-30.0), rel=1e-6)
    assert pulled[0, 2] >= torch.finfo(dtype).tiny


def test_uniform_marginals_are_beta():
    x = D.Simplex(5).sample_uniform(20_000, generator=generator(3), dtype=F64)
    for i in range(5):
        assert stats.kstest(x[:, i].numpy(), stats.beta(1, 4).cdf).pvalue > 1e-4
    # Correlation of two coordinates of a flat Dirichlet law of K parts: -1 / (K - 1).
    assert torch.corrcoef(x.T)[0, 1].item() == pytest.approx(-0.25, abs=0.03)


def test_uniform_points_are_strictly_inside_in_float32():
    x = D.Simplex(30).sample_uniform(20_000, generator=generator())
    assert x.dtype == torch.float32
    assert D.Simplex(30).contains(x).all()


def fold_into_triangle(x):
    """Image of points of the plane ``sum = 1`` under the reflections in the sides of the triangle and its copies.

    In ``y = (x_1 + x_2, x_2, 0)`` the mirror lines are ``y_i - y_j`` integer: the group permutes the coordinates and
    adds integer vectors of sum zero, so the image is the run of three neighbours among the numbers ``y_i + integer``
    that has the same sum.
    """
    y = torch.stack([x[:, 0] + x[:, 1], x[:, 1], torch.zeros_like(x[:, 0])], -1)
    f = torch.sort(y - y.floor(), -1, descending=True).values
    first = 3 - y.floor().sum(-1).long() % 3
    run = torch.cat([f + 1, f], -1).gather(-1, first.unsqueeze(-1) + torch.arange(3))
    return torch.stack([run[:, 0] - run[:, 1], run[:, 1] - run[:, 2], 1 - run[:, 0] + run[:, 2]], -1)


@pytest.mark.parametrize(("scale", "tolerance"), [(1.0, 1e-14), (100.0, 1e-11), (1000.0, 1e-8)])
def test_triangle_path_is_the_unfolded_one(scale, tolerance):
    domain = D.Simplex(3)
    x = domain.sample_uniform(100, generator=generator(1), dtype=F64)
    step = scale * domain.from_tangent(torch.randn(100, 2, generator=generator(2), dtype=F64))
    assert (domain.reflect(x, step) - fold_into_triangle(x + step)).abs().max() < tolerance


def test_long_paths_keep_the_uniform_law_in_more_dimensions():
    domain = D.Simplex(6)
    x = domain.sample_uniform(4000, generator=generator(1), dtype=F64)
    end = domain.reflect(x, 2 * domain.from_tangent(torch.randn(4000, 5, generator=generator(2), dtype=F64)))
    for i in range(6):
        assert stats.kstest(end[:, i].numpy(), stats.beta(1, 5).cdf).pvalue > 1e-4


def test_step_across_the_hyperplane_does_not_count():
    domain = D.Simplex(4)
    x = domain.interior_point()
    tangent = domain.from_tangent(torch.tensor([0.1, 0.2, -0.1], dtype=F64))
    assert torch.allclose(domain.reflect(x, tangent + 7.0), domain.reflect(x, tangent), atol=1e-14)


def test_one_coordinate_is_refused():
    with pytest.raises(DomainError, match="dim >= 2"):
        D.Simplex(1)
