"""Betting on coins: steps without a step size, from what earlier steps have won."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Bets", "bet"]


class Bets(NamedTuple):
    """What a bettor remembers, one number per coordinate; zeros before the first bet.

    Attributes:
        largest: ``L = max |g|``.
        total: ``G = sum g``.
        size: ``S = sum |g|``.
        reward: ``R``, what was won: the sum of ``offset g``.
    """

    largest: Tensor
    total: Tensor
    size: Tensor
    reward: Tensor


def bet(offset: Tensor, g: Tensor, bets: Bets, *, forgive: bool = False) -> tuple[Tensor, Bets]:
    """The next offset from the start, ``G (L + R) / (L (S + L))`` per coordinate, after the outcome ``g`` of this one.

    For outcomes ``+1`` and ``-1`` it is Krichevsky's and Trofimov's bettor, the share ``G / (t + 1)`` of a wealth
    ``1 + R``, whose regret against an offset ``u`` is at most ``|u| sqrt(T log(1 + 24 T^2 u^2)) + 1``.

    Args:
        offset: That was played.
        g: The direction of ascent there, of the same shape.
        bets: Memory before it.
        forgive: Whether rewards are cut at zero, as published for networks, and not at ``-L``, where there is nothing
            left to bet. The bound is then lost: what was lost is forgotten.

    Returns:
        The next offset, and memory.

    Sources: Orabona, Tommasi, "Training Deep Networks without Learning Rates Through Coin Betting", 2017; Orabona, Pal,
    "Coin Betting and Parameter-Free Online Learning", 2016.
    """
    largest = torch.maximum(bets.largest, g.abs())
    total, size = bets.total + g, bets.size + g.abs()
    reward = bets.reward + offset * g
    reward = reward.clamp_min(0) if forgive else torch.maximum(reward, -largest)
    # Where every outcome so far was zero there is nothing to bet on.
    some = largest > 0
    share = total / torch.where(some, size + largest, 1.0)
    return share * (1 + reward / torch.where(some, largest, 1.0)), Bets(largest, total, size, reward)
