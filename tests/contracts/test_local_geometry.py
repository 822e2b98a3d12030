"""``local(y)`` of every map against its members and against autograd, from cold and from warm starts."""

import pytest
import torch

from mirrorgen.geometry.mirror_maps.base import MirrorMap
from tests.contracts.cases import MAPS, interior_points

F64 = torch.float64
NAMES = [name for name in MAPS if MAPS[name]().dual_is_full]


@pytest.fixture(params=NAMES)
def mirror_map(request) -> MirrorMap:
    return MAPS[request.param]()


def dual_points(mirror_map: MirrorMap) -> tuple[torch.Tensor, torch.Tensor]:
    """Dual points of spread interior points, and the same moved by a step of a sampler."""
    y = mirror_map.to_dual(interior_points(mirror_map.domain, 3))
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=F64)
    return y, y + 0.3 * noise


def test_members_agree_with_the_map(mirror_map):
    y, _ = dual_points(mirror_map)
    with torch.no_grad():
        local = mirror_map.local(y)
        v = torch.randn(y.shape, generator=torch.Generator().manual_seed(4), dtype=F64)
        hessian = mirror_map.hessian_dual(y)
        torch.testing.assert_close(local.x, mirror_map.to_primal(y), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(local.hessian.mv(v), hessian.mv(v), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(local.hessian.solve(v), hessian.solve(v), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(local.log_det, mirror_map.log_det_jacobian_dual(y), rtol=1e-10, atol=1e-10)


def test_gradient_of_the_log_determinant_is_its_autograd(mirror_map):
    y, _ = dual_points(mirror_map)
    expected = torch.func.grad(lambda w: mirror_map.log_det_jacobian_dual(w).sum())(y)
    with torch.no_grad():
        torch.testing.assert_close(mirror_map.local(y).log_det_gradient, expected, rtol=1e-9, atol=1e-10)


def test_score_is_the_autograd_of_the_dual_log_density(mirror_map):
    y, _ = dual_points(mirror_map)
    a = torch.linspace(0.5, -1.0, mirror_map.domain.dim, dtype=F64)

    def log_density(x: torch.Tensor) -> torch.Tensor:
        return (a * x).sum(-1) - 0.5 * x.square().sum(-1)

    def mirrored(w: torch.Tensor) -> torch.Tensor:
        return (log_density(mirror_map.to_primal(w)) - mirror_map.log_det_jacobian_dual(w)).sum()

    expected = torch.func.grad(mirrored)(y)
    with torch.no_grad():
        local = mirror_map.local(y)
        torch.testing.assert_close(local.mirrored_score(a - local.x), expected, rtol=1e-8, atol=1e-9)


def test_warm_and_cold_starts_agree(mirror_map):
    y, moved = dual_points(mirror_map)
    with torch.no_grad():
        warm, cold = mirror_map.local(moved, mirror_map.local(y).start), mirror_map.local(moved)
        torch.testing.assert_close(warm.x, cold.x, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(warm.log_det, cold.log_det, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(warm.log_det_gradient, cold.log_det_gradient, rtol=1e-10, atol=1e-10)


def test_one_bad_row_leaves_the_others(mirror_map):
    y, moved = dual_points(mirror_map)
    with torch.no_grad():
        local = mirror_map.local(y)
        bad = torch.where(torch.tensor([[False], [True], [False]]), torch.nan, moved)
        mixed, clean = mirror_map.local(bad, local.start), mirror_map.local(moved, local.start)
        assert bool(torch.isnan(mixed.x[1]).any())
        good = torch.tensor([0, 2])
        torch.testing.assert_close(mixed.x[good], clean.x[good], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_batch_shapes(mirror_map, shape):
    y, _ = dual_points(mirror_map)
    batch = y[0].expand(*shape, -1).clone()
    with torch.no_grad():
        local = mirror_map.local(batch)
        again = mirror_map.local(batch, local.start)
        expected = mirror_map.local(y).x[0].expand(*shape, -1)
        torch.testing.assert_close(again.x, expected, rtol=1e-10, atol=1e-10)
        assert again.log_det.shape == shape
        assert again.log_det_gradient.shape == batch.shape


def test_float32_points_are_inside_and_close(mirror_map):
    y, _ = dual_points(mirror_map)
    with torch.no_grad():
        local, wide = mirror_map.local(y.float()), mirror_map.local(y.float().double())
        assert local.x.dtype == torch.float32
        assert bool(mirror_map.domain.contains(local.x).all())
        torch.testing.assert_close(local.log_det.double(), wide.log_det, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(local.log_det_gradient.double(), wide.log_det_gradient, rtol=1e-3, atol=1e-3)
