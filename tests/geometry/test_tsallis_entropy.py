"""Tsallis entropies: scalar-root oracle, limits, extreme dual points, derivatives to third order."""

import math

import pytest
import torch
from scipy import optimize

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.errors import DomainError
from mirrorgen.geometry.simplex_chart import from_helmert, to_helmert

F64 = torch.float64


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def bracketed_point(gap, b):
    """The point ``(b (shift + gap))^(-1/b)`` whose entries sum to one."""

    def point(shift):
        return (b * (shift + gap)) ** (-1 / b)

    low, high = 1 / b, (1 + 1e-9) * len(gap) ** b / b
    return point(optimize.brentq(lambda s: point(s).sum() - 1, low, high, xtol=1e-15 * high, rtol=1e-15))


@pytest.mark.parametrize("q", [-2.0, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("scale", [0.1, 10.0, 1e3])
def test_simplex_inverse_against_a_bracketing_root_finder(q, scale):
    mirror_map = M.TsallisEntropy(D.Simplex(6), q=q)
    y = scale * normal(8, 5)
    x = mirror_map.to_primal(y)
    for row, point in zip(from_helmert(y).numpy(), x.numpy(), strict=True):
        expected = bracketed_point(row.max() - row, 1 - q)
        assert abs(point / expected - 1).max() < 1e-11


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 1e4), (F64, 1e8)])
@pytest.mark.parametrize("q", [-1.0, 0.5, 0.95])
def test_many_coordinates_and_large_losses(q, dtype, size):
    mirror_map = M.TsallisEntropy(D.Simplex(1000), q=q)
    for scale in (0.0, 1.0, size):
        y = to_helmert(scale * normal(16, 1000, dtype=dtype))
        x = mirror_map.to_primal(y)
        assert mirror_map.domain.contains(x).all()
        assert (x.double().sum(-1) - 1).abs().max() < 3e-7 if dtype == torch.float32 else 1e-13
        assert torch.isfinite(mirror_map.log_det_jacobian_dual(y)).all()


def test_half_is_the_inverse_square_root():
    mirror_map = M.TsallisEntropy(D.Simplex(4), q=0.5)
    y = 5 * normal(10, 3)
    u, x = from_helmert(y), mirror_map.to_primal(y)
    assert torch.allclose(u - u[:, :1], -2 * (x.rsqrt() - x[:, :1].rsqrt()), rtol=1e-11, atol=1e-11)


def test_limits_are_the_entropies():
    y = normal(10, 3)
    near_one = M.TsallisEntropy(D.Simplex(4), q=1 - 1e-7)
    assert torch.allclose(near_one.to_primal(y), torch.softmax(from_helmert(y), -1), atol=1e-6)
    p, q = torch.softmax(normal(10, 4), -1), torch.softmax(normal(10, 4, seed=1), -1)
    assert torch.allclose(near_one.divergence(p, q), M.SimplexEntropy(D.Simplex(4)).divergence(p, q), rtol=1e-5)
    assert torch.allclose(near_one.to_dual(p), M.SimplexEntropy(D.Simplex(4)).to_dual(p), atol=1e-5)
    burg, near_zero = M.BurgEntropy(D.Orthant(4)), M.TsallisEntropy(D.Orthant(4), q=1e-7)
    assert torch.allclose(near_zero.to_dual(p), burg.to_dual(p), rtol=1e-5)
    assert torch.allclose(near_zero.divergence(p, q), burg.divergence(p, q), rtol=1e-5)


def test_divergence_of_far_points_in_float32():
    p = torch.tensor([[1.0, 1e-30], [1e-12, 1.0], [0.5, 2.0]])
    q = torch.tensor([[1e-10, 1.0], [1.0, 1e-20], [1e-9, 1e9]])
    for index in (-0.5, 0.5, 0.9):
        mirror_map = M.TsallisEntropy(D.Orthant(2), q=index)
        exact = mirror_map.divergence(p.double(), q.double())
        a, b, k = p.double(), q.double(), index
        definition = (a**k - k * a * b ** (k - 1) + (k - 1) * b**k).sum(-1) / (k * (k - 1))
        assert torch.allclose(exact, definition, rtol=1e-9)
        assert torch.allclose(mirror_map.divergence(p, q).double(), exact, rtol=1e-4)


def test_third_derivatives():
    # The derivative of to_primal along v is H^-1 v: differentiate both sides once and twice more.
    mirror_map = M.TsallisEntropy(D.Simplex(4), q=0.5)
    y, v = normal(3), normal(3, seed=1)

    def along(function):
        return lambda t: torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]

    def line(t):
        return mirror_map.domain.to_chart(mirror_map.to_primal(y + t * v))

    def slope(t):
        return mirror_map.hessian(mirror_map.to_primal(y + t * v)).solve(v)

    t = torch.zeros((), dtype=F64)
    assert torch.allclose(along(line)(t), slope(t), rtol=1e-10)
    assert torch.allclose(along(along(line))(t), along(slope)(t), rtol=1e-9)
    assert torch.allclose(along(along(along(line)))(t), along(along(slope))(t), rtol=1e-8)


def test_orthant_dual_domain_and_overflow():
    mirror_map = M.TsallisEntropy(D.Orthant(2), q=0.9)
    with pytest.raises(DomainError, match="negative"):
        mirror_map.to_primal(torch.tensor([-1.0, 0.1]))
    y = torch.tensor([[-1e-6, -1.0]], requires_grad=True)
    x, moved = mirror_map.to_primal_with_moved(y)
    assert moved.all()
    assert x[0, 0] == torch.finfo(torch.float32).max
    assert torch.isfinite(torch.autograd.grad(x.sum(), y)[0]).all()
    assert math.isfinite(mirror_map.log_det_jacobian_dual(y.detach()))


@pytest.mark.parametrize(
    ("q", "reason"), [(1, "SimplexEntropy"), (0, "barrier"), (1.5, "below 1"), (math.nan, "below 1")]
)
def test_index_is_checked(q, reason):
    with pytest.raises(DomainError, match=reason):
        M.TsallisEntropy(D.Simplex(3), q=q)
