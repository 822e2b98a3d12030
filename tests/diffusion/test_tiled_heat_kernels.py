"""Heat kernels of triangles and ordered simplices, and unfolded targets, against literal sums, quadrature and draws."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch

from mirrorgen import domains as D
from mirrorgen.diffusion.heat_kernel.box import BoxHeatKernel
from mirrorgen.diffusion.heat_kernel.ordered import (
    OrderedSimplexHeatKernel,
    is_ordered_simplex,
    ordered_simplex,
    sorted_motion,
)
from mirrorgen.diffusion.heat_kernel.triangle import EquilateralHeatKernel, RightIsoscelesHeatKernel
from mirrorgen.diffusion.heat_kernel.unbounded import HalfspaceHeatKernel, OrthantHeatKernel
from mirrorgen.diffusion.heat_kernel.unfolded import require_tiling, unfolded_draw
from mirrorgen.errors import DomainError, ShapeError

F32, F64 = torch.float32, torch.float64
CORNER = D.Polytope([[-1.0, 0.0], [0.0, -1.0], [1.0, 1.0]], [0.0, 0.0, 1.0])
KERNELS = {
    "equilateral": EquilateralHeatKernel(D.Simplex(3)),
    "right isosceles": RightIsoscelesHeatKernel(CORNER),
    "ordered 2": OrderedSimplexHeatKernel(ordered_simplex(2)),
    "ordered 3": OrderedSimplexHeatKernel(ordered_simplex(3)),
}
PLANAR = ["equilateral", "right isosceles", "ordered 2"]
SIGMAS = [1e-3, 0.01, 0.05, 0.2, 0.5, 0.8, 1.3, 3.0]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pairs(kernel, n, sigma, seed=0):
    """Independent pairs, pairs from the kernel, and the same on walls and at corners."""
    domain = kernel.domain
    x_0 = domain.sample_uniform(n, generator=generator(seed), dtype=F64)
    x = kernel.sample(x_0, sigma, generator=generator(seed + 1))
    far = domain.sample_uniform(n, generator=generator(seed + 2), dtype=F64)
    corners = vertices(domain)
    ends = torch.cat([x, far, corners, on_walls(corners), corners])
    starts = torch.cat([x_0, x_0, x_0[: len(corners)], corners.roll(1, 0), corners.roll(1, 0)])
    return ends, starts


def vertices(domain):
    if isinstance(domain, D.Simplex):
        return torch.eye(3, dtype=F64)
    if domain is CORNER:
        return torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=F64)
    return torch.ones(domain.dim + 1, domain.dim, dtype=F64).tril(-1)


def on_walls(corners):
    """A point inside every wall: the mean of all corners but one, by unequal weights."""
    weights = torch.arange(1.0, len(corners), dtype=F64) / sum(range(1, len(corners)))
    return torch.stack([(weights.unsqueeze(-1) * corners.roll(i, 0)[1:]).sum(0) for i in range(len(corners))])


def quadrature(domain, n):
    """Gauss nodes and weights of a simplex, in the measure of its densities, from the collapsed cube."""
    corners = vertices(domain)
    dim = len(corners) - 1
    node, weight = (torch.from_numpy(v) / 2 for v in np.polynomial.legendre.leggauss(n))
    cube = torch.cartesian_prod(*[node + 0.5] * dim)
    total = torch.cartesian_prod(*[weight] * dim).prod(-1)
    points = corners[0].expand(len(cube), -1)
    for i in range(dim):
        # Towards corner i + 1: sections shrink as the power i of the remaining height.
        t = cube[:, i : i + 1] ** (1 / (i + 1)) if i == 0 else cube[:, i : i + 1]
        points = corners[i + 1] + t * (points - corners[i + 1])
        total = total * t.squeeze(-1) ** i
    edges = (corners[1:] - corners[0])[:, :dim]
    return points, total * torch.linalg.det(edges).abs()


def z_scores(draws):
    """Mean over its standard error, for every column."""
    return (draws.mean(0) / (draws.std(0) / math.sqrt(len(draws)))).abs()


# ---- the equilateral triangle against a double sum over the lattice


def lattice_sum(p, q, sigma, reach):
    """Log-density on Simplex(3) by images of ``q``.

    The coordinates of a point are the gaps of three ordered numbers around a circle of length one. In these numbers
    the group is all permutations and all shifts by integers that add up to zero.
    """
    t, s = ordered_numbers(p), ordered_numbers(q)
    total = mpmath.mpf(0)
    for perm in itertools.permutations(range(3)):
        for a, b in itertools.product(range(-reach, reach + 1), repeat=2):
            image = [s[i] + n for i, n in zip(perm, (a, b, -a - b), strict=True)]
            # One unit of the ordered numbers is sqrt(3) units of the simplex.
            total += mpmath.exp(-3 * mpmath.fsum((u - v) ** 2 for u, v in zip(t, image, strict=True)) / (2 * sigma**2))
    return mpmath.log(total / (2 * mpmath.pi * sigma**2)) + mpmath.log(3) / 2


def ordered_numbers(p):
    """Three numbers of sum zero with gaps ``p_1`` and ``p_2``, of the point nearest to ``p`` whose sum is one."""
    p = [mpmath.mpf(float(v)) for v in p]
    rest = (1 - mpmath.fsum(p)) / 3
    t = [mpmath.mpf(0), -(p[0] + rest), -(p[0] + p[1] + 2 * rest)]
    mean = mpmath.fsum(t) / 3
    return [v - mean for v in t]


def simplex_points(dtype):
    grid = [0.0, 1e-6, 1e-3, 0.01, 0.3, 0.5]
    first = torch.tensor(list(itertools.combinations_with_replacement(grid, 2)), dtype=dtype)
    x = torch.cat([first, 1 - first.sum(-1, keepdim=True)], -1)
    return torch.cat([x, x.roll(1, -1)])


@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 2e-14), (F32, 5e-7)])
def test_equilateral_against_the_lattice(dtype, tolerance):
    x = simplex_points(dtype)
    x_0 = x[torch.randperm(len(x), generator=generator(3))]
    for sigma in (0.003, 0.05, 0.3, 0.9, 1.5, 2.5):
        found = KERNELS["equilateral"].log_prob(x, x_0, sigma)
        assert found.dtype == dtype
        with mpmath.workdps(50):
            spread = mpmath.mpf(float(torch.tensor(sigma, dtype=dtype)))
            exact = [lattice_sum(p, q, spread, 1 if sigma < 0.1 else 3 + int(3 * sigma)) for p, q in zip(x, x_0, strict=True)]
            for value, reference in zip(found.tolist(), exact, strict=True):
                assert abs(value - reference) < tolerance * max(1, abs(reference))
