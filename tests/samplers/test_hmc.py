"""Hamiltonian Monte Carlo in the dual against a literal second implementation and its own invariants."""

import pytest
import torch

from mirrorgen import domains, mirror_maps, samplers, targets
from mirrorgen.errors import DomainError
from mirrorgen.samplers.base import Noise
from mirrorgen.samplers.density import MirroredDensity, score, value_and_score

MAPS = {
    "simplex": lambda: mirror_maps.SimplexEntropy(domains.Simplex(4)),
    "simplex_alr": lambda: mirror_maps.SimplexEntropy(domains.Simplex(4), chart="alr"),
    "box": lambda: mirror_maps.BoxEntropy(domains.Box([-1.0, 0.0, -3.0], [1.0, 5.0, 0.0])),
    "orthant": lambda: mirror_maps.SoftplusDual(domains.Orthant(3)),
    "ball": lambda: mirror_maps.default(domains.Ball(3)),
    "euclidean": lambda: mirror_maps.Quadratic(domains.Euclidean(3), [0.5, 1.0, 2.0]),
    "product": lambda: mirror_maps.default(domains.Product(domains.Box(0.0, 1.0, dim=2), domains.Simplex(3))),
}


def density(x):
    return -0.5 * ((x - 0.3) / 0.7).square().sum(-1) + x[..., 0] * x[..., -1]


def dual_log_density(mirror_map, y):
    """The density of ``y`` written out: the density at the point times the Jacobian of the map, by autograd."""

    def coordinates(w):
        return mirror_map.coordinates(mirror_map.to_primal(w))

    jacobian = torch.func.jacrev(coordinates)(y)
    return density(mirror_map.to_primal(y)) + torch.linalg.slogdet(jacobian)[1]


@pytest.fixture(params=MAPS)
def mirror_map(request):
    return MAPS[request.param]()


def dual_points(mirror_map, n=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, mirror_map.domain.dual_dim, generator=generator, dtype=torch.float64)


def test_mirrored_density_and_score_are_those_of_the_jacobian(mirror_map):
    y = dual_points(mirror_map)
    point = MirroredDensity(density, mirror_map).at(y)
    for i, row in enumerate(y):
        value, gradient = torch.func.grad_and_value(lambda w: dual_log_density(mirror_map, w))(row)[::-1]
        offset = mirror_map.log_coordinate_volume
        torch.testing.assert_close(point.log_mirrored[i], value - offset, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(point.gradient[i], gradient, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(point.log_density, density(point.x))
    also, _ = MirroredDensity(density, mirror_map).score_at(y)
    torch.testing.assert_close(also, point.gradient)


def test_step_equals_a_literal_leapfrog():
    mirror_map = MAPS["box"]()
    scale = torch.tensor([[0.9, 0.0, 0.0], [0.2, 0.7, 0.0], [-0.1, 0.3, 1.1]], dtype=torch.float64)
    kernel = samplers.MirroredHMC(density, mirror_map, 0.3, 4, jitter=0.5, scale=scale)
    y = dual_points(mirror_map, 6)
    state = kernel.init(mirror_map.to_primal(y))
    generator = torch.Generator().manual_seed(1)
    noise = Noise(torch.randn(6, 3, generator=generator, dtype=torch.float64),
                  torch.rand(6, 2, generator=generator, dtype=torch.float64))  # fmt: skip
    new, info = kernel.step(state, noise)
    for i in range(6):
        eps = 0.3 * (1 + 0.5 * (2 * noise.uniform[i, 1] - 1))
        potential = lambda w: -dual_log_density(mirror_map, scale @ w)  # noqa: E731
        w, p = torch.linalg.solve(scale, state.y[i]), noise.normal[i]
        begin = potential(w) + 0.5 * p.square().sum()
        for _ in range(4):
            p = p - 0.5 * eps * torch.func.grad(potential)(w)
            w = w + eps * p
            p = p - 0.5 * eps * torch.func.grad(potential)(w)
        ratio = torch.exp(begin - potential(w) - 0.5 * p.square().sum()).clamp_max(1.0)
        torch.testing.assert_close(info.acceptance[i], ratio, rtol=1e-8, atol=1e-10)
        assert bool(info.accepted[i]) == bool(noise.uniform[i, 0] < ratio)
        expected = scale @ w if info.accepted[i] else state.y[i]
        torch.testing.assert_close(new.y[i], expected, rtol=1e-8, atol=1e-9)


def test_energy_error_is_of_second_order():
    mirror_map = MAPS["simplex"]()
    errors = []
    for eps in (0.1, 0.05):
        kernel = samplers.MirroredHMC(density, mirror_map, eps, round(1 / eps), jitter=0.0)
        state = kernel.init(mirror_map.to_primal(dual_points(mirror_map, 50)))
        noise = Noise(dual_points(mirror_map, 50, seed=3), torch.zeros(50, 2, dtype=torch.float64))
        _, info = kernel.step(state, noise)
        errors.append(info.acceptance.log().abs().max())
    assert 3 < errors[0] / errors[1] < 5


def test_law_does_not_depend_on_the_chart_of_the_simplex():
    target = targets.Dirichlet([0.7, 2.0, 5.0])
    for chart in ("ilr", "alr"):
        kernel = samplers.MirroredHMC(target, mirror_maps.SimplexEntropy(target.domain, chart), 0.5, 4)
        x = target.sample(2000, generator=torch.Generator().manual_seed(0))
        chain = samplers.run(kernel, x, 20, thin=20, generator=torch.Generator().manual_seed(1))
        z = (chain.positions[0].mean(0) - target.mean) / (target.variance / 2000).sqrt()
        assert z.abs().max() < 4.5


def test_sparse_dirichlet_keeps_coordinates_that_float64_can_just_hold():
    # With parameter .02, coordinates below 1e-40 are common; their logarithms have exact moments.
    target = targets.Dirichlet([0.02, 3.0, 3.0])
    kernel = samplers.MirroredHMC(target, mirror_maps.SimplexEntropy(target.domain))
    x = torch.full((400, 3), 1 / 3, dtype=torch.float64)
    chain = samplers.run(kernel, x, 1000, num_warmup=500, generator=torch.Generator().manual_seed(0))
    logs = chain.flatten()[:, 0].log().clamp_min(-600).reshape(1000, 400)
    exact = torch.digamma(torch.tensor(0.02, dtype=torch.float64)) - torch.digamma(torch.tensor(6.02))
    means = logs.mean(0)
    assert (chain.flatten()[:, 0] < 1e-40).double().mean() > 0.1
    assert abs(means.mean() - exact) < 4.5 * means.std() / 400**0.5


def test_known_scores_are_used_and_equal_autograd():
    target = targets.Dirichlet([2.0, 3.0])
    x = target.sample(4, generator=torch.Generator().manual_seed(0))
    plain = lambda points: target.log_density(points)  # noqa: E731
    torch.testing.assert_close(score(plain, x), score(target, x))
    for a, b in zip(value_and_score(plain, x), value_and_score(target, x), strict=True):
        torch.testing.assert_close(a, b)


def test_constant_densities_have_zero_scores():
    assert torch.equal(score(lambda x: torch.zeros_like(x[:, 0]), torch.ones(3, 2)), torch.zeros(3, 2))


def test_failed_inverses_are_never_accepted():
    # The density is constant, so nothing but the point itself says that the step failed.
    domain = domains.Ball(2)
    kernel = samplers.MirroredHMC(lambda x: torch.zeros_like(x[:, 0]), mirror_maps.default(domain), 1e300, 1)
    state = kernel.init(domain.sample_uniform(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    noise = Noise(1e10 * torch.ones(4, 2, dtype=torch.float64), torch.zeros(4, 2, dtype=torch.float64))
    new, info = kernel.step(state, noise)
    assert info.nonfinite.all()
    assert torch.equal(new.x, state.x)


def test_maps_whose_dual_is_not_full_are_refused():
    with pytest.raises(DomainError, match="BurgEntropy"):
        samplers.MirroredHMC(density, mirror_maps.BurgEntropy(domains.Orthant(2)))
    with pytest.raises(DomainError, match="num_steps"):
        samplers.MirroredHMC(density, MAPS["box"](), num_steps=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simplex", "box"])
def test_step_compiles_without_graph_breaks(name):
    mirror_map = MAPS[name]()
    kernel = samplers.MirroredHMC(density, mirror_map, 0.3, 3)
    state = kernel.init(mirror_map.to_primal(dual_points(mirror_map)))
    noise = Noise(dual_points(mirror_map, seed=2), torch.rand(5, 2, dtype=torch.float64))
    expected, _ = kernel.step(state, noise)
    with torch.no_grad():
        compiled, _ = torch.compile(kernel.step, fullgraph=True)(state, noise)
    torch.testing.assert_close(compiled.y, expected.y, rtol=1e-9, atol=1e-9)
