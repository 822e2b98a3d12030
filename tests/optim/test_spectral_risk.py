"""Permutahedra, spectra, and learning with spectral risk."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.optim import (
    Prospect,
    cvar_spectrum,
    esrm_spectrum,
    extremile_spectrum,
    permutahedron_projection,
    spectral_weights,
)

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def largest_sum(direction, sigma):
    """``max <direction, p>`` over the permutahedron: sorted against sorted."""
    return (direction.sort(-1).values * sigma).sum(-1)


@pytest.mark.parametrize("geometry", ["euclidean", "kl"])
def test_projections_are_optimal_and_feasible(geometry):
    """``<-gradient, p - q> <= 0`` for all ``p``: the largest is known in closed form. Feasible by majorisation."""
    z, sigma = (
        torch.cat([normal(20, 9), 0.1 * normal(20, 9, seed=4), normal(20, 9).round()]),
        extremile_spectrum(9, 3.0),
    )
    q = permutahedron_projection(z, sigma, geometry)
    downhill = z - q if geometry == "euclidean" else z - q.log()
    assert (largest_sum(downhill, sigma) - (downhill * q).sum(-1)).abs().max() < 1e-12
    assert (q.sum(-1) - sigma.sum()).abs().max() < 1e-12
    tops = q.sort(-1, descending=True).values.cumsum(-1)
    assert (tops <= sigma.flip(-1).cumsum(-1) + 1e-12).all()
    # Some blocks were pooled and some were not.
    assert 0 < ((tops - sigma.flip(-1).cumsum(-1)).abs() > 1e-9).double().mean() < 1


def test_projection_against_a_quadratic_program():
    z, sigma = 0.4 * normal(5, seed=3), torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4], dtype=F64)
    q = permutahedron_projection(z, sigma)
    subsets = np.array([[(k >> i) & 1 for i in range(5)] for k in range(1, 31)], dtype=float)
    caps = np.array([sigma.flip(-1)[: int(row.sum())].sum() for row in subsets])
    solved = minimize(
        lambda x: 0.5 * ((x - z.numpy()) ** 2).sum(),
        np.full(5, 0.2),
        jac=lambda x: x - z.numpy(),
        constraints=[
            {"type": "ineq", "fun": lambda x: caps - subsets @ x, "jac": lambda x: -subsets},
            {"type": "eq", "fun": lambda x: x.sum() - 1, "jac": lambda x: np.ones(5)},
        ],
        method="SLSQP",
        options={"ftol": 1e-20, "maxiter": 500},
    )
    assert np.abs(solved.x - q.numpy()).max() < 1e-9


@pytest.mark.parametrize("geometry", ["euclidean", "kl"])
def test_derivatives_and_extremes(geometry):
    z, sigma = normal(2, 6).requires_grad_(), esrm_spectrum(6, 2.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: permutahedron_projection(a, b, geometry), (z, sigma))
    far = permutahedron_projection(1e3 * z.detach(), sigma.detach(), geometry)
    assert torch.allclose(far.sort(-1).values, sigma.detach().expand(2, -1), atol=1e-9)
    same = permutahedron_projection(torch.full((6,), 700.0, dtype=F64), sigma.detach(), geometry)
    assert torch.allclose(same, torch.full((6,), 1 / 6, dtype=F64), rtol=1e-9)


def test_a_spectrum_with_zeros_is_projected_entropically():
    sigma = cvar_spectrum(8, 0.5)
    q = permutahedron_projection(normal(5, 8), sigma, "kl")
    assert torch.isfinite(q).all()
    assert (q.sum(-1) - 1).abs().max() < 1e-12
    assert (q <= 0.25 + 1e-12).all()


def test_spectra():
    """Weights of one sum, against their meaning."""
    losses = normal(8).sort().values
    assert float((cvar_spectrum(8, 0.75) * losses).sum()) == pytest.approx(float(losses[-2:].mean()))
    program = linprog(-losses.numpy(), A_eq=np.ones((1, 8)), b_eq=[1.0], bounds=[(0, 1 / (8 * 0.3))] * 8)
    assert float((cvar_spectrum(8, 0.7) * losses).sum()) == pytest.approx(-program.fun, rel=1e-9)
    worst_of_two = torch.maximum(losses.unsqueeze(0), losses.unsqueeze(1)).mean()
    assert float((extremile_spectrum(8, 2.0) * losses).sum()) == pytest.approx(float(worst_of_two))
    assert torch.allclose(esrm_spectrum(8, 1e-9), torch.full((8,), 1 / 8, dtype=F64), rtol=1e-6)
    ratios = esrm_spectrum(8, 3.0)
    assert torch.allclose(ratios[1:] / ratios[:-1], torch.full((7,), math.exp(3 / 8), dtype=F64))
    for spectrum in (cvar_spectrum(7, 0.3), extremile_spectrum(7, 2.5), esrm_spectrum(7, 800.0)):
        assert float(spectrum.sum()) == pytest.approx(1)
        assert (spectrum.diff() >= 0).all()


@pytest.mark.parametrize("geometry", ["euclidean", "kl"])
def test_weights_solve_their_problem(geometry):
    losses, sigma, cost, n = normal(6), extremile_spectrum(6, 2.0), 0.7, 6
    q = spectral_weights(losses, sigma, cost, geometry)
    # The gradient of the penalty is that of the definition.
    slope = n * (q - 1 / n) if geometry == "euclidean" else (n * q).log()
    uphill = losses - cost * slope
    assert float(largest_sum(uphill, sigma) - (uphill * q).sum()) == pytest.approx(0, abs=1e-12)


def test_prospect_converges_linearly_to_the_minimum():
    """Least squares with two spectra at once, against Newton-like minimisation of the same function."""
    n, d, cost, decay = 100, 5, 1.0, 0.01
    X = normal(n, d)
    y = X @ normal(d, seed=1) / math.sqrt(d) + 0.5 * normal(n, seed=2)
    sigma = torch.stack([cvar_spectrum(n, 0.5), extremile_spectrum(n, 2.0)])

    def objective(w):
        losses = 0.5 * (w @ X.T - y).square()
        q = spectral_weights(losses.detach(), sigma, cost)
        penalty = cost * n / 2 * (q - 1 / n).square().sum(-1)
        return (q * losses).sum(-1) - penalty + decay / 2 * w.square().sum(-1)

    def flat(v):
        w = torch.tensor(v, dtype=F64).reshape(2, d).requires_grad_()
        value = objective(w).sum()
        (g,) = torch.autograd.grad(value, w)
        return value.item(), g.reshape(-1).numpy()

    solved = minimize(flat, np.zeros(2 * d), jac=True, method="BFGS", options={"gtol": 1e-11, "maxiter": 500})
    best = objective(torch.tensor(solved.x, dtype=F64).reshape(2, d))

    def loss_gradient(w, sample):
        residual = (X[sample] * w).sum(-1) - y[sample]
        return 0.5 * residual.square(), residual.unsqueeze(-1) * X[sample]

    learner = Prospect(loss_gradient, sigma, lr=0.01, shift_cost=cost, weight_decay=decay)
    state = learner.init(torch.zeros(2, d, dtype=F64))
    first = objective(state.w) - best
    samples, gaps = torch.randint(0, n, (20 * n, 2), generator=torch.Generator().manual_seed(5)), []
    for k, sample in enumerate(samples, 1):
        state = learner.step(state, sample)
        if k % (5 * n) == 0:
            gaps.append(objective(state.w) - best)
    assert (first > 0.1).all()
    # Linear once the order of the losses has settled.
    assert all((later < 0.01 * earlier).all() for earlier, later in pairwise(gaps[1:]))
    assert (gaps[3] < 1e-9).all()
    # The running mean is that of its table.
    mean = (state.table_weights.unsqueeze(-1) * state.table).sum(-2)
    assert torch.allclose(state.mean, mean, atol=1e-12)


def test_errors():
    sigma = cvar_spectrum(4, 0.5)
    with pytest.raises(ShapeError, match="last axis"):
        permutahedron_projection(torch.zeros(3), sigma)
    with pytest.raises(DomainError, match="sort"):
        permutahedron_projection(torch.zeros(4), sigma.flip(0))
    with pytest.raises(DomainError, match="geometry"):
        permutahedron_projection(torch.zeros(4), sigma, "l1")
    with pytest.raises(DomainError, match="negative"):
        permutahedron_projection(torch.zeros(4), sigma - 1, "kl")
    with pytest.raises(DomainError, match="shift_cost"):
        spectral_weights(torch.zeros(4), sigma, 0.0)
    for make in (lambda: cvar_spectrum(4, 1.0), lambda: extremile_spectrum(4, 0.5), lambda: esrm_spectrum(4, 0.0)):
        with pytest.raises(DomainError):
            make()
    with pytest.raises(DomainError, match="sample"):
        cvar_spectrum(0, 0.5)
    with pytest.raises(DomainError, match="lr"):
        Prospect(lambda w, i: (w, w), sigma, lr=0.0)
    with pytest.raises(ShapeError, match="loss_gradient"):
        Prospect(lambda w, i: (w, w), sigma, lr=0.1).init(torch.zeros(2))
