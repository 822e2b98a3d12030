"""Weights of samples: closed forms, return from saturation, state, and a saddle point whose value is known."""

import io
import math

import pytest
import torch
from torch import nn

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.optim import SampleWeights

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.mark.parametrize("num_losses", [2, 4])
def test_steps_multiply_weights_by_exponentials(num_losses):
    """The update as it is usually written: ``w_k exp(step l_k)``, divided by the sum."""
    weights = SampleWeights(6, 0.3, num_losses=num_losses, dtype=F64)
    expected = torch.full((6, num_losses), 1 / num_losses, dtype=F64)
    for t in range(20):
        index, losses = torch.tensor([t % 6, (t + 2) % 6]), normal(2, num_losses, seed=t)
        weights.ascend(index, losses)
        moved = expected[index] * torch.exp(0.3 * losses)
        expected[index] = moved / moved.sum(-1, keepdim=True)
    assert torch.allclose(weights.values(), expected, rtol=1e-12)
    assert torch.equal(weights.values(torch.tensor([[3], [1]])), weights.values()[[3, 1]].unsqueeze(1))


def test_two_losses_are_a_logit_and_repeated_samples_step_twice():
    weights = SampleWeights(3, 2.0, dtype=F64)
    losses = torch.tensor([[1.0, 0.5], [0.25, 1.0], [0.0, 3.0]], dtype=F64)
    weights.ascend(torch.tensor([0, 0, 2]), losses)
    expected = torch.sigmoid(2 * torch.tensor([0.5 - 0.75, 0.0, -3.0], dtype=F64))
    assert torch.allclose(weights.values()[:, 0], expected, rtol=1e-12)


def test_saturated_weights_come_back():
    """Float32, 2000 steps one way and back; stored weights would be zero, and stay it."""
    weights, index = SampleWeights(1, 1.0), torch.zeros(1, dtype=torch.long)
    losses, stored = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.5]])
    for sign in (1, -1):
        for _ in range(2000):
            weights.ascend(index, sign * losses)
            stored = stored * torch.exp(sign * losses)
            stored = stored / stored.sum(-1, keepdim=True)
        assert (weights.values() > 0).all()
        if sign > 0:
            assert weights.values()[0, 0] < 1e-30
            assert stored[0, 0] == 0
    assert torch.allclose(weights.values(), torch.tensor(0.5), atol=1e-6)
    assert stored[0, 0] == 0


def test_objective_and_its_gradient():
    weights = SampleWeights(4, 1.0, dtype=F64)
    weights.ascend(torch.arange(4), normal(4, 2))
    index, losses = torch.tensor([3, 1]), normal(2, 2, seed=1).requires_grad_()
    value = weights(index, losses)
    (slope,) = torch.autograd.grad(value, losses)
    assert torch.allclose(slope, weights.values(index) / 2, rtol=1e-12)
    assert value.item() == pytest.approx(float((weights.values(index) * losses.detach()).sum()) / 2, rel=1e-12)


def test_state_goes_on_exactly_and_moves_with_its_module():
    model = nn.ModuleDict({"weights": SampleWeights(5, 0.5)})
    model["weights"].ascend(torch.arange(5), normal(5, 2).float())
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    again = nn.ModuleDict({"weights": SampleWeights(5, 0.5)})
    again.load_state_dict(torch.load(buffer, weights_only=True))
    for m in (model, again):
        m["weights"].ascend(torch.tensor([1, 4]), normal(2, 2, seed=3).float())
    assert torch.equal(model["weights"].values(), again["weights"].values())
    assert model.double()["weights"].values().dtype == F64
    assert not list(model.parameters())


def test_descent_ascent_finds_a_known_saddle_point():
    """Losses ``(theta - 1)^2 / 2`` against ``(theta - c_i)^2 / 2`` with ``c = (0, 2)``.

    For theta between 1/2 and 3/2 the second is the larger one of both samples, and the mean of the larger ones,
    ``(theta^2 + (theta - 2)^2) / 4``, has its minimum 1/2 at theta = 1.
    """
    centres, theta = torch.tensor([0.0, 2.0], dtype=F64), nn.Parameter(torch.tensor(3.0, dtype=F64))
    weights, index = SampleWeights(2, 0.5, dtype=F64), torch.arange(2)
    optimizer = torch.optim.SGD([theta], lr=0.1)

    def losses():
        return torch.stack([(theta - 1).square().expand(2), (theta - centres).square()], -1) / 2

    mean, gaps = torch.zeros((), dtype=F64), {}
    for t in range(1, 1001):
        now = losses()
        mean += theta.detach()
        optimizer.zero_grad()
        weights(index, now).backward()
        weights.ascend(index, now)
        optimizer.step()
        average = mean / t
        worst = torch.maximum((average - 1).square().expand(2), (average - centres).square()).mean() / 2
        gaps[t] = float(worst.detach()) - 0.5
    assert gaps[1000] < 2e-3
    assert gaps[1000] < 0.3 * gaps[100]
    assert theta.item() == pytest.approx(1.0, abs=1e-3)
    assert math.isclose(float(weights.values()[0, 1]), 1.0, abs_tol=1e-6)


def test_errors():
    with pytest.raises(DomainError, match="step_size"):
        SampleWeights(3, 0.0)
    with pytest.raises(DomainError, match="num_losses"):
        SampleWeights(3, 1.0, num_losses=1)
    weights, index = SampleWeights(3, 1.0), torch.tensor([0, 2])
    with pytest.raises(ShapeError, match=r"losses \(m, 2\)"):
        weights(index, torch.zeros(2, 3))
    with pytest.raises(ShapeError, match="index"):
        weights.ascend(torch.tensor(1), torch.zeros(2))
    with pytest.raises(DomainError, match="finite"):
        weights.ascend(index, torch.tensor([[0.0, 1.0], [math.nan, 0.0]]))
    assert torch.equal(weights.log_odds, torch.zeros(3, 1))
