"""Laws of actions as plain tensors: Stable-Baselines3's distributions are overwritten by the next forward pass.

Divergences read ``D(new, old)`` and are those of the joint action: summed over its coordinates, never averaged.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from stable_baselines3.common import distributions as sb3
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.divergences import kl, tsallis_bregman, tsallis_kl
from mirrorgen.geometry.gaussian_divergences import DiagonalGaussian, gaussian_tsallis_kl

__all__ = ["ActionLaw", "Kind", "action_law", "divergence"]

Kind = Literal["bregman", "relative"]


@dataclass(frozen=True)
class ActionLaw:
    """The law of an action at each of ``n`` observations.

    Args:
        tensors: Log-probabilities ``(n, *coordinates, choices)``, one tensor for each discrete factor; or mean and
            log-deviation ``(n, d)`` if ``gaussian``, before squashing: a divergence does not change under ``tanh``.
        gaussian: Which of the two.
    """

    tensors: tuple[Tensor, ...]
    gaussian: bool = False

    def rows(self, index: Tensor) -> "ActionLaw":
        """The law at some of the observations."""
        return ActionLaw(tuple(t[index] for t in self.tensors), self.gaussian)

    def detach(self) -> "ActionLaw":
        """A constant copy."""
        return ActionLaw(tuple(t.detach().clone() for t in self.tensors), self.gaussian)

    def uniform(self) -> "ActionLaw":
        """The uniform law on the actions that have mass.

        Raises:
            DomainError: If actions are continuous: there is none on all of space.
        """
        if self.gaussian:
            raise DomainError("no uniform law exists on a continuous action space; use magnet='moving'")
        zero = (torch.where(t > -torch.inf, 0.0, t) for t in self.tensors)
        return ActionLaw(tuple(z.log_softmax(-1).detach() for z in zero))


def action_law(distribution: sb3.Distribution) -> ActionLaw:
    """The parameters of a distribution of Stable-Baselines3, with gradient."""
    if isinstance(distribution, sb3.CategoricalDistribution):
        return ActionLaw((distribution.distribution.logits,))
    if isinstance(distribution, sb3.MultiCategoricalDistribution):
        return ActionLaw(tuple(factor.logits for factor in distribution.distribution))
    if isinstance(distribution, sb3.BernoulliDistribution):
        logits = distribution.distribution.logits
        return ActionLaw((torch.stack([torch.zeros_like(logits), logits], -1).log_softmax(-1),))
    if isinstance(distribution, sb3.DiagGaussianDistribution | sb3.StateDependentNoiseDistribution):
        return ActionLaw((distribution.distribution.mean, distribution.distribution.stddev.log()), True)
    raise DomainError(f"no divergence is known between laws of type {type(distribution).__name__}")


def divergence(new: ActionLaw, old: ActionLaw, q: float = 1.0, kind: Kind = "bregman") -> Tensor:
    """``D_q(new, old)`` per observation ``(n)``.

    Args:
        new: First argument, under which ``kl`` takes expectations.
        old: Second argument.
        q: Tsallis index; 1 for the Kullback-Leibler divergence.
        kind: ``"bregman"``, the divergence of Tsallis' potential, discrete actions only; ``"relative"``, Tsallis'
            relative entropy ``(E_new[(new / old)^(q-1)] - 1) / (q - 1)``.

    Raises:
        DomainError: If ``kind`` is ``"bregman"``, ``q`` is not 1 and actions are continuous.
    """
    if new.gaussian:
        p, m = DiagonalGaussian(*new.tensors), DiagonalGaussian(*old.tensors)
        check_kind(q, kind, continuous=True)
        return gaussian_tsallis_kl(p, m, q)
    one = kl if q == 1 else (lambda a, b: (tsallis_bregman if kind == "bregman" else tsallis_kl)(a, b, q))
    terms = (one(a, b) for a, b in zip(new.tensors, old.tensors, strict=True))
    return torch.stack([t.flatten(1).sum(-1) if t.ndim > 1 else t for t in terms]).sum(0)


def check_kind(q: float, kind: Kind, *, continuous: bool) -> None:
    """Raise ``DomainError`` for an index or a kind of divergence that the actions do not have."""
    if not q > 0:
        raise DomainError(f"q must be positive, got {q}")
    if continuous and q != 1 and kind == "bregman":
        raise DomainError(
            "the Bregman divergence of Tsallis' potential of a density depends on the unit of the actions; "
            "use divergence='relative', or q=1"
        )
