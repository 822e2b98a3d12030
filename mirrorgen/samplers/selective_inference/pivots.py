"""Pivots as decreasing functions of the parameter, and the ends of intervals as their roots."""

from typing import NamedTuple, Protocol

import numpy as np
from scipy.optimize import brentq

from mirrorgen.samplers.selective_inference.density import SelectiveLaw

__all__ = ["End", "Pivot", "find_root"]

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


def find_root(pivot: Pivot, probability: float, tolerance: float = 1e-8) -> End:
    """Where the pivot takes the value ``probability``; the bracket grows until it holds the root.

    The bracket starts one standard error wide at the estimate and doubles on the side that is missing, up to
    ``2^40`` standard errors; then the end is infinite and marked. It is never the end of a bracket.

    Args:
        pivot: A decreasing function.
        probability: In (0, 1).
        tolerance: In standard errors.
    """
    start, step = pivot.law.estimate, pivot.law.standard_error
    side = 1.0 if pivot(start) > probability else -1.0
    near = start
    for k in range(_DOUBLINGS):
        far = start + side * step * 2.0**k
        if side * (pivot(far) - probability) < 0:
            root = brentq(lambda theta: pivot(theta) - probability, near, far, xtol=tolerance * step, rtol=1e-14)
            return End(float(root), True)
        near = far
    return End(float(side * np.inf), False)
