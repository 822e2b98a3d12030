"""The published targets: seeds, acceptance rates, moments, and that draws lie inside."""

import pytest
import torch

from mirrorgen import data, targets
from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.geometry.domains import Box, Simplex

TARGETS = [
    data.polytope10,
    data.ball6,
    data.toy2d,
    data.dirichlet,
    data.disc,
    data.sphere_mixture,
    data.cube_mixture,
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("build", TARGETS, ids=lambda f: f.__name__)
def test_draws_are_inside_and_reproducible(build) -> None:
    target = build()
    x = target.sample(3000, generator=seeded())
    assert x.shape == (3000, target.domain.dim)
    assert x.dtype == torch.float64
    assert target.domain.contains(x).all()
    assert torch.equal(x, build().sample(3000, generator=seeded()))


def test_polytope10_is_the_stated_instance() -> None:
    target = data.polytope10()
    assert len(target.means) == 1033
    assert target.domain.halfspaces()[0].shape == (30, 10)
    assert target.domain.contains(target.means).double().mean().item() == pytest.approx(0.455, abs=5e-4)
    proposals = target.propose(100_000, seeded())
    assert target.domain.contains(proposals).double().mean().item() == pytest.approx(0.26, abs=0.01)


def test_ball6_hugs_the_sphere() -> None:
    target = data.ball6()
    assert target.means[:64].norm(dim=1).tolist() == pytest.approx([24**0.5] * 64)
    x = target.sample(50_000, generator=seeded())
    # Published with the target: 6% of the mass has 25 - |x|^2 below 0.5.
    assert (25 - x.square().sum(1) < 0.5).float().mean().item() == pytest.approx(0.06, abs=0.01)


def test_toy2d_mean_agrees_with_quadrature() -> None:
    target = data.toy2d()
    x = target.sample(50_000, generator=seeded()).double()
    grid = torch.cartesian_prod(*(torch.linspace(-25, 15, 801, dtype=torch.float64) for _ in range(2)))
    grid = grid[target.domain.contains(grid)]
    law = torch.distributions.Normal(target.means, target.component_variance.sqrt())
    density = law.log_prob(grid[:, None]).sum(-1).exp() @ target.weights
    mean = (density[:, None] * grid).sum(0) / density.sum()
    error = 4 * x.std(0) / 50_000**0.5 + 0.01
    assert ((x.mean(0) - mean).abs() < error).all()


@pytest.mark.parametrize(("name", "deviation"), [("moons", 0.025), ("spiral", 0.025), ("ring", 0.05)])
def test_disc_laws_are_curves_with_noise(name: str, deviation: float) -> None:
    target = data.disc(name)
    x = target.sample(20_000, generator=seeded())
    angle, radius = torch.atan2(x[:, 1], x[:, 0]), x.norm(dim=1)
    if name == "spiral":  # Away from the centre the nearest winding tells the radius: 0.95 over 1,000 degrees.
        far = radius > 0.4
        winding = 0.95 * 360 / 1000
        gap = (radius - winding * angle / (2 * torch.pi) + winding / 2).remainder(winding)[far] - winding / 2
    else:
        gap = radius - 0.8
        centre = torch.pi / 2 if name == "moons" else 0.0
        period = torch.pi if name == "moons" else torch.pi / 4
        assert ((angle - centre + period / 2).remainder(period) - period / 2).mean().item() == pytest.approx(
            0, abs=0.02
        )
    # Noise across the curve; along it a chord moves the ring inwards by the variance over twice the radius.
    assert gap.mean().item() == pytest.approx(0, abs=2e-3)
    assert gap.std().item() == pytest.approx(deviation, rel=0.03)


def test_lined_curves_have_no_gaps() -> None:
    for name in ("moons", "spiral"):
        target = data.disc(name)
        neighbours = target.means.diff(dim=0).norm(dim=1)
        assert neighbours[neighbours < 0.5].max() < 0.5 * target.component_variance.sqrt()


def test_dirichlet_moments() -> None:
    target = data.dirichlet("3b")
    a = target.concentration[0]
    x = target.sample(100_000, generator=seeded()).double()
    mean = a / a.sum()
    variance = mean * (1 - mean) / (a.sum() + 1)
    assert torch.allclose(x.mean(0), mean, atol=4 * variance.max().sqrt().item() / 100_000**0.5)
    assert torch.allclose(x.var(0), variance, rtol=0.05)


def test_mixture_of_dirichlet_laws() -> None:
    target = targets.DirichletMixture([[20.0, 1.0], [1.0, 20.0]], weights=[0.25, 0.75])
    assert isinstance(target.domain, Simplex)
    x = target.sample(20_000, generator=seeded())
    assert (x[:, 0] > 0.5).float().mean().item() == pytest.approx(0.25, abs=0.015)


def test_truncated_normal_moments() -> None:
    target = targets.TruncatedMixture(Box(-1.0, 1.0, dim=2), [[0.0, 0.0]])
    x = target.sample(100_000, generator=seeded())
    normal = torch.distributions.Normal(0.0, 1.0)
    density = normal.log_prob(torch.tensor(1.0, dtype=torch.float64)).exp()
    mass = 2 * normal.cdf(torch.tensor(1.0, dtype=torch.float64)) - 1
    assert torch.allclose(x.var(0), (1 - 2 * density / mass).expand(2), rtol=0.02)


def test_synthetic_splits_are_independent_and_seeded() -> None:
    build = lambda seed: data.Synthetic(data.toy2d(), num_train=50, num_eval=40, seed=seed)  # noqa: E731
    module = build(0)
    assert [len(module.points(n)) for n in ("train", "val", "test")] == [50, 40, 40]
    assert not torch.equal(module.points("val"), module.points("test"))
    assert torch.equal(module.points(), build(0).points())
    assert not torch.equal(module.points(), build(1).points())


def test_rejects_nonsense() -> None:
    with pytest.raises(DomainError, match="choose one of 3a"):
        data.dirichlet("4")
    with pytest.raises(DomainError, match="choose one of moons"):
        data.disc("square")
    with pytest.raises(ShapeError, match="means must have shape"):
        targets.TruncatedMixture(Box(0.0, 1.0, dim=2), [[0.0, 0.0, 0.0]])
    with pytest.raises(DomainError, match="positive"):
        targets.DirichletMixture([1.0, -1.0])
    far = targets.TruncatedMixture(Box(0.0, 1.0, dim=2), [[50.0, 50.0]])
    with pytest.raises(ConvergenceError, match="rejection accepts 0"):
        far.sample(1_000_000, generator=seeded())
