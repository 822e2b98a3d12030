"""The kernel Stein discrepancy against a literal double loop with autograd and exact expectations."""

import math

import pytest
import torch

from mirrorgen import mirror_maps
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.metrics import ksd, ksd_squared, pairwise
from mirrorgen.samplers.density import MirroredDensity
from mirrorgen.targets import Dirichlet


def draws(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def literal(points, scores, h):
    """``k0`` of every pair from autograd of the kernel."""

    def kernel(a, b):
        return (1 + (a - b).square().sum() / h) ** -0.5

    def pair(i, j):
        a, b, s, t = points[i], points[j], scores[i], scores[j]
        ga, gb = torch.func.grad(kernel, (0, 1))(a, b)
        mixed = torch.func.jacfwd(torch.func.grad(kernel, 0), 1)(a, b)
        return float(s @ t * kernel(a, b) + s @ gb + t @ ga + mixed.trace())

    rows = [[pair(i, j) for j in range(len(points))] for i in range(len(points))]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("h", [0.7, 20.0])
def test_literal_double_loop(h, monkeypatch):
    monkeypatch.setitem(pairwise._BLOCK, "cpu", 30)
    points, scores = 3 + draws(9, 3), draws(9, 3, 1)
    table = literal(points, scores, h)
    off = table - table.diag().diag()
    assert float(ksd_squared(points, scores, h)) == pytest.approx(float(off.sum()) / 72, rel=1e-10)
    assert float(ksd_squared(points, scores, h, unbiased=False)) == pytest.approx(float(table.mean()), rel=1e-10)
    assert float(ksd(points, scores, h)) == pytest.approx(math.sqrt(float(table.mean())), rel=1e-10)


def test_mean_under_the_law_is_zero():
    values = torch.stack([ksd_squared(y, -y) for y in draws(200 * 50, 2).split(50)])
    assert abs(float(values.mean())) < 4.5 * float(values.std()) / math.sqrt(200)
    biased = torch.stack([ksd_squared(y, -y, unbiased=False) for y in draws(200 * 50, 2).split(50)])
    # E|s|^2 + d / h = 4 on the diagonal.
    assert float(biased.mean()) == pytest.approx(4 / 50, abs=4.5 * float(biased.std()) / math.sqrt(200))


def test_another_law_is_seen():
    y = draws(500, 2)
    exact = float(ksd_squared(y, -y))
    assert float(ksd_squared(y, -(y - 0.5))) > 10 * abs(exact)
    assert float(ksd_squared(1.5 * y, -1.5 * y)) > 10 * abs(exact)


def test_dual_of_a_dirichlet_law():
    """Exact draws of Dirichlet(4) on 21 coordinates; in ilr coordinates ``E|s|^2 = A^2 (K - 1) / K / (A + 1)``."""
    target, repeats = Dirichlet([4.0] * 21), 30
    mirror_map = mirror_maps.SimplexEntropy(target.domain)
    y = mirror_map.to_dual(target.sample(300 * repeats, generator=torch.Generator().manual_seed(0)))
    scores = MirroredDensity(target, mirror_map).at(y).gradient
    parts = list(zip(y.split(300), scores.split(300), strict=True))
    fair = torch.stack([ksd_squared(*part, 20.0) for part in parts])
    assert abs(float(fair.mean())) < 4.5 * float(fair.std()) / math.sqrt(repeats)
    exact = 84**2 * 20 / 21 / 85 + 20 / 20
    diagonal = torch.stack([300 * ksd(*part, 20.0) ** 2 - 299 * ksd_squared(*part, 20.0) for part in parts])
    assert float(diagonal.mean()) == pytest.approx(exact, abs=4.5 * float(diagonal.std()) / math.sqrt(repeats))


def test_shift_of_points_changes_nothing():
    y, s = draws(40, 3), draws(40, 3, 1)
    assert float(ksd_squared(y + 1e6, s)) == pytest.approx(float(ksd_squared(y, s)), rel=1e-7)


def test_bad_input_is_refused():
    y = draws(5, 2)
    with pytest.raises(ShapeError, match="one score per point"):
        ksd(y, y[:4])
    with pytest.raises(DomainError, match="scale"):
        ksd(y, y, 0.0)
    with pytest.raises(DomainError, match="at least 2"):
        ksd_squared(y[:1], y[:1])
    with pytest.raises(DomainError, match="not finite"):
        ksd(y, y * torch.nan)
