"""Evolution strategies, and the drift that they search."""

import pytest
import torch
from torch import nn

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.policy import ClipDrift, LearnedDrift, call_population, check_drift, evolution_strategy
from mirrorgen.policy.evolution import centered_ranks

F64 = torch.float64


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.mark.parametrize("shaping", ["rank", "score"])
def test_the_optimum_of_a_quadratic(shaping):
    best, width = normal(5), torch.tensor([1.0, 3.0, 0.3, 1.0, 2.0], dtype=F64)
    fitness = lambda x: -((x - best) * width).square().sum(-1)  # noqa: E731
    run = evolution_strategy(
        fitness, torch.zeros(5, dtype=F64), population=40, scale=0.3, step_size=0.2, generations=250, decay=0.97,
        shaping=shaping, generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    assert float((run.parameters - best).abs().max()) < 0.01
    assert run.mean.shape == run.best.shape == (250,)
    assert float(run.mean[0]) < -1 < -1e-2 < float(run.mean[-1])


def test_one_step_by_hand():
    # Antithetic pairs: the mean of scores times noise, whose sign is all that Adam's first step takes.
    seen = []

    def fitness(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x @ torch.tensor([1.0, -2.0], dtype=F64)

    start = torch.tensor([0.5, 0.5], dtype=F64)
    run = evolution_strategy(fitness, start, population=6, scale=0.1, step_size=0.01, generations=1, shaping="score")
    noise = (seen[0] - start) / 0.1
    assert torch.allclose(noise[:3], -noise[3:])
    slope = noise @ torch.tensor([1.0, -2.0], dtype=F64)
    gradient = (slope / slope.std(correction=0)) @ noise
    assert torch.allclose(run.parameters, start + 0.01 * gradient.sign(), atol=1e-6)


def test_ranks_share_ties():
    ranks = centered_ranks(torch.tensor([3.0, 1.0, 3.0, 7.0, 1.0], dtype=F64))
    assert torch.allclose(ranks, torch.tensor([2.5, 0.5, 2.5, 4.0, 0.5], dtype=F64) / 4 - 0.5)


def test_bad_searches():
    start = torch.zeros(2)
    with pytest.raises(DomainError, match="finite"):
        evolution_strategy(lambda x: x[:, 0] * torch.nan, start, generations=1)
    with pytest.raises(ShapeError, match="one number per member"):
        evolution_strategy(lambda x: x, start, generations=1)
    with pytest.raises(ShapeError, match="one vector"):
        evolution_strategy(lambda x: x, start[None])
    for options in ({"population": 3}, {"scale": 0.0}, {"decay": 2.0}, {"shaping": "no"}):
        with pytest.raises(DomainError, match="must be"):
            evolution_strategy(lambda x: x[:, 0], start, **options)


def test_a_population_of_networks():
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    rows, inputs = normal(6, 26), normal(6, 7, 3, seed=1)
    every = call_population(module, rows, inputs)
    for row, x, y in zip(rows, inputs, every, strict=True):
        nn.utils.vector_to_parameters(row, module.parameters())
        assert torch.allclose(module(x), y)
    with pytest.raises(ShapeError, match="26"):
        call_population(module, rows[:, :5], inputs)


def test_learned_drifts_start_at_the_clip():
    log_ratio, advantage = normal(2, 500)
    torch.testing.assert_close(LearnedDrift()(log_ratio, advantage), ClipDrift()(log_ratio, advantage))
    assert float(LearnedDrift(start=None)(log_ratio, advantage).detach().abs().max()) == 0


@pytest.mark.parametrize("size", [0.1, 1.0])
@pytest.mark.parametrize("start", [None, ClipDrift()])
def test_axioms_hold_for_any_weights(start, size):
    log_ratio, advantage = torch.broadcast_tensors(normal(200, 1), torch.tensor([-2.0, 2.0], dtype=F64))
    for seed in range(5):
        drift = LearnedDrift(16, start=start).double()
        at_start = drift(log_ratio, advantage)
        drift.with_vector(size * normal(9 * 16, seed=seed))
        check_drift(drift)
        assert not torch.equal(drift(log_ratio, advantage), at_start)


def test_axioms_of_steep_drifts_are_exact_at_ratio_one():
    drift = LearnedDrift(16).double().with_vector(1e4 * normal(9 * 16))
    log_ratio = torch.zeros(5, dtype=F64, requires_grad=True)
    value = drift(log_ratio, torch.linspace(-3, 3, 5, dtype=F64))
    assert bool((value == 0).all())
    assert bool((torch.autograd.grad(value.sum(), log_ratio)[0] == 0).all())


def test_drifts_of_a_population():
    drift = LearnedDrift(8).double()
    vectors, log_ratio, advantage = normal(4, 72), normal(4, 30, seed=1), normal(4, 30, seed=2)
    every = drift.population(vectors)(log_ratio, advantage)
    for vector, r, a, found in zip(vectors, log_ratio, advantage, every, strict=True):
        assert torch.allclose(drift.with_vector(vector)(r, a), found)
    assert torch.allclose(drift.vector(), vectors[-1])


def test_extreme_ratios_are_finite():
    log_ratio = torch.tensor([-80.0, 80.0], requires_grad=True)
    drift = LearnedDrift(8, start=None)
    drift.with_vector(normal(72).float())
    value = drift(log_ratio, torch.ones(2))
    (slope,) = torch.autograd.grad(value.sum(), log_ratio)
    assert bool(torch.isfinite(value).all() & torch.isfinite(slope).all())


def test_a_margin_of_zero():
    with pytest.raises(DomainError, match="margin"):
        LearnedDrift(margin=0.0)
