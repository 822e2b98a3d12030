"""Losses that fit a policy to a proximal step, from log-probabilities of whole answers alone.

Every loss is to be minimised and returned per pair or group, without the mean: ``loss(...).mean()`` over samples, or a
weighted sum where all answers are enumerated. Conventions, the same for all:

- ``log_policy`` carries gradients; ``log_old`` is the policy that the step starts from, ``log_reference`` the frozen
  one. All are sums over the tokens of an answer, not means over its length, which would change the step per sample.
- Pairs lie on the last axis, ``(*batch, 2)``: the first answer, then the second. Groups are ``(*batch, size)``.
- ``preference`` is the probability that the first answer wins: a label 0 or 1, or a number between.
- ``step_size`` is ``eta`` of ``pi_old exp(eta r)``: large steps go far. Publications often write its inverse.

With the gap ``d(f) = f(y) - f(y')`` over a pair, the step is the only policy with ``d(log pi - log pi_old) = eta d(r)``
for all pairs; the losses here measure how far a policy is from that, by squares or by logarithms.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mirrorgen.errors import DomainError, ShapeError

__all__ = [
    "dno_loss",
    "inpo_loss",
    "ipo_loss",
    "nash_md_loss",
    "onpo_loss",
    "opmd_loss",
    "rebel_loss",
    "squared_preference_loss",
]


def rebel_loss(log_policy: Tensor, log_old: Tensor, rewards: Tensor, *, step_size: float) -> Tensor:
    """``(d(log pi - log pi_old) - eta d(r))^2``, zero for all pairs at ``pi_old exp(eta r)`` whatever the sampling.

    Args:
        log_policy: ``(*batch, 2)``.
        log_old: The same shape.
        rewards: The same shape, larger is better; win rates in a game.
        step_size: ``eta > 0``.

    Returns:
        ``(*batch)``.

    Raises:
        ShapeError: If shapes differ, or the last axis is no pair.
        DomainError: If ``step_size`` is not positive.

    Source: Gao et al., "REBEL: Reinforcement Learning via Regressing Relative Rewards", 2024.
    """
    check_same(pair=True, log_policy=log_policy, log_old=log_old, rewards=rewards)
    return (gap(log_policy - log_old) - check_positive(step_size, "step_size") * gap(rewards)).square()


def opmd_loss(log_policy: Tensor, log_old: Tensor, rewards: Tensor, *, temperature: float) -> Tensor:
    """``sum_(i<j) (a_i - a_j)^2 / size^2`` with ``a = r - tau log(pi / pi_old)``: REBEL over all pairs of a group.

    The step size is ``1 / tau``. The sum is the variance of ``a``, and no pair is formed. Its gradient at
    ``pi = pi_old`` is ``2 tau`` times that of the group-relative ``group_reinforce_loss``.

    Args:
        log_policy: ``(*batch, size)``, answers to one prompt on the last axis.
        log_old: The same shape.
        rewards: The same shape.
        temperature: ``tau > 0``.

    Returns:
        ``(*batch)``, in units of squared rewards.

    Source: Yao et al., "Group-Relative REINFORCE Is Secretly an Off-Policy Algorithm: Demystifying Some Myths About
    GRPO and Its Friends", 2025.
    """
    check_same(log_policy=log_policy, log_old=log_old, rewards=rewards)
    consistent = rewards - check_positive(temperature, "temperature") * (log_policy - log_old)
    return consistent.var(-1, correction=0)


def dno_loss(log_policy: Tensor, log_old: Tensor, rewards: Tensor, *, step_size: float) -> Tensor:
    """``-s log sigmoid(h) - (1 - s) log sigmoid(-h)`` with ``s = sigmoid(d(r))``, ``h = d(log pi / pi_old) / eta``.

    Smallest for all pairs at once at ``pi_old exp(eta r)``. In publications the factor of ``h`` is ``eta`` itself.

    Args:
        log_policy: ``(*batch, 2)``.
        log_old: The same shape.
        rewards: The same shape: win rates ``P(y > pi_old)``.
        step_size: ``eta > 0``.

    Returns:
        ``(*batch)``; at the minimum the entropy of ``s``, not zero.

    Source: Rosset et al., "Direct Nash Optimization: Teaching Language Models to Self-Improve with General
    Preferences", 2024.
    """
    check_same(pair=True, log_policy=log_policy, log_old=log_old, rewards=rewards)
    logit = gap(log_policy - log_old) / check_positive(step_size, "step_size")
    return binary_cross_entropy_with_logits(logit, gap(rewards).sigmoid(), reduction="none")


def squared_preference_loss(log_policy: Tensor, log_anchor: Tensor, preference: Tensor, *, step_size: float) -> Tensor:
    """``(h - eta / 2)^2`` of winner over loser, ``h = d(log pi - log anchor)``: the form behind IPO, INPO and ONPO.

    A preference between 0 and 1 gives the expectation over labels. Over pairs of two answers drawn from ``mu`` it is
    smallest at ``anchor exp(eta P(. > mu))``: labels stand in for win rates, which nothing has to estimate.

    Args:
        log_policy: ``(*batch, 2)``.
        log_anchor: The same shape; constants per prompt do not matter.
        preference: ``(*batch)``, of the first over the second answer.
        step_size: ``eta > 0``.

    Returns:
        ``(*batch)``.

    Raises:
        ShapeError: If shapes do not fit.
        DomainError: If ``step_size`` is not positive.
    """
    check_same(pair=True, log_policy=log_policy, log_anchor=log_anchor)
    _check_preference(preference, log_policy)
    h, target = gap(log_policy - log_anchor), 0.5 * check_positive(step_size, "step_size")
    return preference * (h - target).square() + (1 - preference) * (h + target).square()


def ipo_loss(log_policy: Tensor, log_reference: Tensor, preference: Tensor, *, beta: float) -> Tensor:
    """``(h - 1 / (2 beta))^2`` against the reference: one step of size ``1 / beta`` from it.

    Args: as in ``squared_preference_loss``; ``beta > 0`` weighs the reference.

    Source: Azar et al., "A General Theoretical Paradigm to Understand Learning from Human Preferences", 2023.
    """
    step_size = 1 / check_positive(beta, "beta")
    return squared_preference_loss(log_policy, log_reference, preference, step_size=step_size)


def inpo_loss(
    log_policy: Tensor, log_old: Tensor, log_reference: Tensor, preference: Tensor, *, step_size: float, beta: float
) -> Tensor:
    """``(h - eta / 2)^2`` against ``pi_old^(1 - eta beta) ref^(eta beta)``: ``MirrorDescent(linear=True)`` of the game.

    With pairs from ``pi_old``. The step with exact penalty, of size ``e``, is this one with ``eta = e / (1 + e beta)``.

    Args: as in ``squared_preference_loss``; ``eta beta <= 1`` is the weight of the reference.

    Raises:
        DomainError: If ``step_size`` is not positive, or ``step_size * beta`` outside ``[0, 1]``.

    Source: Zhang et al., "Iterative Nash Policy Optimization: Aligning LLMs with General Preferences via No-Regret
    Learning", 2024.
    """
    check_same(log_old=log_old, log_reference=log_reference)
    weight = step_size * beta
    if not 0 <= weight <= 1:
        raise DomainError(f"step_size * beta must lie in [0, 1], got {weight}; take smaller steps")
    anchor = (1 - weight) * log_old + weight * log_reference
    return squared_preference_loss(log_policy, anchor, preference, step_size=step_size)


def onpo_loss(log_policy: Tensor, log_anchor: Tensor, preference: Tensor, *, step_size: float) -> Tensor:
    """``(h - eta / 2)^2`` against the anchor of ``OptimisticMirrorDescent``, with pairs from the current policy.

    A round fits twice on the same labelled pairs of ``pi_t``: the next anchor against the last one, then the next
    policy against the next anchor.

    Args: as in ``squared_preference_loss``.

    Source: Zhang et al., "Improving LLM General Preference Alignment via Optimistic Online Mirror Descent", 2025.
    """
    return squared_preference_loss(log_policy, log_anchor, preference, step_size=step_size)


def nash_md_loss(
    log_policy: Tensor, log_reference: Tensor, preference: Tensor, *, beta: float, control: float = 0.5
) -> Tensor:
    """``-(P(y > y') - 1/2 - beta log(pi / ref)(y)) log pi(y)`` with the bracket held constant: a policy gradient.

    ``y`` comes from the policy and ``y'`` from the mixture with the reference. Only the gradient has a meaning: it is
    minus an unbiased estimate of that of ``P(pi > mixture) - beta KL(pi || ref)``.

    Args:
        log_policy: ``(*batch)`` of ``y``.
        log_reference: The same shape.
        preference: The same shape, of ``y`` over ``y'``.
        beta: At least 0.
        control: Constant that is taken off the preference; it changes the variance alone.

    Returns:
        ``(*batch)``.

    Source: Munos et al., "Nash Learning from Human Feedback", 2023.
    """
    check_same(log_policy=log_policy, log_reference=log_reference, preference=preference)
    if not beta >= 0:
        raise DomainError(f"beta must be at least 0, got {beta}")
    advantage = preference - control - beta * (log_policy - log_reference)
    return -advantage.detach() * log_policy


def gap(value: Tensor) -> Tensor:
    """First minus second of pairs ``(*batch, 2)``."""
    return value[..., 0] - value[..., 1]


def check_positive(value: float, name: str) -> float:
    """``value``, or a ``DomainError`` if it is not a positive number."""
    if not 0 < value < float("inf"):
        raise DomainError(f"{name} must be a positive number, got {value}")
    return value


def check_same(*, pair: bool = False, **tensors: Tensor) -> None:
    """Raise ``ShapeError`` unless all have one shape, ending in 2 for pairs."""
    shapes = {name: tuple(t.shape) for name, t in tensors.items()}
    if len(set(shapes.values())) != 1:
        raise ShapeError(f"log-probabilities and rewards must have one shape, got {shapes}")
    if pair and next(iter(shapes.values()))[-1:] != (2,):
        raise ShapeError(f"pairs must lie on the last axis, (*batch, 2): torch.stack([y, other], -1); got {shapes}")


def _check_preference(preference: Tensor, log_policy: Tensor) -> None:
    if preference.shape != log_policy.shape[:-1]:
        expected = tuple(log_policy.shape[:-1])
        raise ShapeError(f"preference must have one number per pair, {expected}, got {tuple(preference.shape)}")
    if preference.dtype == torch.bool:
        raise ShapeError("preference must be a floating-point tensor; pass labels as .to(log_policy.dtype)")
