"""Helmert's chart against its matrix, and the tangent-diagonal Hessian against dense linear algebra."""

import pytest
import scipy.linalg
import torch

from mirrorgen.geometry.hessian import TangentDiagonalHessian
from mirrorgen.geometry.simplex_chart import from_helmert, to_helmert

F64 = torch.float64


def helmert(k):
    """SciPy's matrix as ``V (k, k-1)``."""
    return torch.as_tensor(scipy.linalg.helmert(k)).T


def randn(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("k", [2, 3, 7, 100])
def test_products_agree_with_the_matrix(k):
    v, z, V = randn(5, k), randn(5, k - 1), helmert(k)
    assert (to_helmert(v) - v @ V).abs().max() < 1e-14
    assert (from_helmert(z) - z @ V.T).abs().max() < 1e-14


@pytest.mark.parametrize("k", [2, 5, 1000, 100_000])
def test_chart_is_orthonormal_and_ignores_offsets(k):
    z = randn(k - 1)
    x = from_helmert(z)
    assert x.sum().abs() < 1e-12 * k**0.5
    assert (to_helmert(x) - z).abs().max() < 1e-14 * max(1.0, k**0.5 / 10)
    assert torch.allclose(x.norm(), z.norm(), rtol=1e-13)
    assert (to_helmert(x + 3.0) - z).abs().max() < 1e-14 * max(2.0, k**0.5)


def test_small_entries_keep_relative_accuracy():
    z = to_helmert(torch.tensor([1e-200, 3e-200, 0.25, 0.75], dtype=F64))
    assert torch.allclose(z[0], torch.tensor(-2e-200 / 2**0.5, dtype=F64), rtol=1e-15, atol=0)


@pytest.mark.parametrize("k", [2, 3, 8])
@pytest.mark.parametrize("spread", [0.0, 1.0, 6.0])
def test_tangent_hessian_against_dense_algebra(k, spread):
    h = torch.exp(spread * randn(4, k))
    V, eye = helmert(k), torch.eye(k - 1, dtype=F64).unsqueeze(1).expand(-1, 4, -1)
    oracle = V.T @ torch.diag_embed(h) @ V
    operator = TangentDiagonalHessian(h)
    scale = h.amax(-1)[:, None, None]
    assert ((operator.dense() - oracle).abs() / scale).max() < 1e-14
    columns = {
        name: torch.stack([getattr(operator, name)(e) for e in eye], -1)
        for name in ("mv", "solve", "sqrt_mv", "inv_sqrt_mv")
    }
    assert ((columns["mv"] - oracle).abs() / scale).max() < 1e-14
    root, inverse_root = columns["sqrt_mv"], columns["inv_sqrt_mv"]
    assert ((root @ root.mT - oracle).abs() / scale).max() < 1e-13
    # Factor and solve agree without a condition number; a general inverse is only as good as its own.
    covariance = inverse_root @ inverse_root.mT
    assert ((columns["solve"] - covariance).abs() * h.amin(-1)[:, None, None]).max() < 1e-13
    inverse = torch.linalg.inv(oracle)
    bound = 1e-14 * torch.linalg.cond(oracle) * inverse.abs().amax((-2, -1))
    assert ((columns["solve"] - inverse).abs().amax((-2, -1)) / bound).max() < 1
    # Cauchy-Binet: the determinant is the mean over i of the product of all h but h_i.
    products = torch.stack([torch.cat([h[:, :i], h[:, i + 1 :]], -1).prod(-1) for i in range(k)])
    assert torch.allclose(operator.logdet(), products.mean(0).log(), rtol=1e-13, atol=1e-13)
