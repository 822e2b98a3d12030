"""The Dikin walk."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.samplers.base import Info, Kernel, Noise, NoiseShape
from mirrorgen.samplers.density import LogDensity
from mirrorgen.samplers.langevin.mapla import MAPLA, MetricPoint
from mirrorgen.samplers.langevin.proposal import barrier_of

__all__ = ["DikinWalk"]


@dataclass(frozen=True, eq=False)
class DikinWalk(Kernel):
    """Random walk in the metric of a barrier, ``z' ~ N(z, (r^2 / d) G(z)^-1)``, and Metropolis' test.

    ``MAPLA`` without drift at ``h = r^2 / (2d)``: the log-density enters the test alone, and its gradient is never
    asked for. Proposals outside the domain are rejected. One step costs one value of the log-density and one Hessian.

    Args:
        log_density: Unnormalised log-density, points ``(chains, dim)`` to values ``(chains,)``; a constant gives the
            walk for uniform laws.
        mirror_map: The map whose Hessian is the metric, or a domain, which stands for its logarithmic barrier.
        step_size: The radius ``r``, positive.

    Source: Kannan, Narayanan, "Random walks on polytopes and an affine interior point method for linear programming",
    2012; with Gaussian steps and the test: Narayanan, "Randomized interior point methods for sampling and
    optimization", 2016.
    """

    log_density: LogDensity
    mirror_map: MirrorMap | Domain
    step_size: float | Tensor = 0.5

    target_acceptance: ClassVar[float | None] = 0.4

    def __post_init__(self) -> None:
        object.__setattr__(self, "mirror_map", barrier_of(self.mirror_map))

    @property
    def _walk(self) -> MAPLA:
        domain = barrier_of(self.mirror_map).domain
        return MAPLA(self.log_density, self.mirror_map, self.step_size**2 / (2 * domain.dual_dim), drift=False)

    @property
    def domain(self) -> Domain:
        """The domain of the map."""
        return self._walk.domain

    @property
    def noise_shape(self) -> NoiseShape:
        return self._walk.noise_shape

    def init(self, x: Tensor) -> MetricPoint:
        return self._walk.init(x)

    def step(self, state: MetricPoint, noise: Noise) -> tuple[MetricPoint, Info]:
        return self._walk.step(state, noise)
