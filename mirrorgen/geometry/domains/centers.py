"""Centres of ``{z : A z < b}`` and its recession directions, by linear programmes and Newton's method."""

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["analytic_center", "chebyshev_center", "recession_direction"]


def chebyshev_center(A: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Centre and radius of a largest inscribed ball: maximise ``r`` subject to ``A z + r <= b``, unit rows.

    The solver's tolerances are absolute (about 1e-7), so a thin set is solved again in units of its own width
    around the last centre until the radius is well above them; the radius returned is the smallest slack of
    the centre in float64. Radii are capped at ``max |b|``, which no bounded set exceeds.

    Args:
        A: Unit rows ``(m, k)``.
        b: Right-hand sides ``(m,)``.

    Returns:
        The centre ``(k,)``, its radius (not positive if the interior is empty), and multipliers ``(m,)`` of the
        dual: non-negative, of sum one, with ``A^T u = 0`` and ``b . u`` equal to the radius; they certify
        emptiness (Farkas).
    """
    m, k = A.shape
    largest = float(np.abs(b).max()) or 1.0
    center, size = np.zeros(k), largest
    best = (center, -np.inf, np.zeros(m))
    for _ in range(4):
        bounds = [(None, None)] * k + [(None, largest / size)]
        solution = _minimize(
            np.append(np.zeros(k), -1.0), np.column_stack([A, np.ones(m)]), (b - A @ center) / size, bounds
        )
        if solution.x is None:
            break
        candidate = center + size * solution.x[:k]
        radius = float((b - A @ candidate).min())
        if radius > best[1]:
            best = (candidate, radius, np.maximum(-solution.ineqlin.marginals, 0.0))
        if abs(radius) > 1e-4 * size:
            break
        center, size = best[0], 1e-4 * size
    return best


def recession_direction(A: np.ndarray) -> np.ndarray | None:
    """A unit direction ``d`` with ``A d <= 0``, along which ``{z : A z < b}`` is unbounded, or None.

    Either the rows do not span the space, or a recession direction has ``sum_i a_i . d < 0``.
    """
    m, k = A.shape
    _, s, vh = np.linalg.svd(A, full_matrices=True)
    if m < k or s[-1] <= 1e-12 * s[0]:
        return vh[-1]
    # A large box makes the solver's absolute tolerance small beside the direction.
    bound = 1e6
    solution = _minimize(A.sum(0), A, np.zeros(m), [(-bound, bound)] * k)
    if solution.x is None or solution.fun > -1e-3:
        return None
    d = solution.x / np.linalg.norm(solution.x)
    return d if float((A @ d).max()) <= 1e-11 else None


def analytic_center(
    A: np.ndarray, b: np.ndarray, start: np.ndarray, tolerance: float = 1e-10, max_iterations: int = 200
) -> np.ndarray:
    """Minimise ``-sum_i log(b_i - a_i . z)`` over a bounded set by damped Newton from an interior point.

    Steps are ``1 / (1 + decrement)`` far from the optimum, which keeps iterates inside without a line search
    (Nesterov and Nemirovskii, "Interior-Point Polynomial Algorithms in Convex Programming", 1994).
    """
    z, s = start, b - A @ start
    for _ in range(max_iterations):
        # Least squares with A / s instead of its normal equations: half the digits lost on thin sets.
        direction = np.linalg.lstsq(A / s[:, None], np.ones_like(s), rcond=None)[0]
        decrement = float(np.linalg.norm((A @ direction) / s))
        damping = 1.0 if decrement < 0.25 else 1.0 / (1.0 + decrement)
        candidate = z - damping * direction
        slack = b - A @ candidate
        if slack.min() <= 0:
            break
        z, s = candidate, slack
        if decrement <= tolerance:
            break
    return z


def _minimize(
    cost: np.ndarray, A: np.ndarray, b: np.ndarray, bounds: Sequence[tuple[float | None, float | None]]
) -> Any:
    # Loaded at the first polytope: it takes longer to import than the rest of the package.
    from scipy.optimize import linprog

    return linprog(cost, A_ub=A, b_ub=b, bounds=bounds, method="highs")
