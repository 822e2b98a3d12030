"""What is usual: the optimality criterion, and the method of moving asymptotes with one linear constraint.

Both are generators of designs for a function that returns its value and gradient, under ``sum w x <= total`` and
``0 <= x <= 1``: they yield the value at the present design, evaluated once, before they move it.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

__all__ = ["moving_asymptotes", "optimality_criterion"]

Function = Callable[[Tensor], tuple[float, Tensor]]


def optimality_criterion(
    function: Function, design: Tensor, weights: Tensor, total: float, move: float = 0.2
) -> Iterator[tuple[Tensor, float]]:
    """``x sqrt(-g / (l w))`` within ``move`` of ``x``, the multiplier ``l`` by bisection; for negative gradients.

    Source: Bendsoe, Sigmund, "Topology Optimization", 2003.
    """
    while True:
        value, gradient = function(design)
        yield design, value
        pull = design * torch.sqrt((-gradient / weights).clamp_min(0.0))
        low, high = (design - move).clamp_min(0.0), (design + move).clamp_max(1.0)

        def moved(multiplier: float, pull: Tensor = pull, low: Tensor = low, high: Tensor = high) -> Tensor:
            return torch.minimum(torch.maximum(pull / multiplier**0.5, low), high)

        design = moved(_bisected(lambda m: float((weights * moved(m)).sum()) - total))


def moving_asymptotes(
    function: Function,
    design: Tensor,
    weights: Tensor,
    total: float,
    move: float = 0.2,
    fixed: Tensor | None = None,
) -> Iterator[tuple[Tensor, float]]:
    """Convex models ``sum p / (U - x) + q / (x - L)`` of function and constraint, solved through one multiplier.

    Elements of the mask ``fixed`` stay as they are.

    Asymptotes start half a unit away, withdraw by 1.2 while a variable moves on, and close in by 0.7 where it turns.
    Source: Svanberg, "The method of moving asymptotes", 1987; these factors are those of his later notes.
    """
    past: list[Tensor] = []
    away = torch.full_like(design, 0.5)
    while True:
        value, gradient = function(design)
        yield design, value
        if len(past) == 2:
            turned = (design - past[1]) * (past[1] - past[0])
            away = (away * torch.where(turned > 0, 1.2, torch.where(turned < 0, 0.7, 1.0))).clamp(0.01, 10.0)
        past = [*past[-1:], design]
        step = (0.9 * away).clamp_max(move)
        if fixed is not None:
            step = torch.where(fixed, 0.0, step)
        low, high = (design - step).clamp_min(0.0), (design + step).clamp_max(1.0)
        rise, fall = away.square() * gradient.clamp_min(0.0), away.square() * (-gradient).clamp_min(0.0)
        # The constraint's model touches it at the design, and lies above it elsewhere.
        carried = away.square() * weights

        def solution(
            multiplier: float, x: Tensor = design, away: Tensor = away, rise: Tensor = rise, fall: Tensor = fall,
            carried: Tensor = carried, low: Tensor = low, high: Tensor = high,
        ) -> Tensor:  # fmt: skip
            p, q = torch.sqrt(rise + multiplier * carried), torch.sqrt(fall)
            best = torch.where(p + q > 0, (p * (x - away) + q * (x + away)) / (p + q).clamp_min(1e-300), x)
            return torch.minimum(torch.maximum(best, low), high)

        def excess(m: float, x: Tensor = design, away: Tensor = away, carried: Tensor = carried) -> float:
            model = carried * (1 / (x + away - solution(m)) - 1 / away)
            return float((model + weights * x).sum()) - total

        design = solution(_bisected(excess))


def _bisected(excess: Callable[[float], float]) -> float:
    """A positive root of a decreasing function, in the logarithm; the smallest number if there is none."""
    low, high = 1e-12, 1e12
    if excess(low) <= 0:
        return low
    for _ in range(100):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high
