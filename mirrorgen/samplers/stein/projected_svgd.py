"""Stein variational gradient descent with projections, the baseline of mirrored methods."""

from dataclasses import dataclass

from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.samplers.stein.svgd import SVGD

__all__ = ["ProjectedSVGD"]


@dataclass(frozen=True, eq=False)
class ProjectedSVGD(SVGD):
    """``SVGD`` whose particles are put back to the nearest point of a convex set, slightly shrunk, after every step.

    A baseline, and a poor one: particles stick to the boundary, where scores may be infinite and Stein's identity does
    not hold.

    Args:
        space: The convex set.
        margin: Share by which the set shrinks towards its interior point, in ``(0, 1)``.

    Raises:
        DomainError: If ``margin`` is out of range.

    Source: the baseline of Shi, Liu, Mackey, "Sampling with mirrored Stein operators", 2022.
    """

    margin: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1:
            raise DomainError(f"margin must lie in (0, 1), got {self.margin}")

    def _place(self, y: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        # The set shrunk towards its centre: points that are inside it stay where they are.
        center, kept = self.space.interior_point().to(y), 1 - self.margin
        nearest = self.space.project(center + (y - center) / kept)
        x = self.space.pull_inside(center + kept * (nearest - center))[0]
        return x.clone(), x, None
