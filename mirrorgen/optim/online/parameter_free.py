"""Parameter-free online learning in Euclidean space: no step size, no bound on the comparator."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.validation import should_check
from mirrorgen.numerics import bisect_then_newton
from mirrorgen.optim.online.base import squared_norm

__all__ = ["ParameterFree", "ParameterFreeState"]

# ``log(1 + |w| / alpha)`` is cut here: an adversary of constant sign drives it to the round's number, and ``exp``
# over the edge of the dtype.
_LARGEST = {torch.float32: 80.0, torch.float64: 600.0}
_POWER = 3.0


class ParameterFreeState(NamedTuple):
    """State of ``ParameterFree``.

    Attributes:
        y: Dual points ``(*batch, dim)``; minus the sum of gradients where losses are Lipschitz.
        squares: ``V``: four squared bounds on gradients plus the squares of gradients so far, ``(*batch)``.
        growths: Number of rounds played, times ``growth^2``; zero where losses are Lipschitz.
    """

    y: Tensor
    squares: Tensor
    growths: Tensor


@dataclass(frozen=True)
class ParameterFree:
    """Mirror descent with a radial potential that adapts to the unknown comparator: nothing is tuned.

    ``Psi'(r) = 3 min_(h <= 1/G) [log(1 + r/a) / h + h V]``, that is ``6 sqrt(V l)`` while ``G sqrt(l) <= sqrt(V)`` and
    ``3 (G l + V / G)`` beyond, with ``l = log(1 + r/a)``, ``V = 4 G^2 + sum |g|^2`` and
    ``a = eps G / (sqrt(V) log^2(V / G^2))``. Its inverse is closed: ``w = a expm1(l) y / |y|`` with
    ``l = |y|^2 / (36 V)`` for ``|y| <= 6 V / G``, else ``|y| / (3 G) - V / G^2``.

    For ``|g_t| <= G`` and every ``u``,
    ``sum <g_t, w_t - u> <= 4 G eps + 6 |u| max(sqrt(V l(u)), G l(u))``, ``l(u) = log(1 + |u| / a)``, up to the cut of
    ``l`` at 80 in float32 and 600 in float64 that keeps ``w`` finite.

    Losses whose gradients grow, ``|g_t| <= G + growth |w_t|``, such as squared ones: every round adds
    ``phi_t(w) = growth |w|^2 / (2 sqrt(t))`` to the update, and ``V`` counts ``G^2`` a round. The radius then solves a
    monotone scalar equation.

    Args:
        gradient_bound: ``G``.
        scale: ``eps``, what may be lost at ``u = 0``; points grow from this scale.
        growth: See above; zero for Lipschitz losses.

    Raises:
        DomainError: If a number is out of range, or a gradient exceeds its bound.

    Sources: Jacobsen, Cutkosky, "Parameter-free Mirror Descent", 2022; "Unconstrained Online Learning with Unbounded
    Losses", 2023.
    """

    gradient_bound: float = 1.0
    scale: float = 1.0
    growth: float = 0.0

    def __post_init__(self) -> None:
        if not (self.gradient_bound > 0 and self.scale > 0 and self.growth >= 0):
            raise DomainError("gradient_bound and scale must be positive, growth at least zero")

    def init(self, start: Tensor) -> ParameterFreeState:
        """The state before the first round.

        Args:
            start: Zeros ``(*batch, dim)``: shape, dtype and device of the points. To learn about another origin, add
                it to predictions.

        Raises:
            ShapeError: If ``start`` is no tensor of float32 or float64 with an axis of coordinates.
            DomainError: If ``start`` is not zero.
        """
        if start.dtype not in _LARGEST or start.ndim < 1:
            raise ShapeError(f"start must be float32 or float64 (*batch, dim), got {start.dtype} {tuple(start.shape)}")
        if should_check(start) and bool(start.any()):
            raise DomainError("start must be zero: the bounds are about the origin; add another origin to predictions")
        squares = torch.full_like(start[..., 0], 4 * self.gradient_bound**2)
        return ParameterFreeState(torch.zeros_like(start), squares, torch.zeros_like(squares))

    def predict(self, state: ParameterFreeState) -> Tensor:
        """The points ``w_t (*batch, dim)``."""
        norm = torch.linalg.vector_norm(state.y, dim=-1)
        radius = self.unit(state.squares) * torch.expm1(self._log_radius(norm, state.squares))
        return state.y * (radius / torch.where(norm > 0, norm, 1.0)).unsqueeze(-1)

    def update(self, state: ParameterFreeState, gradient: Tensor) -> ParameterFreeState:
        """The state of the next round.

        Args:
            state: Of this round.
            gradient: ``(*batch, dim)``, at ``predict(state)``.

        Raises:
            ShapeError: If the shape is not that of the points.
            DomainError: If a gradient is longer than ``gradient_bound``, where losses are Lipschitz.
        """
        if gradient.shape[-1:] != state.y.shape[-1:]:
            raise ShapeError(f"gradient must have shape {tuple(state.y.shape)}, got {tuple(gradient.shape)}")
        y, squares = state.y - gradient, squared_norm(gradient)
        if self.growth:
            return self._damped(y, state.squares + self.gradient_bound**2, state.growths + self.growth**2)
        if should_check(gradient) and bool((squares > (1 + 1e-5) * self.gradient_bound**2).any()):
            raise DomainError(
                f"a gradient of norm {math.sqrt(float(squares.max())):.4g} exceeds gradient_bound="
                f"{self.gradient_bound}; raise the bound, clip gradients, or give losses a growth"
            )
        return ParameterFreeState(y, state.squares + squares, state.growths)

    def unit(self, squares: Tensor) -> Tensor:
        """``a``, the scale of points after ``V = squares``."""
        ratio = squares / self.gradient_bound**2
        return self.scale / (ratio.sqrt() * ratio.log().square())

    def slope(self, log_radius: Tensor, squares: Tensor) -> Tensor:
        """``Psi'`` as a function of ``l = log(1 + r / a)``."""
        bound = self.gradient_bound
        near = 2 * _POWER * (squares * log_radius).sqrt()
        far = _POWER * (bound * log_radius + squares / bound)
        return torch.where(bound**2 * log_radius <= squares, near, far)

    def _log_radius(self, norm: Tensor, squares: Tensor) -> Tensor:
        """The inverse of ``slope``, cut where ``exp`` would overflow."""
        bound = self.gradient_bound
        near = norm.square() / (4 * _POWER**2 * squares)
        far = norm / (_POWER * bound) - squares / bound**2
        found = torch.where(norm * bound <= 2 * _POWER * squares, near, far)
        return found.clamp_max(_LARGEST[norm.dtype])

    def _damped(self, y: Tensor, squares: Tensor, growths: Tensor) -> ParameterFreeState:
        """``Psi'(r) + c r = |y|`` with ``c = growth^2 / sqrt(growths)``; the new dual point has length ``Psi'(r)``."""
        norm, unit = torch.linalg.vector_norm(y, dim=-1), self.unit(squares)
        pull = self.growth**2 / growths.sqrt() * unit
        upper = self._log_radius(norm, squares)

        def excess(root: Tensor) -> tuple[Tensor, Tensor]:
            # In the root of l, because Psi' has an infinite derivative in l at zero.
            level = root.square()
            value = self.slope(level, squares) + pull * torch.expm1(level) - norm
            bent = torch.where(self.gradient_bound**2 * level <= squares, squares.sqrt(), self.gradient_bound * root)
            return value, 2 * _POWER * bent + 2 * pull * root * torch.exp(level)

        root = bisect_then_newton(excess, torch.zeros_like(upper), upper.sqrt())
        length = self.slope(root.square(), squares)
        return ParameterFreeState(y * (length / torch.where(norm > 0, norm, 1.0)).unsqueeze(-1), squares, growths)
