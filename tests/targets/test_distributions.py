"""Domains, maps and targets inside ``torch.distributions`` and Pyro."""

import math
import warnings

import pytest
import torch
from torch.distributions import (
    Dirichlet,
    Independent,
    Normal,
    TransformedDistribution,
    Uniform,
    biject_to,
    transform_to,
)

from mirrorgen import domains, mirror_maps, targets
from mirrorgen.errors import DomainError
from mirrorgen.metrics import mcse

TRIANGLE = domains.Polytope(torch.tensor([[-1.0, 0.0], [0.0, -1.0], [1.0, 1.0]]), torch.tensor([0.0, 0.0, 1.0]))
SETS = {
    "box": domains.Box([-1.0, 0.0, 2.0], [1.0, 3.0, 4.0]),
    "simplex": domains.Simplex(4),
    "orthant": domains.Orthant(3),
    "ball": domains.Ball(3),
    "euclidean": domains.Euclidean(2),
    "triangle": TRIANGLE,
    "birkhoff": domains.Birkhoff(3),
    "product": domains.Product(domains.Simplex(3), domains.Box([0.0], [1.0])),
}


@pytest.mark.parametrize("registry", [biject_to, transform_to])
@pytest.mark.parametrize("name", SETS)
def test_every_domain_has_its_bijection(registry, name):
    domain = SETS[name]
    transform = registry(domain.constraint)
    y = torch.randn(5, 2, domain.dual_dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = transform(y)
    assert transform.bijective
    assert x.shape == (5, 2, domain.dim) == tuple(transform.forward_shape(y.shape))
    assert tuple(transform.inv.forward_shape(x.shape)) == y.shape
    assert bool(domain.constraint.check(x).all())
    assert torch.allclose(transform.inv(x), y, atol=1e-7)
    assert torch.equal(transform.inv.inv(y), x)
    assert torch.allclose(transform.log_abs_det_jacobian(y, x), -transform.inv.log_abs_det_jacobian(x, y))
    assert type(transform.mirror_map) is type(mirror_maps.default(domain))


@pytest.mark.parametrize("name", ["box", "triangle", "ball", "orthant"])
def test_log_determinant_is_that_of_autograd(name):
    transform = biject_to(SETS[name].constraint)
    y = torch.randn(SETS[name].dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(transform, y)
    assert float(transform.log_abs_det_jacobian(y, transform(y))) == pytest.approx(
        float(jacobian.det().log()), abs=1e-6
    )


def test_the_cache_keeps_the_exact_dual_point():
    transform = biject_to(domains.Simplex(3).constraint)
    y = torch.tensor([200.0, -3.0])
    assert not torch.equal(transform.inv(transform(y)), y)
    remembering = transform.with_cache(1)
    assert remembering.inv(remembering(y)) is y
    assert remembering.with_cache(1) is remembering
    assert remembering == transform
    assert transform.with_cache(0) is transform


def test_transformed_distribution_is_a_law_on_the_set():
    transform = biject_to(TRIANGLE.constraint)
    # torch.compile switches torch's default for validate_args off, for the whole process: say it here.
    law = TransformedDistribution(Normal(torch.zeros(2, dtype=torch.float64), 1.0), transform, validate_args=True)
    assert (tuple(law.batch_shape), tuple(law.event_shape)) == ((), (2,))
    batch = law.expand((4,))
    assert (tuple(batch.batch_shape), tuple(batch.event_shape)) == ((4,), (2,))
    assert batch.rsample((3,)).shape == (3, 4, 2)
    assert batch.log_prob(batch.sample((3,))).shape == (3, 4)
    assert law.support.domain is TRIANGLE
    # The density integrates to one: midpoints of a fine grid of the triangle.
    n = 400
    ticks = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    grid = torch.cartesian_prod(ticks, ticks)
    inside = grid[grid.sum(-1) < 1 - 1e-9]
    assert float(law.log_prob(inside).exp().sum()) / n**2 == pytest.approx(1, abs=0.01)
    with pytest.raises(ValueError, match="within the support"):
        law.log_prob(torch.tensor([0.9, 0.9], dtype=torch.float64))


def test_independent_and_torch_simplex_agree():
    simplex = domains.Simplex(3)
    torch_law = Dirichlet(torch.tensor([2.0, 3.0, 4.0], dtype=torch.float64))
    ours = targets.TargetDistribution(targets.Dirichlet([2.0, 3.0, 4.0]), validate_args=False)
    x = torch_law.sample((6,))
    gap = ours.log_prob(x) - torch_law.log_prob(x)
    assert torch.allclose(gap, gap[:1].expand(6))
    assert torch.allclose(ours.mean.double(), torch_law.mean)
    assert torch.allclose(ours.variance.double(), torch_law.variance)
    assert Independent(ours.expand((4,)), 1).event_shape == (4, 3)
    assert simplex.constraint.event_dim == 1


@pytest.mark.parametrize("name", ["box", "simplex", "triangle", "birkhoff"])
def test_uniform_on(name):
    domain = SETS[name]
    law = targets.UniformOn(domain, log_volume=0.5, validate_args=False)
    torch.manual_seed(0)
    x = law.sample((20, 2))
    assert x.shape == (20, 2, domain.dim)
    assert x.dtype == torch.float32
    assert bool(domain.contains(x).all())
    assert torch.equal(law.log_prob(x), torch.full((20, 2), -0.5))
    assert torch.equal(law.log_prob(x + 10), torch.full((20, 2), -math.inf))
    assert law.support.domain is domain
    batch = law.expand((2, 3))
    assert isinstance(batch, targets.UniformOn)
    assert batch.sample((4,)).shape == (4, 2, 3, domain.dim)
    assert batch.log_prob(x[0, 0]).shape == (2, 3)
    with pytest.raises(ValueError, match="within the support"):
        targets.UniformOn(domain, validate_args=True).log_prob(x + 10)


def test_uniform_on_a_box_is_torchs():
    box = SETS["box"]
    theirs = Independent(Uniform(box.low.float(), box.high.float()), 1)
    ours = targets.UniformOn(box, log_volume=math.log(12))
    x = theirs.sample((5,))
    assert torch.allclose(ours.log_prob(x), theirs.log_prob(x))
    assert torch.allclose(ours.mean, theirs.mean)
    assert torch.allclose(ours.variance, theirs.variance)


def test_gradients_outside_are_zero_not_nan():
    law = targets.TargetDistribution(targets.Dirichlet([2.0, 3.0]), validate_args=False)
    x = torch.tensor([[1.5, -0.5], [0.25, 0.75]], requires_grad=True)
    density = law.log_prob(x)
    density[1].backward()
    assert bool(torch.isfinite(x.grad).all())
    assert x.grad[1].tolist() == pytest.approx([4.0, 8 / 3])


def test_a_set_without_default_map_is_refused():
    class Strange(domains.Domain):
        dim = 2
        slack = project = reflect = pull_inside = lambda *_: None

        def constraint_name(self, index):
            return ""

        def interior_point(self):
            return torch.zeros(2)

    with pytest.raises(DomainError, match="no default mirror map"):
        biject_to(Strange().constraint)


def posterior_moments():
    """Mean and variance of ``x ~ U(triangle), 0.4 ~ N(x_0 - x_1, 0.2)`` by midpoints, independent of any sampler."""
    n = 1500
    ticks = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    grid = torch.cartesian_prod(ticks, ticks)
    inside = grid[grid.sum(-1) < 1]
    weight = (-0.5 * ((0.4 - inside[:, 0] + inside[:, 1]) / 0.2).square()).exp()
    weight = weight / weight.sum()
    mean = weight @ inside
    return mean, weight @ (inside - mean).square()


@pytest.mark.slow
def test_pyro_samples_a_latent_on_a_polytope():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pyro = pytest.importorskip("pyro")
        from pyro.distributions.torch_distribution import TorchDistributionMixin
        from pyro.infer import MCMC, NUTS

        class Prior(targets.UniformOn, TorchDistributionMixin):
            """``pyro.sample`` takes distributions with this mixin."""

        def model():
            x = pyro.sample("x", Prior(TRIANGLE))
            pyro.sample("data", pyro.distributions.Normal(x[0] - x[1], 0.2), obs=torch.tensor(0.4))

        pyro.set_rng_seed(0)
        mcmc = MCMC(NUTS(model), num_samples=150, warmup_steps=50, disable_progbar=True)
        mcmc.run()
    x = mcmc.get_samples()["x"]
    assert bool(TRIANGLE.contains(x).all())
    mean, variance = posterior_moments()
    error = (x.double().mean(0) - mean) / mcse(x.double()[:, None])
    assert bool((error.abs() < 4.5).all())
    assert torch.allclose(x.double().var(0), variance, rtol=0.5)
