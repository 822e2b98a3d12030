"""Gibbs sampling of truncated normal laws."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from mirrorgen.geometry.domains import Domain
from mirrorgen.numerics import upcast
from mirrorgen.samplers.base import Info, Kernel, Noise, NoiseShape, check_log_density, unadjusted
from mirrorgen.samplers.walks.chord import open_chord
from mirrorgen.samplers.walks.frame import WalkState
from mirrorgen.samplers.walks.gaussian_frame import GaussianFrame, make_gaussian_frame
from mirrorgen.samplers.walks.scan import Scan, make_scan
from mirrorgen.targets import TruncatedNormal
from mirrorgen.targets.normal_interval import interval_quantile

__all__ = ["TruncatedGaussianGibbs"]


@dataclass(frozen=True, eq=False)
class TruncatedGaussianGibbs(Kernel):
    """Redraws each coordinate from its exact law given the others, a normal law on a chord; a step is one sweep.

    Nothing to tune and nothing rejected. Coordinates that share neither a constraint nor an entry of the precision
    move at once; a diagonal covariance on a box or an orthant gives independent draws. In whitened coordinates
    correlation slows the sweep down only as far as constraints cut through it (a box with correlations of 0.9 between
    neighbours: two to three times fewer sweeps than with the coordinates themselves).

    Inverse distribution functions are evaluated in logarithms beyond 3 standard deviations and everything runs in
    float64, so that the location may lie any number of standard deviations outside.

    Args:
        log_density: The target, on a set that half-spaces describe, bounded or not.
        whiten: Whether to sweep over whitened coordinates rather than those of the chart.

    Raises:
        DomainError: If the target is no ``TruncatedNormal`` or its domain has no half-spaces.

    Source: Gelfand, Smith, Lee, "Bayesian analysis of constrained parameter and truncated data problems using Gibbs
    sampling", 1992; whitened coordinates: Li, Ghosh, "Efficient sampling methods for truncated multivariate normal and
    Student-t distributions subject to linear inequality constraints", 2015.
    """

    log_density: TruncatedNormal
    whiten: bool = True
    law: GaussianFrame = field(init=False, repr=False)
    scan: Scan = field(init=False, repr=False)

    def __post_init__(self) -> None:
        law = make_gaussian_frame(self.log_density, self.whiten)
        axes = torch.eye(len(law.mean), dtype=law.mean.dtype, device=law.mean.device)
        object.__setattr__(self, "law", law)
        object.__setattr__(self, "scan", make_scan(axes, law.frame.rows, law.precision != 0))

    @property
    def domain(self) -> Domain:
        """The domain of the target."""
        return self.log_density.domain

    @property
    def noise_shape(self) -> NoiseShape:
        return NoiseShape(uniform=len(self.law.mean))

    def init(self, x: Tensor) -> WalkState:
        self.check_start(x)
        value = self.log_density(x)
        check_log_density(value, len(x))
        return WalkState(x, self.law.frame.enter(upcast(x)), value)

    @cached_property
    def _coupled(self) -> bool:
        """Whether a move of one coordinate changes the conditional means of others."""
        return bool((self.law.precision - torch.diag(self.law.precision.diagonal())).any())

    def step(self, state: WalkState, noise: Noise) -> tuple[WalkState, Info]:
        frame, mean, precision = self.law
        order, blocks = self.scan.order, self.scan.blocks
        precision = precision[order][:, order]
        variance = precision.diagonal().reciprocal().unsqueeze(-1)
        scale = variance.sqrt()
        # Minus the gradient of the energy; times the variance it is the way from here to the conditional mean.
        force = precision @ (mean - state.w).mT[order]
        table, uniform = self.scan.table(frame.slack(state.w)), upcast(noise.uniform.mT)
        taken = []
        for block in blocks:
            own = slice(block.first, block.first + block.size)
            table, part = block.take(table)
            low, high = open_chord(part, block.speed, 1)
            center = force[own] * variance[own]
            number = interval_quantile(uniform[own], (low - center) / scale[own], (high - center) / scale[own])
            t = torch.maximum(torch.minimum(center + scale[own] * number, high), low)
            table = block.move(table, part, t)
            force = torch.addmm(force, precision[:, own], t, alpha=-1) if self._coupled else force
            taken.append(t)
        w = state.w + torch.cat(taken).mT @ self.scan.directions
        x = frame.leave(w, state.x.dtype)
        return WalkState(x, w, self.log_density(x)), unadjusted(torch.isfinite(w).all(-1))
