"""The cone of positive definite matrices: vectors, projection and billiard against other sources."""

import numpy as np
import pytest
import torch
from scipy import optimize

from mirrorgen import domains as D

F64 = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def symmetric(n, size, seed=0):
    X = torch.randn(n, size, size, generator=generator(seed), dtype=F64)
    return X + X.mT


def test_vectors_keep_traces_of_products():
    domain = D.PSD(4)
    X, Y = symmetric(5, 4), symmetric(5, 4, seed=1)
    assert torch.allclose(domain.unpack(domain.pack(X)), X, atol=1e-15)
    traces = torch.einsum("bij,bji->b", X, Y)
    assert torch.allclose((domain.pack(X) * domain.pack(Y)).sum(-1), traces, atol=1e-13)
    # Diagonal first, then the upper triangle row by row.
    known = D.PSD(3).pack(torch.tensor([[1.0, 4.0, 5.0], [4.0, 2.0, 6.0], [5.0, 6.0, 3.0]], dtype=F64))
    assert torch.allclose(known, torch.tensor([1, 2, 3, 4 * 2**0.5, 5 * 2**0.5, 6 * 2**0.5], dtype=F64))


def test_projection_clips_eigenvalues():
    X = symmetric(6, 4)
    ours = D.PSD(4).unpack(D.PSD(4).project(D.PSD(4).pack(X)))
    for a, p in zip(X.numpy(), ours.numpy(), strict=True):
        values, vectors = np.linalg.eigh(a)
        assert np.allclose(p, (vectors * values.clip(0)) @ vectors.T, atol=1e-13)


def test_gradients_are_finite_at_equal_eigenvalues():
    domain = D.PSD(3)
    for scale in (1.0, 1e-30, -1.0):
        x = (scale * domain.interior_point()).requires_grad_()
        total = domain.slack(x).sum() + domain.pull_inside(x)[0].sum() + (domain.project(x).sum() if scale > 0 else 0)
        assert torch.isfinite(torch.autograd.grad(total, x)[0]).all()


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e10])
def test_pulled_points_have_a_cholesky_factor_in_their_dtype(dtype, scale):
    domain = D.PSD(5)
    x = (scale * domain.project(domain.pack(symmetric(200, 5)))).to(dtype)
    pulled, moved = domain.pull_inside(x)
    assert moved.all()
    assert domain.contains(pulled).all()
    assert (torch.linalg.cholesky_ex(domain.unpack(pulled))[1] == 0).all()
    assert (pulled - x).norm() < 100 * torch.finfo(dtype).eps * x.norm()
    zero, _ = domain.pull_inside(torch.zeros(domain.dim, dtype=dtype))
    assert domain.contains(zero)


def test_diagonal_paths_are_those_of_the_orthant():
    x = torch.rand(40, 4, generator=generator(), dtype=F64) + 0.01
    step = 5 * torch.randn(40, 4, generator=generator(1), dtype=F64)
    domain = D.PSD(4)
    end = domain.reflect(domain.pack(torch.diag_embed(x)), domain.pack(torch.diag_embed(step)))
    assert torch.allclose(domain.unpack(end), torch.diag_embed(D.Orthant(4).reflect(x, step)), atol=1e-12)


def adjugate(X):
    values, vectors = np.linalg.eigh(X)
    others = [np.prod(np.delete(values, i)) for i in range(len(values))]
    return (vectors * others) @ vectors.T


def path_by_determinants(X, S):
    """One path: the first root of ``det(X + t S)`` by bracketing, reflection at the gradient of the determinant."""
    t, turns = 0.0, 0
    while True:
        size = len(X)
        nodes = np.linspace(-1, 1, size + 1)
        # det(X + t S) is a polynomial of degree n in t; its smallest positive root is the wall.
        determinants = [np.linalg.det(X + s * S) for s in nodes]
        roots = np.roots(np.polyfit(nodes, determinants, size))
        roots = [r.real for r in roots if abs(r.imag) < 1e-9 and r.real > 1e-7]
        first = min(roots, default=np.inf)
        if first >= 1 - t:
            return X + (1 - t) * S, turns
        bracket = (first * (1 - 1e-5), first * (1 + 1e-5))
        first = optimize.brentq(lambda s, X=X, S=S: np.linalg.det(X + s * S), *bracket, xtol=1e-15)
        X, t = X + first * S, t + first
        normal = adjugate(X)
        normal /= np.linalg.norm(normal)
        S = S - 2 * np.sum(normal * S) * normal
        turns += 1


def test_paths_against_roots_of_the_determinant():
    domain = D.PSD(3)
    start = torch.tensor([[1.0, 0.3, 0.0], [0.3, 0.2, 0.05], [0.0, 0.05, 0.1]], dtype=F64)
    most = 0
    for S in 2 * symmetric(40, 3, seed=5):
        oracle, turns = path_by_determinants(start.numpy(), S.numpy())
        end = domain.reflect(domain.pack(start), domain.pack(S))
        assert np.allclose(domain.unpack(end).numpy(), oracle, atol=1e-8)
        most = max(most, turns)
    assert most >= 3


def test_paths_from_the_boundary_and_the_apex_end_inside():
    domain = D.PSD(3)
    x, _ = domain.pull_inside(domain.project(domain.pack(symmetric(300, 3))))
    for scale in (1e-6, 1.0, 1e3):
        step = scale * domain.pack(symmetric(300, 3, seed=2))
        assert domain.contains(domain.reflect(x, step)).all()
    step[0, 0], step[1, 0] = torch.nan, torch.inf
    end = domain.reflect(x, step)
    assert domain.contains(end).tolist() == [False, False] + [True] * 298


def test_paths_rotate_with_the_matrix():
    # Congruence by a rotation is an isometry of the cone, so it commutes with the billiard.
    domain = D.PSD(3)
    Q = torch.linalg.qr(torch.randn(3, 3, generator=generator(), dtype=F64)).Q
    X, S = torch.eye(3, dtype=F64) + 0.1 * symmetric(20, 3), 4 * symmetric(20, 3, seed=1)
    X = X @ X.mT
    end = domain.unpack(domain.reflect(domain.pack(X), domain.pack(S)))
    turned = domain.unpack(domain.reflect(domain.pack(Q @ X @ Q.T), domain.pack(Q @ S @ Q.T)))
    assert torch.allclose(turned, Q @ end @ Q.T, atol=1e-9)
