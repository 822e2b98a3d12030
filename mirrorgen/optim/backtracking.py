"""What methods that search their step share: the first guess of a step, and halving until it is good enough."""

from collections.abc import Callable
from typing import Literal

from mirrorgen.errors import ConvergenceError, DomainError

__all__ = ["Criterion", "allowance", "backtrack", "barzilai_borwein", "check_criterion"]

Criterion = Literal["armijo", "bregman"]


def check_criterion(criterion: str) -> None:
    """Raise ``DomainError`` unless ``criterion`` is known."""
    if criterion not in ("armijo", "bregman"):
        raise DomainError(f"criterion must be 'armijo' or 'bregman', got {criterion!r}")


def barzilai_borwein(moved: float, curved: float, last: float) -> float:
    """``|<dy, dx>| / |<dg, dx>|`` from both inner products, in ``[1e-10, 1e10]``; twice ``last`` without curvature."""
    size = abs(moved) / abs(curved) if curved else 2 * last
    return min(max(size, 1e-10), 1e10)


def allowance(criterion: Criterion, slope: float, divergence: Callable[[], float], size: float) -> float:
    """What a step may add to the loss: ``1e-4 <g, x+ - x>``, or ``<g, x+ - x> + D(x+, x) / size``."""
    return 1e-4 * slope if criterion == "armijo" else slope + divergence() / size


def backtrack(
    attempt: Callable[[float], tuple[float, float]], loss: float, size: float, max_halvings: int
) -> tuple[float, float]:
    """Halve ``size`` until ``attempt(size)``, a value and what it may add to ``loss``, is as low as it has to be.

    Returns:
        The size and the value that were accepted.

    Raises:
        ConvergenceError: If there was none.
    """
    for _ in range(max_halvings):
        value, allowed = attempt(size)
        if value <= loss + allowed:
            return size, value
        size *= 0.5
    raise ConvergenceError(
        "no step along the negative gradient decreases the loss; check the gradients, or stop: it may be at its "
        "minimum up to rounding",
        residual=size,
    )
