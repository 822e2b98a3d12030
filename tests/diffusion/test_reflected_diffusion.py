"""The model: its losses, samples and likelihoods, with a network that knows the score of the cosine law."""

import math

import pytest
import torch
from torch import Tensor

from mirrorgen import diffusion, nets
from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.geometry.domains import Ball, Box, Orthant, Simplex
from mirrorgen.spec import from_spec, to_spec

from . import oracle

F64 = torch.float64
SCHEDULE = diffusion.GeometricSchedule(0.01, 1.5)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Known(nets.Net):
    """``sigma * score`` of the cosine law in every coordinate, before ``no_flux``."""

    def __init__(self, dim: int, schedule: diffusion.Schedule = SCHEDULE) -> None:
        super().__init__(dim, 0, 0, 1)
        self.schedule, self.unused = schedule, torch.nn.Parameter(torch.zeros(1, dtype=F64))

    def _forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        x, sigma = 0.5 * (x + 1), self.schedule.sigma(t.to(x.dtype)).unsqueeze(-1)
        factor = torch.tanh(torch.sin(math.pi * x) / (math.pi * sigma))
        return sigma * oracle.score(x, sigma) / factor


def known(dim: int = 1, schedule: diffusion.Schedule = SCHEDULE) -> diffusion.ReflectedDiffusion:
    return diffusion.ReflectedDiffusion(Box(0.0, 1.0, dim=dim), Known(dim, schedule), schedule)


def small(domain=None, **options) -> diffusion.ReflectedDiffusion:
    torch.manual_seed(0)
    domain = Box(0.0, 1.0, dim=2) if domain is None else domain
    net = nets.MLP(domain.dual_dim, hidden=(32, 32), activation="silu", num_classes=options.pop("num_classes", 0))
    return diffusion.ReflectedDiffusion(domain, net, **options)


def data(n: int, dim: int = 1, seed: int = 1) -> Tensor:
    """Exact draws of the cosine law at ``sigma_min``."""
    return oracle.inverse_cdf(torch.rand(n, dim, generator=seeded(seed), dtype=F64), torch.tensor(0.01, dtype=F64))


@pytest.mark.parametrize("dim", [1, 3])
def test_log_likelihood_is_exact(dim):
    x = torch.rand(50, dim, generator=seeded(), dtype=F64)
    low = torch.tensor(0.01, dtype=F64)
    exact = torch.log1p(oracle.amplitude(low) * torch.cos(math.pi * x)).sum(-1)
    found = known(dim).log_prob(x, steps=80)
    assert float((found - exact).abs().max()) < 1e-3 * dim
    hutchinson = known(dim).log_prob(x, steps=80, divergence="hutchinson", generator=seeded())
    # The Jacobian is diagonal, where one sign per coordinate is exact.
    assert torch.allclose(hutchinson, found, atol=1e-10)


def test_adaptive_solvers_agree_with_fixed_steps():
    x = torch.rand(20, 2, generator=seeded(), dtype=F64)
    assert torch.allclose(known(2).log_prob(x, method="dopri5"), known(2).log_prob(x, steps=200), atol=1e-4)
    ends = [known(2).sample(50, generator=seeded(3), **how) for how in ({"method": "dopri5"}, {"method": "ode"})]
    assert torch.allclose(*ends, atol=2e-3)


def test_bound_is_tight_in_the_mean_for_the_exact_score():
    x = data(16_000, 2)
    low = torch.tensor(0.01, dtype=F64)
    exact = torch.log1p(oracle.amplitude(low) * torch.cos(math.pi * x)).sum(-1)
    gap = known(2).log_prob_bound(x, draws=16, generator=seeded(4)) - exact
    assert float(gap.mean().abs()) < 4 * float(gap.std()) / len(x) ** 0.5
    assert float(gap.std()) / len(x) ** 0.5 < 0.02


@pytest.mark.parametrize("method", ["em", "ancestral", "pc", "ode"])
def test_samples_have_the_law_of_the_data(method):
    model = known(2, diffusion.GeometricSchedule(0.02, 1.5))
    x = model.sample(20_000, steps=200, method=method, generator=seeded(2))
    assert model.domain.contains(x).all()
    u = oracle.cdf(x, torch.tensor(0.02, dtype=F64))
    waves = torch.stack([torch.cos(k * math.pi * u) for k in (1, 2, 3)])
    # Zero for uniform u, with variance one half; the discretisation adds at most about a hundredth.
    assert float(waves.mean(1).abs().max()) < 4.5 * (0.5 / len(x)) ** 0.5 + 0.01


def test_losses_agree_up_to_a_constant():
    """Denoising and implicit score matching differ by ``E |target|^2``, which no network enters."""
    domain, x = Box(0.0, 1.0, dim=2), data(60_000, 2)
    sigma = torch.full((1, len(x)), 0.2, dtype=F64)
    differences = []
    for objective in (diffusion.Denoising(diffusion.default_kernel(domain)), diffusion.Implicit("exact", 1)):
        torch.manual_seed(3)
        models = [small(domain, objective=objective, schedule=SCHEDULE).double() for _ in range(2)]
        models[1].net.output.weight.data.mul_(3.0)
        losses = [objective.loss(domain, model.scaled_score, x, sigma, seeded(5)) for model in models]
        differences.append((losses[0] - losses[1]).detach().flatten())
    gap = differences[0].mean() - differences[1].mean()
    error = (sum(d.var() for d in differences) / len(x)) ** 0.5
    assert float(gap.abs()) < 4 * float(error)
    assert float(differences[0].mean().abs()) > 10 * float(error)


def test_the_exact_score_minimises_the_loss():
    x, noise = data(20_000), seeded
    best, other = known(), known()
    other.net._forward = lambda x, t, e: 1.1 * Known._forward(other.net, x, t, e)
    assert float(best.loss(x, generator=noise(7))) < float(other.loss(x, generator=noise(7)))


def test_motion_has_the_law_of_the_kernel_at_every_level():
    domain = Box(0.0, 1.0, dim=1)
    start = torch.full((100_000, 1), 0.2, dtype=F64)
    sigmas = torch.tensor([0.05, 0.3, 0.7], dtype=F64).unsqueeze(-1).expand(-1, len(start))
    grid = ((torch.arange(2000, dtype=F64) + 0.5) / 2000).unsqueeze(-1)
    for level, sigma in zip(diffusion.motion(domain, start, sigmas, seeded(8)), sigmas, strict=True):
        density = diffusion.default_kernel(domain).log_prob(grid, start[:1], float(sigma[0])).exp()
        for k in (1, 2, 5):
            wave, exact = torch.cos(k * math.pi * level), (density * torch.cos(k * math.pi * grid[:, 0])).mean()
            assert float((wave.mean() - exact).abs()) < 4.5 * float(wave.std()) / len(start) ** 0.5


@pytest.mark.parametrize(
    "domain", [Box([0.0, -1.0], [1.0, 5.0]), Ball(2, 2.0), Simplex(3)], ids=["box", "ball", "simplex"]
)
@pytest.mark.parametrize("objective", ["auto", "implicit"])
def test_trains_and_samples_on(domain, objective):
    model = small(domain, objective=objective)
    x = domain.sample_uniform(64, generator=seeded())
    loss = model.loss(x, generator=seeded())
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.net.parameters() if p.grad is not None)
    draws = model.sample(50, steps=6, generator=seeded())
    assert draws.dtype == torch.float32
    assert domain.contains(draws).all()
    assert torch.isfinite(model.log_prob(x[:4], steps=4)).all()
    again = from_spec(to_spec(model))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.sample(50, steps=6, generator=seeded()), draws)


def test_guidance_without_a_difference_is_the_identity():
    model = small(num_classes=3)
    x, sigma = torch.rand(6, 2), torch.tensor(0.3)
    null = torch.full((6,), 3)
    assert torch.allclose(model.score(x, sigma, null, guidance_scale=4.0), model.score(x, sigma, None), atol=1e-5)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    plain, free = model.score(x, sigma, labels), model.score(x, sigma)
    assert torch.allclose(model.score(x, sigma, labels, guidance_scale=3.0), free + 3 * (plain - free), atol=1e-4)
    assert model.domain.contains(model.sample(9, steps=5, condition=1, guidance_scale=16.0)).all()
    per_point = model.score(x, sigma.expand(6), labels, guidance_scale=3.0)
    assert torch.allclose(per_point, model.score(x, sigma, labels, guidance_scale=3.0), atol=1e-5)


def test_partial_trajectories_start_where_they_are_told():
    model = known(2)
    x = data(500, 2)
    noisy = diffusion.default_kernel(model.domain).sample(x, 0.02, generator=seeded())
    back = model.sample(500, start=noisy, sigma_start=0.02, steps=10, method="em", generator=seeded(1))
    # Two normal numbers of deviation 0.02 in a thousand coordinates.
    assert float((back - x).abs().max()) < 5 * 0.02 * 2**0.5
    with pytest.raises(DomainError, match="both"):
        model.sample(3, start=x[:3])
    with pytest.raises(DomainError, match="start"):
        model.sample(3, start=x[:3] + 1, sigma_start=0.1)


def test_outside_has_no_density_and_bad_input_typed_errors():
    model = small()
    points = torch.tensor([[0.5, 0.5], [1.5, 0.5], [math.nan, 0.5], [1.0, 0.5]])
    log_prob = model.log_prob(points, steps=3)
    assert torch.isfinite(log_prob).tolist() == [True, False, False, False]
    assert (log_prob[1:] == -math.inf).all()
    for x, error in (
        (points, DomainError),
        (points[0], ShapeError),
        (points[:0], ShapeError),
        (torch.rand(4, 3), ShapeError),
    ):
        with pytest.raises(error):
            model.loss(x)
    with pytest.raises(DomainError, match="unbounded"):
        small(Orthant(2))
    with pytest.raises(ShapeError, match="must equal the dimension"):
        diffusion.ReflectedDiffusion(Box(0.0, 1.0, dim=3), nets.MLP(2))
    with pytest.raises(DomainError, match="method"):
        model.sample(3, method="eular")
    with pytest.raises(DomainError, match="no_flux"):
        small(no_flux=False).log_prob(points[:1])
    with pytest.raises(DomainError, match="kernel"):
        small(objective="implicit").log_prob_bound(points[:1])
    model.net.output.weight.data.fill_(math.nan)
    with pytest.raises(ConvergenceError, match="not finite"):
        model.sample(3, steps=2)


def test_same_seed_same_samples_and_batches_do_not_matter_for_the_flow():
    model = small()
    a, b = (model.sample(10, steps=5, generator=seeded(4)) for _ in range(2))
    assert torch.equal(a, b)
    whole, parts = (model.sample(10, steps=5, method="ode", generator=seeded(4), batch_size=k) for k in (10, 3))
    assert torch.allclose(whole, parts, atol=1e-6)
    done = []
    model.sample(10, steps=1, batch_size=4, callback=done.append)
    assert done == [4, 8, 10]
    assert model.sample(0).shape == (0, 2)
