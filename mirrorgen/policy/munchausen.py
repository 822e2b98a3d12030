"""Targets of value learning that add a share of the log-policy, or of the action gap, to the reward."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.policy.proximal import proximal_step
from mirrorgen.special import tsallis_log

__all__ = ["munchausen_targets", "tsallis_entropy", "tsallis_greedy"]


def tsallis_entropy(log_policy: Tensor, q: float = 1.0) -> Tensor:
    """``S_q = (1 - sum pi^q) / (q - 1)``, Shannon's entropy for ``q = 1``; ``(*batch)``."""
    # sum pi tsallis_log(pi) has no cancellation near q = 1; without mass a term is zero for q > 0.
    live = log_policy > -torch.inf
    gap = tsallis_log(torch.where(live, log_policy, 0.0), q)
    return -torch.where(live, log_policy.exp() * gap, 0.0).sum(-1)


def tsallis_greedy(values: Tensor, temperature: float, q: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """``argmax_pi <pi, values> + temperature S_q(pi)`` as log-probabilities ``(*batch, actions)``.

    The softmax for ``q = 1``, the sparsemax of ``values / (2 temperature)`` for ``q = 2``: what is far below the best
    has no mass for ``q > 1``.

    Args:
        values: Values of actions.
        temperature: Positive.
        q: Entropic index, positive.
        mask: Allowed actions.

    Raises:
        DomainError: If ``temperature`` or ``q`` is not positive.
    """
    if not (temperature > 0 and q > 0):
        raise DomainError(f"temperature and q must be positive, got {temperature} and {q}")
    allowed = torch.ones_like(values, dtype=torch.bool) if mask is None else mask
    uniform = torch.where(allowed, 0.0, -torch.inf).to(values).log_softmax(-1)
    # S_q is -q times the potential of the step, up to terms that are constant on the simplex.
    return proximal_step(uniform, values, step_size=1 / (temperature * q), mask=mask, q=q)


def munchausen_targets(
    rewards: Tensor,
    actions: Tensor,
    values: Tensor,
    next_values: Tensor,
    discounts: Tensor | float,
    *,
    share: float = 0.9,
    temperature: float = 0.03,
    q: float = 1.0,
    lowest: float = -1.0,
) -> Tensor:
    """``r + bonus(s, a) + discount (<pi', Q(s')> + temperature S_q(pi'))``.

    Policies are ``tsallis_greedy(Q, temperature, q)``. The bonus is ``share`` times ``temperature log pi(a | s)``, at
    least ``lowest``, for ``q = 1``; otherwise the action gap ``Q(s, a) - <pi(s), Q(s)>``, because log-policies of
    sparse policies are of no use.

    Args:
        rewards: ``(*batch)``.
        actions: Indices ``(*batch)``.
        values: Target network at the state ``(*batch, actions)``.
        next_values: Target network at the next state ``(*batch, actions)``.
        discounts: Zero where the episode terminated; ``(*batch)`` or a number.
        share: ``alpha``; 0 for soft (Tsallis) value learning.
        temperature: ``tau``.
        q: Entropic index.
        lowest: Of ``temperature log pi`` in the bonus of ``q = 1``.

    Returns:
        Targets ``(*batch)``, without gradient.

    Sources: Vieillard, Pietquin, Geist, "Munchausen Reinforcement Learning", 2020 (``q = 1``); Zhu, Chen, Schlegel,
    White, "General Munchausen Reinforcement Learning with Tsallis Kullback-Leibler Divergence", 2023.
    """
    with torch.no_grad():
        here, there = (tsallis_greedy(v, temperature, q) for v in (values, next_values))
        chosen = actions.unsqueeze(-1)
        if q == 1:
            bonus = (temperature * here.gather(-1, chosen).squeeze(-1)).clamp(min=lowest, max=0.0)
        else:
            bonus = values.gather(-1, chosen).squeeze(-1) - (here.exp() * values).sum(-1)
        soft = (there.exp() * next_values).sum(-1) + temperature * tsallis_entropy(there, q)
        return rewards + share * bonus + discounts * soft
