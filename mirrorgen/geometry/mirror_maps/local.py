"""A mirror map at one batch of dual points: one inverse, shared by everything that is derived from it."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mirrorgen.geometry.hessian import HessianOperator

if TYPE_CHECKING:
    from mirrorgen.geometry.mirror_maps.base import MirrorMap

__all__ = ["LocalGeometry", "usable_dual"]


def usable_dual(y: Tensor) -> Tensor:
    """Which dual points ``(..., 1)`` are finite, and small enough for squares of their entries to be."""
    return (y.abs() < math.sqrt(torch.finfo(y.dtype).max)).all(-1, keepdim=True)


class LocalGeometry:
    """What samplers need of a map at ``y``: the point, the Hessian there, its log-determinant and its gradient.

    Maps with iterative inverses override it, so that one solve serves all members and starts from the last one.

    Args:
        mirror_map: The map.
        y: Dual points ``(..., dual_dim)``.
        x: ``grad phi*(y)``, strictly inside ``(..., dim)``.
        start: What the next solve near ``y`` may start from, ``(..., k)``, or None.
    """

    def __init__(self, mirror_map: "MirrorMap", y: Tensor, x: Tensor, start: Tensor | None = None) -> None:
        self.mirror_map, self.y, self.x, self.start = mirror_map, y, x, start

    @property
    def hessian(self) -> HessianOperator:
        """The Hessian of ``phi`` at ``x``, acting on the coordinates of the map."""
        return self.mirror_map.hessian_dual(self.y)

    @property
    def log_det(self) -> Tensor:
        """``log |det d to_dual / d x|`` in the measure of the domain, ``(...)``."""
        return self.mirror_map.log_det_jacobian_dual(self.y)

    @property
    def log_det_gradient(self) -> Tensor:
        """``grad_y log_det``, ``(..., dual_dim)``; minus the divergence of the inverse Hessian at ``x``."""
        return self.mirror_map.log_det_gradient_dual(self.y)

    def dual_gradient(self, g: Tensor) -> Tensor:
        """The gradient in ``y`` of a function with gradient ``g (..., dim)`` in ``x``: ``H^-1 g`` in coordinates."""
        return self.hessian.solve(self.mirror_map.pull_back(g))

    def mirrored_score(self, score: Tensor) -> Tensor:
        """``grad_y [log p(x) - log_det]``, the score of the dual law, from ``grad log p (..., dim)`` at ``x``."""
        return self.dual_gradient(score) - self.log_det_gradient
