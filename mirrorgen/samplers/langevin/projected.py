"""Projected Langevin."""

from dataclasses import dataclass

from torch import Tensor

from mirrorgen.samplers.langevin.primal import PrimalLangevin

__all__ = ["ProjectedLangevin"]


@dataclass(frozen=True, eq=False)
class ProjectedLangevin(PrimalLangevin):
    """``x' = project(x + h grad log p(x) + sqrt(2h) xi)``, then pulled strictly inside. Unadjusted.

    The law of the chain has atoms: every step that leaves the domain ends on its boundary, up to the rounding of
    ``pull_inside``, with a probability of order ``sqrt(h)``. Judge it by moments and quantiles, not by densities or
    log-densities, which atoms on the boundary make meaningless.

    One step costs one gradient and one Euclidean projection.

    Args:
        log_density: Unnormalised log-density, points ``(chains, dim)`` to values ``(chains,)``.
        space: The domain.
        step_size: ``h``, positive.

    Source: Bubeck, Eldan, Lehec, "Sampling from a log-concave distribution with projected Langevin Monte Carlo", 2018.
    """

    def _arrive(self, x: Tensor, step: Tensor) -> Tensor:
        return self.space.pull_inside(self.space.project(x + step))[0]
