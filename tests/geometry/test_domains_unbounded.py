"""Euclidean space, orthant, half-space and products."""

import numpy as np
import pytest
import torch
from scipy import stats

from mirrorgen import domains as D
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains.billiard import billiard

F64 = torch.float64
DTYPES = [torch.float32, F64]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_euclidean_space_has_no_constraints():
    domain = D.Euclidean(3)
    x = torch.randn(2, 5, 3)
    assert domain.slack(x).shape == (2, 5, 0)
    assert domain.contains(x).all()
    assert domain.explain(x) is None
    domain.check(x)
    assert "infinite" in domain.explain(torch.full((3,), torch.inf))
    A, b = domain.halfspaces()
    assert A.shape == (0, 3)
    assert b.shape == (0,)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", [D.Euclidean, D.Orthant])
def test_overflow_becomes_the_largest_number_and_nan_stays(cls, dtype):
    x = torch.tensor([[1.0, torch.inf], [1.0, torch.nan], [1.0, 2.0]], dtype=dtype)
    pulled, moved = cls(2).pull_inside(x)
    assert moved.tolist() == [True, False, False]
    assert pulled[0, 1] == torch.finfo(dtype).max
    assert cls(2).contains(pulled).tolist() == [True, False, True]


@pytest.mark.parametrize("dtype", DTYPES)
def test_orthant_pulls_to_the_smallest_normal_number(dtype):
    x = torch.tensor([[0.0, 1.0], [torch.finfo(dtype).tiny / 4, 1.0], [-1e-9, 1.0]], dtype=dtype)
    pulled, moved = D.Orthant(2).pull_inside(x)
    assert moved.all()
    assert (pulled[:, 0] == torch.finfo(dtype).tiny).all()


def test_orthant_paths_are_those_of_its_faces():
    domain = D.Orthant(3)
    x = torch.rand(50, 3, generator=generator(), dtype=F64)
    step = 5 * torch.randn(50, 3, generator=generator(1), dtype=F64)
    assert torch.allclose(domain.reflect(x, step), billiard(x, step, *domain.halfspaces()), atol=1e-13)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_halfspace_normalises_its_row(scale):
    a, b = np.array([3.0, 0.0, -4.0]), 2.0
    domain = D.Halfspace(torch.as_tensor(scale * a), scale * b)
    x = torch.randn(20, 3, generator=generator(), dtype=F64)
    assert torch.allclose(domain.slack(x).squeeze(-1), torch.as_tensor((b - x.numpy() @ a) / 5), atol=1e-14)
    step = 5 * torch.randn(20, 3, generator=generator(1), dtype=F64)
    inside = domain.pull_inside(domain.project(x))[0]
    assert torch.allclose(domain.reflect(inside, step), billiard(inside, step, *domain.halfspaces()), atol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [-1e6, -0.5, 0.0, 3.0, 1e6])
def test_points_near_a_far_face_are_pulled_inside(offset, dtype):
    domain = D.Halfspace([1.0, 2.0, -2.0], offset)
    assert domain.contains(domain.interior_point().to(dtype))
    x = 100 * torch.randn(500, 3, generator=generator(), dtype=dtype)
    pulled, _ = domain.pull_inside(domain.project(x))
    assert domain.contains(pulled).all()
    # In whatever order the row is summed, the point stays inside.
    assert (pulled[:, 0] + (pulled[:, 1] * 2 - pulled[:, 2] * 2) < offset).all()
    again, moved = domain.pull_inside(pulled)
    assert torch.equal(again, pulled)
    assert not moved.any()


def test_product_paths_are_those_of_the_whole_set():
    # The joint set as one polytope, face by face, against the factors' own billiards.
    domain = D.Product(D.Box([0.0, -1.0], [1.0, 3.0]), D.Simplex(3), D.Orthant(1))
    x = torch.cat(
        [D.Product(*domain.blocks[:2]).sample_uniform(40, generator=generator(), dtype=F64), torch.ones(40, 1)], -1
    )
    step = domain.from_chart(8 * torch.randn(40, domain.dual_dim, generator=generator(1), dtype=F64))
    step = step - domain.from_chart(torch.zeros(40, domain.dual_dim, dtype=F64))
    joint = billiard(domain.to_chart(x), domain.to_chart(x + step) - domain.to_chart(x), *domain.halfspaces())
    assert torch.allclose(domain.reflect(x, step), domain.from_chart(joint), atol=1e-11)


def test_product_bookkeeping():
    domain = D.Product(D.Euclidean(2), D.Simplex(3), D.Box(0.0, 1.0), D.Ball(2, radius=2.0))
    assert (domain.dim, domain.dual_dim, domain.bounded) == (8, 7, False)
    assert domain.chart_log_volume == D.Simplex(3).chart_log_volume
    names = [domain.constraint_name(i) for i in range(6)]
    assert names[0] == "block 1: x[0] > 0"
    assert names[3] == "block 2: x[0] > 0"
    assert names[5] == "block 3: |x - center| < 2"
    x = domain.interior_point()
    assert "block 3" in domain.explain(x + torch.tensor([0, 0, 0, 0, 0, 0, 9.0, 0]))
    assert "equality" in domain.explain(x + torch.tensor([0, 0, 0.1, 0, 0, 0, 0, 0]))
    with pytest.raises(IndexError):
        domain.constraint_name(6)
    with pytest.raises(DomainError, match="half-spaces"):
        domain.halfspaces()
    with pytest.raises(DomainError, match="unbounded"):
        domain.sample_uniform(2)


def test_product_of_products_and_its_uniform_law():
    domain = D.Product(D.Product(D.Box(0.0, 1.0), D.Ball(2)), D.Simplex(3))
    x = domain.sample_uniform(5000, generator=generator(2), dtype=F64)
    assert stats.kstest(x[:, 0].numpy(), "uniform").pvalue > 1e-4
    assert stats.kstest(x[:, 1:3].norm(dim=-1).square().numpy(), "uniform").pvalue > 1e-4
    assert stats.kstest(x[:, 4].numpy(), stats.beta(1, 2).cdf).pvalue > 1e-4
    assert torch.corrcoef(x.T)[:3, 3:].abs().max() < 0.06


@pytest.mark.parametrize("build", [lambda: D.Euclidean(0), lambda: D.Orthant(0), lambda: D.PSD(0), D.Product])
def test_empty_constructions_are_refused(build):
    with pytest.raises(DomainError, match="needs"):
        build()


def test_bad_halfspaces_are_refused():
    with pytest.raises(DomainError, match="a != 0"):
        D.Halfspace([0.0, 0.0], 1.0)
    with pytest.raises(DomainError, match="finite"):
        D.Halfspace([1.0, float("nan")], 1.0)
    with pytest.raises(ShapeError, match="vector"):
        D.Halfspace([[1.0, 2.0]], 1.0)
