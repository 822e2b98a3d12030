"""Inverse gradients by iteration, with exact derivatives and under ``vmap``."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError
from mirrorgen.geometry.detached import derivatives_wanted, detached_solve
from mirrorgen.numerics import upcast

if TYPE_CHECKING:
    from mirrorgen.geometry.mirror_maps.base import MirrorMap

__all__ = ["detached_solve", "newton_inverse", "relative_residual"]


def relative_residual(residual: Tensor, y: Tensor) -> Tensor:
    """``|residual| / (1 + |y|)`` in the maximum norm over the last axis."""
    return residual.abs().amax(-1) / (1 + y.abs().amax(-1))


def newton_inverse(mirror_map: "MirrorMap", y: Tensor, tolerance: float = 1e-11, max_iterations: int = 200) -> Tensor:
    """Solve ``grad phi(x) = y`` by damped Newton in the chart, float64 inside, output in the dtype of ``y``.

    Minimises the convex ``phi(x) - <x, y>`` from the interior point, halving the step until the point is
    inside and the objective decreases (Armijo). Two Newton steps are replayed on the detached solution, which
    makes derivatives exact to third order in ``y`` and in every tensor that the map holds.

    Raises:
        ConvergenceError: If a row has not reached ``tolerance`` (relative) after ``max_iterations``.
    """
    target = upcast(y)
    with torch.no_grad():
        start = mirror_map.coordinates(mirror_map.domain.interior_point().to(target))
    z = detached_solve(lambda v: _damped_newton(mirror_map, v, start, tolerance, max_iterations), target)
    if derivatives_wanted(y):
        for _ in range(2):
            x = mirror_map.from_coordinates(z)
            z = z - mirror_map.hessian(x).solve(mirror_map._gradient(x) - target)
    return mirror_map.from_coordinates(z).to(y.dtype)


def _damped_newton(mirror_map: "MirrorMap", y: Tensor, start: Tensor, tolerance: float, max_iterations: int) -> Tensor:
    def objective(z: Tensor) -> Tensor:
        x = mirror_map.from_coordinates(z)
        value = mirror_map.potential(x) - (z * y).sum(-1)
        return torch.where(mirror_map.domain.contains(x) & torch.isfinite(value), value, torch.inf)

    z = start.expand(y.shape).clone()
    value = objective(z)
    error = y.new_full((1,), torch.inf)
    for _ in range(max_iterations):
        x = mirror_map.from_coordinates(z)
        residual = mirror_map._gradient(x) - y
        error = relative_residual(residual, y)
        if bool((error <= tolerance).all()):
            return z
        direction = mirror_map.hessian(x).solve(residual)
        decrease = (direction * residual).sum(-1)
        step = torch.ones_like(value)
        for _ in range(60):
            candidate = objective(z - step.unsqueeze(-1) * direction)
            # Near the optimum the decrease drowns in rounding; there the full step is the right one.
            slack = 1e-14 * (1 + value.abs())
            ok = candidate <= value - 1e-4 * step * decrease + slack
            if bool(ok.all()):
                break
            step = torch.where(ok, step, 0.5 * step)
        z = z - step.unsqueeze(-1) * direction
        value = objective(z)
    worst = float(error.max())
    raise ConvergenceError(
        f"inverse of {type(mirror_map).__name__} stopped after {max_iterations} Newton steps with relative residual "
        f"{worst:.2e}; the dual point may be too far out, or override _inverse with a closed form",
        worst,
    )
