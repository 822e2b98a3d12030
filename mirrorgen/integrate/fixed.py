"""Explicit Runge-Kutta steps of fixed size: each method is its table of coefficients.

Source: Hairer, Noersett and Wanner, "Solving Ordinary Differential Equations I" (1993), chapter II.1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

__all__ = ["RK4", "Euler", "FixedStep", "Heun", "Midpoint", "VectorField"]

VectorField = Callable[[Tensor, Tensor], Tensor]
"""``f(t, y)``: the velocity at time ``t`` (a scalar tensor) of the points ``y``."""


@dataclass(frozen=True)
class FixedStep:
    """One explicit Runge-Kutta step ``y + dt sum_i b_i k_i``, ``k_i = f(t + c_i dt, y + dt sum_j a_ij k_j)``.

    A subclass is data only. ``step`` reads no values, so it compiles, vmaps and differentiates.

    Attributes:
        order: Global order of convergence.
        stages: Rows ``a_i`` of the strictly lower triangular table; ``c_i`` is the sum of a row.
        weights: The weights ``b_i``.
    """

    order: ClassVar[int]
    stages: ClassVar[tuple[tuple[float, ...], ...]]
    weights: ClassVar[tuple[float, ...]]

    @property
    def evaluations(self) -> int:
        """Evaluations of the vector field per step."""
        return len(self.weights)

    def step(self, f: VectorField, t: Tensor, dt: Tensor, y: Tensor) -> Tensor:
        """Advance ``y`` from ``t`` to ``t + dt``; ``dt`` may be negative.

        Args:
            f: The vector field.
            t: Current time, a scalar tensor.
            dt: Step, a scalar tensor.
            y: State ``(*)``.

        Returns:
            The state at ``t + dt``, the shape of ``y``.
        """
        slopes: list[Tensor] = []
        for row in self.stages:
            slopes.append(f(t + sum(row) * dt, _advance(y, dt, row, slopes)))
        return _advance(y, dt, self.weights, slopes)


def _advance(y: Tensor, dt: Tensor, coefficients: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    for coefficient, slope in zip(coefficients, slopes, strict=True):
        if coefficient:
            y = y + (coefficient * dt) * slope
    return y


@dataclass(frozen=True)
class Euler(FixedStep):
    """The explicit Euler method, order 1 with 1 evaluation."""

    order = 1
    stages = ((),)
    weights = (1.0,)


@dataclass(frozen=True)
class Midpoint(FixedStep):
    """The explicit midpoint method, order 2 with 2 evaluations, none of them at the end of a step."""

    order = 2
    stages = ((), (0.5,))
    weights = (0.0, 1.0)


@dataclass(frozen=True)
class Heun(FixedStep):
    """Heun's trapezoidal method, order 2 with 2 evaluations."""

    order = 2
    stages = ((), (1.0,))
    weights = (0.5, 0.5)


@dataclass(frozen=True)
class RK4(FixedStep):
    """The classical Runge-Kutta method, order 4 with 4 evaluations."""

    order = 4
    stages = ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0))
    weights = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
