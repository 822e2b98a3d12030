"""Dual HMC on polytopes: exact moments, reversibility, and a scale that knows the shape of the set."""

import pytest
import torch

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen import samplers as S
from mirrorgen import targets as T
from mirrorgen.metrics.ess import effective_sample_size
from mirrorgen.samplers.density import MirroredDensity
from mirrorgen.samplers.scale import initial_scale
from tests.contracts.cases import random_polytope

F64 = torch.float64


def uniform_start(domain: D.Domain, n: int) -> torch.Tensor:
    return domain.sample_uniform(n, generator=torch.Generator().manual_seed(0), dtype=F64)


# An entry t of the uniform law on 3 x 3 doubly stochastic matrices has density 8 (u^2 - 5 u^3 / 6), u = 1 - t: with
# the two neighbours a, b in [0, u], the entry across ranges over an interval of length 1 - max(a, b) - (u - a - b)_+.
# For 4 x 4 matrices the value is one of long billiard walks, good to four digits.
@pytest.mark.parametrize(("n", "variance", "digits"), [(3, 2 / 45, 0.0), (4, 0.02964, 1e-5)])
def test_moments_of_uniform_doubly_stochastic_matrices(n, variance, digits):
    domain = D.Birkhoff(n)
    mirror_map = M.SlackEntropy(domain)
    kernel = S.MirroredHMC(T.Uniform(domain), mirror_map, 0.6, 4, scale=initial_scale(mirror_map))
    chain = S.run(kernel, uniform_start(domain, 128), 120, generator=torch.Generator().manual_seed(1))
    assert float(chain.stats["acceptance"].mean()) > 0.6
    assert float(chain.stats["nonfinite"].sum()) == 0
    for values, truth, slack in ((chain.positions, 1 / n, 0.0), ((chain.positions - 1 / n).square(), variance, digits)):
        error = values.flatten(0, 1).std(0) / effective_sample_size(values, "mean").sqrt()
        gap = (values.flatten(0, 1).mean(0) - truth).abs() - slack
        assert float((gap / error).max()) < 4.5


@pytest.mark.parametrize("domain", [D.Birkhoff(4), random_polytope()], ids=["equalities", "rows"])
def test_leapfrog_returns(domain):
    mirror_map = M.SlackEntropy(domain)
    density = MirroredDensity(T.Uniform(domain), mirror_map)
    first = mirror_map.to_dual(uniform_start(domain, 16))
    p = torch.randn(first.shape, generator=torch.Generator().manual_seed(3), dtype=F64)
    with torch.no_grad():
        gradient, start = density.score_at(first)
        y, eps = first, 0.3
        for leg in (1, -1):
            p = leg * p
            for _ in range(12):
                p = p + 0.5 * eps * gradient
                y = y + eps * p
                gradient, start = density.score_at(y, start)
                p = p + 0.5 * eps * gradient
    assert float((y - first).abs().max()) < 1e-9


@pytest.mark.parametrize("stretch", [1.0, 1e4])
def test_the_first_scale_fits_thin_sets(stretch):
    # Three sheared coordinates, one of them stretched: without a scale the step would have to fit the thinnest.
    shear = torch.tensor([[1.0, 0.0, 0.0], [0.7, stretch, 0.0], [-0.4, 0.2 * stretch, 1.0]], dtype=F64)
    box = D.Box(-1.0, 1.0, dim=3)
    rows, bounds = box.halfspaces()
    domain = D.Polytope(rows @ torch.linalg.inv(shear), bounds)
    mirror_map = M.SlackEntropy(domain)
    x = uniform_start(box, 64) @ shear.mT
    kernel = S.MirroredHMC(T.Uniform(domain), mirror_map, 0.6, 4, scale=initial_scale(mirror_map))
    chain = S.run(kernel, x, 60, generator=torch.Generator().manual_seed(1))
    assert float(chain.stats["acceptance"].mean()) > 0.7
    back = chain.positions @ torch.linalg.inv(shear).mT
    error = back.square().flatten(0, 1).std(0) / effective_sample_size(back.square(), "mean").sqrt()
    assert float(((back.square().flatten(0, 1).mean(0) - 1 / 3) / error).abs().max()) < 4.5


@pytest.mark.parametrize(
    "mirror_map", [M.HellingerBall(D.Ball(3)), M.Quadratic(D.Euclidean(3)), M.NegEntropy(D.Orthant(2))]
)
def test_first_scale_without_a_bounded_polytope(mirror_map):
    scale = initial_scale(mirror_map)
    assert scale.shape == (mirror_map.domain.dual_dim,) * 2
    assert bool(torch.isfinite(scale).all())
