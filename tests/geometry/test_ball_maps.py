"""The maps of the ball beyond their contract."""

import pytest
import torch
from scipy import integrate, stats

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M

F64 = torch.float64
MAPS = [M.HellingerBall, M.BallLogBarrier]


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_small_points_and_dual_points_keep_relative_accuracy(kind, dtype):
    mirror_map = kind(D.Ball(2))
    y = torch.tensor([[3e-7, -4e-7]], dtype=dtype)
    slope = 1.0 if kind is M.HellingerBall else 0.5
    x = mirror_map.to_primal(y)
    assert torch.allclose(x, slope * y, rtol=4e-7, atol=0)
    assert torch.allclose(mirror_map.to_dual(x), y, rtol=4e-7, atol=0)
    exact = 0.5 * slope * y.double().square().sum(-1)
    if kind is M.BallLogBarrier:
        assert torch.allclose(mirror_map.conjugate(y).double(), exact, rtol=1e-6, atol=0)


def test_radial_values():
    center, point = [0.5, -1.0], torch.tensor([[0.5 + 1.8, -1.0]], dtype=F64)
    ball = D.Ball(2, radius=3.0, center=center)
    assert torch.allclose(M.HellingerBall(ball).potential(point), torch.tensor([-2.4], dtype=F64))
    assert torch.allclose(M.HellingerBall(ball).to_dual(point), torch.tensor([[0.75, 0.0]], dtype=F64))
    assert torch.allclose(M.BallLogBarrier(ball).potential(point), -torch.tensor([0.64], dtype=F64).log())
    assert torch.allclose(M.BallLogBarrier(ball).to_dual(point), torch.tensor([[2 * 1.8 / (9 * 0.64), 0.0]], dtype=F64))


@pytest.mark.parametrize(("kind", "degrees"), [(M.HellingerBall, 2), (M.BallLogBarrier, 1)])
def test_uniform_law_on_an_interval_has_student_tails(kind, degrees):
    """``P(|y| > t)`` of a uniform point falls like ``t^-degrees`` (the tail rule of the catalogue)."""
    mirror_map = kind(D.Ball(1))
    edge = mirror_map.to_primal(torch.tensor([[1e3], [1e4]], dtype=F64)).squeeze(-1)
    tail = 1 - edge
    assert torch.allclose(tail[0] / tail[1], torch.tensor(10.0**degrees, dtype=F64), rtol=1e-2)
    if degrees == 2:
        y = torch.linspace(-5, 5, 11, dtype=F64).unsqueeze(-1)
        student = stats.t(df=2).pdf(y.squeeze(-1).numpy() * 2**0.5) * 2**0.5
        density = -mirror_map.log_det_jacobian_dual(y) + torch.log(torch.tensor(0.5, dtype=F64))
        assert torch.allclose(density.exp(), torch.as_tensor(student), rtol=1e-12)


@pytest.mark.parametrize("kind", MAPS)
def test_density_integrates_to_one(kind):
    mirror_map = kind(D.Ball(2, radius=2.0, center=[1.0, 0.0]))
    base = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64))
    law = torch.distributions.TransformedDistribution(base, mirror_map.transform)

    def density(angle, r):
        unit = torch.stack([torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))]).to(F64)
        return r * float(law.log_prob(torch.tensor([1.0, 0.0], dtype=F64) + r * unit).exp())

    total, _ = integrate.dblquad(density, 0.0, 2.0 - 1e-9, 0.0, 2 * torch.pi, epsabs=1e-4)
    assert abs(total - 1) < 1e-3


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize(("dtype", "norm"), [(torch.float32, 1e4), (F64, 1e8)])
@pytest.mark.parametrize("dim", [1, 2, 50])
def test_far_dual_points_stay_inside_and_keep_their_log_det(kind, dtype, norm, dim):
    mirror_map = kind(D.Ball(dim, radius=1e-3, center=[7.0] * dim))
    direction = torch.randn(256, dim, generator=torch.Generator().manual_seed(0), dtype=F64)
    y = (norm * direction / direction.norm(dim=-1, keepdim=True)).to(dtype)
    x = mirror_map.to_primal(y)
    assert mirror_map.domain.contains(x).all()
    exact = mirror_map.log_det_jacobian_dual(y.double())
    assert torch.allclose(mirror_map.log_det_jacobian_dual(y).double(), exact, rtol=1e-5)
    assert torch.isfinite(mirror_map.to_dual(x)).all()


@pytest.mark.parametrize("kind", MAPS)
def test_divergence_at_the_sphere_is_finite(kind):
    mirror_map = kind(D.Ball(2))
    near = mirror_map.to_primal(torch.tensor([[1e8, 0.0]], dtype=F64))
    center = torch.zeros(1, 2, dtype=F64)
    for p, q in ((near, center), (center, near), (near, near)):
        value = mirror_map.divergence(p, q)
        assert torch.isfinite(value).all()
        assert (value >= 0).all()


@pytest.mark.parametrize("kind", MAPS)
def test_all_derivatives_exist_at_the_centre(kind):
    mirror_map = kind(D.Ball(3))
    x = torch.zeros(3, dtype=F64)
    third = torch.func.jacfwd(torch.func.hessian(mirror_map.potential))(x)
    assert torch.equal(third, torch.zeros(3, 3, 3, dtype=F64))
    assert torch.isfinite(torch.func.hessian(mirror_map.conjugate)(x)).all()
