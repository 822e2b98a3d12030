"""The shift of logits that puts a point of the unit box on a hyperplane: Fermi-Dirac's projection, a scalar root."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.detached import derivatives_wanted
from mirrorgen.geometry.validation import should_check
from mirrorgen.numerics import bisect_then_newton, monotone_root, upcast

__all__ = ["hyperplane_shift"]


def hyperplane_shift(y: Tensor, row: Tensor, total: Tensor | float, direction: Tensor | None = None) -> Tensor:
    """The root ``c`` of ``sum_i row_i sigmoid(y_i + c direction_i) = total``, in float64.

    ``sigmoid(y + c direction)`` is the left projection of ``sigmoid(y)`` onto the hyperplane in the divergence of
    ``phi(x) = sum_i (row_i / direction_i) (x_i log x_i + (1 - x_i) log(1 - x_i))``: ``direction = row`` for the plain
    entropy, ``direction = 1`` for the entropy in the measure whose weights are ``row``. The left side increases with
    ``c``, and between the values that would bring the first and the last coordinate to the mean it has its root.

    Args:
        y: Logits ``(*batch, n)``.
        row: ``(n,)``; no negative entries where ``direction`` is None, and a nonzero one.
        total: A number or ``(*batch,)``, strictly between the sums of the negative and of the positive entries.
        direction: ``(n,)`` of the signs of ``row``; ones if None.

    Returns:
        ``(*batch, 1)``, with exact derivatives where ``y``, ``row`` or ``total`` requires them.

    Raises:
        ShapeError: If the last axes differ.
        DomainError: If the hyperplane misses the interior of the box.
    """
    if row.shape != y.shape[-1:] or (direction is not None and direction.shape != row.shape):
        raise ShapeError(f"row and direction must have shape ({y.shape[-1]},), got {tuple(row.shape)}")
    y, row = upcast(y), upcast(row).to(y.device)
    total = torch.as_tensor(total, dtype=y.dtype, device=y.device).expand(y.shape[:-1]).unsqueeze(-1)
    sign, weights = torch.sign(row), row.abs()
    speed = torch.ones_like(row) if direction is None else direction.to(row).abs()
    # A negative entry is a positive one of the complement: -w sigmoid(y) = w sigmoid(-y) - w.
    mean = (total + torch.where(row < 0, weights, 0.0).sum()) / weights.sum()
    if should_check(mean) and not bool(((mean > 0) & (mean < 1)).all()):
        raise DomainError("the hyperplane misses the interior of the box: no point has this weighted sum")
    z, level = sign * y, torch.logit(mean)

    def excess(c: Tensor) -> tuple[Tensor, Tensor]:
        share = torch.sigmoid(z + c * speed)
        slope = weights * speed * share * torch.sigmoid(-(z + c * speed))
        return (weights * (share - mean)).sum(-1, keepdim=True), slope.sum(-1, keepdim=True)

    used = weights > 0
    reach = ((level - z) / torch.where(used, speed, 1.0)).detach()
    lower = torch.where(used, reach, torch.inf).amin(-1, keepdim=True)
    upper = torch.where(used, reach, -torch.inf).amax(-1, keepdim=True)
    solve = monotone_root if derivatives_wanted(y, row, total) else bisect_then_newton
    return solve(excess, lower, upper)
