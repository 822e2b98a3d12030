"""What interacting particles have in common: sets of rows of the state, a kernel, a step rule."""

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mirrorgen.errors import ShapeError
from mirrorgen.samplers.base import Info, Kernel, Noise, NoiseShape, check_log_density, unadjusted
from mirrorgen.samplers.density import LogDensity, score
from mirrorgen.samplers.stein.kernels import IMQ, RadialKernel
from mirrorgen.samplers.stein.optimizers import Optimizer, RMSprop

__all__ = ["ParticleKernel", "Particles"]


class Particles(NamedTuple):
    """The state of particles; rows of one set are adjacent.

    Attributes:
        x: Points ``(sets * n, dim)``.
        y: The coordinates that move ``(sets * n, dual_dim)``: dual points, or the chart of the domain.
        memory: What the step rule keeps, ``(sets * n, slots, dual_dim)``.
        iteration: Steps taken, an integer without axes.
        start: Where the next inverse of the map starts, or None.
        metric: ``SVNG``'s running mean of the metric ``(sets * n, dim, dim)``.
        slope: Its derivative, by the last axis, ``(sets * n, dim, dim, dim)``.
    """

    x: Tensor
    y: Tensor
    memory: Tensor
    iteration: Tensor
    start: Tensor | None = None
    metric: Tensor | None = None
    slope: Tensor | None = None


@dataclass(frozen=True, eq=False)
class ParticleKernel(Kernel):
    """Deterministic updates of particles that interact within their set.

    ``run`` sees particles as chains: ``x (sets * n, dim)``, of which every ``set_size`` consecutive rows form a set.
    Steps consume no noise. A score that is not finite counts as zero in that step and its particle in
    ``Info.nonfinite``; a particle whose direction overflows rests, and is counted too.

    Args:
        log_density: Unnormalised log-density, points ``(particles, dim)`` to values ``(particles,)``; differentiable,
            or with a ``score`` attribute.
        optimizer: How a direction becomes a step.
        kernel: The reproducing kernel.
        set_size: Particles per set; None makes one set of all.
    """

    log_density: LogDensity
    _: KW_ONLY
    optimizer: Optimizer = field(default_factory=RMSprop)
    kernel: RadialKernel = field(default_factory=IMQ)
    set_size: int | None = None

    interacting: ClassVar[bool] = True

    @property
    def noise_shape(self) -> NoiseShape:
        return NoiseShape()

    def init(self, x: Tensor) -> Particles:
        self.check_start(x)
        if self.set_size is not None and (self.set_size < 1 or len(x) % self.set_size):
            raise ShapeError(f"{len(x)} particles do not make sets of {self.set_size}")
        check_log_density(self.log_density(x), len(x))
        x, y, start = self._place(self._coordinates(x), None)
        return Particles(x, y, self.optimizer.init(y), torch.zeros((), dtype=torch.int64, device=x.device), start)

    def step(self, state: Particles, noise: Noise) -> tuple[Particles, Info]:
        gradient = score(self.log_density, state.x)
        finite = torch.isfinite(gradient).all(-1)
        direction = self._direction(state, torch.where(finite.unsqueeze(-1), gradient, 0.0))
        known = torch.isfinite(direction).all(-1)
        direction = torch.where(known.unsqueeze(-1), direction, 0.0)
        moved, memory = self.optimizer.step(state.y, direction, state.memory, state.iteration)
        x, y, start = self._place(moved, state.start)
        new = state._replace(x=x, y=y, memory=memory, iteration=state.iteration + 1, start=start)
        return new, unadjusted(finite & known)

    def _sets(self, t: Tensor) -> Tensor:
        """``(sets * n, ...)`` as ``(sets, n, ...)``."""
        return t.unflatten(0, (-1, self.set_size or len(t)))

    @abstractmethod
    def _coordinates(self, x: Tensor) -> Tensor:
        """The coordinates that move."""

    @abstractmethod
    def _place(self, y: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Points, coordinates (as they are after the constraint) and the next start."""

    @abstractmethod
    def _direction(self, state: Particles, gradient: Tensor) -> Tensor:
        """The direction ``(sets * n, dual_dim)`` from ``gradient = grad log p (sets * n, dim)``."""
