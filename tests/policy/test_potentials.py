"""Mixed potentials: single orders against the proximal step, mixtures against their optimality conditions."""

import pytest
import torch

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.policy import MixedPotential, proximal_step
from mirrorgen.policy.tabular import garnet, policy_mirror_descent

F64 = torch.float64
ORDERS = (0.5, 1.0, 2.0, 3.0)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def single(q: float, scale: float = 1.0) -> MixedPotential:
    return MixedPotential(torch.ones(1, dtype=F64), torch.full((1,), scale, dtype=F64), (q,))


@pytest.mark.parametrize("q", ORDERS)
def test_one_order_is_the_proximal_step(q):
    prior, gradient = normal(50, 4).log_softmax(-1), 3 * normal(50, 4, seed=1)
    expected = proximal_step(prior, gradient, step_size=1.3, q=q)
    assert bool((expected == -torch.inf).any()) == (q > 1)
    alone = single(q).step(prior, gradient, 1.3)
    assert torch.allclose(alone.exp(), expected.exp(), atol=1e-12)
    # A weight of one among others, and a scale that multiplies the step.
    weights = torch.tensor([float(q == o) for o in ORDERS], dtype=F64)
    mixed = MixedPotential(weights, torch.full((4,), 1.3, dtype=F64), ORDERS).step(prior, gradient)
    assert torch.allclose(mixed.exp(), expected.exp(), atol=1e-12)


def test_softmax_and_projection():
    values = normal(20, 5)
    uniform = torch.zeros(20, 5, dtype=F64).log_softmax(-1)
    assert torch.allclose(single(1.0).step(uniform, values), values.log_softmax(-1), atol=1e-12)
    p = single(2.0).step(uniform, values).exp()
    # The projection of 1 / 5 + values onto the simplex: the threshold of what it keeps.
    ordered = values.sort(-1, descending=True).values
    totals = (ordered.cumsum(-1) - 1) / torch.arange(1, 6, dtype=F64)
    kept = (ordered > totals).sum(-1, keepdim=True)
    assert torch.allclose(p, (values - totals.gather(-1, kept - 1)).clamp_min(0.0), atol=1e-12)


@pytest.mark.parametrize("orders", [(0.5, 1.0, 2.0, 3.0), (1.5, 2.0, 3.0)])
def test_mixtures_satisfy_the_conditions_of_optimality(orders):
    potential = MixedPotential.from_parameters(normal(3, 2 * len(orders), seed=2), orders)
    prior, gradient = normal(3, 40, 4, seed=3).log_softmax(-1), normal(3, 40, 4, seed=4)
    new = potential.step(prior, gradient, 0.8)
    assert torch.allclose(new.exp().sum(-1), torch.ones(3, 40, dtype=F64))
    residual = potential.dual(new) - potential.dual(prior) - 0.8 * gradient
    live = new > -torch.inf
    assert bool((~live).any()) == (min(orders) > 1)
    # One multiplier per row where there is mass; where there is none, the slope at zero is above it.
    multiplier = torch.where(live, residual, -torch.inf).amax(-1, keepdim=True)
    assert float(torch.where(live, residual - multiplier, 0.0).abs().max()) < 1e-9
    assert float(torch.where(live, 1.0, residual - multiplier).min()) > -1e-9


def test_duals_invert_masses_and_actions_come_back():
    potential = MixedPotential.from_parameters(normal(6, seed=5), (1.5, 2.0, 3.0))
    logs = torch.linspace(-12, 0, 50, dtype=F64)
    x = potential.dual(logs)
    assert torch.allclose(potential.log_mass(x), logs, atol=1e-10)
    assert bool((x.diff() > 0).all())
    empty = torch.tensor([0.0, -torch.inf], dtype=F64)
    assert float(potential.log_mass(potential.dual(empty))[1]) == -torch.inf
    revived = potential.step(empty, torch.tensor([0.0, 1000.0], dtype=F64)).exp()
    assert torch.allclose(revived, torch.tensor([0.0, 1.0], dtype=F64))


def test_derivatives_of_the_parameters():
    prior, gradient = normal(6, 3, seed=6).log_softmax(-1), normal(6, 3, seed=7)
    parameters = normal(4, seed=8).requires_grad_()

    def step(p: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return MixedPotential.from_parameters(p, (1.0, 2.0)).step(prior, g)

    assert torch.autograd.gradcheck(step, (parameters, gradient.requires_grad_()), atol=1e-6)


def test_mirror_descent_with_a_step_of_its_own():
    mdp = garnet(batch=2)
    own = policy_mirror_descent(mdp, 20, 2.0, step=single(2.0).step)
    assert torch.allclose(own.values, policy_mirror_descent(mdp, 20, 2.0, q=2.0).values, atol=1e-10)
    learned = MixedPotential.from_parameters(normal(8, seed=9))
    gaps = policy_mirror_descent(mdp, 25, 10.0, step=learned.step).gaps(mdp.optimal_values)
    assert bool((gaps.diff(dim=0) <= 1e-12).all())
    assert float(gaps[-1].max()) < 0.01 * float(gaps[0].max())
    with pytest.raises(DomainError, match="options of the proximal step"):
        policy_mirror_descent(mdp, 1, q=2.0, step=learned.step)


def test_bad_potentials():
    ones = torch.ones(2, dtype=F64)
    with pytest.raises(DomainError, match="sum one"):
        MixedPotential(ones, ones, (1.0, 2.0))
    with pytest.raises(DomainError, match="positive"):
        MixedPotential(ones / 2, -ones, (1.0, 2.0))
    with pytest.raises(ShapeError, match="population"):
        MixedPotential(ones / 2, ones)
    with pytest.raises(ShapeError, match="parameters"):
        MixedPotential.from_parameters(ones)
    with pytest.raises(DomainError, match="NaN"):
        single(1.0).step(torch.zeros(2).log_softmax(-1), torch.tensor([torch.nan, 0.0]))
