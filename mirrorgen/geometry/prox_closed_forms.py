"""Bregman proximity operators in closed form, from dual point to dual point.

With ``y = grad psi(x)``, ``c = step weight`` and ``k = psi'(0)`` the left operator of ``weight |u|`` is the soft
threshold ``w = k + ST(y - k, c)`` of every separable map. The right one solves ``(u - x) psi''(u) + c sign(u) = 0``,
in closed form for the maps of ``_RIGHT``, whose left side has one change of sign. In the dual both keep the digits
that points have lost near a boundary or in the rounding of a large coordinate.

Source: Bauschke, Dao and Lindstrom, "Regularizing with Bregman-Moreau envelopes", 2018; T. T.-K. Lau and H. Liu,
"Bregman proximal Langevin Monte Carlo via Bregman-Moreau envelopes", 2022.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mirrorgen.errors import DomainError
from mirrorgen.geometry.bregman_projections import projected_dual
from mirrorgen.geometry.domains.ball import Ball
from mirrorgen.geometry.mirror_maps.ball_log_barrier import BallLogBarrier
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.mirror_maps.box_entropy import BoxEntropy
from mirrorgen.geometry.mirror_maps.burg_entropy import BurgEntropy
from mirrorgen.geometry.mirror_maps.hellinger_ball import HellingerBall
from mirrorgen.geometry.mirror_maps.hypentropy import Hypentropy
from mirrorgen.geometry.mirror_maps.neg_entropy import NegEntropy
from mirrorgen.geometry.mirror_maps.quadratic import Quadratic
from mirrorgen.geometry.proximal_functions import GroupNorm, Indicator, L1Norm, ProximalFunction
from mirrorgen.geometry.separable import dual_of_zero, is_separable

__all__ = ["Side", "prox_dual", "prox_point"]

Side = Literal["left", "right"]


def prox_dual(mirror_map: MirrorMap, function: ProximalFunction, y: Tensor, step: float, side: Side = "left") -> Tensor:
    """The dual point of ``argmin_u function(u) + D(u, x) / step`` (right: ``D(x, u)``) with ``x = grad psi*(y)``.

    Args:
        mirror_map: The map of ``psi``.
        function: ``L1Norm``: left with separable maps, right with ``Quadratic`` (diagonal), ``Hypentropy``,
            ``NegEntropy``, ``BurgEntropy`` and ``BoxEntropy``. ``GroupNorm``: ``Quadratic`` without a matrix, and
            left, as one group, with maps of a ball about the origin. ``Indicator``: left, see ``project_dual``.
        y: Dual points ``(..., dual_dim)``.
        step: Positive step size.
        side: Which argument of ``D`` moves.

    Returns:
        Dual points ``(..., dual_dim)``.

    Raises:
        DomainError: If there is no closed form.
    """
    if isinstance(function, Indicator) and side == "left":
        return projected_dual(mirror_map, y, function.target)
    if isinstance(function, GroupNorm) and _is_radial(mirror_map, function.size, side):
        groups, c = function.groups(y), step * function.weight
        norm = torch.linalg.vector_norm(groups, dim=-1, keepdim=True)
        return torch.where(norm > c, groups * (1 - c / torch.where(norm > c, norm, 1.0)), 0.0).flatten(-2)
    if isinstance(function, L1Norm) and is_separable(mirror_map):
        solve = _left if side == "left" else _right_form(mirror_map)
        if solve is not None:
            return solve(y, step * function.weights(y), dual_of_zero(mirror_map, y))
    raise DomainError(
        f"{type(function).__name__} has no {side} proximity operator in closed form for {type(mirror_map).__name__} on "
        f"{type(mirror_map.domain).__name__}; see prox_dual for the pairs that have one, or pass a smooth function"
    )


def prox_point(mirror_map: MirrorMap, function: ProximalFunction, y: Tensor, step: float, side: Side) -> Tensor:
    """The point of ``prox_dual``, with exact zeros where the operator of ``L1Norm`` has them."""
    w = prox_dual(mirror_map, function, y, step, side)
    u = mirror_map.to_primal(w)
    return torch.where(w == dual_of_zero(mirror_map, w), 0.0, u) if isinstance(function, L1Norm) else u


def _is_radial(mirror_map: MirrorMap, size: int, side: Side) -> bool:
    """Whether dual groups are positive multiples of primal groups."""
    if isinstance(mirror_map, Quadratic):
        return mirror_map.matrix is None
    if not isinstance(mirror_map, HellingerBall | BallLogBarrier) or side == "right":
        return False
    ball: Ball = mirror_map.domain
    return size == ball.dim and not bool(ball.center.any())


def _left(y: Tensor, c: Tensor, kink: Tensor) -> Tensor:
    # Where the kink is infinite this is a plain shift.
    gap = y - kink
    return torch.where(gap.abs() <= c, kink, y - torch.sign(gap) * c)


Form = Callable[[Tensor, Tensor, Tensor], Tensor]


def _right_form(mirror_map: MirrorMap) -> Form | None:
    return next((form for kind, form in _RIGHT.items() if isinstance(mirror_map, kind)), None)


def _right_neg_entropy(y: Tensor, c: Tensor, kink: Tensor) -> Tensor:
    """``u = x / (1 + c)``."""
    return y - torch.log1p(c)


def _right_burg(y: Tensor, c: Tensor, kink: Tensor) -> Tensor:
    """``u = 2 x / (1 + sqrt(1 + 4 c x))`` with ``x = -1 / y``."""
    return 0.5 * y * (1 + torch.sqrt(1 - 4 * c / y))


def _right_hypentropy(y: Tensor, c: Tensor, kink: Tensor) -> Tensor:
    """``u / beta = (X^2 - c^2) / (X + c sqrt(X^2 + 1 - c^2))`` for ``X = |x| / beta > c``, else zero."""
    size = torch.sinh(y.abs())
    live = size > c
    size = torch.where(live, size, c + 1)
    root = torch.hypot(torch.sqrt(size - c) * torch.sqrt(size + c), torch.ones_like(size))
    u = (size - c) * ((size + c) / (size + c * root))
    return torch.where(live, torch.sign(y) * torch.asinh(u), 0.0)


def _right_box_entropy(y: Tensor, c: Tensor, kink: Tensor) -> Tensor:
    """Towards zero, from either side of it."""
    return torch.where(y > kink, torch.maximum(_fall(y, c), kink), torch.minimum(-_fall(-y, c), kink))


def _fall(y: Tensor, c: Tensor) -> Tensor:
    """The logit of the ``s`` with ``t - s = c s (1 - s)``, ``t = sigmoid(y)``.

    With ``r = sqrt((1-c)^2 + 4c (1-t))``: ``s = 2t / (1+c+r)``, and ``1-s = 2(1-t) / (1-c+r)``, which for ``c > 1``
    is the difference-free ``(c-1+r) / 2c``.
    """
    rest = torch.sigmoid(-y)
    gap = (1 - c).abs()
    r = torch.sqrt(gap.square() + 4 * c * rest)
    log_s = logsigmoid(y) - torch.log(0.5 * (1 + c + r))
    below, above = logsigmoid(-y) - torch.log(0.5 * (gap + r)), torch.log((gap + r) / (2 * c))
    return log_s - torch.where(c < 1, below, above)


_RIGHT: dict[type[MirrorMap], Form] = {
    # The divergence of a quadratic function is symmetric.
    Quadratic: _left,
    Hypentropy: _right_hypentropy,
    NegEntropy: _right_neg_entropy,
    BurgEntropy: _right_burg,
    BoxEntropy: _right_box_entropy,
}
