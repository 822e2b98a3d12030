"""Unfolded draws: the same paths as the billiard's, and targets whose mean is the score of the kernel."""

import math

import pytest
import torch

from mirrorgen import domains as D
from mirrorgen.diffusion.heat_kernel.box import BoxHeatKernel
from mirrorgen.diffusion.heat_kernel.ordered import OrderedSimplexHeatKernel, ordered_simplex
from mirrorgen.diffusion.heat_kernel.triangle import EquilateralHeatKernel, RightIsoscelesHeatKernel
from mirrorgen.diffusion.heat_kernel.unbounded import HalfspaceHeatKernel, OrthantHeatKernel
from mirrorgen.diffusion.heat_kernel.unfolded import require_tiling, unfolded_draw
from mirrorgen.errors import DomainError, ShapeError

F32, F64 = torch.float32, torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


CORNER = D.Polytope([[-1.0, 0.0], [0.0, -1.0], [1.0, 1.0]], [0.0, 0.0, 1.0])
PRISM = D.Product(D.Box(0.0, 2.0), D.Simplex(3))
# Walls of the ordered simplex in other coordinates, which are folded one reflection at a time.
TURN = torch.linalg.qr(torch.randn(3, 3, generator=generator(7), dtype=F64)).Q
TURNED = D.Polytope(ordered_simplex(3).A @ TURN, ordered_simplex(3).b)


UNFOLDED = {
    "box": BoxHeatKernel(D.Box([0.0, -1.0], [1.0, 2.0])),
    "orthant": OrthantHeatKernel(D.Orthant(2)),
    "half-space": HalfspaceHeatKernel(D.Halfspace([1.0, 2.0], 0.3)),
    "equilateral": EquilateralHeatKernel(D.Simplex(3)),
    "right isosceles": RightIsoscelesHeatKernel(CORNER),
    "ordered 3": OrderedSimplexHeatKernel(ordered_simplex(3)),
}


@pytest.mark.parametrize("name", UNFOLDED)
def test_unfolded_targets_are_unbiased(name):
    kernel, domain = UNFOLDED[name], UNFOLDED[name].domain
    center = torch.tensor([-0.2, 0.1], dtype=F64) if name == "half-space" else None
    center = torch.full((2,), 0.3, dtype=F64) if name == "orthant" else center
    start = domain.interior_point() if center is None else center
    if domain.bounded:
        start = 0.6 * start + 0.4 * domain.sample_uniform(1, generator=generator(8), dtype=F64)[0]
    x_0 = start.expand(200_000, -1)
    x, target = unfolded_draw(domain, x_0, 0.4, generator=generator(9))
    assert domain.contains(x).all()
    excess = target - kernel.score(x, x_0, 0.4)
    # The targets are noisy, else the test would be one of equality.
    assert excess.std() > 0.05
    for k in range(4):
        tests = (excess.unsqueeze(-1) * torch.cos(k * math.pi * x).unsqueeze(-2)).flatten(1)
        z = tests.mean(0) / (tests.std(0) / math.sqrt(len(tests)))
        assert z.abs().max() < 4


@pytest.mark.parametrize("domain", [D.Simplex(3), CORNER, ordered_simplex(4), TURNED, PRISM, D.Box(0.0, 0.5, dim=3)])
def test_unfolded_draws_are_those_of_the_billiard(domain):
    x_0 = domain.sample_uniform(200, generator=generator(), dtype=F64)
    sigma = torch.logspace(-3, 0.5, 200, dtype=F64)
    x, target = unfolded_draw(domain, x_0, sigma, generator=generator(4))
    noise = torch.randn(200, domain.dual_dim, generator=generator(4), dtype=F64)
    step = domain.from_tangent(sigma.unsqueeze(-1) * noise)
    assert (x - domain.reflect(x_0, step)).abs().max() < 1e-11
    # The folding is an isometry; its derivative, by differences that stay within a tile, is what the target holds.
    moved = -target * sigma.square().unsqueeze(-1)
    assert (moved.norm(dim=-1) - step.norm(dim=-1)).abs().max() < 1e-12
    ahead = domain.reflect(x_0, (1 + 1e-7) * step)
    same_tile = ((ahead - x).norm(dim=-1) / (1e-7 * step.norm(dim=-1)) - 1).abs() < 1e-5
    assert same_tile.float().mean() > 0.98
    assert ((ahead - x) / 1e-7 - moved)[same_tile].abs().max() < 1e-4


def test_unfolded_in_many_dimensions_and_single_precision():
    domain = ordered_simplex(40)
    x_0 = domain.sample_uniform(50, generator=generator())
    x, target = unfolded_draw(domain, x_0, 0.2, generator=generator(1))
    assert x.dtype == target.dtype == F32
    assert domain.contains(x).all()
    x, target = torch.func.vmap(lambda p: unfolded_draw(D.Simplex(3), p, 0.5), randomness="different")(
        D.Simplex(3).sample_uniform(5, generator=generator())
    )
    assert x.shape == target.shape == (5, 3)


def test_which_domains_tile():
    for domain in (
        D.Simplex(2),
        D.Simplex(3),
        CORNER,
        ordered_simplex(5),
        D.Box(0.0, 1.0, dim=3),
        D.Orthant(2),
        TURNED,
    ):
        require_tiling(domain)
    wedge = math.radians(40)
    for domain, angle in (
        (D.Simplex(4), "70.53 degrees"),
        (D.Polytope([[-1.0, 0.0], [0.0, -1.0], [1.0, 2.0]], [0.0, 0.0, 1.0]), "26.57|63.43"),
        (D.Polytope([[0.0, -1.0], [-math.sin(wedge), math.cos(wedge)]], [0.0, 0.0]), "40 degrees"),
        (D.Polytope([[-1.0, 0.0], [0.0, -1.0], [1.0, 1.0], [1.0, 0.0]], [0.0, 0.0, 1.0, 1.0]), "redundant"),
    ):
        with pytest.raises(DomainError, match=angle):
            unfolded_draw(domain, domain.interior_point(), 0.1)
    with pytest.raises(DomainError, match="not described by half-spaces"):
        unfolded_draw(D.Ball(2), torch.zeros(2), 0.1)


def test_bad_arguments():
    with pytest.raises(DomainError, match="starts in the domain"):
        unfolded_draw(CORNER, torch.tensor([0.7, 0.7]), 0.1)
    with pytest.raises(DomainError, match="sigma"):
        unfolded_draw(CORNER, torch.tensor([0.2, 0.2]), 0.0)
    with pytest.raises(ShapeError, match="x_0"):
        unfolded_draw(CORNER, torch.zeros(3), 0.1)
