"""Euclidean projection onto polytopes against closed forms and other solvers."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, nnls

from mirrorgen import domains as D

F64 = torch.float64


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def random_polytope(m, d, seed=0):
    A = randn(m, d, seed=seed)
    return D.Polytope(A, A @ randn(d, seed=seed + 1) + 1.0)


def test_box_and_simplex_are_the_known_projections():
    box, eye = D.Box([-1.0, 0.0, 2.0], [1.0, 0.5, 7.0]), torch.eye(3, dtype=F64)
    polytope = D.Polytope(torch.cat([eye, -eye]), torch.cat([box.high, -box.low]))
    x = 5 * randn(200, 3)
    assert torch.allclose(polytope.project(x), box.project(x), atol=1e-13)
    simplex = D.Polytope(-torch.eye(6, dtype=F64), torch.zeros(6), torch.ones(1, 6), [1.0])
    x = randn(200, 6)
    assert torch.allclose(simplex.project(x), D.Simplex(6).project(x), atol=1e-13)


@pytest.mark.parametrize(("m", "d", "scale"), [(5, 2, 3.0), (12, 3, 10.0), (40, 10, 3.0), (40, 10, 1e4)])
def test_against_non_negative_least_squares(m, d, scale):
    polytope = random_polytope(m, d)
    x = polytope.center + scale * randn(20, d, seed=2)
    ours = polytope.project(x).numpy()
    A, b = polytope.A.numpy(), polytope.b.numpy()
    # The least-distance problem of Lawson and Hanson: min |u| with -A u >= A x - b, through one NNLS.
    for point, p in zip(x.numpy(), ours, strict=True):
        excess = A @ point - b
        if excess.max() <= 0:
            assert np.array_equal(p, point)
            continue
        system = np.vstack([-A.T, excess / excess.max()])
        solution, _ = nnls(system, np.append(np.zeros(d), 1.0), maxiter=2000)
        residual = system @ solution - np.append(np.zeros(d), 1.0)
        step = -residual[:d] / residual[d] * excess.max()
        assert np.allclose(p, point + step, atol=1e-9 * scale)


def test_against_a_general_solver_with_equalities():
    polytope = D.Polytope(
        -torch.eye(4, dtype=F64), torch.zeros(4), [[1.0, 2.0, 1.0, 1.0], [1.0, 0.0, -1.0, 0.0]], [1.5, 0.1]
    )
    x = randn(8, 4, seed=4)
    constraints = [
        {"type": "eq", "fun": lambda u: polytope.A_eq.numpy() @ u - polytope.b_eq.numpy()},
        {"type": "ineq", "fun": lambda u: polytope.b.numpy() - polytope.A.numpy() @ u},
    ]
    for point, p in zip(x.numpy(), polytope.project(x).numpy(), strict=True):
        start = polytope.center.numpy()
        found = minimize(lambda u, x=point: ((u - x) ** 2).sum(), start, constraints=constraints, tol=1e-14)
        assert np.allclose(p, found.x, atol=2e-6)


def test_optimality_conditions_at_degenerate_vertices():
    polytope = D.Birkhoff(4)  # every vertex lies on more faces than its dimension
    x = 3 * randn(300, 16)
    p = polytope.project(x)
    assert polytope.equality_residual(p).max() < 1.0
    assert p.min() > -1e-13
    # Linear programmes over the vertices, all permutation matrices, are solved exactly by enumeration.
    vertices = torch.stack(
        [torch.eye(4, dtype=F64)[list(order)].flatten() for order in itertools.permutations(range(4))]
    )
    gap = ((x - p) @ vertices.mT).amax(-1) - ((x - p) * p).sum(-1)
    assert gap.max() < 1e-12


def test_duplicate_and_nearly_parallel_faces():
    A = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 1e-5], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=F64)
    polytope = D.Polytope(A, torch.ones(6))
    x = 3 * randn(200, 2)
    p = polytope.project(x)
    assert polytope.slack(p).min() > -1e-12
    u = polytope.sample_uniform(500, generator=torch.Generator().manual_seed(0), dtype=F64)
    assert ((x - p).unsqueeze(1) * (u - p.unsqueeze(1))).sum(-1).max() < 1e-11


def test_projection_is_idempotent_batched_and_keeps_the_dtype():
    polytope = random_polytope(12, 3)
    x = 5 * randn(2, 7, 3)
    p = polytope.project(x)
    assert torch.allclose(polytope.project(p), p, atol=1e-14)
    # Sums of products depend on the batch by their order.
    assert torch.allclose(polytope.project(x[0, 0]), p[0, 0], rtol=0, atol=1e-14)
    assert polytope.project(x.float()).dtype == torch.float32
    assert polytope.project(x[:0]).shape == (0, 7, 3)
    assert torch.allclose(torch.func.vmap(polytope.project)(x), p, rtol=0, atol=1e-14)


def test_derivatives_in_the_point_and_in_the_set():
    A, x = randn(6, 3), 3 * randn(3, 3, seed=7)
    b = torch.ones(6, dtype=F64)
    inputs = [t.requires_grad_() for t in (x, A, b)]
    assert torch.autograd.gradcheck(lambda x, A, b: D.Polytope(A, b).project(x), inputs)
