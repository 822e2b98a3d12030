"""Solvers of games against published and independent numbers."""

import pytest
import torch

from mirrorgen.errors import DomainError
from mirrorgen.geometry.divergences import kl
from mirrorgen.policy.games import (
    DilatedMirrorDescent,
    MagneticMirrorDescent,
    RegretMatchingPlus,
    State,
    dilated_entropy,
    dilated_gap,
    kuhn_poker,
    leduc_poker,
    run,
)

F64 = torch.float64


def trace(learner, game, marks, start=None):
    """Exploitability of the last iterate at some steps."""
    found = []

    def look(state):
        if state.step in marks:
            found.append(float(game.exploitability(state.log_policy).max()))

    run(learner, game, max(marks), start=start, callback=look)
    return found


def annealed(weight, step):
    return MagneticMirrorDescent(lambda t: step / t**0.5, lambda t: weight / t**0.5)


def test_annealed_magnet_on_kuhn():
    assert trace(annealed(1, 1), kuhn_poker(), [100, 1000]) == pytest.approx([0.029, 0.0051], rel=0.02)


def test_annealed_magnet_on_leduc():
    assert trace(annealed(5, 1), leduc_poker(), [100, 1000]) == pytest.approx([0.235, 0.0669], rel=0.005)


def test_moving_magnet_on_kuhn():
    assert trace(MagneticMirrorDescent(0.1, 1.0, 0.05), kuhn_poker(), [1000])[0] == pytest.approx(0.0038, rel=0.05)


def test_constant_temperatures_in_one_batch():
    kuhn, alpha = kuhn_poker(), torch.tensor([0.5, 0.2], dtype=F64)
    state, _ = run(MagneticMirrorDescent(alpha / 2, alpha), kuhn, 800, start=kuhn.uniform(2))
    assert kuhn.exploitability(state.log_policy).tolist() == pytest.approx([0.11241, 0.04357], abs=1e-5)
    # A fixed point: behaviour is a softmax of values over the temperature.
    soft = torch.where(kuhn.mask, kuhn.action_values(state.log_policy) / alpha[:, None, None], -torch.inf)
    assert torch.allclose(soft.log_softmax(-1), state.log_policy, atol=1e-6)


def test_bad_input():
    with pytest.raises(DomainError, match="iterations"):
        run(annealed(1, 1), kuhn_poker(), 0)
    with pytest.raises(DomainError, match="magnet_rate"):
        MagneticMirrorDescent(0.1, 0.1, 1.5)


def test_cfr_plus_as_published():
    kuhn, leduc = kuhn_poker(), leduc_poker()
    _, average = run(RegretMatchingPlus(), leduc, 100)
    assert float(leduc.exploitability(average)) == pytest.approx(0.0134, abs=1e-4)
    _, average = run(RegretMatchingPlus(), kuhn, 500)
    assert float(kuhn.value(average)) == pytest.approx(-1 / 18, abs=1e-3)


def test_dilated_entropy_on_kuhn():
    kuhn, alpha = kuhn_poker(), torch.tensor([0.5, 0.2, 0.1, 0.05], dtype=F64)
    gaps = {}

    def look(state):
        gaps[state.step] = dilated_gap(kuhn, state.log_policy, alpha)

    state, _ = run(DilatedMirrorDescent(alpha), kuhn, 500, start=kuhn.uniform(4), callback=look)
    assert gaps[10].tolist() == pytest.approx([9.8e-10, 8.0e-4, 5.070e-2, 2.033e-1], rel=0.01)
    assert gaps[100][2:].tolist() == pytest.approx([2.289e-8, 4.936e-3], rel=1e-3)
    assert gaps[300].tolist() == pytest.approx([0, 0, 0, 9.5e-7], abs=1e-8)
    found = kuhn.exploitability(state.log_policy).tolist()
    assert found == pytest.approx([0.26393, 0.15923, 0.10369, 0.04623], abs=2e-5)
    # Linear, at least as fast as 1 / (1 + eta alpha) per step.
    eta = alpha / kuhn.payoff_bound**2
    assert bool((gaps[200] <= gaps[100] * (1 + eta * alpha) ** -100 + 1e-14).all())


def test_dilated_entropy_on_leduc():
    leduc = leduc_poker()
    state, _ = run(DilatedMirrorDescent(0.1), leduc, 10)
    assert float(dilated_gap(leduc, state.log_policy, 0.1)) == pytest.approx(1.143e-4, rel=1e-3)
    state, _ = run(DilatedMirrorDescent(0.1), leduc, 20, start=state.log_policy)
    assert float(leduc.exploitability(state.log_policy)) == pytest.approx(2.04458, abs=1e-5)


def test_a_dilated_step_maximises_its_objective():
    kuhn = kuhn_poker()
    start = torch.randn(12, 2, generator=torch.Generator().manual_seed(0), dtype=F64).log_softmax(-1)
    eta, alpha = 0.7, 0.3
    new = DilatedMirrorDescent(alpha, eta).step(kuhn, State(start, start, start)).log_policy
    gradient = kuhn.gradients(kuhn.plan(start))[0]

    def objective(logs):
        logs = logs.log_softmax(-1)
        plan = kuhn.plan(logs)
        before = plan[kuhn.parent]
        divergence = (before * kl(logs, start)).sum()
        # The empty sequences have no payoff.
        return (plan * gradient).sum() - alpha * dilated_entropy(kuhn, logs) - divergence / eta

    logs = new.clone().requires_grad_()
    (slope,) = torch.autograd.grad(objective(logs), logs)
    assert float(slope.abs().max()) < 1e-12
    for seed in range(20):
        noise = torch.randn(12, 2, generator=torch.Generator().manual_seed(seed), dtype=F64)
        assert float(objective(new + 0.3 * noise)) < float(objective(new))


def test_dilated_bad_input():
    kuhn = kuhn_poker()
    with pytest.raises(DomainError, match="step_size must be positive"):
        run(DilatedMirrorDescent(0.0), kuhn, 1)
    with pytest.raises(DomainError, match="exploitability"):
        dilated_gap(kuhn, kuhn.uniform(), 0.0)
