"""The lasso with a random linear term, solved to rounding."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError

__all__ = ["LassoFit", "check_design", "solve_lasso", "theoretical_penalty"]

Array = NDArray[np.float64]
_SWEEPS = 10_000
_COLLINEAR = 1e-10


@dataclass(frozen=True, eq=False)
class LassoFit:
    """A solution of ``min |y - X b|^2 / 2 + penalty |b|_1 + ridge |b|^2 / 2 - w^T b`` with its data.

    Attributes:
        X: Design ``(n, p)``.
        y: Response ``(n,)``.
        noise: The random term ``w (p,)``.
        penalty: Weight of ``|b|_1``.
        ridge: Weight of ``|b|^2 / 2``.
        coefficients: ``b (p,)``.
        subgradient: ``u (p,)`` with ``w = -X^T (y - X b) + ridge b + penalty u``; the sign of ``b`` where it is not
            zero, else in ``[-1, 1]``.
    """

    X: Array
    y: Array
    noise: Array
    penalty: float
    ridge: float
    coefficients: Array
    subgradient: Array

    @property
    def selected(self) -> NDArray[np.int64]:
        """Indices of the coefficients that are not zero, ascending."""
        return np.flatnonzero(self.coefficients)

    @property
    def signs(self) -> Array:
        """Signs of the selected coefficients."""
        return np.sign(self.coefficients[self.selected])


def check_design(X: Array, y: Array) -> None:
    """Raise unless ``X (n, p)`` and ``y (n,)`` are finite and no column is constant.

    Raises:
        ShapeError: If the shapes do not fit.
        DomainError: If a value is not finite or a column does not vary.
    """
    if X.ndim != 2 or y.shape != (len(X),) or X.size == 0 or len(X) < 2:
        raise ShapeError(f"X must have shape (n, p) and y (n,) with n >= 2, got {X.shape} and {y.shape}")
    for name, value in (("X", X), ("y", y)):
        if not np.isfinite(value).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
            raise DomainError(f"{name} is not finite at {where}; drop or impute missing values first")
    flat = np.flatnonzero(np.ptp(X, axis=0) <= 1e-12 * np.abs(X).max(axis=0))
    if len(flat):
        raise DomainError(
            f"columns {flat.tolist()} of X are constant; drop them, and subtract the means of X and y for an intercept"
        )
    if np.ptp(y) == 0:
        raise DomainError("y is constant; there is nothing to explain")


def theoretical_penalty(X: Array, sigma: float, factor: float = 0.7, draws: int = 2000) -> float:
    """``factor`` times the mean of ``max_j |X_j^T e|`` over ``e ~ N(0, sigma^2 I)``, by draws with a fixed seed.

    Args:
        X: Design ``(n, p)``.
        sigma: Standard deviation of the errors.
        factor: 1 is the level of the noise; the publications take 0.7.
        draws: Number of draws; the relative error is about ``0.25 / sqrt(draws)``.

    Source: Negahban, Ravikumar, Wainwright, Yu, "A unified framework for high-dimensional analysis of M-estimators
    with decomposable regularizers", 2012.
    """
    errors = np.random.default_rng(0).standard_normal((draws, len(X)))
    return float(factor * sigma * np.abs(errors @ X).max(axis=1).mean())


def solve_lasso(X: Array, y: Array, noise: Array, penalty: float, ridge: float, tolerance: float = 1e-10) -> LassoFit:
    """The randomised lasso by coordinate descent, then exactly on the selected set.

    Sweeps alternate with a linear solve for the signs that the sweep found; the answer counts once the signs of that
    solution are the same and ``|u| <= 1`` elsewhere, so that the Karush-Kuhn-Tucker conditions hold to rounding.

    Args:
        X: Design ``(n, p)``.
        y: Response ``(n,)``.
        noise: ``w (p,)``.
        penalty: Positive.
        ridge: Positive, which makes the solution unique.
        tolerance: Allowed excess of ``|u|`` over 1 for coefficients that are zero.

    Raises:
        DomainError: If ``penalty`` or ``ridge`` is not positive.
        ConvergenceError: If the signs do not settle.
    """
    if not (penalty > 0 and ridge > 0 and np.isfinite([penalty, ridge]).all()):
        raise DomainError(f"solve_lasso needs a positive penalty and ridge, got {penalty} and {ridge}")
    gram = X.T @ X + ridge * np.eye(X.shape[1])
    target = X.T @ y + noise
    b, excess = np.zeros(len(gram)), np.inf
    for sweep in range(_SWEEPS):
        change = _sweep(gram, target, penalty, b)
        if sweep % 5 and change > tolerance * np.abs(b).max():
            continue
        polished = _solve_on_signs(gram, target, penalty, np.sign(b))
        u = (target - gram @ polished) / penalty
        excess = float(max(np.abs(u).max() - 1, 0.0))
        if (np.sign(polished) == np.sign(b)).all() and excess <= tolerance:
            u = np.where(polished != 0, np.sign(polished), u)
            return LassoFit(X, y, noise, penalty, ridge, polished, u)
    raise ConvergenceError(
        f"coordinate descent did not settle in {_SWEEPS} sweeps (excess {excess:.1e}); raise ridge, the columns of X "
        "are nearly collinear",
        excess,
    )


def _sweep(gram: Array, target: Array, penalty: float, b: Array) -> float:
    """One pass over the coordinates of ``b``, in place; the largest change."""
    largest = 0.0
    for j in range(len(b)):
        pull = target[j] - gram[j] @ b + gram[j, j] * b[j]
        new = np.sign(pull) * max(abs(pull) - penalty, 0.0) / gram[j, j]
        largest = max(largest, abs(new - b[j]))
        b[j] = new
    return float(largest)


def _solve_on_signs(gram: Array, target: Array, penalty: float, signs: Array) -> Array:
    """The minimiser over coefficients that vanish where ``signs`` does, were their signs free."""
    chosen = np.flatnonzero(signs)
    b = np.zeros(len(gram))
    b[chosen] = np.linalg.solve(gram[np.ix_(chosen, chosen)], target[chosen] - penalty * signs[chosen])
    return b


def selected_inverse(fit: LassoFit) -> Array:
    """``(X_E^T X_E)^-1`` of the selected columns.

    Raises:
        DomainError: If they are collinear, which leaves their coefficients without meaning.
    """
    columns = fit.X[:, fit.selected]
    scale = np.linalg.norm(columns, axis=0)
    if np.linalg.svd(columns / scale, compute_uv=False)[-1] < _COLLINEAR * len(fit.selected) or len(fit.X) < len(scale):
        raise DomainError(
            f"the selected columns {fit.selected.tolist()} of X are collinear, so that their coefficients are not "
            "identified; drop duplicates or raise penalty"
        )
    return np.linalg.inv(columns.T @ columns).astype(np.float64)
