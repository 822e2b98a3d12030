"""Stein variational gradient descent in the metric of the average curvature."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.samplers.stein.direction import centered, stein_direction
from mirrorgen.samplers.stein.svgd import SVGD

__all__ = ["Metric", "MatrixSVGD", "average_factor"]

Metric = Callable[[Tensor], Tensor]
"""``metric(x)``: points ``(particles, dim)`` to symmetric positive definite matrices ``(particles, dim, dim)``."""


def average_factor(metric: Metric, x: Tensor) -> Tensor:
    """The lower Cholesky factor ``(sets, 1, dim, dim)`` of the mean metric of each set ``x (sets, n, dim)``."""
    matrices = metric(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(1, keepdim=True)
    return torch.linalg.cholesky(matrices)


@dataclass(frozen=True, eq=False)
class MatrixSVGD(SVGD):
    """``SVGD`` with the constant matrix kernel ``Q^-1 k_Q``, ``Q`` the mean of a metric over the particles.

    ``k_Q`` takes its distances in ``|v|_Q``. With ``Q = L L^T`` this is ``SVGD`` in the coordinates ``u = L^T x``, and
    its direction there, ``Phi``, becomes ``L^-T Phi``: no matrix kernel is formed. Fisher's information or a
    Gauss-Newton matrix are natural metrics.

    Args:
        metric: Points ``(particles, dim)`` to positive definite matrices ``(particles, dim, dim)``.

    Source: Wang, Tang, Bajaj, Liu, "Stein variational gradient descent with matrix-valued kernels", 2019, with the
    averaged preconditioner.
    """

    metric: Metric

    def _stein(self, x: Tensor, scores: Tensor) -> Tensor:
        factor = average_factor(self.metric, x).squeeze(1)
        u = centered(x) @ factor
        pulled = torch.linalg.solve_triangular(factor, scores.mT, upper=False).mT
        phi = stein_direction(u, pulled, self.kernel)
        return torch.linalg.solve_triangular(factor.mT, phi.mT, upper=True).mT
