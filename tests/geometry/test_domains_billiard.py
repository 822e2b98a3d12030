"""Specular paths face by face, against unfolding."""

import pytest
import torch

from mirrorgen import domains as D
from mirrorgen.errors import ConvergenceError
from mirrorgen.geometry.domains.billiard import billiard

F64 = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def unit_box(dim):
    return D.Box(0.0, 1.0, dim=dim).halfspaces()


@pytest.mark.parametrize(("scale", "tolerance"), [(0.3, 1e-14), (30.0, 1e-11), (1e3, 1e-9)])
def test_box_path_is_the_unfolded_one(scale, tolerance):
    z = torch.rand(64, 3, generator=generator(), dtype=F64)
    step = scale * torch.randn(64, 3, generator=generator(1), dtype=F64)
    phase = torch.remainder(z + step, 2.0)
    unfolded = torch.where(phase > 1, 2 - phase, phase)
    assert (billiard(z, step, *unit_box(3)) - unfolded).abs().max() < tolerance


def test_a_corner_sends_the_path_back():
    z = torch.tensor([0.5, 0.5], dtype=F64)
    end = billiard(z, torch.tensor([0.75, 0.75], dtype=F64), *unit_box(2))
    assert torch.allclose(end, torch.tensor([0.75, 0.75], dtype=F64), atol=1e-14)


def test_redundant_and_repeated_rows_change_nothing():
    A, b = unit_box(2)
    far = torch.tensor([[0.6, 0.8]], dtype=F64)
    z = torch.rand(32, 2, generator=generator(), dtype=F64)
    step = 10 * torch.randn(32, 2, generator=generator(1), dtype=F64)
    many = billiard(z, step, torch.cat([A, A, far]), torch.cat([b, b, torch.tensor([5.0], dtype=F64)]))
    assert torch.allclose(many, billiard(z, step, A, b), atol=1e-11)


def test_many_faces_without_the_table_of_products():
    angles = torch.linspace(0, 2 * torch.pi, 2101, dtype=F64)[:-1]
    A = torch.stack([angles.cos(), angles.sin()], -1)
    b = torch.ones(len(A), dtype=F64)
    z, step = torch.zeros(8, 2, dtype=F64), torch.randn(8, 2, generator=generator(), dtype=F64)
    # A regular polygon with 2,100 faces is nearly a disc: a path from the centre runs along a diameter.
    step = 3 * step / step.norm(dim=-1, keepdim=True)
    assert torch.allclose(billiard(z, step, A, b), D.Ball(2).reflect(z, step), atol=2e-2)
    assert (billiard(z, 100 * step, A, b) @ A.T < b + 1e-12).all()


def test_unbounded_sets_and_batches():
    A, b = torch.tensor([[-1.0, 0.0]], dtype=F64), torch.zeros(1, dtype=F64)
    z = torch.tensor([1.0, 0.0], dtype=F64)
    step = torch.tensor([[[-3.0, 1.0], [2.0, 5.0]]], dtype=F64)
    expected = torch.tensor([[[2.0, 1.0], [3.0, 5.0]]], dtype=F64)
    assert torch.allclose(billiard(z, step, A, b), expected)


def test_no_faces_and_no_points():
    A, b = torch.zeros(0, 2, dtype=F64), torch.zeros(0, dtype=F64)
    assert torch.equal(
        billiard(torch.ones(3, 2, dtype=F64), torch.ones(2, dtype=F64), A, b), torch.full((3, 2), 2.0, dtype=F64)
    )
    for domain in (D.Simplex(3), D.Ball(3), D.PSD(2), D.Orthant(3), D.Halfspace([1.0, 0.0, 0.0], 1.0)):
        assert domain.reflect(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0, 3)


@pytest.mark.parametrize("domain", [D.Simplex(3), D.PSD(2), D.Product(D.Simplex(2), D.Ball(1))])
def test_paths_vmap(domain):
    x = domain.interior_point().expand(4, 5, 3)
    step = torch.randn(4, 5, domain.dual_dim, generator=generator(), dtype=F64)
    step = domain.from_chart(step) - domain.from_chart(torch.zeros_like(step))
    expected = domain.reflect(x, step)
    assert torch.allclose(torch.func.vmap(torch.func.vmap(domain.reflect))(x, step), expected, atol=1e-14)
    assert torch.allclose(torch.func.vmap(domain.reflect, in_dims=(None, 0))(x[0], step), expected, atol=1e-14)


def test_degenerate_steps():
    z = torch.full((3, 2), 0.5, dtype=F64)
    step = torch.tensor([[0.0, 0.0], [torch.inf, 1.0], [torch.nan, 0.0]], dtype=F64)
    end = billiard(z, step, *unit_box(2))
    assert torch.equal(end[0], z[0])
    assert end[1:].isnan().all()


def test_too_many_bounces_raise_with_the_length_left():
    z, step = torch.tensor([0.5], dtype=F64), torch.tensor([100.0], dtype=F64)
    with pytest.raises(ConvergenceError, match="bounces") as caught:
        billiard(z, step, *unit_box(1), max_bounces=64)
    assert caught.value.residual == pytest.approx(100 - 63.5)
