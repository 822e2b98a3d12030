"""Group-relative policy gradients: losses that are linear in the log-probabilities of a group of answers.

Conventions as in ``losses``. No importance weights: the group may come from any policy, and the gradient at
``pi = pi_old`` is that of ``opmd_loss`` up to a factor. Away from there these losses drift, which is what their options
hold back: a fixed group sends all mass to the answer with the largest weight, not to the best one.

Source: Yao et al., "Group-Relative REINFORCE Is Secretly an Off-Policy Algorithm: Demystifying Some Myths About GRPO
and Its Friends", 2025.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.policy.preference.losses import check_positive, check_same

__all__ = ["Baseline", "asymre_loss", "clip_mask", "group_baseline", "group_reinforce_loss"]

Baseline = Literal["mean", "log_mean_exp"]


def group_baseline(rewards: Tensor, baseline: Baseline = "mean", *, temperature: float = 1.0) -> Tensor:
    """The mean of a group's rewards, or ``tau log mean exp(r / tau)``, the soft maximum that KL-regularised values are.

    Args:
        rewards: ``(*batch, size)``.
        baseline: ``"mean"`` or ``"log_mean_exp"``.
        temperature: ``tau > 0`` of the second.

    Returns:
        ``(*batch, 1)``.

    Raises:
        DomainError: If ``baseline`` is another string, ``tau`` is not positive, or groups have a single answer, whose
            advantage says nothing.
    """
    if rewards.shape[-1] < 2:
        raise DomainError("a group needs at least two answers: rewards are relative to their group")
    if baseline == "mean":
        return rewards.mean(-1, keepdim=True)
    if baseline != "log_mean_exp":
        raise DomainError(f"baseline must be 'mean' or 'log_mean_exp', got {baseline!r}")
    tau = check_positive(temperature, "temperature")
    return tau * ((rewards / tau).logsumexp(-1, keepdim=True) - math.log(rewards.shape[-1]))


def clip_mask(log_ratio: Tensor, advantage: Tensor, low: float, high: float) -> Tensor:
    """False where an answer has gone far enough: ``A > 0`` at a ratio above ``1 + high``, ``A < 0`` below ``1 - low``.

    Where a clipped objective has no gradient. One-sided, as in PPO: what has moved too far may still come back.

    Args:
        log_ratio: ``log(pi / pi_old)``.
        advantage: The same shape.
        low: In ``(0, 1]``.
        high: Positive.

    Returns:
        Bool, without gradient.
    """
    if not (0 < low <= 1 and high > 0):
        raise DomainError(f"clip ranges are low in (0, 1] and high above 0, got {low} and {high}")
    ratio = log_ratio.detach().exp()
    return ~(((advantage > 0) & (ratio > 1 + high)) | ((advantage < 0) & (ratio < 1 - low)))


def group_reinforce_loss(
    log_policy: Tensor,
    rewards: Tensor,
    *,
    log_old: Tensor | None = None,
    baseline: Baseline = "mean",
    temperature: float = 1.0,
    penalty: float = 0.0,
    clip: tuple[float, float] | None = None,
) -> Tensor:
    """``mean_i [ -m_i (r_i - b) log pi_i + penalty / 2 (log pi_i / pi_old,i)^2 ]`` over a group.

    - ``baseline="log_mean_exp"`` with ``temperature``: the simple policy mirror descent of Trinity-RFT, up to the
      factor ``1 / (1 + tau)`` that it puts in front.
    - ``penalty = tau``: the squared log-ratio (``k2``) that the mirror descent of Kimi k1.5 adds.
    - ``clip=(low, high)``: ``m`` of ``clip_mask``, a mask where PPO has weights as well; (0.2, 0.2) as there, or wide
      (0.6, 2.0).

    Args:
        log_policy: ``(*batch, size)``.
        rewards: The same shape.
        log_old: The same shape; needed by ``penalty`` and ``clip``.
        baseline: Of the rewards, ``b``.
        temperature: Of ``"log_mean_exp"``.
        penalty: At least 0.
        clip: Ranges ``low`` and ``high``, or None.

    Returns:
        ``(*batch)``.

    Raises:
        ShapeError: If shapes differ.
        DomainError: If an option is out of range, or needs ``log_old`` and there is none.

    Sources: of the module, and Kimi Team, "Kimi k1.5: Scaling Reinforcement Learning with LLMs", 2025.
    """
    check_same(log_policy=log_policy, rewards=rewards, log_old=rewards if log_old is None else log_old)
    if not penalty >= 0:
        raise DomainError(f"penalty must be at least 0, got {penalty}")
    if log_old is None and (penalty > 0 or clip is not None):
        raise DomainError("penalty and clip compare with the old policy; pass log_old")
    advantage = (rewards - group_baseline(rewards, baseline, temperature=temperature)).detach()
    terms = -advantage * log_policy
    if log_old is not None:
        log_ratio = log_policy - log_old
        if clip is not None:
            terms = torch.where(clip_mask(log_ratio, advantage, *clip), terms, 0.0)
        terms = terms + 0.5 * penalty * log_ratio.square()
    return terms.mean(-1)


def asymre_loss(log_policy: Tensor, rewards: Tensor, *, offset: float = -0.1) -> Tensor:
    """``-mean_i (r_i - mean(r) - offset) log pi_i``: asymmetric REINFORCE.

    A negative ``offset`` stresses good answers over bad ones; on a group from ``pi_old`` it adds the gradient of
    ``-offset KL(pi_old || pi)``, which holds off-policy training together. At 0 that training collapses.

    Args:
        log_policy: ``(*batch, size)``.
        rewards: The same shape.
        offset: Added to the mean as baseline; in units of rewards.

    Returns:
        ``(*batch)``.

    Source: Arnal et al., "Asymmetric REINFORCE for Off-Policy Reinforcement Learning: Balancing Positive and Negative
    Rewards", 2025.
    """
    return group_reinforce_loss(log_policy, rewards) + offset * log_policy.mean(-1)
