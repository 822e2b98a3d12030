"""Log-densities with their gradients, on the domain and carried to the dual."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.errors import ShapeError
from mirrorgen.geometry.mirror_maps.base import MirrorMap

__all__ = ["DualPoint", "LogDensity", "MirroredDensity", "check_values", "score", "value_and_score"]

LogDensity = Callable[[Tensor], Tensor]
"""``log_density(x)``: unnormalised, points ``(chains, dim)`` to values ``(chains,)``. An attribute ``score``, from
points to ``grad log_density (chains, dim)``, replaces autograd."""


def check_values(values: Tensor, n: int) -> Tensor:
    """``values`` if it has one entry for each of ``n`` points.

    Raises:
        ShapeError: Otherwise.
    """
    if not isinstance(values, Tensor) or values.shape != (n,):
        found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ShapeError(
            f"log_density must return one value per point, a tensor of shape ({n},), got {found}; "
            "sum over the last axis only"
        )
    return values


def score(log_density: LogDensity, x: Tensor) -> Tensor:
    """``grad log_density (chains, dim)``, detached."""
    known = getattr(log_density, "score", None)
    return known(x) if known is not None else torch.func.grad(lambda points: log_density(points).sum())(x)


def value_and_score(log_density: LogDensity, x: Tensor) -> tuple[Tensor, Tensor]:
    """``log_density(x) (chains,)`` and its gradient ``(chains, dim)``, detached."""
    known = getattr(log_density, "score", None)
    if known is not None:
        return log_density(x), known(x)

    def total(points: Tensor) -> tuple[Tensor, Tensor]:
        values = check_values(log_density(points), len(points))
        return values.sum(), values

    gradient, values = torch.func.grad(total, has_aux=True)(x)
    return values, gradient


class DualPoint(NamedTuple):
    """A point and what a gradient-based kernel in the dual keeps of it.

    Attributes:
        y: Dual points ``(chains, dual_dim)``.
        x: ``grad phi*(y)`` ``(chains, dim)``.
        log_density: ``log_density(x)`` ``(chains,)``.
        log_mirrored: Log-density of ``y`` ``(chains,)``.
        gradient: ``grad_y log_mirrored`` ``(chains, dual_dim)``.
        start: Where the next inverse near ``y`` starts, ``(chains, k)``, or None for closed forms.
    """

    y: Tensor
    x: Tensor
    log_density: Tensor
    log_mirrored: Tensor
    gradient: Tensor
    start: Tensor | None


@dataclass(frozen=True, eq=False)
class MirroredDensity:
    """The density of ``y = grad phi(x)`` when ``x`` has density ``exp(log_density)``.

    ``log p_dual(y) = log_density(x) - log det H(x)`` with ``x = grad phi*(y)`` and
    ``grad_y log p_dual = H(x)^-1 grad log_density(x) - grad_y log det H``.

    Args:
        log_density: Unnormalised log-density on the domain.
        mirror_map: The map, with ``dual_is_full``.
    """

    log_density: LogDensity
    mirror_map: MirrorMap

    def at(self, y: Tensor, start: Tensor | None = None) -> DualPoint:
        """Values and gradient at ``y (chains, dual_dim)``."""
        local = self.mirror_map.local(y, start)
        value, gradient = value_and_score(self.log_density, local.x)
        # A constant density has a value everywhere, also at the NaN point of an inverse that failed.
        value = value + 0.0 * local.x.sum(-1)
        return DualPoint(y, local.x, value, value - local.log_det, local.mirrored_score(gradient), local.start)

    def score_at(self, y: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """``grad_y log p_dual`` and the next start, without the values that a point on the way does not need."""
        local = self.mirror_map.local(y, start)
        return local.mirrored_score(score(self.log_density, local.x)), local.start
