"""What effective sample sizes and R-hat share: shapes, split chains, normal scores, quantiles."""

from collections.abc import Callable

import torch
from torch import Tensor

from mirrorgen.errors import ShapeError
from mirrorgen.numerics import upcast

__all__ = ["in_blocks", "normal_scores", "per_coordinate", "quantile", "split_chains"]

_LEAST_DRAWS = 4
# Values handled at a time: bounds the memory of transforms and sorts of many coordinates.
_BLOCK = 2**22


def per_coordinate(statistic: Callable[[Tensor], Tensor], draws: Tensor) -> Tensor:
    """``statistic`` of every coordinate, in float64; NaN where it is undefined.

    A coordinate is undefined if a draw is not finite, if all draws are equal, or with fewer than four draws per chain.

    Args:
        statistic: From ``(coordinates, chains, draws)`` to ``(coordinates, *shape)``, for all coordinates at once.
        draws: ``(draws, chains)`` or ``(draws, chains, dim)``.

    Returns:
        ``shape`` or ``(dim, *shape)``.

    Raises:
        ShapeError: If ``draws`` has another shape, no entry, or no floating-point dtype.
    """
    return in_blocks(lambda x: _defined(statistic, x), draws)


def in_blocks(statistic: Callable[[Tensor], Tensor], draws: Tensor) -> Tensor:
    """As ``per_coordinate``, whatever the values of the draws are."""
    if draws.ndim not in (2, 3) or not draws.is_floating_point() or draws.numel() == 0:
        raise ShapeError(
            f"draws holds numbers (draws, chains) or (draws, chains, dim); got {draws.dtype} of shape "
            f"{tuple(draws.shape)}. One chain is draws[:, None]"
        )
    x = draws.detach().reshape(*draws.shape[:2], -1).permute(2, 1, 0)
    rows = max(1, _BLOCK // x[0].numel())
    values = torch.cat([statistic(upcast(part).contiguous()) for part in x.split(rows)])
    return values if draws.ndim == 3 else values[0]


def _defined(statistic: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    low, high = x.aminmax(dim=-1)
    low, high = low.amin(-1), high.amax(-1)
    defined = torch.isfinite(low) & torch.isfinite(high) & (low < high)
    if x.shape[-1] < _LEAST_DRAWS:
        x, defined = x.new_zeros(*x.shape[:2], _LEAST_DRAWS), torch.zeros_like(defined)
    values = statistic(torch.where(defined[:, None, None], x, 0.0))
    return torch.where(defined.reshape(-1, *[1] * (values.ndim - 1)), values, torch.nan)


def split_chains(x: Tensor) -> Tensor:
    """The halves of every chain as chains of their own, ``(..., c, n)`` to ``(..., 2 c, n // 2)``; drops the middle."""
    half = x.shape[-1] // 2
    return torch.cat([x[..., :half], x[..., -half:]], dim=-2)


def normal_scores(x: Tensor) -> Tensor:
    """``Phi^-1((rank - 3/8) / (size + 1/4))`` over all chains of a coordinate, ties at their average rank.

    Args:
        x: ``(coordinates, chains, draws)``.

    Source: Blom, "Statistical estimates and transformed beta-variables", 1958.
    """
    flat = x.flatten(1)
    ordered, order = flat.sort(-1)
    size = flat.shape[1]
    place = torch.arange(size, device=x.device).expand_as(order)
    step = ordered[:, 1:] != ordered[:, :-1]
    edge = torch.ones_like(step[:, :1])
    # First and last place of the run of equal values that holds each place.
    first = torch.where(torch.cat([edge, step], 1), place, 0).cummax(-1).values
    last = torch.where(torch.cat([step, edge], 1), place, size - 1).flip(-1).cummin(-1).values.flip(-1)
    rank = (first + last).to(x.dtype) / 2 + 1
    scores = torch.special.ndtri((rank - 0.375) / (size + 0.25))
    return torch.empty_like(flat).scatter_(1, order, scores).reshape(x.shape)


def quantile(x: Tensor, probability: float) -> Tensor:
    """The quantile over chains and draws, linear between order statistics, ``(coordinates, chains, draws)`` to
    ``(coordinates,)``; ``torch.quantile`` stops at 16 million values.
    """
    flat = x.flatten(1)
    place = probability * (flat.shape[1] - 1)
    below = int(place)
    pair = [flat.kthvalue(min(k, flat.shape[1] - 1) + 1, dim=-1).values for k in (below, below + 1)]
    return torch.lerp(pair[0], pair[1], place - below)
