"""What Langevin kernels that move in the coordinates of the domain share."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.geometry.domains import Domain
from mirrorgen.samplers.base import Info, Kernel, Noise, NoiseShape, check_log_density, choose, unadjusted
from mirrorgen.samplers.density import LogDensity, value_and_score

__all__ = ["PrimalLangevin", "PrimalPoint"]


class PrimalPoint(NamedTuple):
    """A point and its drift.

    Attributes:
        x: Points ``(chains, dim)``.
        log_density: ``log_density(x)`` ``(chains,)``.
        drift: The drift in the isometric chart ``(chains, dual_dim)``.
    """

    x: Tensor
    log_density: Tensor
    drift: Tensor


@dataclass(frozen=True, eq=False)
class PrimalLangevin(Kernel):
    """``v = h b(x) + sqrt(2h) xi`` in the isometric chart, then a rule that brings ``x + v`` back; unadjusted.

    Args:
        log_density: Unnormalised log-density, points ``(chains, dim)`` to values ``(chains,)``.
        space: The domain.
        step_size: ``h``, positive.
    """

    log_density: LogDensity
    space: Domain
    step_size: float | Tensor = 0.01

    @property
    def domain(self) -> Domain:
        """The domain."""
        return self.space

    @property
    def noise_shape(self) -> NoiseShape:
        return NoiseShape(normal=self.space.dual_dim)

    def init(self, x: Tensor) -> PrimalPoint:
        self.check_start(x)
        state = self._at(x)
        check_log_density(state.log_density, len(x))
        return state

    def step(self, state: PrimalPoint, noise: Noise) -> tuple[PrimalPoint, Info]:
        move = self.step_size * state.drift + (2 * self.step_size) ** 0.5 * noise.normal
        point = self._at(self._arrive(state.x, _tangent(self.space.from_chart, move)))
        finite = torch.isfinite(point.log_density) & torch.isfinite(point.drift).all(-1)
        info = unadjusted(finite)
        return choose(info.accepted, point, state), info

    @abstractmethod
    def _arrive(self, x: Tensor, step: Tensor) -> Tensor:
        """Where a step ``(chains, dim)`` from ``x`` ends, strictly inside."""

    def _at(self, x: Tensor) -> PrimalPoint:
        value, score = value_and_score(self.log_density, x)
        return PrimalPoint(x, value, _tangent(self.space.to_chart, score))


def _tangent(chart: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
    """The linear part of a chart or of its inverse."""
    return chart(v) - chart(torch.zeros_like(v))
