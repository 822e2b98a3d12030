"""The Moreau-Yosida unadjusted Langevin algorithm."""

from dataclasses import KW_ONLY, dataclass, field

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.bregman import ProximalFunction, envelope_gradient
from mirrorgen.geometry.domains import Euclidean
from mirrorgen.geometry.mirror_maps import Quadratic
from mirrorgen.samplers.density import value_and_score
from mirrorgen.samplers.langevin.primal import PrimalLangevin, PrimalPoint

__all__ = ["MYULA", "composite_value"]


def composite_value(smooth: Tensor, nonsmooth: ProximalFunction, x: Tensor) -> Tensor:
    """``-f(x) - g(x)``, without ``g`` where it is infinite: unadjusted chains do leave the set of an ``Indicator``."""
    g = nonsmooth(x)
    return smooth - torch.where(torch.isinf(g), 0.0, g)


@dataclass(frozen=True, eq=False)
class MYULA(PrimalLangevin):
    """Langevin steps for ``exp(-f - g)`` with the Moreau envelope of ``g`` in its place; unadjusted, on all of space.

    ``x' = x - h grad f(x) - (h / lambda) (x - prox_{lambda g}(x)) + sqrt(2h) xi``. Two biases: that of the smoothing,
    whose law is ``exp(-f - env)``, and that of the step. The exact form is ``BregmanMoreauLangevin`` with
    ``Quadratic``, adjusted.

    One step costs one gradient of ``f`` and one proximity operator.

    Args:
        log_density: The smooth part ``-f``, points ``(chains, dim)`` to values ``(chains,)``.
        space: A ``Euclidean`` space.
        step_size: ``h``, positive; stable up to about ``2 / (L + 1 / lambda)``, ``L`` the Lipschitz constant of
            ``grad f``, where the envelope is curved.
        nonsmooth: ``g``.
        smoothing: ``lambda``, positive.

    Raises:
        DomainError: If the domain is constrained or ``smoothing`` is not positive.

    Source: Durmus, Moulines, Pereyra, "Efficient Bayesian computation by proximal Markov chain Monte Carlo: when
    Langevin meets Moreau", 2018; Brosse, Durmus, Moulines, Pereyra, "Sampling from a log-concave distribution with
    compact support with proximal Langevin Monte Carlo", 2017 (indicators).
    """

    _: KW_ONLY
    nonsmooth: ProximalFunction
    smoothing: float = 0.01
    energy: Quadratic = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.space, Euclidean) or not self.smoothing > 0:
            raise DomainError(
                f"MYULA moves freely and smooths with lambda > 0, got {self.space!r} and {self.smoothing}; put an "
                "Indicator of the set in nonsmooth, or use ReflectedLangevin"
            )
        object.__setattr__(self, "energy", Quadratic(self.space))

    def _arrive(self, x: Tensor, step: Tensor) -> Tensor:
        return self.space.pull_inside(x + step)[0]

    def _at(self, x: Tensor) -> PrimalPoint:
        value, score = value_and_score(self.log_density, x)
        drift = score - envelope_gradient(self.energy, self.nonsmooth, x, self.smoothing)
        return PrimalPoint(x, composite_value(value, self.nonsmooth, x), drift)
