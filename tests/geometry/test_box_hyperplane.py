"""The scalar root of Fermi-Dirac projections: against Brent's method, Newton's on the dual, and at extremes."""

import pytest
import torch
from scipy.optimize import brentq
from scipy.special import expit

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.box_hyperplane import hyperplane_shift
from mirrorgen.geometry.bregman import AffineSet, bregman_projection
from mirrorgen.geometry.bregman_projections import projected_dual
from mirrorgen.geometry.domains import Box
from mirrorgen.geometry.mirror_maps import BoxEntropy

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.mark.parametrize("measured", [True, False])
def test_roots_are_those_of_brent(measured):
    """A batch of logits and totals; weights by measure (a common shift) or signed rows of the plain entropy."""
    y, row = 6 * normal(5, 40), normal(40, seed=1)
    if measured:
        row = row.abs() + 0.01
    low, high = row.clamp_max(0).sum(), row.clamp_min(0).sum()
    total = low + torch.tensor([1e-4, 0.1, 0.5, 0.9, 1 - 1e-4], dtype=F64) * (high - low)
    direction = torch.ones_like(row) if measured else row
    found = hyperplane_shift(y, row, total, None if measured else row)
    assert found.shape == (5, 1)
    for logits, target, root in zip(y, total, found.flatten(), strict=True):

        def excess(c, logits=logits, target=target):
            return float(row.numpy() @ expit((logits + c * direction).numpy()) - target)

        assert root.item() == pytest.approx(brentq(excess, -1e4, 1e4, xtol=1e-13, rtol=1e-14), abs=1e-9)
        assert abs(excess(root.item())) < 1e-11


def test_scalar_root_and_newton_agree():
    """The same equation twice is solved by Newton's method on the concave dual."""
    mirror_map = BoxEntropy(Box([-1.0, 0.0, 2.0], [1.0, 3.0, 2.5]))
    x = mirror_map.to_primal(3 * normal(20, 3))
    row = [1.0, -2.0, 0.7]
    once, twice = (bregman_projection(mirror_map, x, AffineSet(*a)) for a in ((row, 0.4), ([row, row], [0.4, 0.4])))
    assert torch.allclose(once, twice, rtol=1e-9, atol=1e-10)
    assert torch.allclose(once @ torch.tensor(row, dtype=F64), torch.tensor(0.4, dtype=F64), atol=1e-12)


@pytest.mark.parametrize("mean", [1e-12, 1e-3, 0.5, 1 - 1e-9])
@pytest.mark.parametrize("spread", [1e-3, 30.0, 500.0])
def test_volumes_are_kept_to_rounding(mean, spread):
    y, weights = spread * normal(3, 1000), torch.rand(1000, dtype=F64, generator=torch.Generator().manual_seed(2)) + 0.1
    shift = hyperplane_shift(y, weights, mean * float(weights.sum()))
    reached = (weights * torch.sigmoid(y + shift)).sum(-1) / weights.sum()
    assert torch.allclose(reached, torch.full_like(reached, mean), rtol=1e-9, atol=1e-15)


def test_all_or_nothing():
    """Half the coordinates far above, half far below, and a sum that only the gap between them has."""
    y = torch.cat([torch.full((50,), 400.0, dtype=F64), torch.full((50,), -400.0, dtype=F64)])
    shift = hyperplane_shift(y, torch.ones(100, dtype=F64), 50.0)
    assert torch.isfinite(shift).all()
    assert torch.sigmoid(y + shift).sum().item() == pytest.approx(50, abs=1e-12)


def test_derivatives():
    y, row = normal(2, 5).requires_grad_(), normal(5, seed=1).requires_grad_()
    total = torch.tensor([0.1, -0.2], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: hyperplane_shift(*a, row.sign().detach()), (y, row, total))
    assert torch.autograd.gradgradcheck(lambda *a: hyperplane_shift(*a, row.sign().detach()), (y, row, total))
    batched = torch.func.vmap(lambda v: hyperplane_shift(v, row.detach(), 0.1, row.detach()))(y.detach())
    assert torch.allclose(batched, hyperplane_shift(y, row.detach(), 0.1, row.detach()).detach())


def test_dual_points_keep_what_points_have_lost():
    mirror_map = BoxEntropy(Box(0.0, 1.0, dim=3))
    y = torch.tensor([40.0, 30.0, 1.0])
    found = projected_dual(mirror_map, y, AffineSet([1.0, 1.0, 1.0], 2.5))
    assert found.dtype == torch.float32
    assert torch.allclose(found, y - 1.0, atol=1e-5)  # sigmoid(0) = 1/2, and the others count as one.


def test_bad_input():
    y, ones = torch.zeros(3, dtype=F64), torch.ones(3, dtype=F64)
    for total in (0.0, 3.0, -1.0, float("nan")):
        with pytest.raises(DomainError, match="misses the interior"):
            hyperplane_shift(y, ones, total)
    with pytest.raises(ShapeError, match=r"\(3,\)"):
        hyperplane_shift(y, torch.ones(2, dtype=F64), 1.0)
    with pytest.raises(DomainError, match="misses the interior"):
        bregman_projection(BoxEntropy(Box(dim=3)), y + 0.5, AffineSet([1.0, 1.0, 0.0], 2.5))
