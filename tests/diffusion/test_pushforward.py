"""Diffusions on images of other domains: densities, training, files, bad input."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import mirrorgen
from mirrorgen import diffusion, nets
from mirrorgen import domains as D
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.targets import Dirichlet

from .test_reflected_diffusion import SCHEDULE, Known

F64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(bijection: diffusion.Bijection, **options) -> diffusion.PushforwardDiffusion:
    torch.manual_seed(0)
    net = nets.MLP(
        bijection.source.dual_dim, hidden=(48, 48), activation="silu", time_embedding=16, cosines=3, **options
    )
    width = diffusion.extent(bijection.source)
    schedule = diffusion.GeometricSchedule(0.02 * width, 1.5 * width)
    return diffusion.PushforwardDiffusion(bijection, diffusion.ReflectedDiffusion(bijection.source, net, schedule))


def known() -> diffusion.PushforwardDiffusion:
    """The image in ``Simplex(3)`` of the product of two cosine laws."""
    sticks = diffusion.StickBreaking(2)
    return diffusion.PushforwardDiffusion(
        sticks, diffusion.ReflectedDiffusion(sticks.source, Known(2, SCHEDULE), SCHEDULE)
    )


def quadrature(order: int) -> tuple[Tensor, Tensor]:
    """Points of ``Simplex(3)`` and weights for Lebesgue measure on the first two coordinates, by Duffy's transform."""
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(order))
    nodes, weights = 0.5 * (nodes + 1), 0.5 * weights
    # The third coordinate is the apex, so that this is no grid of the sticks, which break off the first one first.
    c, a = (v.flatten() for v in torch.meshgrid(nodes, nodes, indexing="ij"))
    points = torch.stack([(1 - c) * a, (1 - c) * (1 - a), c], -1)
    return points, torch.outer(weights, weights).flatten() * (1 - c)


def test_density_of_a_known_law_integrates_to_one_and_is_the_exact_one():
    points, weights = quadrature(24)
    log_prob = known().log_prob(points, steps=50)
    assert abs(float(weights @ log_prob.exp()) - 1) < 1e-3
    shares = torch.stack([points[:, 0], points[:, 1] / (1 - points[:, 0])], -1)
    amplitude = 0.9 * math.exp(-0.5 * (math.pi * 0.01) ** 2)
    exact = torch.log1p(amplitude * torch.cos(math.pi * shares)).sum(-1) - torch.log1p(-points[:, 0])
    assert float((log_prob - exact).abs().max()) < 4e-3


@pytest.mark.parametrize("bijection", [diffusion.Gaps(2), diffusion.StickBreaking(2)], ids=["gaps", "sticks"])
def test_densities_of_networks_integrate_to_one(bijection):
    model = small(bijection).double()
    model.net.output.weight.data.mul_(5.0)
    points, weights = quadrature(16)
    assert abs(float(weights @ model.log_prob(points, steps=20).detach().exp()) - 1) < 5e-3


def test_bound_is_tight_in_the_mean_for_the_exact_score():
    model = known()
    y = model.sample(2000, steps=100, method="em", generator=seeded())
    gap = (model.log_prob_bound(y, generator=seeded(1)) - model.log_prob(y, steps=40)).detach()
    assert float(gap.mean().abs()) < 4 * float(gap.std()) / len(y) ** 0.5 + 0.01


@pytest.mark.parametrize("bijection", [diffusion.Gaps(3), diffusion.StickBreaking(3)], ids=["gaps", "sticks"])
def test_learns_a_dirichlet_law(bijection):
    target = Dirichlet([4.0, 1.5, 1.0, 2.0])
    data = target.sample(20_000, generator=seeded()).float()
    model = small(bijection)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    noise = seeded(1)
    for _ in range(300):
        x = data[torch.randint(len(data), (256,), generator=noise)]
        optimizer.zero_grad()
        model.loss(x, generator=noise).backward()
        optimizer.step()
        schedule.step()
    draws = model.sample(4000, steps=40, generator=seeded(2))
    assert draws.dtype == torch.float32
    assert model.domain.contains(draws).all()
    # Means have standard errors of at most 0.003.
    assert torch.allclose(draws.mean(0).double(), target.mean, atol=0.025)
    assert torch.allclose(draws.std(0).double(), target.variance.sqrt(), atol=0.02)
    held_out = target.sample(1000, generator=seeded(3))
    a = target.concentration
    exact = target.log_density(held_out) + torch.lgamma(a.sum()) - torch.lgamma(a).sum()
    with torch.no_grad():
        found = model.log_prob(held_out.float(), steps=20)
    # An estimate of KL(target || model).
    assert -0.02 < float((exact - found).mean()) < 0.3


def test_partial_trajectories_start_on_the_target():
    model = known()
    y = model.sample(200, steps=50, generator=seeded())
    kernel = diffusion.BoxHeatKernel(model.bijection.source)
    noisy = model.bijection(kernel.sample(model.bijection.inverse(y), 0.02, generator=seeded(1)))
    back = model.sample(200, start=noisy, sigma_start=0.02, steps=10, method="em", generator=seeded(2))
    assert float((back - y).abs().max()) < 5 * 0.02 * 2**0.5
    with pytest.raises(DomainError, match="y: "):
        model.sample(2, start=torch.full((2, 3), 0.4), sigma_start=0.02)
    with pytest.raises(DomainError, match="both"):
        model.sample(200, start=noisy)


def test_conditions_pass_through():
    bijection = diffusion.ProductBijection(diffusion.StickBreaking(2), diffusion.Identity(D.Box(-1.0, 2.0)))
    model = small(bijection, num_classes=3)
    x = model.domain.sample_uniform(12, generator=seeded())
    labels = torch.arange(12) % 3
    model.loss(x, condition=labels, generator=seeded()).backward()
    draws = model.sample(12, condition=labels, guidance_scale=3.0, steps=5, generator=seeded())
    assert model.domain.contains(draws).all()
    assert torch.isfinite(model.log_prob(x, condition=labels, steps=3)).all()
    assert not torch.allclose(model.log_prob(x, condition=labels, steps=3), model.log_prob(x, steps=3))


@pytest.mark.parametrize("bijection", [diffusion.Gaps(3), diffusion.StickBreaking(3)], ids=["gaps", "sticks"])
def test_files_and_the_command_line(bijection, tmp_path: Path):
    model = small(bijection)
    again = mirrorgen.load(mirrorgen.save(model, tmp_path / "model"))
    draws = [m.sample(20, steps=4, generator=seeded()) for m in (model, again)]
    assert torch.equal(*draws)
    assert again.log_prob(draws[0], steps=4).allclose(model.log_prob(draws[0], steps=4))
    from mirrorgen.cli import main

    arguments = ["sample", "--ckpt", str(tmp_path / "model"), "--num", "9", "--out", str(tmp_path / "x.npy"), "--quiet"]
    assert main(arguments).shape == (9, 4)


def test_outside_has_no_density_and_bad_input_typed_errors():
    model = small(diffusion.StickBreaking(2))
    points = torch.tensor(
        [[0.2, 0.3, 0.5], [0.5, 0.5, 0.0], [0.5, 0.6, 0.3], [math.nan, 0.5, 0.5], [1.5, -0.25, -0.25]]
    )
    log_prob = model.log_prob(points, steps=3)
    assert torch.isfinite(log_prob).tolist() == [True, False, False, False, False]
    assert (log_prob[1:] == -math.inf).all()
    one, none, narrow = points[0], points[:0], points[:, :2]
    for x, error in ((points, DomainError), (one, ShapeError), (none, ShapeError), (narrow, ShapeError)):
        with pytest.raises(error):
            model.loss(x)
    with pytest.raises(DomainError, match=r"x\[2\] > 0"):
        model.log_prob_bound(points[1:2])
    with pytest.raises(DomainError, match="method"):
        model.sample(3, method="eular")
    again = diffusion.PushforwardDiffusion(diffusion.StickBreaking(2), model.diffusion)
    assert torch.equal(again.log_prob(points, steps=3), log_prob)
    elsewhere = "build the diffusion on bijection.source"
    for bijection, other, message in (
        (diffusion.StickBreaking(3), model.diffusion, elsewhere),
        (diffusion.Gaps(2), model.diffusion, elsewhere),
        (diffusion.Identity(D.Box(0.0, 2.0, dim=2)), model.diffusion, elsewhere),
        (diffusion.StickBreaking(2), model.net, "diffusion must be a ReflectedDiffusion"),
        (torch.nn.Identity(), model.diffusion, "bijection must be a Bijection"),
    ):
        with pytest.raises(DomainError, match=message):
            diffusion.PushforwardDiffusion(bijection, other)


def test_next_to_faces_the_density_is_finite_and_samples_are_inside():
    model = small(diffusion.StickBreaking(3))
    y = torch.tensor([[1e-30, 1e-30, 0.5, 0.5], [1.0, 1e-30, 1e-30, 1e-30], [0.5, 0.5, 1e-30, 1e-30]])
    x = y.clone().requires_grad_()
    log_prob = model.log_prob(x, steps=3)
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(x.grad).all()
    # Rests of 1e-30 have a density that the determinant makes large.
    assert float((log_prob[2] - log_prob[0]).detach()) > 50
