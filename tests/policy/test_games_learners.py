"""Solvers of games against published and independent numbers."""

import pytest
import torch

from mirrorgen.errors import DomainError
from mirrorgen.policy.games import MagneticMirrorDescent, kuhn_poker, leduc_poker, run

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
