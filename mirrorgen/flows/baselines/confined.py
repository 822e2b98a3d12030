"""Runge-Kutta steps whose every stage is brought back to a set."""

from collections.abc import Callable

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError, DomainError
from mirrorgen.integrate import FixedStep, resolve_method
from mirrorgen.integrate.fixed import VectorField

__all__ = ["Confine", "confined_integrate"]

Confine = Callable[[Tensor, Tensor], Tensor]
"""``confine(x, step)``: the point of the set that ``x + step`` stands for."""


def confined_integrate(
    f: VectorField, x: Tensor, t_end: float, steps: int, method: str | FixedStep, confine: Confine
) -> Tensor:
    """Integrate ``dx = f dt + dL`` from time 0, where ``L`` keeps ``x`` in its set.

    A step is that of an explicit Runge-Kutta method with ``x + dt sum_j a_ij k_j`` replaced by its confined point, in
    the stages too, so that ``f`` sees no point outside. The slopes are added as they are: in the limit of small steps
    ``L`` only pushes inwards, and mirrored slopes would turn around what is left of the path.

    Args:
        f: Velocity ``f(t, x)``.
        x: Points of the set ``(n, dim)``.
        t_end: Last time.
        steps: Number of steps.
        method: A fixed-step method or its name.
        confine: The rule.

    Raises:
        DomainError: If the method is adaptive or ``steps < 1``.
        ConvergenceError: If a point became infinite or NaN.
    """
    rule = resolve_method(method)
    if not isinstance(rule, FixedStep):
        raise DomainError(
            f"{method!r} is adaptive and cannot confine its stages; use 'euler', 'midpoint', 'heun', 'rk4'"
        )
    if steps < 1:
        raise DomainError(f"steps must be at least 1, got {steps}")
    grid = torch.linspace(0.0, t_end, steps + 1, dtype=x.dtype, device=x.device)
    for t, dt in zip(grid[:-1], grid.diff(), strict=True):
        slopes: list[Tensor] = []
        for row in rule.stages:
            slopes.append(f(t + sum(row) * dt, _moved(x, dt, row, slopes, confine)))
        x = _moved(x, dt, rule.weights, slopes, confine)
    if not bool(torch.isfinite(x).all()):
        raise ConvergenceError("samples are not finite: the network returned NaN or infinity", residual=float("inf"))
    return x


def _moved(x: Tensor, dt: Tensor, coefficients: tuple[float, ...], slopes: list[Tensor], confine: Confine) -> Tensor:
    parts = [c * k for c, k in zip(coefficients, slopes, strict=True) if c]
    return confine(x, dt * sum(parts[1:], parts[0])) if parts else x
