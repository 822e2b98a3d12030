"""Drifts: penalties on the ratio of new to old probabilities that keep a policy near the last one.

A drift is ``f(log_ratio, advantage) >= 0`` with ``f = 0`` and zero derivative at ratio one; the surrogate is
``mean(ratio advantage - f)``. Proximal methods differ in it alone.

Source: Kuba, Schroeder de Witt, Foerster, "Mirror Learning: A Unifying Framework of Policy Optimisation", 2022.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.errors import DomainError

__all__ = ["ClipDrift", "DiscoveredDrift", "Drift", "KLDrift", "check_drift", "surrogate"]

Drift = Callable[[Tensor, Tensor], Tensor]
"""``f(log_ratio, advantage)``, elementwise."""


@dataclass(frozen=True)
class ClipDrift:
    """``relu((r - clip(r, 1 - e, 1 + e)) A)``: with it the surrogate is that of PPO.

    Source: Schulman, Wolski, Dhariwal, Radford, Klimov, "Proximal Policy Optimization Algorithms", 2017.
    """

    epsilon: float = 0.2

    def __call__(self, log_ratio: Tensor, advantage: Tensor) -> Tensor:
        ratio = log_ratio.exp()
        return torch.relu((ratio - ratio.clamp(1 - self.epsilon, 1 + self.epsilon)) * advantage)


@dataclass(frozen=True)
class DiscoveredDrift:
    """``relu((r - 1) A - a tanh((r - 1) A / a))`` for ``A >= 0``, ``relu(log(r) A - b tanh(log(r) A / b))`` below.

    Source: Lu, Kuba, Letcher, Metz, Schroeder de Witt, Foerster, "Discovered Policy Optimisation", 2022.
    """

    alpha: float = 2.0
    beta: float = 0.6

    def __call__(self, log_ratio: Tensor, advantage: Tensor) -> Tensor:
        up, down = log_ratio.expm1() * advantage, log_ratio * advantage
        gain = torch.relu(up - self.alpha * torch.tanh(up / self.alpha))
        loss = torch.relu(down - self.beta * torch.tanh(down / self.beta))
        return torch.where(advantage >= 0, gain, loss)


@dataclass(frozen=True)
class KLDrift:
    """``(r log r - r + 1) / t``, whose mean under the old policy is ``KL(new || old) / t``: mirror descent's drift.

    The direction is that of mirror descent, new first. Non-negative for every sample, unlike ``r log r``.
    """

    step_size: float = 1.0

    def __call__(self, log_ratio: Tensor, advantage: Tensor) -> Tensor:
        return (log_ratio.exp() * log_ratio - log_ratio.expm1()) / self.step_size


def surrogate(log_ratio: Tensor, advantage: Tensor, drift: Drift) -> Tensor:
    """``mean(ratio advantage - drift)``, to be maximised."""
    return (log_ratio.exp() * advantage - drift(log_ratio, advantage)).mean()


@torch.no_grad()
def check_drift(drift: Drift, *, largest: float = 3.0) -> None:
    """Raise ``DomainError`` unless a drift is non-negative, zero at ratio one, and flat there.

    Args:
        drift: The drift.
        largest: Of ``|log ratio|`` on the grid of the test.
    """
    advantage = torch.linspace(-3, 3, 61, dtype=torch.float64).unsqueeze(-1)
    log_ratio = torch.linspace(-largest, largest, 241, dtype=torch.float64)
    values = drift(*torch.broadcast_tensors(log_ratio, advantage))
    if not bool((values >= 0).all()):
        raise DomainError(f"{drift!r} is negative somewhere (least value {float(values.min()):.3g}); a drift is not")
    # Finite differences: automatic ones are silent about kinks.
    step = 1e-6
    for shift in (-step, 0.0, step):
        near = drift(torch.full_like(advantage, shift), advantage)
        if float(near.abs().max()) > 1e-4 * step:
            raise DomainError(f"{drift!r} is not zero with zero slope at ratio one, where the policy has not moved")
