"""Maps of Euclidean space and the orthant: closed-form values, limits, extreme points, errors."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.errors import DomainError, ShapeError

F64 = torch.float64
MAX = {dtype: torch.finfo(dtype).max for dtype in (torch.float32, F64)}


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(a, b, rtol=1e-12, atol=0.0):
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype), rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    "make",
    [
        lambda: M.NegEntropy(D.Euclidean(2)),
        lambda: M.BurgEntropy(D.Simplex(3)),
        lambda: M.SoftplusDual(D.Box()),
        lambda: M.Quadratic(D.Orthant(2)),
        lambda: M.PNorm(D.Orthant(2), p=1.5),
        lambda: M.Hypentropy(D.Simplex(3)),
        lambda: M.TsallisEntropy(D.Euclidean(2), q=0.5),
    ],
)
def test_the_wrong_domain_is_named(make):
    with pytest.raises(DomainError, match="lives on"):
        make()


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_neg_entropy_over_and_underflow_is_moved_and_has_zero_derivative(dtype):
    mirror_map = M.NegEntropy(D.Orthant(2))
    y = torch.tensor([[1e4, 0.0], [-1e4, 1.0], [1.0, -1.0]], dtype=dtype, requires_grad=True)
    x, moved = mirror_map.to_primal_with_moved(y)
    assert moved.tolist() == [True, True, False]
    assert x[0, 0] == MAX[dtype]
    assert x[1, 0] == torch.finfo(dtype).tiny
    (gradient,) = torch.autograd.grad(x.sum(), y)
    close(gradient, [[0.0, 1.0], [0.0, math.e], [math.e, 1 / math.e]], rtol=1e-6)
    assert mirror_map.log_det_jacobian_dual(y)[0] == -1e4


def test_neg_entropy_and_burg_divergences():
    p, q = normal(20, 3).exp(), normal(20, 3, seed=1).exp()
    close(M.NegEntropy(D.Orthant(3)).divergence(p, q), special.kl_div(p.numpy(), q.numpy()).sum(-1), rtol=1e-11)
    burg = M.BurgEntropy(D.Orthant(3))
    close(burg.divergence(p, q), (p / q - torch.log(p / q) - 1).sum(-1), rtol=1e-10)
    far = torch.tensor([[1.0, 1e-12, 1e-38]]), torch.tensor([[1e-10, 1.0, 10.0]])
    for mirror_map in (burg, M.NegEntropy(D.Orthant(3))):
        close(mirror_map.divergence(*far).double(), mirror_map.divergence(*(v.double() for v in far)), rtol=1e-5)
    close(burg.divergence(7.0 * p, 7.0 * q), burg.divergence(p, q), rtol=1e-11)


@pytest.mark.parametrize("name", ["box", "simplex"])
def test_bounded_entropies_of_far_points_in_float32(name):
    mirror_map = {"box": M.BoxEntropy(D.Box(dim=2)), "simplex": M.SimplexEntropy(D.Simplex(2))}[name]
    p, q = torch.tensor([1.0 - 1e-6, 1e-6]), torch.tensor([1e-12, 1.0 - 1e-7])
    for pair in ((p, q), (q, p)):
        close(mirror_map.divergence(*pair).double(), mirror_map.divergence(*(v.double() for v in pair)), rtol=1e-5)


def test_burg_dual_domain():
    mirror_map = M.BurgEntropy(D.Orthant(2))
    assert not mirror_map.dual_is_full
    assert mirror_map.dual_contains(torch.tensor([[-1.0, -2.0], [-1.0, 0.0], [-1.0, 2.0]])).tolist() == [
        True,
        False,
        False,
    ]
    with pytest.raises(DomainError, match="negative"):
        mirror_map.to_primal(torch.tensor([-1.0, 0.5]))
    x = torch.full((2,), 1e-25)
    assert mirror_map.log_det_jacobian(x) == mirror_map.log_det_jacobian_dual(mirror_map.to_dual(x))


def softplus_divergence(p, q):
    """Quadrature of (p - s) f''(s) from q to p."""
    value, _ = integrate.quad(lambda s: (p - s) / -math.expm1(-s), q, p, epsabs=0, epsrel=1e-12, limit=400)
    return value


def test_softplus_dual_divergence_against_quadrature():
    mirror_map = M.SoftplusDual(D.Orthant(1))
    values = [1e-4, 0.02, 0.3, 0.999, 1.3, 1.3 + 1e-5, 1.999, 2.3, 7.0, 40.0, 1e3]
    for p in values:
        for q in values:
            point = [torch.tensor([v], dtype=F64) for v in (p, q)]
            close(mirror_map.divergence(*point), softplus_divergence(p, q), rtol=1e-10)
            single = mirror_map.divergence(*(v.float() for v in point))
            close(single.double(), mirror_map.divergence(*(v.float().double() for v in point)), rtol=1e-5)
            assert mirror_map.divergence(*point) >= 0.5 * (p - q) ** 2


def test_softplus_dual_is_linear_far_out_and_exponential_near_zero():
    mirror_map = M.SoftplusDual(D.Orthant(3))
    y = torch.tensor([[-700.0, 0.0, 1e8]], dtype=F64)
    x, moved = mirror_map.to_primal_with_moved(y)
    close(x, [[math.exp(-700), math.log(2.0), 1e8]])
    assert not moved.any()
    close(mirror_map.conjugate(y), [0.5e16])
    close(mirror_map.potential(torch.full((3,), 1e-300, dtype=F64)), 0.0, atol=1e-14)


def hypentropy_divergence(p, q, beta):
    p, q = np.longdouble(p), np.longdouble(q)
    root = np.hypot(p, beta), np.hypot(q, beta)
    return float((p * (np.arcsinh(p / beta) - np.arcsinh(q / beta)) - root[0] + root[1]).sum())


@pytest.mark.parametrize("beta", [1e-3, 0.7, 1e3])
def test_hypentropy_divergence(beta):
    mirror_map = M.Hypentropy(D.Euclidean(1), beta=beta)
    values = [0.0, 1e-3, 0.5, 0.53, 4.0, 300.0]
    for p in [-v for v in values] + values:
        for q in values:
            ours = mirror_map.divergence(torch.tensor([p], dtype=F64), torch.tensor([q], dtype=F64))
            expected = hypentropy_divergence([p], [q], beta)
            # The definition itself cancels, in 64 bits of mantissa.
            close(ours, expected, rtol=1e-10, atol=1e-17 * (abs(p) + abs(q) + beta))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_hypentropy_extremes(dtype):
    mirror_map = M.Hypentropy(D.Euclidean(2), beta=1e-3)
    y = torch.tensor([[1e4, -1e4], [25.0, -25.0], [0.0, 19.0]], dtype=dtype, requires_grad=True)
    x, moved = mirror_map.to_primal_with_moved(y)
    assert moved.tolist() == [True, False, False]
    assert x[0].tolist() == [MAX[dtype], -MAX[dtype]]
    close(x[1:].double(), 1e-3 * torch.sinh(y[1:].double()), rtol=1e-5 if dtype == torch.float32 else 1e-12)
    (gradient,) = torch.autograd.grad(x.sum(), y)
    assert torch.isfinite(gradient).all()
    big = torch.tensor([1e19, -1e19], dtype=dtype)
    assert torch.isfinite(mirror_map.divergence(big, -big))
    close(mirror_map.log_det_jacobian_dual(y)[0], -2e4 - 2 * math.log(0.5e-3), rtol=1e-6)


def test_hypentropy_tends_to_gradient_descent():
    p, q = normal(5, 3), normal(5, 3, seed=1)
    close(1e6 * M.Hypentropy(D.Euclidean(3), beta=1e6).divergence(p, q), 0.5 * (p - q).square().sum(-1), rtol=1e-10)
    with pytest.raises(DomainError, match="beta"):
        M.Hypentropy(D.Euclidean(3), beta=0.0)


def test_quadratic_values_and_errors():
    matrix = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=F64)
    p, q = normal(5, 2), normal(5, 2, seed=1)
    mirror_map = M.Quadratic(D.Euclidean(2), matrix)
    close(mirror_map.to_dual(p), p @ matrix, rtol=1e-14, atol=1e-15)
    close(mirror_map.divergence(p, q), 0.5 * torch.einsum("bi,ij,bj->b", p - q, matrix, p - q))
    close(mirror_map.log_det_jacobian(p), torch.linalg.slogdet(matrix)[1].expand(5))
    close(M.Quadratic(D.Euclidean(2)).divergence(p, q), 0.5 * (p - q).square().sum(-1))
    other = M.Quadratic(D.Euclidean(2), torch.eye(2))
    other.load_state_dict(mirror_map.state_dict())
    close(other.to_primal(p), mirror_map.to_primal(p))
    with pytest.raises(ShapeError, match="matrix must have shape"):
        M.Quadratic(D.Euclidean(3), matrix)
    for bad, reason in (([[1.0, 2.0], [2.0, 1.0]], "positive definite"), ([[1.0, 0.1], [0.0, 1.0]], "symmetric")):
        with pytest.raises(DomainError, match=reason):
            M.Quadratic(D.Euclidean(2), bad)
    for bad in ([1.0, 0.0], [1.0, math.nan]):
        with pytest.raises(DomainError, match="positive"):
            M.Quadratic(D.Euclidean(2), bad)


@pytest.mark.parametrize("p", [1.05, 1.3, 1.9, 2.0])
def test_p_norm_identities(p):
    mirror_map = M.PNorm(D.Euclidean(4), p=p)
    x, z = normal(50, 4), normal(50, 4, seed=1)
    norm = torch.linalg.vector_norm(x, p, -1)
    y = mirror_map.to_dual(x)
    close(mirror_map.potential(x), 0.5 * norm**2)
    close(torch.linalg.vector_norm(y, mirror_map.conjugate_exponent, -1), norm)
    close((x * y).sum(-1), norm**2)
    close(mirror_map.to_dual(-3 * x), -3 * y)
    divergence = mirror_map.divergence(x, z)
    definition = mirror_map.potential(x) + mirror_map.potential(z) - (mirror_map.to_dual(z) * x).sum(-1)
    close(divergence, definition, rtol=1e-11, atol=1e-13)
    # Strong convexity with modulus p - 1 in the p-norm.
    assert (divergence - 0.5 * (p - 1) * torch.linalg.vector_norm(x - z, p, -1) ** 2).min() > -1e-12


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_p_norm_at_zero_coordinates_and_extreme_scales(dtype):
    mirror_map = M.PNorm(D.Euclidean(3), p=1.2)
    points = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, -2.0], [0.0, 0.0, 3.0]], dtype=dtype, requires_grad=True)
    functions = (mirror_map.to_dual, mirror_map.potential, mirror_map.to_primal, mirror_map.conjugate)
    for function in (*functions, mirror_map.log_det_jacobian, mirror_map.log_det_jacobian_dual):
        value = function(points)
        assert torch.isfinite(value).all()
        (gradient,) = torch.autograd.grad(value.sum(), points)
        assert torch.isfinite(gradient).all()
        assert torch.isfinite(torch.func.jvp(function, (points.detach(),), (torch.ones_like(points),))[1]).all()
    close(mirror_map.to_dual(points)[0], [0.0, 0.0, 0.0])
    assert mirror_map.hessian(points).dense().isfinite().all()
    scale = 1e30 if dtype == torch.float32 else 1e200
    x = normal(20, 3, dtype=dtype)
    for factor in (scale, 1 / scale):
        y = mirror_map.to_dual(factor * x)
        close(y / factor, mirror_map.to_dual(x), rtol=2e-5)
        close(mirror_map.to_primal(y) / factor, x, rtol=2e-4, atol=1e-6)


def test_p_norm_divergence_from_and_to_zero_and_across_signs():
    mirror_map = M.PNorm(D.Euclidean(2), p=1.5)
    zero, x = torch.zeros(2, dtype=F64), torch.tensor([0.0, -2.0], dtype=F64)
    close(mirror_map.divergence(zero, x), 2.0)
    close(mirror_map.divergence(x, zero), 2.0)
    assert mirror_map.divergence(zero, zero) == mirror_map.divergence(x, x) == 0
    p = torch.tensor([[1.0, 0.0], [-1.0, 2.0], [3.0, 1e-9]], dtype=F64, requires_grad=True)
    q = torch.tensor([[0.0, 2.0], [1.0, 2.0], [3.0, 0.0]], dtype=F64)
    definition = mirror_map.potential(p) + mirror_map.potential(q) - (mirror_map.to_dual(q) * p).sum(-1)
    close(mirror_map.divergence(p, q), definition, rtol=1e-9, atol=1e-12)
    tiny = torch.tensor([1e-9, 1.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(mirror_map.divergence(tiny, torch.ones(2)), tiny)
    close(gradient, mirror_map.to_dual(tiny.detach()) - mirror_map.to_dual(torch.ones(2)), rtol=1e-4)
    (gradient,) = torch.autograd.grad(mirror_map.divergence(p, q).sum(), p)
    close(gradient, mirror_map.to_dual(p.detach()) - mirror_map.to_dual(q), rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("p", [1.0, 2.5, math.nan])
def test_p_norm_exponent_is_checked(p):
    with pytest.raises(DomainError, match="1 < p <= 2"):
        M.PNorm(D.Euclidean(2), p=p)
