"""Bandits: actions that are drawn, and gradients from the one loss that is seen."""

import torch
from torch import Tensor

from mirrorgen.errors import ShapeError
from mirrorgen.geometry.mirror_maps import MirrorMap
from mirrorgen.numerics import inverse_cdf

__all__ = ["axis_action", "axis_gradient", "draw_actions", "importance_weighted"]


def draw_actions(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Actions ``(*batch)`` of laws ``(*batch, actions)``, by the inverse of their distribution functions.

    Args:
        probabilities: Points of a simplex.
        uniform: Numbers ``(*batch)`` in ``[0, 1)``.
    """
    return inverse_cdf(probabilities.cumsum(-1), uniform)


def importance_weighted(loss: Tensor, action: Tensor, probabilities: Tensor) -> Tensor:
    """``loss / probability`` at the action that was played and zero elsewhere: unbiased for the vector of losses.

    Args:
        loss: Losses of the actions played, ``(*batch)``.
        action: Their indices, ``(*batch)``.
        probabilities: With which they were drawn, ``(*batch, actions)``.

    Returns:
        Gradients ``(*batch, actions)`` for a learner on the simplex.

    Source: Auer, Cesa-Bianchi, Freund, Schapire, "The Nonstochastic Multiarmed Bandit Problem", 2002.
    """
    index = action.unsqueeze(-1)
    weighted = loss.unsqueeze(-1) / probabilities.gather(-1, index)
    return torch.zeros_like(probabilities).scatter(-1, index, weighted)


def axis_action(mirror_map: MirrorMap, x: Tensor, axis: Tensor, sign: Tensor) -> Tensor:
    """``x + sign H(x)^(-1/2) e_axis``: an end of an axis of the ellipsoid of the local norm at ``x``.

    Where the map is a self-concordant barrier (``LogBarrier``, ``BallLogBarrier``) these ellipsoids lie inside the
    domain. For axes and signs drawn uniformly the mean of actions is ``x``.

    Args:
        mirror_map: The map, on a domain without equalities.
        x: Points ``(*batch, dim)``, strictly inside.
        axis: Numbers of axes, ``(*batch)``.
        sign: 1 or -1, ``(*batch)``.

    Raises:
        ShapeError: If shapes do not fit.
    """
    return x + mirror_map.hessian(x).inv_sqrt_mv(_signed_axis(x, axis, sign))


def axis_gradient(mirror_map: MirrorMap, x: Tensor, axis: Tensor, sign: Tensor, loss: Tensor) -> Tensor:
    """``dim loss sign H(x)^(1/2) e_axis``: unbiased for the vector of a linear loss at ``axis_action``.

    Its squared norm in ``H(x)^-1`` is ``(dim loss)^2``, however long it is.

    Args:
        mirror_map: As there.
        x: As there.
        axis: As there, drawn uniformly.
        sign: As there, drawn uniformly.
        loss: Of the action, ``(*batch)``.

    Returns:
        Gradients ``(*batch, dim)``.

    Source: Abernethy, Hazan, Rakhlin, "Competing in the Dark: An Efficient Algorithm for Bandit Linear Optimization",
    2008.
    """
    return x.shape[-1] * loss.unsqueeze(-1) * mirror_map.hessian(x).sqrt_mv(_signed_axis(x, axis, sign))


def _signed_axis(x: Tensor, axis: Tensor, sign: Tensor) -> Tensor:
    if axis.shape != x.shape[:-1] or sign.shape != x.shape[:-1]:
        raise ShapeError(f"axis and sign must be {tuple(x.shape[:-1])}, got {tuple(axis.shape)}, {tuple(sign.shape)}")
    return torch.zeros_like(x).scatter(-1, axis.unsqueeze(-1), sign.to(x.dtype).unsqueeze(-1))
