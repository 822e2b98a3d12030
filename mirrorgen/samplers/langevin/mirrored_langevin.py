"""Langevin dynamics on the law of the dual point."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.samplers.base import Info, Kernel, Noise, NoiseShape, choose, unadjusted
from mirrorgen.samplers.density import DualPoint, LogDensity
from mirrorgen.samplers.hmc import MirroredHMC, apply_scale

__all__ = ["MirroredLangevin"]


@dataclass(frozen=True, eq=False)
class MirroredLangevin(Kernel):
    """Langevin steps of constant covariance on the law of ``y = grad phi(x)``.

    ``y' = y + h S S^T grad log p_dual(y) + sqrt(2h) S xi`` with ``p_dual(y) = p(x) / det H(x)``; a discretisation of
    ``dY = grad log p_dual(Y) dt + sqrt(2) dB``, not of the mirror Langevin diffusion (see ``MirrorLangevin``).

    Adjusted (the default), this is ``MirroredHMC`` with one leapfrog step of size ``sqrt(2h)``: MALA on the dual law.
    ``adjusted=False`` keeps every proposal and is biased: its law differs from the target by O(h).

    One step costs one gradient of the dual law.

    Args:
        log_density: Unnormalised log-density, points ``(chains, dim)`` to values ``(chains,)``.
        mirror_map: A map with full dual space; entropic maps give light dual tails, which the method needs.
        step_size: ``h``, positive.
        adjusted: Whether Metropolis' test removes the bias.
        scale: ``S``, about a square root of the covariance of ``y``: ``(dual_dim,)`` or ``(dual_dim, dual_dim)``.

    Raises:
        DomainError: If the dual domain of the map is not the whole space.

    Source: Hsieh, Kavis, Rolland, Cevher, "Mirrored Langevin dynamics", 2018; the test: Roberts, Tweedie, "Exponential
    convergence of Langevin distributions and their discrete approximations", 1996.
    """

    log_density: LogDensity
    mirror_map: MirrorMap
    step_size: float | Tensor = 0.1
    adjusted: bool = True
    scale: Tensor | None = None

    target_acceptance: ClassVar[float | None] = 0.574

    def __post_init__(self) -> None:
        _ = self._leapfrog  # refuses maps without full dual
        if not self.adjusted:
            object.__setattr__(self, "target_acceptance", None)

    @property
    def domain(self) -> Domain:
        """The domain of the map."""
        return self.mirror_map.domain

    @property
    def noise_shape(self) -> NoiseShape:
        return NoiseShape(normal=self.domain.dual_dim, uniform=int(self.adjusted))

    @property
    def _leapfrog(self) -> MirroredHMC:
        step_size = math.sqrt(2.0) * self.step_size**0.5
        return MirroredHMC(self.log_density, self.mirror_map, step_size, num_steps=1, jitter=0.0, scale=self.scale)

    def init(self, x: Tensor) -> DualPoint:
        return self._leapfrog.init(x)

    def step(self, state: DualPoint, noise: Noise) -> tuple[DualPoint, Info]:
        leapfrog = self._leapfrog
        if self.adjusted:
            # The second uniform number is that of the jitter, which is off.
            return leapfrog.step(state, Noise(noise.normal, noise.uniform.expand(-1, 2)))
        eps = leapfrog.step_size
        momentum = noise.normal + 0.5 * eps * apply_scale(self.scale, state.gradient, transpose=True)
        end = leapfrog._mirrored.at(state.y + eps * apply_scale(self.scale, momentum), state.start)
        info = unadjusted(torch.isfinite(end.log_mirrored) & torch.isfinite(end.gradient).all(-1))
        return choose(info.accepted, end, state), info
