"""The half-volume statistic on exact draws and on wrong ones."""

import pytest
import torch

from mirrorgen import domains as D
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.metrics import gauge, half_volume, half_volume_of_gauge

SETS = [D.Box([-1.0, 2.0, 0.0], [1.0, 7.0, 0.1]), D.Simplex(6), D.Ball(5, 2.0, [1.0] * 5), D.Birkhoff(3),
        D.Product(D.Ball(2), D.Simplex(3))]  # fmt: skip


@pytest.mark.parametrize("domain", SETS, ids=repr)
def test_half_of_uniform_draws_are_outside_the_core(domain):
    x = domain.sample_uniform(20_000, generator=torch.Generator().manual_seed(0))
    value = half_volume(domain, x)
    assert value.standard_error == pytest.approx(0.5 / 20_000**0.5)
    assert abs(value.z) < 4.5
    # Power: points drawn in by five percent are noticed.
    center = domain.interior_point().to(x)
    assert half_volume(domain, center + 0.95 * (x - center)).z < -4.5


def test_gauge_is_the_factor_that_reaches_the_boundary():
    box = D.Box([0.0, 0.0], [2.0, 4.0])
    x = torch.tensor([[1.5, 2.0], [1.0, 1.0], [1.0, 2.0]])
    torch.testing.assert_close(gauge(box, x), torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64))
    for domain in SETS:
        points = domain.sample_uniform(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        center = domain.interior_point()
        edge = center + (points - center) / gauge(domain, points).unsqueeze(-1)
        assert domain.slack(edge).amin(-1).abs().max() < 1e-12


def test_ellipsoids_by_their_norm():
    generator = torch.Generator().manual_seed(0)
    x = D.Ball(4).sample_uniform(20_000, generator=generator) * torch.tensor([1.0, 10.0, 0.1, 3.0])
    values = (x / torch.tensor([1.0, 10.0, 0.1, 3.0])).norm(dim=-1)
    assert abs(half_volume_of_gauge(values, 4, effective_size=20_000).z) < 4.5


def test_bad_requests():
    with pytest.raises(DomainError, match="unbounded"):
        half_volume(D.Orthant(2), torch.ones(3, 2))
    with pytest.raises(ShapeError):
        half_volume(D.Box(), torch.ones(0, 1))
    with pytest.raises(DomainError):
        half_volume_of_gauge(torch.ones(3), 2, effective_size=0.0)
