"""Accelerated Bregman proximal gradient descent."""

from collections.abc import Callable

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.mirror_maps import MirrorMap

__all__ = ["accelerated_mirror_descent"]


def accelerated_mirror_descent(
    gradient: Callable[[Tensor], Tensor],
    mirror_map: MirrorMap,
    start: Tensor,
    *,
    smoothness: float,
    steps: int,
    exponent: float = 2.0,
    callback: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Minimise a function that is ``L``-smooth relative to the map, at the rate ``O(1 / k^exponent)``.

    ``v = (1 - t) x + t z``, ``z+ = argmin <g(v), u> + t^(exponent - 1) L D(u, z)``, ``x+ = (1 - t) x + t z+`` with
    ``(1 - t_(k+1)) / t_(k+1)^exponent = 1 / t_k^exponent``. The exponent must be one of triangle scaling of the map,
    ``D((1 - t) x + t z, (1 - t) x + t w) <= t^exponent D(z, w)``: 1 holds for every jointly convex ``D``, 2 for the
    squared distance and, locally, for any map. Too large an exponent may diverge.

    Args:
        gradient: Of points ``(*batch, dim)``.
        mirror_map: The map.
        start: Points strictly inside ``(*batch, dim)``.
        smoothness: ``L``.
        steps: Number of steps.
        exponent: In ``[1, 2]``.
        callback: Called with the step's number and ``x``.

    Returns:
        ``x`` after all steps, strictly inside.

    Raises:
        DomainError: If a number is out of range, or ``start`` outside.

    Source: Hanzely, Richtarik, Xiao, "Accelerated Bregman Proximal Gradient Methods for Relatively Smooth Convex
    Optimization", 2021.
    """
    if not (smoothness > 0 and steps >= 0 and 1 <= exponent <= 2):
        raise DomainError("smoothness must be positive, steps at least 0, exponent in [1, 2]")
    y = mirror_map.to_dual(start)
    x = z = start
    theta = 1.0
    for k in range(steps):
        v = torch.lerp(x, z, theta)
        y = y - mirror_map.pull_back(gradient(v)) / (smoothness * theta ** (exponent - 1))
        z = mirror_map.to_primal(y)
        x = mirror_map.domain.pull_inside(torch.lerp(x, z, theta))[0]
        if callback is not None:
            callback(k + 1, x)
        theta = _next_theta(theta, exponent)
    return x


def _next_theta(theta: float, exponent: float) -> float:
    """The root of ``(1 - t) / t^exponent = 1 / theta^exponent`` by Newton's method, from above: ``theta`` itself."""
    t = theta
    for _ in range(60):
        # f(t) = t^e / theta^e + t - 1 is convex and increasing.
        value = (t / theta) ** exponent + t - 1
        t -= value / (exponent * (t / theta) ** exponent / t + 1)
        if abs(value) < 1e-15:
            break
    return t
