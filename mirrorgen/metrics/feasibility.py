"""How many samples lie strictly inside a domain, and by how much."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mirrorgen.errors import ShapeError

__all__ = ["FeasibilityReport", "SupportsMembership", "feasibility"]

_ROWS = 2**14


class SupportsMembership(Protocol):
    """What ``feasibility`` asks of a domain."""

    def contains(self, x: Tensor, atol: float = 0.0) -> Tensor:
        """Whether each point lies strictly inside, ``(*batch)``."""

    def slack(self, x: Tensor) -> Tensor:
        """Margin to each constraint, positive inside, ``(*batch, constraints)``."""

    def explain(self, x: Tensor) -> str | None:
        """A sentence that names the worst violated constraint over a batch, or None if all are inside."""


@dataclass(frozen=True)
class FeasibilityReport:
    """Membership of a sample in an open domain, judged in the sample's own dtype without tolerance.

    Attributes:
        count: Number of points.
        inside: Number of points strictly inside.
        nonfinite: Number of points with NaN or infinite coordinates; they count as outside.
        worst_slack: Smallest margin over finite points and constraints; negative if one is outside, NaN if
            there is no finite point or no constraint.
        worst_index: Index of the point with that margin in the flattened batch, or -1.
        worst_constraint: The domain's sentence about the points outside, or None if all are inside.
        dtype: The dtype the verdict holds in, such as ``"float32"``.
    """

    count: int
    inside: int
    nonfinite: int
    worst_slack: float
    worst_index: int
    worst_constraint: str | None
    dtype: str

    @property
    def share(self) -> float:
        """Share of points strictly inside."""
        return self.inside / self.count if self.count else float("nan")

    @property
    def all_inside(self) -> bool:
        """Whether every point is strictly inside."""
        return self.inside == self.count

    def __str__(self) -> str:
        share = f"{self.inside} of {self.count} points ({100 * self.share:.4g}%)"
        verdict = f"{share} strictly inside in {self.dtype}, worst slack {self.worst_slack:.3g}"
        extra = f", {self.nonfinite} not finite" if self.nonfinite else ""
        return f"{verdict}{extra}" + (f": {self.worst_constraint}" if self.worst_constraint else "")


@torch.no_grad()
def feasibility(domain: SupportsMembership, x: Tensor) -> FeasibilityReport:
    """Count the points strictly inside ``domain`` in the dtype of ``x`` and find the worst one.

    Args:
        domain: Anything with ``contains``, ``slack`` and ``explain``.
        x: Points ``(*batch, dim)``, exactly as a user receives them: not cast, not rounded.

    Raises:
        ShapeError: If ``x`` has no batch of floating-point points.
    """
    if x.ndim < 1 or not x.is_floating_point():
        raise ShapeError(f"x holds floating-point points (*, dim); got {x.dtype} of shape {tuple(x.shape)}")
    points = x.reshape(-1, x.shape[-1])
    inside, nonfinite, worst_slack, worst_index = 0, 0, float("nan"), -1
    # By blocks: sets with many constraints have long rows of slacks.
    for i, part in enumerate(points.split(_ROWS)):
        finite = torch.isfinite(part).all(-1)
        inside += int((domain.contains(part) & finite).sum())
        nonfinite += int((~finite).sum())
        slack, index = _worst(domain.slack(part), finite)
        if index >= 0 and not slack >= worst_slack:
            worst_slack, worst_index = slack, i * _ROWS + index
    return FeasibilityReport(
        count=len(points),
        inside=inside,
        nonfinite=nonfinite,
        worst_slack=worst_slack,
        worst_index=worst_index,
        worst_constraint=None if inside == len(points) else domain.explain(points),
        dtype=str(x.dtype).removeprefix("torch."),
    )


def _worst(slack: Tensor, finite: Tensor) -> tuple[float, int]:
    slack = slack.flatten(1)
    if not bool(finite.any()) or not slack.shape[1]:
        return float("nan"), -1
    margins = torch.where(finite, slack.amin(-1), torch.full_like(slack[:, 0], float("inf")))
    index = int(margins.argmin())
    return float(margins[index]), index
