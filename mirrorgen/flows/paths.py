"""Probability paths between noise at time 0 and data at time 1."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["PathSample", "linear_path"]


class PathSample(NamedTuple):
    """A point of the path between ``x_0`` and ``x_1`` and its velocity.

    Attributes:
        x_0: Noise ``(n, dim)``.
        x_1: Data ``(n, dim)``.
        t: Times ``(n,)``.
        x_t: Points of the path ``(n, dim)``.
        dx_t: Velocities ``(n, dim)``, what the network regresses.
    """

    x_0: Tensor
    x_1: Tensor
    t: Tensor
    x_t: Tensor
    dx_t: Tensor


def linear_path(x_0: Tensor, x_1: Tensor, t: Tensor) -> PathSample:
    """``x_t = (1 - t) x_0 + t x_1`` with the velocity ``x_1 - x_0``.

    In the dual of a mirror map these lines are geodesics of the squared Hessian metric.

    Args:
        x_0: Noise ``(n, dim)``.
        x_1: Data ``(n, dim)``.
        t: Times in [0, 1], ``(n,)``.
    """
    dx_t = x_1 - x_0
    return PathSample(x_0, x_1, t, x_0 + t.unsqueeze(-1) * dx_t, dx_t)
