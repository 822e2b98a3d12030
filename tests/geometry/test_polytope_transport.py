"""Transport polytopes, Birkhoff's polytope and intersections."""

import math

import pytest
import torch
from scipy import stats

from mirrorgen import domains as D
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.spec import from_spec, to_spec

F64 = torch.float64


def test_birkhoff_membership():
    birkhoff = D.Birkhoff(3)
    assert (birkhoff.dim, birkhoff.dual_dim) == (9, 4)
    inside = torch.tensor([[0.2, 0.3, 0.5], [0.3, 0.6, 0.1], [0.5, 0.1, 0.4]], dtype=F64)
    assert birkhoff.contains(birkhoff.pack(inside))
    assert birkhoff.contains(birkhoff.pack(inside).float())
    assert torch.equal(birkhoff.unpack(birkhoff.pack(inside)), inside)
    assert not birkhoff.contains(torch.eye(3, dtype=F64).flatten())
    assert "X[0, 1] > 0" in birkhoff.explain(torch.eye(3, dtype=F64).flatten())
    rows_only = torch.tensor([[0.2, 0.3, 0.5], [0.3, 0.6, 0.1], [0.4, 0.2, 0.4]], dtype=F64)
    assert not birkhoff.contains(birkhoff.pack(rows_only))
    assert "equality" in birkhoff.explain(birkhoff.pack(rows_only))
    assert torch.allclose(birkhoff.center, torch.full((9,), 1 / 3, dtype=F64), atol=1e-15)
    assert math.isclose(birkhoff.radius, 0.5, rel_tol=1e-12)  # (1/n) / (1 - 1/n)


def test_uniform_birkhoff_matches_rejection_from_its_free_block():
    # A doubly stochastic 3 by 3 matrix is its upper left 2 by 2 block, an affine image of the chart.
    generator = torch.Generator().manual_seed(0)
    block = torch.rand(400_000, 2, 2, generator=generator, dtype=F64)
    total = block.sum((-1, -2))
    keep = (block.sum(-1) < 1).all(-1) & (block.sum(-2) < 1).all(-1) & (total > 1)
    oracle = block[keep]
    x = D.Birkhoff(3).sample_uniform(10_000, generator=generator, dtype=F64).unflatten(-1, (3, 3))
    for function in (
        lambda m: m[:, 0, 0],
        lambda m: m[:, :2, :2].sum((-1, -2)),
        lambda m: m[:, :2, :2].flatten(1).amax(1),
    ):
        assert stats.ks_2samp(function(x).numpy(), function(oracle).numpy()).pvalue > 1e-3


def test_transport_polytope_keeps_the_sums():
    r, c = [0.5, 1.5], [0.4, 0.9, 0.7]
    polytope = D.TransportPolytope(r, c)
    x = polytope.sample_uniform(100, generator=torch.Generator().manual_seed(0))
    plan = polytope.unpack(x).double()
    assert (plan > 0).all()
    assert torch.allclose(plan.sum(-1), torch.tensor(r, dtype=F64), atol=5e-7)
    assert torch.allclose(plan.sum(-2), torch.tensor(c, dtype=F64), atol=5e-7)
    pull = (1 / polytope.unpack(polytope.center)).double()
    # At the analytic centre 1 / X is a sum of a row and a column potential.
    mixed = pull - pull.mean(-1, keepdim=True) - pull.mean(-2, keepdim=True) + pull.mean()
    assert mixed.abs().max() < 1e-9


def test_tiny_entries_of_a_coupling_survive_pull_inside():
    polytope = D.TransportPolytope([1.0, 1.0], [1.0, 1.0])
    x = torch.tensor([1e-30, 1.0, 1.0, 1e-30])
    pulled, moved = polytope.pull_inside(x)
    assert torch.equal(pulled, x)
    assert not moved
    pulled, moved = polytope.pull_inside(torch.tensor([0.0, 1.0, 1.0, 0.0]))
    assert moved
    assert polytope.contains(pulled)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: D.TransportPolytope([1.0, 1.0], [1.0, 1.5]), DomainError, "same total"),
        (lambda: D.TransportPolytope([1.0, 0.0], [0.5, 0.5]), DomainError, "remove empty rows"),
        (lambda: D.TransportPolytope([1.0], [0.5, 0.5]), ShapeError, "r must be a vector"),
        (lambda: D.Birkhoff(1), ShapeError, "at least 2"),
        (lambda: D.Intersection(D.Box(0.0, 1.0, dim=2), D.Ball(2)), DomainError, "half-spaces"),
        (lambda: D.Intersection(D.Box(0.0, 1.0, dim=2), D.Simplex(3)), ShapeError, "one space"),
        (lambda: D.Intersection(), ShapeError, "one space"),
        (
            lambda: D.Intersection(D.Box(0.0, 1.0, dim=3), D.Halfspace([1.0, 1.0, 1.0], -1.0)),
            DomainError,
            "empty interior",
        ),
    ],
)
def test_bad_data_gets_typed_errors(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_intersection_is_membership_in_every_set():
    box, half = D.Box([-1.0, 0.0], [1.0, 2.0]), D.Halfspace([1.0, 1.0], 1.5)
    both = D.Intersection(box, half)
    x = torch.lerp(
        torch.tensor([-2.0, -1.0]),
        torch.tensor([2.0, 3.0]),
        torch.rand(2000, 2, generator=torch.Generator().manual_seed(0)),
    )
    assert torch.equal(both.contains(x), box.contains(x) & half.contains(x))
    assert both.bounded
    assert not D.Intersection(half, D.Halfspace([1.0, -1.0], 0.0)).bounded


def test_intersection_with_a_simplex_keeps_its_equality():
    capped = D.Intersection(D.Simplex(3), D.Box(0.0, 0.6, dim=3))
    assert capped.dual_dim == 2
    x = D.Simplex(3).sample_uniform(4000, generator=torch.Generator().manual_seed(0), dtype=F64)
    expected = x.amax(-1) < 0.6
    assert torch.equal(capped.contains(x), expected)
    assert 0.2 < expected.double().mean() < 0.8
    y = capped.sample_uniform(4000, generator=torch.Generator().manual_seed(1), dtype=F64)
    assert stats.ks_2samp(y[:, 0].numpy(), x[expected][:, 0].numpy()).pvalue > 1e-3


@pytest.mark.parametrize(
    "build",
    [
        lambda: D.Birkhoff(4),
        lambda: D.TransportPolytope([0.5, 1.5], [0.4, 0.9, 0.7]),
        lambda: D.Intersection(D.Simplex(3), D.Box(0.0, 0.6, dim=3)),
    ],
)
def test_specs_hold_the_constructor_arguments_only(build):
    domain = build()
    spec = to_spec(domain)
    assert "A" not in spec["init_args"]
    again = from_spec(spec)
    assert type(again) is type(domain)
    assert torch.equal(again.center, domain.center)
