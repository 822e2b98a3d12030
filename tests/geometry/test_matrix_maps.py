"""Spectral functions and the maps of positive definite matrices beyond their contract."""

import itertools
from decimal import Decimal, localcontext

import numpy as np
import pytest
import scipy.linalg
import torch

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.errors import DomainError
from mirrorgen.geometry.spectral import EXP, LOG

F64 = torch.float64
SPECTRA = {
    "simple": [0.3, 1.0, 2.5, 7.0],
    "identity": [1.0, 1.0, 1.0, 1.0],
    "pairs": [0.5, 0.5, 3.0, 3.0],
    "nearly_repeated": [1.0, 1.0 + 1e-9, 1.0 + 1e-5, 1.3],
    "wide": [1e-3, 1e-2, 10.0, 500.0],
}


def rotation(n, seed=0):
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=F64))
    return q


def matrix(name):
    u = rotation(4)
    return u @ torch.diag(torch.tensor(SPECTRA[name], dtype=F64)) @ u.T


def symmetric(seed):
    v = torch.randn(4, 4, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return v + v.T


@pytest.mark.parametrize("name", sorted(SPECTRA))
def test_values_against_scipy(name):
    X = matrix(name)
    assert np.allclose(LOG(X).numpy(), scipy.linalg.logm(X.numpy()), rtol=1e-10, atol=1e-12)
    Y = LOG(X)
    assert np.allclose(EXP(Y).numpy(), scipy.linalg.expm(Y.numpy()), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", sorted(SPECTRA))
def test_first_derivative_against_frechet_derivative(name):
    Y, V = LOG(matrix(name)), symmetric(1)
    _, ours = torch.func.jvp(EXP, (Y,), (V,))
    oracle = scipy.linalg.expm_frechet(Y.numpy(), V.numpy(), compute_expm=False)
    assert np.abs(ours.numpy() - oracle).max() < 1e-12 * np.abs(oracle).max()
    X = EXP(Y)
    _, back = torch.func.jvp(LOG, (X,), (torch.as_tensor(oracle),))
    assert torch.allclose(back, V, atol=1e-10)


@pytest.mark.parametrize("name", sorted(SPECTRA))
def test_second_derivative_against_block_exponential(name):
    """``exp`` of ``[[Y, V, 0], [0, Y, V], [0, 0, Y]]`` holds half the second derivative in its corner."""
    Y, V = LOG(matrix(name)), symmetric(2)
    ours = torch.func.jvp(lambda y: torch.func.jvp(EXP, (y,), (V,))[1], (Y,), (V,))[1]
    zero = torch.zeros_like(Y)
    block = torch.cat([torch.cat(row, -1) for row in ((Y, V, zero), (zero, Y, V), (zero, zero, Y))], 0)
    oracle = 2 * scipy.linalg.expm(block.numpy())[:4, 8:]
    assert np.abs(ours.numpy() - oracle).max() < 1e-11 * np.abs(oracle).max()


EXACT = {
    "exp": (Decimal.exp, Decimal.exp, Decimal.exp),
    "log": (Decimal.ln, lambda t: 1 / t, lambda t: -1 / t**2),
}


@pytest.mark.parametrize(("function", "name"), [(EXP, "exp"), (LOG, "log")])
def test_second_divided_differences_against_sixty_digits(function, name):
    nodes = torch.tensor([0.7, 0.7 + 1e-8, 0.75, 0.9, 1.4, 2.6], dtype=F64)
    ours = function._second_differences(nodes, function.differences(nodes))
    value, slope, curvature = EXACT[name]

    def pair(a, b):
        return slope(a) if a == b else (value(a) - value(b)) / (a - b)

    def triple(a, b, c):
        a, b, c = sorted((a, b, c))
        return curvature(a) / 2 if a == c else (pair(a, b) - pair(b, c)) / (a - c)

    with localcontext() as context:
        context.prec = 60
        points = [Decimal(float(t)) for t in nodes]
        for i, k, j in itertools.product(range(len(points)), repeat=3):
            exact = float(triple(points[i], points[k], points[j]))
            assert abs(float(ours[i, k, j]) - exact) < 2e-14 * abs(exact)


@pytest.mark.parametrize("kind", [M.VonNeumann, M.LogDet])
@pytest.mark.parametrize("name", ["identity", "pairs", "simple"])
def test_gradients_at_repeated_eigenvalues(kind, name):
    mirror_map = kind(D.PSD(4))
    x = mirror_map.domain.pack(matrix(name)).requires_grad_()
    y = mirror_map.to_dual(x).detach().requires_grad_()
    other = 2 * x.detach()
    for function, point in ((mirror_map.to_dual, x), (mirror_map.to_primal, y)):
        assert torch.autograd.gradcheck(function, point)
        assert torch.autograd.gradgradcheck(function, point)
    for function, point in (
        (mirror_map.potential, x),
        (mirror_map.conjugate, y),
        (mirror_map.log_det_jacobian, x),
        (mirror_map.log_det_jacobian_dual, y),
        (lambda p: mirror_map.divergence(p, other), x),
        (lambda q: mirror_map.divergence(other, q), x),
    ):
        assert torch.autograd.gradcheck(function, point)


@pytest.mark.parametrize("kind", [M.VonNeumann, M.LogDet])
def test_divergences_against_their_definitions(kind):
    mirror_map = kind(D.PSD(4))
    P, Q = matrix("simple"), rotation(4, 3) @ matrix("pairs") @ rotation(4, 3).T
    p, q = mirror_map.domain.pack(P), mirror_map.domain.pack(Q)
    if kind is M.LogDet:
        R = P @ torch.linalg.inv(Q)
        expected = R.trace() - torch.linalg.slogdet(R)[1] - 4
    else:
        logs = [torch.as_tensor(scipy.linalg.logm(m.numpy())) for m in (P, Q)]
        expected = (P @ logs[0] - P @ logs[1] - P + Q).trace()
    assert torch.allclose(mirror_map.divergence(p, q), expected, rtol=1e-11)


def test_one_by_one_matrices_are_the_scalar_maps():
    x = torch.tensor([[0.2], [1.0], [30.0]], dtype=F64)
    orthant, cone = D.Orthant(1), D.PSD(1)
    for matrix_map, scalar in ((M.VonNeumann(cone), M.NegEntropy(orthant)), (M.LogDet(cone), M.BurgEntropy(orthant))):
        assert torch.allclose(matrix_map.to_dual(x), scalar.to_dual(x))
        assert torch.allclose(matrix_map.log_det_jacobian(x), scalar.log_det_jacobian(x))
        assert torch.allclose(matrix_map.divergence(x, x.flip(0)), scalar.divergence(x, x.flip(0)))
        assert torch.allclose(matrix_map.hessian(x).dense(), scalar.hessian(x).dense())


@pytest.mark.parametrize("kind", [M.VonNeumann, M.LogDet])
def test_divergence_of_nearly_equal_matrices(kind):
    """Quadratic in the distance down to 1e-6, where the three-term form has no digits left."""
    mirror_map = kind(D.PSD(4))
    q, v = mirror_map.domain.pack(matrix("simple")), mirror_map.domain.pack(symmetric(5))
    half = 0.5 * (v * mirror_map.hessian(q).mv(v)).sum()
    for size in (1e-4, 1e-6):
        assert torch.allclose(mirror_map.divergence(q + size * v, q), size**2 * half, rtol=20 * size)


def test_log_det_of_von_neumann_survives_far_dual_points():
    mirror_map = M.VonNeumann(D.PSD(2))
    y = mirror_map.domain.pack(torch.diag(torch.tensor([-2e3, 1e3], dtype=F64)))
    # F = (1e3 + 2e3) / (e^1e3 - e^-2e3) off the diagonal.
    assert torch.allclose(mirror_map.log_det_jacobian_dual(y), torch.tensor(2e3 - 1e3 + np.log(3e3) - 1e3, dtype=F64))


def test_dual_points_outside_the_negative_cone_are_refused():
    mirror_map = M.LogDet(D.PSD(2))
    good = -mirror_map.domain.interior_point()
    assert mirror_map.dual_contains(torch.stack([good, -good, good * torch.nan])).tolist() == [True, False, False]
    with pytest.raises(DomainError, match="negative definite"):
        mirror_map.to_primal(-good)
