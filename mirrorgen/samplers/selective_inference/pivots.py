"""Pivots as decreasing functions of the parameter, and the ends of intervals as their roots."""

from typing import NamedTuple, Protocol

import numpy as np
from scipy.optimize import brentq

from mirrorgen.samplers.selective_inference.density import SelectiveLaw

__all__ = ["End", "Pivot", "RootFinder"]

_DOUBLINGS = 40


class Pivot(Protocol):
    """``P_theta(T <= T observed | selection)``, which is uniform at the true parameter and decreases in it."""

    @property
    def law(self) -> SelectiveLaw:
        """What it is the pivot of."""

    def __call__(self, theta: float) -> float:
        """The pivot at ``theta``."""


class End(NamedTuple):
    """The end of an interval.

    Attributes:
        value: The root, or an infinity if none was found.
        found: Whether there is a root.
    """

    value: float
    found: bool


class RootFinder:
    """Roots of a pivot; every value is kept, so that roots of several levels bracket each other.

    Args:
        pivot: A decreasing function.
        tolerance: Of roots, in standard errors.
    """

    def __init__(self, pivot: Pivot, tolerance: float = 1e-8) -> None:
        self._pivot, self._values = pivot, {}  # type: tuple[Pivot, dict[float, float]]
        self._step, self._tolerance = pivot.law.standard_error, tolerance

    def value(self, theta: float) -> float:
        """The pivot at ``theta``."""
        if theta not in self._values:
            self._values[theta] = self._pivot(theta)
        return self._values[theta]

    def find(self, probability: float) -> End:
        """Where the pivot takes the value ``probability``; the bracket grows until it holds the root.

        It starts at the estimate and doubles on the side that is missing, up to ``2^40`` standard errors; then the
        end is infinite and marked. It is never the end of a bracket.
        """
        self.value(self._pivot.law.estimate)
        for k in range(_DOUBLINGS):
            low = max((t for t, p in self._values.items() if p > probability), default=None)
            high = min((t for t, p in self._values.items() if p <= probability), default=None)
            if low is not None and high is not None:
                return End(self._solve(probability, low, high), True)
            known = high if low is None else low
            assert known is not None
            self.value(known + (-1 if low is None else 1) * self._step * 2.0**k)
        return End(-np.inf if low is None else np.inf, False)

    def _solve(self, probability: float, low: float, high: float) -> float:
        xtol = self._tolerance * self._step
        return float(brentq(lambda theta: self.value(theta) - probability, low, high, xtol=xtol, rtol=1e-14))
