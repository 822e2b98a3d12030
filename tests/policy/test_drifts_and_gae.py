"""Drifts and advantages against their definitions."""

import pytest
import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.divergences import kl
from mirrorgen.policy import ClipDrift, DiscoveredDrift, KLDrift, check_drift, generalized_advantages, surrogate

F64 = torch.float64


@pytest.mark.parametrize("drift", [ClipDrift(), DiscoveredDrift(), KLDrift(0.3)], ids=repr)
def test_drifts_satisfy_the_axioms(drift):
    check_drift(drift)


@pytest.mark.parametrize(
    ("drift", "match"),
    [(lambda r, a: r * a, "negative"), (lambda r, a: r.abs(), "slope"), (lambda r, a: 0 * r + 1, "zero")],
)
def test_what_is_no_drift(drift, match):
    with pytest.raises(DomainError, match=match):
        check_drift(drift)


def test_clip_drift_is_the_clipped_surrogate():
    generator = torch.Generator().manual_seed(0)
    log_ratio, a = torch.randn(2, 1000, generator=generator, dtype=F64)
    r = log_ratio.exp()
    ppo = torch.minimum(r * a, r.clamp(0.8, 1.2) * a).mean()
    assert torch.allclose(surrogate(log_ratio, a, ClipDrift()), ppo)


def test_kl_drift_has_the_mean_of_mirror_descent():
    new, old = torch.randn(2, 6, generator=torch.Generator().manual_seed(1), dtype=F64).log_softmax(-1)
    mean = (old.exp() * KLDrift(0.5)(new - old, torch.zeros(6, dtype=F64))).sum()
    assert torch.allclose(mean, kl(new, old) / 0.5)


def test_rollback_of_the_discovered_drift():
    # For a negative advantage the slope of the surrogate reverses on an interval of small ratios, for a positive never.
    log_ratio = torch.linspace(-2, 2, 4001, dtype=F64, requires_grad=True)
    for advantage, reverses in ((-2.0, True), (2.0, False)):
        a = torch.full_like(log_ratio, advantage)
        value = log_ratio.exp() * a - DiscoveredDrift()(log_ratio, a)
        slope = torch.autograd.grad(value.sum(), log_ratio)[0]
        wrong = slope * advantage < -1e-9
        assert bool(wrong.any()) == reverses
        if reverses:
            assert abs(float(log_ratio.detach().exp()[wrong].max()) - 0.69) < 0.01


def loop(rewards: Tensor, values: Tensor, following: Tensor, terminated: Tensor, done: Tensor, g: float, d: float):
    """The double sum, one episode after the other."""
    result = torch.zeros_like(rewards)
    for t in range(len(rewards)):
        for n in range(rewards.shape[1]):
            factor = 1.0
            for k in range(t, len(rewards)):
                future = 0.0 if terminated[k, n] else g * following[k, n]
                result[t, n] += factor * (rewards[k, n] + future - values[k, n])
                factor *= g * d
                if done[k, n]:
                    break
    return result


def test_advantages_are_the_double_sum():
    generator = torch.Generator().manual_seed(2)
    rewards, values, following = torch.randn(3, 20, 4, generator=generator, dtype=F64)
    done = torch.rand(20, 4, generator=generator) < 0.2
    terminated = done & (torch.rand(20, 4, generator=generator) < 0.5)
    found = generalized_advantages(rewards, values, following, terminated, done, discount=0.9, decay=0.8)
    assert torch.allclose(found, loop(rewards, values, following, terminated, done, 0.9, 0.8))


def test_bad_rollouts():
    x, no = torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.bool)
    with pytest.raises(ShapeError, match="one shape"):
        generalized_advantages(x, x, x[:2], no, no)
    with pytest.raises(DomainError, match="is done"):
        generalized_advantages(x, x, x, ~no, no)
    with pytest.raises(DomainError, match=r"\[0, 1\]"):
        generalized_advantages(x, x, x, no, no, discount=1.5)
