"""Which kernel a domain gets, and that it is one: normalised on its own uniform points."""

import math

import pytest
import torch

from mirrorgen import diffusion
from mirrorgen.geometry import domains as D

TRIANGLE = [[-1.0, 0.0], [0.0, -1.0], [1.0, 1.0]]
KNOWN = {
    "box": (lambda: D.Box([0.0, -1.0], [1.0, 3.0]), "BoxHeatKernel"),
    "ball": (lambda: D.Ball(3, 2.0), "BallHeatKernel"),
    "equilateral": (lambda: D.Simplex(3), "EquilateralHeatKernel"),
    "right isosceles": (lambda: D.Polytope(TRIANGLE, [0.0, 0.0, 1.0]), "RightIsoscelesHeatKernel"),
    "ordered simplex": (lambda: diffusion.ordered_simplex(3), "OrderedSimplexHeatKernel"),
    "product": (lambda: D.Product(D.Box(0.0, 1.0), D.Simplex(3)), "ProductHeatKernel"),
    "orthant": (lambda: D.Orthant(2), "OrthantHeatKernel"),
    "halfspace": (lambda: D.Halfspace([1.0, 2.0], 1.0), "HalfspaceHeatKernel"),
    "euclidean": (lambda: D.Euclidean(2), "EuclideanHeatKernel"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_domain_gets_its_kernel(name):
    make, kind = KNOWN[name]
    domain = make()
    kernel = diffusion.default_kernel(domain)
    assert type(kernel).__name__ == kind
    if not domain.bounded:
        return
    n, width = 40_000, diffusion.extent(domain)
    x = domain.sample_uniform(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = domain.interior_point()
    ratio = torch.exp(kernel.log_prob(x, start, 0.2 * width) + domain.log_volume())
    assert float((ratio.mean() - 1).abs()) < 4.5 * float(ratio.std()) / math.sqrt(n)


@pytest.mark.parametrize(
    "domain", [D.Simplex(4), D.Birkhoff(3), D.PSD(2), D.Product(D.Box(0.0, 1.0), D.Simplex(4))], ids=repr
)
def test_other_domains_have_none(domain):
    assert diffusion.default_kernel(domain) is None
