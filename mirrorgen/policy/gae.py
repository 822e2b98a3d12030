"""Generalised advantage estimation."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError

__all__ = ["generalized_advantages"]


def generalized_advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    done: Tensor,
    *,
    discount: float = 0.99,
    decay: float = 0.95,
) -> Tensor:
    """``A_t = d_t + discount decay (1 - done_t) A_(t+1)`` with errors of values ``d_t``.

    ``d_t = r_t + discount (1 - terminated_t) V(s_(t+1)) - V(s_t)``. A truncated episode is done and not terminated:
    the value of its last state counts, the advantages after it do not.

    Args:
        rewards: ``(time, *batch)``.
        values: ``V(s_t)``, the same shape.
        next_values: ``V(s_(t+1))``, of the last observation of the episode where one ends.
        terminated: Whether the episode ended in a state without future, bool.
        done: Whether it ended, for that reason or because it was cut, bool.
        discount: In ``[0, 1]``.
        decay: In ``[0, 1]``: 0 for one-step errors, 1 for returns minus values.

    Returns:
        Advantages ``(time, *batch)``; advantages plus ``values`` are targets for the values.

    Raises:
        ShapeError: If shapes differ.
        DomainError: If a factor is outside ``[0, 1]``, or an episode terminated without being done.

    Source: Schulman, Moritz, Levine, Jordan, Abbeel, "High-Dimensional Continuous Control Using Generalized Advantage
    Estimation", 2016.
    """
    if len({t.shape for t in (rewards, values, next_values, terminated, done)}) != 1:
        raise ShapeError("rewards, values, next_values, terminated and done must have one shape (time, *batch)")
    if not (0 <= discount <= 1 and 0 <= decay <= 1):
        raise DomainError(f"discount and decay must lie in [0, 1], got {discount} and {decay}")
    if bool((terminated & ~done).any()):
        raise DomainError("a terminated episode is done; pass done = terminated | truncated")
    errors = rewards + discount * torch.where(terminated, 0.0, next_values) - values
    factors = discount * decay * (~done).to(rewards.dtype)
    advantages, following = torch.empty_like(rewards), torch.zeros_like(rewards[0])
    for t in range(len(rewards) - 1, -1, -1):
        following = errors[t] + factors[t] * following
        advantages[t] = following
    return advantages
