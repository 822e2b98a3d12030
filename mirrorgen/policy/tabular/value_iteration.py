"""Approximate value iteration with regularised greedy steps: what averages over past values does to errors."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.divergences import kl
from mirrorgen.policy.munchausen import tsallis_entropy
from mirrorgen.policy.proximal import proximal_step
from mirrorgen.policy.tabular.mdp import TabularMDP

__all__ = ["averaged_value_iteration", "mirror_value_iteration", "munchausen_value_iteration"]

Errors = Callable[[int], Tensor]
"""``k -> e_k (*batch, states, actions)``, what an approximation adds to iteration ``k``."""


def mirror_value_iteration(
    mdp: TabularMDP,
    iterations: int,
    kl_weight: float,
    entropy_weight: float = 0.0,
    errors: Errors | None = None,
    callback: Callable[[Tensor, Tensor], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """MD-VI: ``pi_(k+1) = argmax <pi, q_k> - lambda KL(pi || pi_k) + tau H(pi)``, and its regularised backup.

    ``q_(k+1) = r + discount P (<pi_(k+1), q_k> - lambda KL(pi_(k+1) || pi_k) + tau H(pi_(k+1))) + e_(k+1)``. Without
    both weights it is value iteration.

    Args:
        mdp: The process.
        iterations: Number of backups, from ``q_0 = 0`` and the uniform policy.
        kl_weight: ``lambda``.
        entropy_weight: ``tau``.
        errors: Added to every backup; None for none.
        callback: Called with the log-policy and the values of actions after every backup.

    Returns:
        The last log-policy and values of actions ``(*batch, states, actions)``. The policy is greedy (``-inf`` for the
        other actions) without both weights.

    Source: Vieillard, Kozuno, Scherrer, Pietquin, Munos, Geist, "Leverage the Average: an Analysis of KL Regularization
    in Reinforcement Learning", 2020.
    """
    _check(kl_weight, entropy_weight)
    q, logs = torch.zeros_like(mdp.rewards), mdp.uniform_policy()
    for k in range(iterations):
        step = math.inf if kl_weight == 0 else 1 / kl_weight
        if kl_weight == entropy_weight == 0:
            new = _greedy(q)
        else:
            new = proximal_step(logs, q, step_size=step, magnet_weight=entropy_weight)
        values = (new.exp() * q).sum(-1) + entropy_weight * tsallis_entropy(new)
        if kl_weight:
            values = values - kl_weight * kl(new, logs)
        q, logs = mdp.action_values(values) + (0.0 if errors is None else errors(k)), new
        if callback is not None:
            callback(logs, q)
    return logs, q


def averaged_value_iteration(
    mdp: TabularMDP, iterations: int, kl_weight: float, entropy_weight: float, errors: Errors | None = None
) -> tuple[Tensor, Tensor]:
    """DA-VI, the dual-averaging form of ``mirror_value_iteration``: policies are softmaxes of averaged values.

    ``h_(k+1) = b h_k + (1 - b) q_k``, ``b = lambda / (lambda + tau)``, ``pi = softmax(h / tau)``; with ``tau = 0`` of
    the sum, ``softmax(sum_j q_j / lambda)``. Arguments and result as there.

    Raises:
        DomainError: If both weights are zero.
    """
    _check(kl_weight, entropy_weight)
    if kl_weight == entropy_weight == 0:
        raise DomainError("dual averaging needs a positive kl_weight or entropy_weight")
    share = kl_weight / (kl_weight + entropy_weight)
    q, logits, logs = torch.zeros_like(mdp.rewards), torch.zeros_like(mdp.rewards), mdp.uniform_policy()
    for k in range(iterations):
        logits = share * logits + q / (kl_weight + entropy_weight)
        new = torch.log_softmax(logits, -1)
        regular = entropy_weight * tsallis_entropy(new) - kl_weight * kl(new, logs)
        q = mdp.action_values((new.exp() * q).sum(-1) + regular) + (0.0 if errors is None else errors(k))
        logs = new
    return logs, q


def munchausen_value_iteration(
    mdp: TabularMDP, iterations: int, share: float, temperature: float, errors: Errors | None = None
) -> tuple[Tensor, Tensor]:
    """M-VI: ``q_(k+1) = r + a t log pi_(k+1) + discount P <pi_(k+1), q_k - t log pi_(k+1)>``.

    With ``pi_(k+1) = softmax(q_k / t)``. The same policies as ``mirror_value_iteration`` with ``lambda = a t`` and
    ``tau = (1 - a) t``, without keeping the previous one.

    Args:
        mdp: The process.
        iterations: Number of backups.
        share: ``a`` in ``[0, 1]``, the share of the log-policy that is added to the reward.
        temperature: ``t > 0``.
        errors: As in ``mirror_value_iteration``.

    Source: Vieillard, Pietquin, Geist, "Munchausen Reinforcement Learning", 2020.
    """
    if not 0 <= share <= 1 or not temperature > 0:
        raise DomainError(f"share must lie in [0, 1] and temperature be positive, got {share} and {temperature}")
    q, logs = torch.zeros_like(mdp.rewards), mdp.uniform_policy()
    for k in range(iterations):
        logs = torch.log_softmax(q / temperature, -1)
        values = (logs.exp() * (q - temperature * logs)).sum(-1)
        q = mdp.action_values(values) + share * temperature * logs + (0.0 if errors is None else errors(k))
    return logs, q


def _check(kl_weight: float, entropy_weight: float) -> None:
    if not (0 <= kl_weight < math.inf and 0 <= entropy_weight < math.inf):
        raise DomainError(f"weights must be finite and not negative, got {kl_weight} and {entropy_weight}")


def _greedy(q: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(q.argmax(-1), q.shape[-1]).to(q).log()
