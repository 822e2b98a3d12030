"""Steps backwards in time against the cosine law, where everything has a closed form."""

import math

import pytest
import torch

from mirrorgen import diffusion
from mirrorgen.geometry.domains import Box

from . import oracle

F64 = torch.float64
HIGH, LOW = (torch.tensor(v, dtype=F64) for v in (oracle.HIGH, oracle.LOW))


def flow_error(method, grid, steps):
    """Largest error of the probability-flow map over the interval."""
    x = torch.linspace(0.001, 0.999, 999, dtype=F64).unsqueeze(-1)
    exact = oracle.inverse_cdf(oracle.cdf(x, HIGH), LOW)
    levels = diffusion.sigma_grid(oracle.HIGH, oracle.LOW, steps, grid)
    end = diffusion.reverse(Box(0.0, 1.0), oracle.score, x, levels, method)
    return float((end - exact).abs().max())


# Largest errors for 10, 20, 40, 80 steps, measured beforehand by a program that shares nothing with this one.
REFERENCE = {
    ("heun", "log"): (2.1e-2, 4.0e-3, 9.2e-4, 2.3e-4),
    ("heun", "rho"): (5.9e-3, 1.3e-3, 2.9e-4, 6.9e-5),
    ("euler", "log"): (9.6e-2, 5.7e-2, 3.2e-2, 1.7e-2),
}


@pytest.mark.parametrize(("method", "grid"), REFERENCE)
def test_flow_has_the_errors_and_the_order_it_should(method, grid):
    errors = [flow_error(method, grid, steps) for steps in (10, 20, 40, 80)]
    assert errors == pytest.approx(REFERENCE[method, grid], rel=0.1)
    slope = math.log2(errors[-2] / errors[-1])
    assert slope == pytest.approx(2 if method == "heun" else 1, abs=0.15)


def total_variation(method, steps, n=400_000):
    """Distance of the law of samples from the exact one, by cell probabilities; the statistical part is about 0.003."""
    generator = torch.Generator().manual_seed(5)
    x = oracle.inverse_cdf(torch.rand(n, 1, generator=generator, dtype=F64), HIGH)
    levels = diffusion.sigma_grid(oracle.HIGH, 0.01, steps, "log")
    end = diffusion.reverse(Box(0.0, 1.0), oracle.score, x, levels, method, generator=generator)
    edges = torch.linspace(0, 1, 51, dtype=F64)
    found = torch.histc(end, 50, 0, 1) / n
    return float(0.5 * (found - oracle.cdf(edges, torch.tensor(0.01, dtype=F64)).diff()).abs().sum())


@pytest.mark.parametrize(
    ("boundary", "reference"),
    [("reflect", {25: 0.0417, 50: 0.0218, 100: 0.0111}), ("project", {25: 0.1236, 50: 0.0788, 100: 0.0512})],
)
def test_laws_of_reflected_and_projected_steps(boundary, reference):
    for steps, expected in reference.items():
        found = total_variation(diffusion.EulerMaruyama(boundary), steps)
        assert found == pytest.approx(expected, rel=0.15, abs=0.003)


def test_long_steps_in_a_box_keep_the_digits_of_the_point():
    # Whole periods change nothing, exactly; a point that lost its digits would often land on a wall's neighbour.
    box = Box(-1.0, 1.0, dim=4)
    generator = torch.Generator().manual_seed(5)
    x = box.sample_uniform(1000, generator=generator).float()
    step = torch.randn(1000, 4, generator=generator)
    assert torch.equal(box.reflect(x, torch.full_like(x, 4.0 * 2**20)), box.reflect(x, torch.zeros_like(x)))
    long = 1e6 * step
    exact = box.reflect(x.double(), long.double())
    assert float((box.reflect(x, long) - exact).abs().max()) < 1e-6
