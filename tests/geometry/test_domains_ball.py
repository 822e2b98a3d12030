"""The ball: chords in closed form against a loop over bounces, projection, uniform law."""

import mpmath
import pytest
import torch
from scipy import stats

from mirrorgen import domains as D
from mirrorgen.errors import DomainError, ShapeError

F64 = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def bounce_by_bounce(p, v):
    """Billiard path in the unit ball, one reflection at a time, in 40 digits."""
    with mpmath.workdps(40):
        p, v = (mpmath.matrix([mpmath.mpf(c) for c in u.tolist()]) for u in (p, v))
        left = mpmath.norm(v)
        u = v / left
        while True:
            along = (p.T * u)[0]
            flight = -along + mpmath.sqrt(along**2 + 1 - (p.T * p)[0])
            if flight >= left:
                return torch.tensor([float(c) for c in p + left * u], dtype=F64)
            p = p + flight * u
            p = p / mpmath.norm(p)
            u = u - 2 * (u.T * p)[0] * p
            left -= flight


@pytest.mark.parametrize(("dim", "scale"), [(2, 0.5), (2, 20.0), (3, 100.0), (6, 5.0)])
def test_reflection_against_a_loop(dim, scale):
    p = D.Ball(dim).sample_uniform(6, generator=generator(1), dtype=F64)
    v = scale * torch.randn(6, dim, generator=generator(2), dtype=F64)
    oracle = torch.stack([bounce_by_bounce(a, b) for a, b in zip(p, v, strict=True)])
    assert (D.Ball(dim).reflect(p, v) - oracle).abs().max() < 1e-13 * max(1.0, scale)
    center = torch.arange(dim, dtype=F64)
    shifted = D.Ball(dim, radius=3.0, center=center).reflect(center + 3 * p, 3 * v)
    assert ((shifted - center) / 3 - oracle).abs().max() < 1e-12 * max(1.0, scale)


def test_an_interval_is_a_box_of_one_coordinate():
    x = torch.linspace(-0.9, 0.9, 7, dtype=F64).unsqueeze(-1)
    for length in (0.05, -1.3, 17.77, -1e5):
        step = torch.full_like(x, length)
        assert torch.allclose(D.Ball(1).reflect(x, step), D.Box(-1.0, 1.0).reflect(x, step), atol=1e-9)


def test_paths_through_the_centre_stay_on_the_diameter():
    step = torch.tensor([5.5, 0.0, 0.0], dtype=F64)
    end = D.Ball(3).reflect(torch.zeros(3, dtype=F64), step)
    # 1 to the wall, two full diameters, half a unit more: 0.5 from the wall x = +1 towards the centre.
    assert torch.allclose(end, torch.tensor([0.5, 0.0, 0.0], dtype=F64), atol=1e-13)


def test_grazing_path_runs_around_the_circle():
    eps = 1e-9
    p = torch.tensor([1 - eps, 0.0], dtype=F64)
    end = D.Ball(2).reflect(p, torch.tensor([0.0, 1.25], dtype=F64))
    around = torch.tensor([1.25], dtype=F64)
    assert torch.allclose(end, torch.cat([around.cos(), around.sin()]), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_enormous_steps_and_boundary_starts_end_inside(dtype):
    domain = D.Ball(4, radius=0.1, center=[5.0, -3.0, 0.0, 100.0])
    x, _ = domain.pull_inside(
        domain.project(domain.center + torch.randn(500, 4, generator=generator(), dtype=F64)).to(dtype)
    )
    step = torch.randn(500, 4, generator=generator(1), dtype=dtype)
    for scale in (0.0, 1e-8, 1.0, 1e6, 1e12):
        assert domain.contains(domain.reflect(x, scale * step)).all()


def test_reflection_is_differentiable_and_vmaps():
    x = D.Ball(3).sample_uniform(5, generator=generator(), dtype=F64)
    step = 4 * torch.randn(5, 3, generator=generator(1), dtype=F64)
    assert torch.allclose(torch.func.vmap(D.Ball(3).reflect)(x, step), D.Ball(3).reflect(x, step), atol=1e-14)
    assert torch.autograd.gradcheck(D.Ball(3).reflect, (x.requires_grad_(), step.requires_grad_()))
    center = torch.zeros(1, 3, dtype=F64, requires_grad=True)
    for v in (torch.zeros(1, 3, dtype=F64), torch.tensor([[4.0, 0.0, 0.0]], dtype=F64)):
        (gradient,) = torch.autograd.grad(D.Ball(3).reflect(center, v).sum(), center)
        assert torch.isfinite(gradient).all()


def test_uniform_law():
    domain = D.Ball(5, radius=2.0, center=[1.0, 0.0, 0.0, 0.0, -1.0])
    x = domain.relative(domain.sample_uniform(20_000, generator=generator(4), dtype=F64))
    assert stats.kstest((x.norm(dim=-1) ** 5).numpy(), "uniform").pvalue > 1e-4
    # A coordinate of a uniform direction in R^5: (1 + u) / 2 is Beta(2, 2).
    u = (x / x.norm(dim=-1, keepdim=True))[:, 3]
    assert stats.kstest(((1 + u) / 2).numpy(), stats.beta(2, 2).cdf).pvalue > 1e-4
    single = domain.sample_uniform(50_000, generator=generator(5))
    assert single.dtype == torch.float32
    assert domain.contains(single).all()


def test_projection_is_radial():
    domain = D.Ball(2, radius=2.0, center=[1.0, 1.0])
    x = torch.tensor([[4.0, 5.0], [1.5, 1.0]], dtype=F64)
    assert torch.allclose(domain.project(x), torch.tensor([[2.2, 2.6], [1.5, 1.0]], dtype=F64), atol=1e-15)


def test_bad_arguments():
    for radius in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(DomainError, match="radius"):
            D.Ball(2, radius=radius)
    with pytest.raises(DomainError, match="finite centre"):
        D.Ball(2, center=[0.0, float("nan")])
    with pytest.raises(ShapeError, match="centre"):
        D.Ball(2, center=[0.0, 1.0, 2.0])
