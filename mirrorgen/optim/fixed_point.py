"""Averaged fixed-point iterations in dual coordinates."""

from collections.abc import Callable

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.mirror_maps import MirrorMap

__all__ = ["averaged_fixed_point", "harmonic_weight"]


def harmonic_weight(t: int) -> float:
    """``2 / (t + 2)``: one in the first step, then falling."""
    return 2 / (t + 2)


def averaged_fixed_point(
    operator: Callable[[Tensor], Tensor],
    mirror_map: MirrorMap,
    start: Tensor,
    *,
    steps: int,
    weight: float | Callable[[int], float] = 0.5,
    callback: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """``y+ = (1 - a_t) y + a_t grad phi(T(x))``: Krasnoselskii and Mann's iteration on dual points.

    A constant weight in ``(0, 1)`` converges for operators that do not expand, one is Picard's iteration and the best
    choice for contractions: averaging slows those down. In particular ``harmonic_weight``, ``a_t = 2 / (t + 2)``, does
    not accelerate. For ``grad phi(T(x)) = c grad phi(x)`` with ``0 < c < 1`` it gives
    ``|y_t| = |y_0| prod_s (1 - 2 (1 - c) / (s + 2))``, which falls like ``t^(-2 (1 - c))``, and divergences like its
    square; Picard's ``c^t`` is exponentially smaller. A rate ``1 / t^2`` of the divergence, as has been claimed for all
    contractions, holds for ``c <= 1/2`` only. For real acceleration see ``accelerated_mirror_descent`` and
    ``MirrorProx``.

    Args:
        operator: ``T``, from points ``(*batch, dim)`` to points strictly inside.
        mirror_map: The geometry to average in.
        start: Points strictly inside ``(*batch, dim)``.
        steps: Number of steps.
        weight: ``a_t`` in ``(0, 1]``, or a function of the step ``t = 0, 1, ...``.
        callback: Called with the step's number and ``x``.

    Returns:
        The last points, strictly inside.

    Raises:
        DomainError: If a weight is out of range, or a point outside.
        ShapeError: If the last axis of points is not the domain's.

    Sources: Mann, "Mean Value Methods in Iteration", 1953; Krasnoselskii, "Two Remarks on the Method of Successive
    Approximations", 1955; the claim corrected above: Fein-Ashley, "Iterate to Accelerate", 2025.
    """
    y, x = mirror_map.to_dual(start), start
    for t in range(steps):
        a = weight(t) if callable(weight) else weight
        if not 0 < a <= 1:
            raise DomainError(f"weights must lie in (0, 1], got {a} in step {t}")
        y = torch.lerp(y, mirror_map.to_dual(operator(x)), a)
        x = mirror_map.to_primal(y)
        if callback is not None:
            callback(t + 1, x)
    return x
