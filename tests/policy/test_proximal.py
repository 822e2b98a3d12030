"""The proximal step against a general solver, its limits, derivatives and bad input."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.divergences import tsallis_bregman
from mirrorgen.policy import geometric_mixture, mirror_prox_step, optimistic_gradient, proximal_step

F64 = torch.float64
INDICES = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0]


def policies(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64).log_softmax(-1)


def solve(prior: Tensor, g: Tensor, eta: float, rho: Tensor, alpha: float, q: float) -> np.ndarray:
    """The step by a general solver for constrained problems."""

    def loss(p: np.ndarray) -> float:
        log_p = torch.from_numpy(np.maximum(p, 1e-300)).log()
        cost = tsallis_bregman(log_p, prior, q) + eta * alpha * tsallis_bregman(log_p, rho, q)
        return float(cost - eta * (torch.from_numpy(p) * g).sum())

    found = minimize(
        loss, np.full(len(g), 1 / len(g)), bounds=[(1e-12, 1)] * len(g), method="SLSQP",
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1}, options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    return found.x


@pytest.mark.parametrize("q", INDICES)
@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_agrees_with_a_general_solver(q, alpha):
    prior, rho, g = policies(4, 5), policies(4, 5, seed=1), policies(4, 5, seed=2)
    step = proximal_step(prior, g, step_size=0.4, magnet=rho, magnet_weight=alpha, q=q).exp()
    for i in range(4):
        assert np.allclose(step[i], solve(prior[i], g[i], 0.4, rho[i], alpha, q), atol=3e-5)
    assert torch.allclose(step.sum(-1), torch.ones(4, dtype=F64), atol=1e-14)


@pytest.mark.parametrize("q", [0.5, 1.5, 2.0])
def test_optimality_conditions(q):
    # The slope of the objective is one number on the support, and not above it elsewhere.
    prior, g = policies(50, 8), 3 * torch.randn(50, 8, generator=torch.Generator().manual_seed(3), dtype=F64)
    p = proximal_step(prior, g, step_size=1.3, q=q).exp()
    slope = 1.3 * g - (p.pow(q - 1) - prior.exp().pow(q - 1)) / (q - 1)
    live = p > 0
    level = torch.where(live, slope, 0.0).sum(-1, keepdim=True) / live.sum(-1, keepdim=True)
    assert float(torch.where(live, slope - level, 0.0).abs().max()) < 1e-9
    assert float(torch.where(live, -1.0, slope - level).max()) < 1e-9
    assert (q > 1) == bool((~live).any())


def test_euclidean_step_is_the_sorted_projection():
    prior, g = policies(30, 6), 2 * policies(30, 6, seed=1)
    y = prior.exp() + 0.5 * g
    ordered = y.sort(-1, descending=True).values
    count = torch.arange(1, 7, dtype=F64)
    shift = (ordered.cumsum(-1) - 1) / count
    last = (ordered > shift).sum(-1, keepdim=True) - 1
    expected = (y - shift.gather(-1, last)).clamp_min(0.0)
    assert torch.allclose(proximal_step(prior, g, step_size=0.5, q=2.0).exp(), expected, atol=1e-12)


def test_entropic_limits():
    prior, g, rho = policies(3, 4), policies(3, 4, seed=1), policies(3, 4, seed=2)
    near = proximal_step(prior, g, step_size=0.8, magnet=rho, magnet_weight=0.3, q=1 + 1e-7)
    exact = proximal_step(prior, g, step_size=0.8, magnet=rho, magnet_weight=0.3)
    assert torch.allclose(near, exact, atol=1e-5)
    assert torch.allclose(proximal_step(prior, g, step_size=0.0, magnet=rho, magnet_weight=2.0), prior)
    forgotten = proximal_step(prior, g, step_size=torch.inf, magnet=rho, magnet_weight=0.5)
    assert torch.allclose(forgotten, (rho + 2 * g).log_softmax(-1))
    large = proximal_step(prior, g, step_size=1e300, magnet=rho, magnet_weight=0.5)
    assert torch.allclose(large, forgotten)
    bonus = proximal_step(prior, g, step_size=1.0, magnet_weight=1.0)
    assert torch.allclose(bonus, ((prior + g) / 2).log_softmax(-1))


@pytest.mark.parametrize("q", INDICES)
def test_masks_rows_and_dtypes(q):
    prior, g = policies(6, 4).float(), policies(6, 4, seed=1).float()
    mask = torch.ones(6, 4, dtype=torch.bool)
    mask[:, 2] = False
    g[:, 2] = torch.nan
    steps = torch.linspace(0, 2, 6)
    result = proximal_step(prior, g, step_size=steps, magnet_weight=0.1 * steps, mask=mask, q=q)
    assert result.dtype == torch.float32
    assert bool((result[:, 2] == -torch.inf).all())
    assert torch.allclose(result.exp().sum(-1), torch.ones(6))
    for i in range(6):
        kept = [0, 1, 3]
        row = proximal_step(
            prior[i, kept], g[i, kept], step_size=float(steps[i]), magnet_weight=0.1 * float(steps[i]), q=q
        )
        if q == 1:
            assert torch.allclose(result[i, kept], row, atol=1e-5)
        else:
            # A prior with mass on a masked action is another prior for the other potentials.
            assert torch.isfinite(row.exp()).all()


@pytest.mark.parametrize("q", INDICES)
def test_derivatives(q):
    prior, g, rho = (policies(2, 4, seed=s).requires_grad_() for s in range(3))
    eta = torch.tensor([0.3, 0.5], dtype=F64, requires_grad=True)

    def step(prior: Tensor, g: Tensor, rho: Tensor, eta: Tensor) -> Tensor:
        logs = proximal_step(prior.log_softmax(-1), g, step_size=eta, magnet=rho, magnet_weight=0.4, q=q)
        return logs.exp()

    assert torch.autograd.gradcheck(step, (prior, g, rho, eta), atol=1e-6)


def test_zero_mass():
    prior = torch.tensor([0.5, 0.5, 0.0], dtype=F64).log()
    g = torch.tensor([0.0, 0.0, 3.0], dtype=F64)
    assert float(proximal_step(prior, g, step_size=1.0)[2]) == -torch.inf
    assert float(proximal_step(prior, g, step_size=1.0, q=0.5)[2]) == -torch.inf
    assert float(proximal_step(prior, g, step_size=1.0, q=2.0)[2]) == 0.0


def test_extreme_values():
    prior = torch.tensor([[0.0, -800.0, -1e4], [-5.0, 0.0, 1.0]], dtype=F64).log_softmax(-1)
    g = torch.tensor([[0.0, 1e5, -1e5], [1e-300, 0.0, 1e4]], dtype=F64)
    for q in INDICES:
        result = proximal_step(prior, g, step_size=1.0, q=q)
        assert not bool(torch.isnan(result).any())
        assert torch.allclose(result.exp().sum(-1), torch.ones(2, dtype=F64))


def test_mirror_prox_and_optimism_on_a_bilinear_game():
    # Matching pennies with two batch rows as players; plain steps spiral out, these converge in the last iterate.
    payoff = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=F64)

    def field(logs: Tensor) -> Tensor:
        x, y = logs.exp()
        return torch.stack([payoff @ y, -payoff.mT @ x])

    start = torch.tensor([[0.7, 0.3], [0.4, 0.6]], dtype=F64).log()
    plain, prox, hopeful, previous = start, start, start, None
    for _ in range(600):
        plain = proximal_step(plain, field(plain), step_size=0.2)
        prox = mirror_prox_step(prox, field, step_size=0.2)[0]
        g = field(hopeful)
        hopeful, previous = proximal_step(hopeful, optimistic_gradient(g, previous), step_size=0.2), g
    away = lambda logs: float((logs.exp() - 0.5).abs().max())  # noqa: E731
    assert away(plain) > away(start)
    assert away(prox) < 1e-4
    assert away(hopeful) < 1e-4


def test_geometric_mixture():
    p, q = policies(3, 4), policies(3, 4, seed=1)
    assert torch.allclose(geometric_mixture(p, q, 0.25), (0.75 * p + 0.25 * q).log_softmax(-1))
    assert torch.allclose(geometric_mixture(p, q, 1.0), q)
    assert torch.allclose(geometric_mixture(p, q, 0.0), p)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"step_size": -1.0}, DomainError, "step_size"),
        ({"step_size": float("nan")}, DomainError, "step_size"),
        ({"step_size": 1.0, "magnet_weight": -0.1}, DomainError, "magnet_weight"),
        ({"step_size": torch.inf}, DomainError, "infinite step_size"),
        ({"step_size": 1.0, "mask": torch.zeros(3, dtype=torch.bool)}, DomainError, "allows no action"),
        ({"step_size": 1.0, "magnet": torch.zeros(4, dtype=F64)}, ShapeError, "broadcast"),
    ],
)
def test_bad_input(options, error, match):
    with pytest.raises(error, match=match):
        proximal_step(policies(2, 3), torch.zeros(3, dtype=F64), **options)


def test_gradients_that_are_not_finite():
    with pytest.raises(DomainError, match="NaN or infinite"):
        proximal_step(policies(3), torch.tensor([0.0, torch.nan, 1.0], dtype=F64), step_size=1.0)
