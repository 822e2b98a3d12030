"""The topology examples: elasticity and gradients against other sources, peers, and the bar of SiMPL on the beam."""

from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from mirrorgen.optim import SiMPL

F64 = torch.float64
FOLDER = Path(__file__).resolve().parents[2] / "examples" / "topology"


@pytest.fixture(autouse=True)
def examples(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


def test_stiffness_is_the_printed_one():
    """The closed form that the well-known short codes print."""
    from elasticity import square_stiffness

    nu = 0.3
    a, b = 1 / 2 - nu / 6, 1 / 8 + nu / 8
    row = np.array([a, b, -1 / 4 - nu / 12, -1 / 8 + 3 * nu / 8, -1 / 4 + nu / 12, -b, nu / 6, 1 / 8 - 3 * nu / 8])
    K = square_stiffness(nu)
    assert np.allclose(K[0] * (1 - nu**2), row, atol=1e-15)
    assert np.allclose(K, K.T, atol=1e-15)
    assert np.sum(np.linalg.eigvalsh(K) < 1e-12) == 3  # Rigid motions.


@pytest.mark.parametrize("shape", [(7, 4), (3, 6)])
def test_patch_under_uniform_tension(shape):
    """Constant strain is exact: ``u = x / E``, ``v = -nu y / E``."""
    from elasticity import Grid, Support

    grid = Grid(*shape)
    fixed = [2 * grid.node(0, j) for j in range(grid.ny + 1)] + [2 * grid.node(0, 0) + 1]
    load = np.zeros((grid.freedoms, 1))
    for j in range(grid.ny):
        for k in (j, j + 1):
            load[2 * grid.node(grid.nx, k)] += 0.5
    moved = Support(grid, fixed).displacements(np.full(grid.nx * grid.ny, 2.0), load)[:, 0]
    for i in range(grid.nx + 1):
        for j in range(grid.ny + 1):
            node = grid.node(i, j)
            assert moved[2 * node : 2 * node + 2] == pytest.approx([i / 2.0, -0.3 * j / 2.0], abs=1e-12)


@pytest.mark.parametrize("kind", ["ConeFilter", "HelmholtzFilter"])
def test_filters_keep_constants_and_have_their_transpose(kind):
    import density_filters
    from elasticity import Grid

    made = getattr(density_filters, kind)(Grid(9, 6), 2.3)
    assert np.allclose(made.apply(np.full(54, 0.7)), 0.7, atol=1e-12)
    spikes = getattr(density_filters, kind)(Grid(9, 6), 0.6).apply(np.eye(54)[20])
    assert spikes.min() >= 0
    assert spikes.max() <= 1
    u, v = np.random.default_rng(0).normal(size=(2, 54))
    assert made.apply(u) @ v == pytest.approx(u @ made.transpose(v), rel=1e-12)


@pytest.mark.parametrize("name", ["mbb", "helmholtz", "inverter", "bridge"])
def test_gradients_are_those_of_finite_differences(name):
    import structures
    from density_filters import HelmholtzFilter

    made = {
        "mbb": lambda: structures.mbb(8, 5, 1.5), "helmholtz": lambda: structures.mbb(8, 5, 1.5, HelmholtzFilter),
        "inverter": lambda: structures.inverter(8, 5, 1.5), "bridge": lambda: structures.bridge(8, 5, 1.5),
    }[name]()  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    design = 0.3 + 0.4 * torch.rand(8, 5, generator=generator, dtype=F64)
    _, gradient = made(design)
    for _ in range(5):
        way = torch.randn(8, 5, generator=generator, dtype=F64)
        slope = (made(design + 1e-5 * way)[0] - made(design - 1e-5 * way)[0]) / 2e-5
        assert float((gradient * way).sum()) == pytest.approx(slope, rel=1e-6)
    if name == "bridge":
        assert (gradient > 0).any()
        assert (gradient < 0).any()


def test_weight_is_carried_by_the_supports():
    """Compliance of a column of height ``H`` under its own weight: ``g^2 H^3 / 3`` for width and modulus one."""
    import structures
    from density_filters import ConeFilter
    from elasticity import Grid, Support

    values = []
    for height in (20, 40):
        grid = Grid(1, height)
        # Held against sideways motion on the left, free to contract; the lower end stands on the ground.
        fixed = [2 * grid.node(0, j) for j in range(height + 1)] + [2 * grid.node(i, 0) + 1 for i in range(2)]
        column = structures.Structure(
            Support(grid, fixed), ConeFilter(grid, 1.0), np.zeros(grid.freedoms), 0.5, gravity=1 / height
        )
        values.append(column(torch.ones(1, height, dtype=F64))[0] / (height / 3))
    assert values[1] == pytest.approx(1, rel=2e-3)
    assert abs(values[1] - 1) < 0.5 * abs(values[0] - 1)


@pytest.mark.parametrize("method", ["optimality_criterion", "moving_asymptotes"])
def test_peers_solve_a_convex_problem(method):
    """``min sum a / x`` with ``sum w x = V``: ``x`` in proportion to ``sqrt(a / w)``."""
    import classical

    generator = torch.Generator().manual_seed(0)
    a, w = 0.5 + torch.rand(2, 30, generator=generator, dtype=F64)
    best = torch.sqrt(a / w)
    best = best * 0.4 * w.sum() / (w * best).sum()
    assert (best < 1).all()
    steps = getattr(classical, method)(
        lambda x: (float((a / x).sum()), -a / x.square()), torch.full((30,), 0.4, dtype=F64), w, 0.4 * float(w.sum())
    )
    *_, (design, value) = islice(steps, 60)
    assert torch.allclose(design, best, rtol=1e-5)
    assert value == pytest.approx(float((a / best).sum()), rel=1e-9)


def test_moving_asymptotes_with_gradients_of_both_signs():
    """A separable quadratic with a minimum at both bounds and in between, by bisection of its multiplier."""
    import classical
    from scipy.optimize import brentq

    target = torch.linspace(-0.5, 1.7, 23, dtype=F64)
    shift = brentq(lambda c: float((target - c).clamp(0, 1).sum()) - 6.0, -2, 2)
    steps = classical.moving_asymptotes(
        lambda x: (float((x - target).square().sum()), 2 * (x - target)),
        torch.full((23,), 0.25, dtype=F64), torch.ones(23, dtype=F64), 6.0,
    )  # fmt: skip
    *_, (design, _) = islice(steps, 150)
    assert torch.allclose(design, (target - shift).clamp(0, 1), atol=1e-4)


def test_beam_of_60_by_20():
    """The bar: at most 25 solves to a compliance of 222, monotone, exact volumes, at most 213 after 200 iterations."""
    import structures

    beam, volumes = structures.mbb(60, 20, 1.5), []
    found = SiMPL(0.5).minimize(
        beam, beam.start(), steps=200, objective_tolerance=0.0,
        callback=lambda step: volumes.append(float(step.design.mean())),
    )  # fmt: skip
    assert found.values[0] == pytest.approx(1007.0221, abs=1e-3)  # As the well-known short codes print.
    assert next(e for e, v in zip(found.evaluations, found.values, strict=True) if v <= 222) <= 25
    assert all(b <= a for a, b in pairwise(found.values))
    assert max(abs(v - 0.5) for v in volumes) <= 1e-10
    assert found.values[200] <= 213
    assert found.evaluations[-1] == beam.solves
