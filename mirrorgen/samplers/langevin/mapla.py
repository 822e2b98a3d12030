"""Metropolis-adjusted preconditioned Langevin in the primal."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.hessian import HessianOperator
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.samplers.base import Info, Kernel, Noise, NoiseShape, check_log_density, choose, metropolis
from mirrorgen.samplers.density import LogDensity
from mirrorgen.samplers.langevin.proposal import (
    barrier_of,
    factored,
    gaussian_log_ratio,
    restored,
    value_and_gradient,
)

__all__ = ["MAPLA", "MetricPoint"]


class MetricPoint(NamedTuple):
    """A point and what the next step needs of it.

    Attributes:
        x: Points ``(chains, dim)``.
        z: Their coordinates ``(chains, dual_dim)``.
        log_density: ``log_density(x)`` ``(chains,)``.
        drift: ``G(x)^-1`` times its gradient in the coordinates ``(chains, dual_dim)``.
        log_det: ``log det G(x)`` ``(chains,)``.
        factor: Cholesky factor of ``G(x)`` ``(chains, d, d)``; None where ``G`` is structured.
    """

    x: Tensor
    z: Tensor
    log_density: Tensor
    drift: Tensor
    log_det: Tensor
    factor: Tensor | None


@dataclass(frozen=True, eq=False)
class MAPLA(Kernel):
    """Langevin proposals in the metric of a barrier, ``z' ~ N(z + h G^-1 grad log p, 2h G^-1)``, and Metropolis' test.

    ``G`` is the Hessian of the map at the point, ``z`` are chart coordinates; proposals outside the domain are
    rejected. No dual point is needed, so the domain may be one whose dual is not full. With the logarithmic barrier
    invariant under affine maps of the domain.

    One step costs one gradient and one Hessian: O(d) where it is structured (boxes, balls, simplices); on polytopes
    with ``m`` rows O(m d^2 + d^3), and its factor is kept in the state.

    Args:
        log_density: Unnormalised log-density, points ``(chains, dim)`` to values ``(chains,)``.
        mirror_map: The map whose Hessian is the metric, or a domain, which stands for its logarithmic barrier.
        step_size: ``h``, positive.
        drift: Whether proposals use the gradient; without it this is the Dikin walk (see ``DikinWalk``).

    Source: Srinivasan, Wibisono, Wilson, "High-accuracy sampling from constrained spaces with the Metropolis-adjusted
    preconditioned Langevin algorithm", 2025; the simplified manifold MALA of Girolami, Calderhead, "Riemann manifold
    Langevin and Hamiltonian Monte Carlo methods", 2011, in the metric of a barrier.
    """

    log_density: LogDensity
    mirror_map: MirrorMap | Domain
    step_size: float | Tensor = 0.01
    drift: bool = True

    target_acceptance: ClassVar[float | None] = 0.574

    def __post_init__(self) -> None:
        object.__setattr__(self, "mirror_map", self.metric)

    @property
    def metric(self) -> MirrorMap:
        """The map whose Hessian is the metric."""
        return barrier_of(self.mirror_map)

    @property
    def domain(self) -> Domain:
        """The domain of the map."""
        return self.metric.domain

    @property
    def noise_shape(self) -> NoiseShape:
        return NoiseShape(normal=self.domain.dual_dim, uniform=1)

    def init(self, x: Tensor) -> MetricPoint:
        self.check_start(x)
        state, _ = self._at(x, self.metric.coordinates(x))
        check_log_density(state.log_density, len(x))
        return state

    def _at(self, x: Tensor, z: Tensor) -> tuple[MetricPoint, HessianOperator]:
        value, gradient = value_and_gradient(self.log_density, self.metric, x, self.drift)
        hessian, factor = factored(self.metric.hessian(x), x.dtype)
        drift = hessian.solve(gradient) if self.drift else gradient
        return MetricPoint(x, z, value, drift, hessian.logdet(), factor), hessian

    def step(self, state: MetricPoint, noise: Noise) -> tuple[MetricPoint, Info]:
        h = self.step_size
        here = restored(state.factor, lambda: self.metric.hessian(state.x), state.x.dtype)
        move = h * state.drift + (2 * h) ** 0.5 * here.inv_sqrt_mv(noise.normal)
        z = state.z + move
        x = self.metric.from_coordinates(z)
        inside = self.domain.contains(x)
        keep = inside.unsqueeze(-1)
        point, there = self._at(torch.where(keep, x, state.x), torch.where(keep, z, state.z))
        back = move + h * point.drift
        gain, log_det_drop = point.log_density - state.log_density, point.log_det - state.log_det
        log_ratio = gaussian_log_ratio(gain, log_det_drop, noise.normal, (back * there.mv(back)).sum(-1), h)
        # A point outside has density zero; one that is not finite is an overflow.
        outside = torch.where(torch.isfinite(z).all(-1), -torch.inf, torch.nan)
        info = metropolis(torch.where(inside, log_ratio, outside), noise.uniform[:, 0])
        return choose(info.accepted, point, state), info
