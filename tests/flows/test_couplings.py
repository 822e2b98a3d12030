"""Couplings against brute force."""

import itertools

import pytest
import torch

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.flows import Independent, OptimalTransport


def batch(n, dim=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, n, dim, generator=generator).unbind(0)


def cost(x_0, x_1):
    return (x_0 - x_1).square().sum().item()


def test_exact_coupling_is_the_cheapest_permutation():
    x_0, x_1 = batch(6)
    best = min(cost(x_0[list(p)], x_1) for p in itertools.permutations(range(6)))
    paired = OptimalTransport()(x_0, x_1)
    assert cost(paired, x_1) == pytest.approx(best, rel=1e-6)
    assert torch.equal(paired.sort(0).values, x_0.sort(0).values)


def test_exact_coupling_costs_what_pot_finds():
    import ot

    x_0, x_1 = batch(64, seed=3)
    plan_cost = ot.emd2([], [], torch.cdist(x_1, x_0).square().double().numpy()) * 64
    assert cost(OptimalTransport()(x_0, x_1), x_1) == pytest.approx(plan_cost, rel=1e-5)


def test_coupling_with_labels_keeps_noise_independent_of_the_class():
    x_0, x_1 = batch(40, seed=1)
    labels = torch.arange(40) % 4
    paired = OptimalTransport()(x_0, x_1, labels)
    for label in range(4):
        rows = labels == label
        assert torch.equal(paired[rows].sort(0).values, x_0[rows].sort(0).values)
        assert cost(paired[rows], x_1[rows]) < cost(x_0[rows], x_1[rows])


def test_sinkhorn_coupling_is_between_exact_and_independent():
    x_0, x_1 = batch(64, seed=5)
    plan = OptimalTransport("sinkhorn", regularization=0.02)
    paired = plan(x_0, x_1, generator=torch.Generator().manual_seed(0))
    assert cost(OptimalTransport()(x_0, x_1), x_1) * 0.999 < cost(paired, x_1) < cost(x_0, x_1)
    assert torch.equal(Independent()(x_0, x_1), x_0)


def test_bad_input():
    x_0, x_1 = batch(4)
    with pytest.raises(DomainError, match="exact"):
        OptimalTransport("emd")
    with pytest.raises(DomainError, match="positive"):
        OptimalTransport("sinkhorn", regularization=0.0)
    with pytest.raises(ShapeError):
        OptimalTransport()(x_0, x_1[:3])
    with pytest.raises(DomainError, match="condition_weight"):
        OptimalTransport()(x_0, x_1, torch.randn(4, 2))


def test_weight_of_real_conditions_runs_from_free_to_fixed_pairings():
    x_0, x_1 = batch(40, seed=2)
    condition = torch.linspace(0, 1, 40).unsqueeze(-1)
    moved = []
    for weight in (1e-6, 1.0, 30.0, 1e6):
        paired = OptimalTransport(condition_weight=weight)(x_0, x_1, condition)
        order = torch.cdist(paired, x_0).argmin(-1)
        moved.append(float((condition[order] - condition).abs().mean()))
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] == 0
    assert torch.equal(OptimalTransport(condition_weight=1e-9)(x_0, x_1, condition), OptimalTransport()(x_0, x_1))
    assert torch.equal(
        OptimalTransport(condition_weight=1.0)(x_0, x_1, condition.squeeze(-1)),
        OptimalTransport(condition_weight=1.0)(x_0, x_1, condition),
    )
    with pytest.raises(DomainError, match="condition_weight"):
        OptimalTransport()(x_0, x_1, condition)
    with pytest.raises(DomainError, match="condition_weight"):
        OptimalTransport(condition_weight=0.0)
