"""Diffusion in free space, thresholding, and diffusion in the metric of a barrier."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import mirrorgen as mg
from mirrorgen import storage
from mirrorgen.diffusion import Ancestral, BarrierDiffusion, ClampedDiffusion, MirrorStep, Thresholding, sigma_grid
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains import Ball, Box, Orthant, Polytope, Simplex
from mirrorgen.nets import MLP, Net
from mirrorgen.spec import from_spec, to_spec

F64 = torch.float64
CORNER = Polytope(torch.cat([-torch.eye(3), torch.ones(1, 3)]), torch.tensor([0.0, 0.0, 0.0, 1.0]))
DOMAINS = [Box(-1.0, 2.0, dim=2), Simplex(3), Ball(3, radius=2.0), CORNER]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Zero(Net):
    """The zero field, in float64."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 0, 0, 1)
        self.unused = torch.nn.Parameter(torch.zeros(1, dtype=F64))

    def _forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        return torch.zeros_like(x)


def net(domain, **options) -> MLP:
    torch.manual_seed(0)
    return MLP(domain.dual_dim, hidden=(16, 16), **options)


@pytest.mark.parametrize("kind", [ClampedDiffusion, BarrierDiffusion])
@pytest.mark.parametrize("domain", DOMAINS, ids=repr)
def test_trains_samples_and_survives_storage(kind, domain, tmp_path):
    model = kind(domain, net(domain))
    x = domain.sample_uniform(16, generator=seeded()).float()
    loss = model.loss(x, generator=seeded())
    loss.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)
    points = model.sample(8, steps=3, generator=seeded())
    assert points.shape == (8, domain.dim)
    assert points.dtype == torch.float32
    assert bool(domain.contains(points).all())
    again = storage.load(storage.save(model, tmp_path / "model"))
    assert torch.equal(again.sample(8, steps=3, generator=seeded()), points)
    assert to_spec(from_spec(to_spec(model))) == to_spec(model)


def test_free_diffusion_of_a_normal_law_is_exact():
    # Without correction by the network the score is that of normal data of the deviation of the uniform law.
    domain = Box(-3.0, 3.0, dim=2)
    model = ClampedDiffusion(domain, Zero(2))
    x = torch.randn(5, 2, generator=seeded(), dtype=F64)
    for sigma in (0.06, 1.0, 30.0):
        expected = -x / (3.0 + sigma**2)
        assert torch.allclose(model.score(x, torch.tensor(sigma, dtype=F64)), expected, rtol=1e-12)
    start = math.sqrt(3.0 + 30.0**2) * torch.randn(20_000, 2, generator=seeded(1), dtype=F64)
    sigmas = sigma_grid(30.0, 0.06, 100)
    end = mg.diffusion.reverse(model.space, model.score, start, sigmas, "ode")
    assert abs(float(end.var()) / (3.0 + 0.06**2) - 1) < 0.02
    clamped = model.sample(20_000, steps=60, method="ode", generator=seeded(2))
    assert bool(domain.contains(clamped).all())
    # What lies outside in free space is on the faces: an atom.
    share = float((clamped.abs() > 3 - 1e-9).double().mean())
    assert abs(share - math.erfc(3 / math.sqrt(6))) < 0.01


def test_free_loss_is_denoising():
    domain = Simplex(3)
    model = ClampedDiffusion(domain, net(domain).double())
    x = domain.sample_uniform(20_000, generator=seeded())
    z, sigma = domain.to_chart(x), torch.full((20_000,), 0.4, dtype=F64)
    noise = torch.randn(z.shape, generator=seeded(1), dtype=F64)
    with torch.no_grad():
        direct = (model.scaled_score(z + 0.4 * noise, sigma) + noise).square().sum(-1)
        errors = model.errors(model.scaled_score, z, sigma.unsqueeze(0), seeded(2))[0]
    assert abs(float(direct.mean() - errors.mean())) < 4 * math.hypot(float(direct.std()), float(errors.std())) / 141


def test_thresholding_predictions():
    box = Box(torch.tensor([-1.0, 0.0, 0.0]), torch.tensor([1.0, 4.0, 1.0]))
    z = 3 * torch.randn(50, 3, generator=seeded(), dtype=F64)
    low, high = np.array([-1.0, 0.0, 0.0]), np.array([1.0, 4.0, 1.0])
    static = Thresholding(box).threshold(z).numpy()
    assert np.array_equal(static, np.clip(z.numpy(), low, high))
    dynamic = Thresholding(box, kind="dynamic", quantile=0.9).threshold(z).numpy()
    for row, found in zip(z.numpy(), dynamic, strict=True):
        u = 2 * (row - low) / (high - low) - 1
        s = max(1.0, np.quantile(np.abs(u), 0.9))
        assert np.allclose(2 * (found - low) / (high - low) - 1, np.clip(u, -s, s) / s, atol=1e-12)
    inside = box.sample_uniform(10, generator=seeded())
    assert torch.allclose(Thresholding(box, kind="dynamic").threshold(inside), inside)


def test_a_thresholded_last_step_ends_inside():
    # With noise of variance D low^2 / high^2 a step to low = 0 is the prediction itself.
    step = Thresholding(CORNER, Ancestral())
    x = torch.randn(100, 3, generator=seeded(), dtype=F64)
    high, low = torch.tensor(2.0, dtype=F64), torch.tensor(1e-12, dtype=F64)
    end = step.step(mg.domains.Euclidean(3), lambda y, s: -0.1 * y, x, high, low, seeded())
    assert float(CORNER.slack(end).min()) > -1e-9


def test_bad_thresholding():
    with pytest.raises(DomainError, match="needs a Box"):
        Thresholding(Simplex(3), kind="dynamic")
    with pytest.raises(DomainError, match="adaptive"):
        Thresholding(Simplex(3), "dopri5")
    with pytest.raises(DomainError, match="quantile"):
        Thresholding(Box(0.0, 1.0, dim=2), quantile=0.0)


def beta_nodes() -> tuple[Tensor, Tensor, Tensor]:
    """Midpoints of (0, 1), weights of the law Beta(3, 2), and its score."""
    n = 200_000
    x = (torch.arange(n, dtype=F64) + 0.5) / n
    return x.unsqueeze(-1), 12 * x.square() * (1 - x) / n, 2 / x - 1 / (1 - x)


def test_barrier_objective_is_the_error_of_the_score():
    # E |f|^2 + 2 sigma div(H^(-1/2) f) = E |f - sigma H^(-1/2) s|^2 - E |sigma H^(-1/2) s|^2, with f free at the walls.
    model = BarrierDiffusion(Box(0.0, 1.0, dim=1), Zero(1))
    x, weights, score = beta_nodes()
    sigma = torch.full((len(x),), 0.3, dtype=F64)
    f = lambda y, s: torch.cos(3 * y) - 0.5  # noqa: E731
    found = (weights * model.implicit_errors(f, x, sigma, seeded())).sum()
    whitened = 0.3 * score / torch.sqrt(x.squeeze(-1) ** -2 + (1 - x.squeeze(-1)) ** -2)
    error = (f(x, sigma).squeeze(-1) - whitened).square() - whitened.square()
    assert abs(float(found - (weights * error).sum())) < 1e-6


@pytest.mark.parametrize("domain", DOMAINS, ids=repr)
def test_barrier_paths_keep_the_uniform_law(domain):
    model = BarrierDiffusion(domain, Zero(domain.dual_dim))
    n = 8000
    x = domain.sample_uniform(n, generator=seeded())
    y = model.motion(x, torch.full((1, n), 1.0, dtype=F64), seeded(1))[0]
    assert bool(domain.contains(y).all())
    spread = x.std(0)
    assert float(((y - x).mean(0) / (spread * math.sqrt(2 / n))).abs().max()) < 4
    # Steps of deviation 1/4 leave a bias of a few parts in a hundred.
    assert float((y.std(0) / spread - 1).abs().max()) < 0.05


def test_barrier_without_a_score_is_uniform():
    domain = Simplex(3)
    model = BarrierDiffusion(domain, Zero(2))
    x = domain.sample_uniform(20, generator=seeded())
    assert torch.allclose(model.log_prob(x, steps=2), torch.full_like(x[:, 0], -domain.log_volume()))
    outside = model.log_prob(torch.tensor([[1.5, -0.2, -0.3]], dtype=F64))
    assert float(outside) == -math.inf


def test_barrier_flow_has_a_density():
    model = BarrierDiffusion(Box(0.0, 1.0, dim=1), net(Box(0.0, 1.0, dim=1)).double())
    x = ((torch.arange(400, dtype=F64) + 0.5) / 400).unsqueeze(-1)
    assert abs(float(model.log_prob(x, steps=40).exp().mean().detach()) - 1) < 2e-3


def test_mirror_step_goes_along_the_natural_gradient():
    model = BarrierDiffusion(Box(0.0, 1.0, dim=1), Zero(1))
    n, variance, natural = 100_000, 0.03, 0.5
    x = torch.full((n, 1), 0.3, dtype=F64)
    high, low = torch.tensor(0.2, dtype=F64), torch.tensor(0.1, dtype=F64)
    step = model.resolve("em")
    assert isinstance(step, MirrorStep)
    end = step.step(model.domain, lambda y, s: torch.full_like(y, natural), x, high, low, seeded())
    metric = 0.3**-2 + 0.7**-2
    # Half the divergence of 1 / H, which keeps the uniform law.
    own = 0.5 * (2 * 0.3**-3 - 2 * 0.7**-3) / metric**2
    error = float((end - 0.3).mean()) - variance * (natural + own)
    assert abs(error) < 4 * math.sqrt(variance / metric / n) + 0.05 * variance * natural


def test_projected_samples_have_no_density():
    with pytest.raises(DomainError, match="mass on the walls"):
        ClampedDiffusion(Box(dim=2), MLP(2)).log_prob(torch.rand(3, 2))


def test_bad_models():
    with pytest.raises(DomainError, match="unbounded"):
        BarrierDiffusion(Orthant(2), MLP(2))
    with pytest.raises(DomainError, match="unbounded"):
        ClampedDiffusion(Orthant(2), MLP(2))
    with pytest.raises(ShapeError, match="must equal the dimension"):
        ClampedDiffusion(Simplex(3), MLP(3))
    with pytest.raises(DomainError, match="max_step"):
        BarrierDiffusion(Simplex(3), MLP(2), max_step=0.0)
    with pytest.raises(DomainError, match="x"):
        ClampedDiffusion(Simplex(3), MLP(2)).loss(torch.tensor([[0.5, 0.6, 0.2]]))
