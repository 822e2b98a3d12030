"""Tsallis policies against their closed forms, and Munchausen targets against their definition and limit."""

import pytest
import torch

from mirrorgen.errors import DomainError
from mirrorgen.policy import munchausen_targets, tsallis_entropy, tsallis_greedy

F64 = torch.float64


def values(seed: int) -> torch.Tensor:
    return torch.randn(40, 5, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.mark.parametrize("q", [0.5, 1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_greedy_policies_are_optimal(q, temperature):
    Q = values(0)
    logs = tsallis_greedy(Q, temperature, q)
    best = (logs.exp() * Q).sum(-1) + temperature * tsallis_entropy(logs, q)
    generator = torch.Generator().manual_seed(1)
    for scale in (0.01, 0.3, 1.0):
        other = torch.rand(40, 5, generator=generator, dtype=F64)
        mixed = (1 - scale) * logs.exp() + scale * other / other.sum(-1, keepdim=True)
        value = (mixed * Q).sum(-1) + temperature * tsallis_entropy(mixed.log(), q)
        assert bool((value <= best + 1e-12).all())


def test_closed_forms():
    Q = values(2)
    assert torch.allclose(tsallis_greedy(Q, 0.3), torch.log_softmax(Q / 0.3, -1))
    # Half the threshold form: pi = ((Q - c) / (2 temperature))_+.
    p = tsallis_greedy(Q, 0.7, 2.0).exp()
    level = torch.where(p > 0, Q - 1.4 * p, torch.nan).nanmean(-1, keepdim=True)
    assert torch.allclose(p, ((Q - level) / 1.4).clamp_min(0.0), atol=1e-12)
    assert bool((p == 0).any())
    assert torch.allclose(tsallis_entropy(p.log(), 2.0), 1 - p.square().sum(-1))


def test_targets_without_index_are_those_of_munchausen_learning():
    Q, following = values(3), values(4)
    rewards, actions = torch.arange(40, dtype=F64) / 40, torch.arange(40) % 5
    found = munchausen_targets(rewards, actions, Q, following, 0.9, share=0.9, temperature=0.5, lowest=-1.0)
    logs, after = torch.log_softmax(Q / 0.5, -1), torch.log_softmax(following / 0.5, -1)
    bonus = 0.9 * (0.5 * logs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)).clamp(-1.0, 0.0)
    expected = rewards + bonus + 0.9 * (after.exp() * (following - 0.5 * after)).sum(-1)
    assert torch.allclose(found, expected)


def test_action_gap_form_differs_from_the_logarithm_by_an_entropy():
    # temperature log pi = Q - <pi, Q> - temperature H: the two bonuses agree up to the entropy as q tends to one.
    Q, following = values(5), values(6)
    rewards, actions = torch.zeros(40, dtype=F64), torch.arange(40) % 5
    options = {"share": 0.9, "temperature": 0.5, "lowest": -torch.inf}
    one = munchausen_targets(rewards, actions, Q, following, 0.9, **options)
    near = munchausen_targets(rewards, actions, Q, following, 0.9, q=1 + 1e-8, **options)
    entropy = tsallis_entropy(torch.log_softmax(Q / 0.5, -1))
    assert torch.allclose(near, one + 0.9 * 0.5 * entropy, atol=1e-6)


def test_masks_and_bad_numbers():
    mask = torch.ones(40, 5, dtype=torch.bool)
    mask[:, 3] = False
    assert bool((tsallis_greedy(values(0), 1.0, 2.0, mask)[:, 3] == -torch.inf).all())
    with pytest.raises(DomainError, match="positive"):
        tsallis_greedy(values(0), 0.0)
