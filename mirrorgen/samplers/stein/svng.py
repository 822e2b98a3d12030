"""Stein variational natural gradient."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.hessian import DenseHessian
from mirrorgen.samplers.base import Info, Noise
from mirrorgen.samplers.stein.direction import centered
from mirrorgen.samplers.stein.matrix_svgd import Metric
from mirrorgen.samplers.stein.particles import Particles
from mirrorgen.samplers.stein.repulsion import DenseRepulsion, dense_inverse
from mirrorgen.samplers.stein.spectral import decorrelated_direction
from mirrorgen.samplers.stein.svgd import SVGD
from mirrorgen.samplers.stein.svmd import check_spectral

__all__ = ["SVNG"]


@dataclass(frozen=True, eq=False)
class SVNG(SVGD):
    """``SVMD`` with a user's metric ``G`` in place of the Hessian of a map, on all of space.

    ``x_m <- x_m + step of G(x_m)^-1 g_m``, ``g = S^(1/2) [G(x_m) (S^(-1/2) Phi)_m]_m`` with the Gram matrix ``S`` of
    the kernel and ``Phi`` the mirrored Stein direction whose scores are ``G^-1 grad log p + div G^-1``. Metric and
    derivative are running means along each particle's path, ``rho_t = min(1 - 1/t, decay)``, which steadies estimates
    from parts of the data. Derivatives come from forward differentiation of ``metric``: O(n d^3) numbers; ``d`` up to
    about a hundred.

    Args:
        metric: Points ``(particles, dim)`` to positive definite matrices ``(particles, dim, dim)``, such as Fisher's
            information; each matrix may depend on its own point only.
        decay: Of the running means, in ``[0, 1)``; 0 takes the metric of the moment.
        damping: Added to the diagonal of the running metric before it is inverted.
        truncation: As for ``SVMD``.
        jitter: As for ``SVMD``.

    Raises:
        DomainError: If a parameter is out of range.

    Source: Shi, Liu, Mackey, "Sampling with mirrored Stein operators", 2022.
    """

    metric: Metric
    decay: float = 0.95
    damping: float = 1e-2
    truncation: float = 0.98
    jitter: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_spectral(self.truncation, self.jitter)
        if not 0 <= self.decay < 1 or not self.damping >= 0:
            raise DomainError(f"SVNG needs 0 <= decay < 1 and damping >= 0, got {self.decay} and {self.damping}")

    def init(self, x: Tensor) -> Particles:
        matrix = torch.zeros(*x.shape, x.shape[-1], dtype=x.dtype, device=x.device)
        return super().init(x)._replace(metric=matrix, slope=matrix.new_zeros(*matrix.shape, x.shape[-1]))

    def step(self, state: Particles, noise: Noise) -> tuple[Particles, Info]:
        metric, slope = self._metric_and_slope(state.x)
        if state.metric is not None and state.slope is not None:
            rho = (1 - 1 / (state.iteration.to(state.x) + 1)).clamp_max(self.decay)
            metric, slope = torch.lerp(metric, state.metric, rho), torch.lerp(slope, state.slope, rho)
        return super().step(state._replace(metric=metric, slope=slope), noise)

    def _metric_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        def one(point: Tensor) -> tuple[Tensor, Tensor]:
            matrix = self.metric(point.unsqueeze(0)).squeeze(0)
            return matrix, matrix

        slope, matrix = torch.func.vmap(torch.func.jacfwd(one, has_aux=True))(x)
        return matrix, slope

    def _direction(self, state: Particles, gradient: Tensor) -> Tensor:
        assert state.metric is not None
        assert state.slope is not None
        x, damping = self._sets(state.x), self.damping * torch.eye(state.x.shape[-1]).to(state.x)
        hessian = DenseHessian(self._sets(state.metric) + damping)
        inverse = dense_inverse(hessian, x)
        # div G^-1 = -G^-1 [sum_b (d_b G) G^-1]_b.
        change = torch.einsum("...abc,...bc->...a", self._sets(state.slope), inverse)
        scores = hessian.solve(self._sets(gradient) - change)
        z = centered(x)
        repulsion = DenseRepulsion(z, inverse)
        root, apart = decorrelated_direction(z, scores, self.kernel, repulsion, self.truncation, self.jitter)
        return hessian.solve(root.power(0.5, hessian.mv(apart))).flatten(0, 1)
