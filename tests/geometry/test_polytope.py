"""Polytopes beyond their contract: centres, degenerate data, errors, float32 membership, derivatives."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import linprog

from mirrorgen import domains as D
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains.centers import chebyshev_center
from mirrorgen.spec import from_spec, to_spec

F64 = torch.float64
SQUARE = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def random_polytope(m, d, seed=0):
    A = randn(m, d, seed=seed)
    return D.Polytope(A, A @ randn(d, seed=seed + 1) + 1.0)


def test_chebyshev_radius_of_known_sets():
    assert math.isclose(D.Polytope(SQUARE, [3.0, 1.0, 0.5, 0.7]).radius, 0.6, rel_tol=1e-12)
    right_triangle = D.Polytope([[-1.0, 0.0], [0.0, -1.0], [4.0, 3.0]], [0.0, 0.0, 12.0])
    assert math.isclose(right_triangle.radius, 1.0, rel_tol=1e-12)
    d = 6
    simplex = D.Polytope(-torch.eye(d, dtype=F64), torch.zeros(d), torch.ones(1, d), [1.0])
    assert math.isclose(simplex.radius, 1 / math.sqrt(d * (d - 1)), rel_tol=1e-12)


def test_interior_point_is_the_analytic_center():
    assert torch.allclose(D.Polytope(SQUARE, [3.0, 1.0, 0.5, 0.7]).center, torch.tensor([1.0, -0.1], dtype=F64))
    # Repeating a face three times moves the minimiser of -3 log x - log(1 - x) to 3/4.
    repeated = D.Polytope([[-1.0], [-2.0], [-5.0], [1.0]], [0.0, 0.0, 0.0, 1.0])
    assert torch.allclose(repeated.center, torch.tensor([0.75], dtype=F64), atol=1e-12)
    polytope = random_polytope(40, 10)
    pull = (polytope.A / polytope.slack(polytope.center).unsqueeze(-1)).sum(0)
    assert pull.abs().max() < 1e-9


def test_inradius_agrees_with_a_plain_linear_program():
    polytope = random_polytope(40, 10, seed=5)
    A, b = polytope.A.numpy(), polytope.b.numpy()
    plain = linprog(np.append(np.zeros(10), -1), np.column_stack([A, np.ones(40)]), b, bounds=[(None, None)] * 11)
    assert math.isclose(polytope.radius, -plain.fun, rel_tol=1e-7)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_row_scale_does_not_matter(scale):
    polytope = random_polytope(12, 3)
    factors = torch.ones(12, dtype=F64)
    factors[::2] = scale
    scaled = D.Polytope(factors.unsqueeze(-1) * polytope.A, factors * polytope.b)
    assert torch.allclose(scaled.A, polytope.A, rtol=1e-14, atol=1e-15)
    assert torch.allclose(scaled.center, polytope.center, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_size_and_place_do_not_matter(scale):
    polytope = random_polytope(12, 3)
    A, b, shift = polytope.A, polytope.b, 7.0 * scale * torch.ones(3, dtype=F64)
    moved = D.Polytope(A, scale * b + A @ shift)
    assert math.isclose(moved.radius, scale * polytope.radius, rel_tol=1e-6)
    assert torch.allclose(moved.center, scale * polytope.center + shift, rtol=1e-9, atol=0)
    assert moved.bounded


@pytest.mark.parametrize("width", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_thin_slabs_work(width, angle):
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=F64)
    slab = D.Polytope(torch.tensor(SQUARE, dtype=F64) @ turn, [0.5 + width, -0.5, 1.0, 1.0])
    assert math.isclose(slab.radius, width / 2, rel_tol=1e-5)
    assert slab.bounded
    x = slab.sample_uniform(2000, generator=torch.Generator().manual_seed(0), dtype=F64)
    assert slab.contains(x).all()
    across, along = (x @ turn.mT).unbind(-1)
    assert stats.kstest((across.numpy() - 0.5) / width, "uniform").pvalue > 1e-3
    assert stats.kstest(along.numpy(), "uniform", (-1, 2)).pvalue > 1e-3
    y = slab.project(slab.center + randn(64, 2))
    assert slab.slack(y).min() > -1e-14
    assert slab.contains(slab.pull_inside(y)[0]).all()


def test_thin_slab_away_from_the_origin_in_float32():
    slab = D.Polytope(SQUARE, [1.0 + 1e-6, -1.0, 1.0, 1.0])
    x = slab.sample_uniform(5000, generator=torch.Generator().manual_seed(0))
    assert x.dtype == torch.float32
    assert slab.contains(x).all()
    assert len(x[:, 0].unique()) >= 4


def test_empty_interiors_name_the_rows_that_contradict():
    for gap in (0.5, 1e-6, 0.0):
        with pytest.raises(
            DomainError, match=r"empty interior.*0\.5 \* row \d \+ 0\.5 \* row \d .*reads 0 < .*A_eq"
        ) as error:
            D.Polytope([[0.0, 0.0], [0.0, 3.0], *SQUARE], [1.0, 9.0, 1.0, -1.0 - gap, 1.0, 1.0])
        # Row 0 of the user's data is dropped, the names still count it.
        assert "row 2" in str(error.value)
        assert "row 3" in str(error.value)


def test_the_certificate_proves_emptiness():
    A, b = randn(30, 4), -0.05 * torch.ones(30, dtype=F64)
    with pytest.raises(DomainError, match="empty interior"):
        D.Polytope(A, b)
    unit = (A / A.norm(dim=-1, keepdim=True)).numpy()
    level = (b / A.norm(dim=-1)).numpy()
    _, radius, u = chebyshev_center(unit, level)
    assert (u >= 0).all()
    assert abs(u.sum() - 1) < 1e-9
    assert np.abs(unit.T @ u).max() < 1e-9
    assert math.isclose(u @ level, radius, rel_tol=1e-7)
    assert radius < 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[0.0, 0.0], [1.0, 0.0]], [0.0, 1.0]), DomainError, "row 0 of A is zero and reads 0 < 0"),
        (([[1.0, math.nan]], [0.0]), DomainError, "row 0 of A, b is not finite"),
        (([[1.0, 0.0]], [math.inf]), DomainError, "not finite"),
        (([[1.0, 0.0]], [1.0, 2.0]), ShapeError, r"A must have shape \(m, dim\)"),
        (([[0.0, 0.0]], [1.0]), DomainError, "use Euclidean"),
        ((SQUARE, [1.0] * 4, [[1.0, 1.0]]), ShapeError, "together"),
        ((SQUARE, [1.0] * 4, [[1.0, 1.0, 1.0]], [0.0]), ShapeError, "as many columns"),
        (
            (SQUARE, [1.0] * 4, [[1.0, 1.0], [2.0, 2.0]], [0.0, 1.0]),
            DomainError,
            "contradict each other: row . of A_eq",
        ),
        ((SQUARE, [1.0] * 4, [[1.0, 1.0], [1.0, -1.0]], [0.0, 0.0]), DomainError, "single point"),
        ((SQUARE, [1.0] * 4, [[0.0, 0.0]], [1.0]), DomainError, "row 0 of A_eq is zero"),
        ((SQUARE, [1.0] * 4, [[1.0, 0.0]], [1.0]), DomainError, "inequality 0 is constant"),
        ((SQUARE, [1.0] * 4, [[1.0, 1.0]], [5.0]), DomainError, "on the affine hull of the equalities"),
    ],
)
def test_bad_data_gets_typed_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        D.Polytope(*arguments)


def test_unbounded_sets_name_a_direction():
    wedge = D.Polytope([[-1.0, 0.0], [1.0, -1.0]], [0.0, 1.0])
    assert not wedge.bounded
    with pytest.raises(DomainError, match=r"unbounded along \[") as error:
        wedge.sample_uniform(3)
    direction = torch.tensor([float(v) for v in str(error.value).split("along [")[1].split("]")[0].split(",")])
    assert (wedge.A @ direction.double()).max() < 1e-3
    strip = D.Polytope([[1.0, 0.0], [-1.0, 0.0]], [1.0, 1.0])
    assert not strip.bounded
    half = D.Polytope(-torch.eye(3), torch.zeros(3), [[1.0, -1.0, 0.0]], [0.0])
    assert not half.bounded
    # A wedge of opening 1e-4, closed far away, is bounded.
    assert D.Polytope([[-1.0, 0.0], [-1e-4, 1.0], [-1e-4, -1.0], [1.0, 0.0]], [0.0, 1.0, 1.0, 1e6]).bounded


def test_redundant_equalities_and_constant_inequalities_are_reduced():
    polytope = D.Polytope(
        [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 1.0, 1.0]],
        [0.0, 0.0, 0.0, 2.0],
        [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [0.0, 0.0, 0.0]],
        [1.0, 2.0, 0.0],
    )
    assert polytope.dual_dim == 2
    assert len(polytope.A) == 3
    assert torch.allclose(polytope.center, torch.full((3,), 1 / 3, dtype=F64))
    off = polytope.center + 1e-3
    assert not polytope.contains(off)
    assert "equality" in polytope.explain(off)
    assert polytope.contains(polytope.center.float())
    with pytest.raises(DomainError, match="equality"):
        polytope.check(off)


def test_equalities_that_say_nothing_are_dropped():
    polytope = D.Polytope(SQUARE, [1.0] * 4, [[0.0, 0.0]], [0.0])
    assert polytope.A_eq is None
    assert polytope.dual_dim == 2
    assert polytope.contains(polytope.center)


def test_float32_membership_is_decided_for_the_point_itself():
    polytope = D.Polytope([[1.0, 1.0, 1.0], *(-torch.eye(3)).tolist()], [1.0, 0.0, 0.0, 0.0])
    x = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0))
    x = (x / x.double().sum(-1, keepdim=True)).float()
    row = [Fraction(float(a)) for a in polytope.A[0]]
    level = Fraction(float(polytope.b[0]))
    exact = [float(level - sum(a * Fraction(float(v)) for a, v in zip(row, point, strict=True))) for point in x]
    exact = torch.tensor(exact, dtype=F64)
    clear = exact.abs() > 1e-15
    assert clear.sum() > 1000
    assert torch.equal(polytope.contains(x)[clear], (exact > 0)[clear])
    # The plain float32 sum gets some of these wrong, or the test would show nothing.
    naive = polytope.b[0].float() - x @ polytope.A[0].float()
    assert ((naive > 0) != (exact > 0))[clear].any()


def test_pulled_float32_points_are_inside_in_any_summation_order():
    polytope = random_polytope(40, 10)
    generator = torch.Generator().manual_seed(3)
    far = polytope.center + 30 * torch.randn(4_000, 10, generator=generator, dtype=F64)
    boundary = polytope.project(far).float().repeat(25, 1)
    boundary = boundary * (1 + 1e-7 * torch.randn(100_000, 10, generator=generator))
    x, moved = polytope.pull_inside(boundary)
    assert moved.any()
    assert polytope.contains(x).all()
    A, b = polytope.A.float(), polytope.b.float()
    assert (b - x @ A.mT > 0).all()
    assert (b - (x.flip(-1).unsqueeze(1) * A.flip(-1)).cumsum(-1)[..., -1] > 0).all()
    assert (x - boundary).abs().max() < 1e-4
    again, moved = polytope.pull_inside(x)
    assert torch.equal(again, x)
    assert not moved.any()


def test_halfspaces_and_slack_are_differentiable_in_the_data():
    A, b = randn(4, 3).requires_grad_(), (2 + randn(4, seed=1).abs()).requires_grad_()
    assert torch.autograd.gradcheck(lambda A, b: D.Polytope(A, b).halfspaces(), (A, b))
    unit = (A / A.norm(dim=-1, keepdim=True)).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda A, b: D.Polytope(A, b).halfspaces(), (unit, b))
    x = 0.1 * randn(4, 3)
    assert torch.autograd.gradcheck(lambda A, b: D.Polytope(A, b).slack(x), (A, b))
    plane = torch.tensor([[1.0, 2.0, -1.0]], dtype=F64)
    assert torch.autograd.gradcheck(lambda A, b: D.Polytope(A, b, plane, [0.3]).halfspaces(), (A, b))


def test_slack_columns_are_the_halfspaces_of_the_chart():
    polytope = D.Polytope(randn(16, 4), 2 + randn(16, seed=1).abs(), [[1.0, 2.0, -1.0, 0.5]], [0.3])
    A, b = polytope.halfspaces()
    x = polytope.sample_uniform(16, generator=torch.Generator().manual_seed(0), dtype=F64)
    in_chart = b - polytope.to_chart(x) @ A.mT
    ratio = in_chart / polytope.slack(x)
    # Both measure the same faces: in the chart the distance within the affine hull, which is at least as long.
    assert torch.allclose(ratio, ratio[:1].expand_as(ratio), rtol=1e-9)
    assert (ratio >= 1 - 1e-12).all()


def test_spec_keeps_the_digits_of_unit_rows():
    polytope = random_polytope(40, 10)
    again = from_spec(to_spec(polytope))
    assert torch.equal(again.A, polytope.A)
    assert torch.equal(again.b, polytope.b)
    assert torch.equal(again.center, polytope.center)
