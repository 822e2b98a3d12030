"""Bregman divergences, projections, proximity operators and envelopes of a mirror map.

``D`` is not symmetric. Left problems move its first argument, ``argmin_u f(u) + D(u, x) / step``, and are convex for
convex ``f``; right problems move the second, ``argmin_u f(u) + D(x, u) / step``, and are solved in the dual, where they
are convex if ``f`` composed with ``grad phi*`` is.

Reference: Bauschke, Dao and Lindstrom, "Regularizing with Bregman-Moreau envelopes", 2018.
"""

import torch
from torch import Tensor

from mirrorgen.geometry.bregman_projections import AffineSet, CappedSimplex, L1Ball, project_dual
from mirrorgen.geometry.bregman_prox import bregman_envelope, bregman_prox, envelope_gradient
from mirrorgen.geometry.domains.base import Domain
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.prox_closed_forms import prox_dual
from mirrorgen.geometry.proximal_functions import GroupNorm, Indicator, L1Norm, ProximalFunction

__all__ = [
    "AffineSet",
    "CappedSimplex",
    "GroupNorm",
    "Indicator",
    "L1Ball",
    "L1Norm",
    "ProximalFunction",
    "bregman_divergence",
    "bregman_envelope",
    "bregman_projection",
    "bregman_prox",
    "envelope_gradient",
    "prox_dual",
]


def bregman_divergence(mirror_map: MirrorMap, p: Tensor, q: Tensor) -> Tensor:
    """``D(p, q) = phi(p) - phi(q) - <grad phi(q), p - q>``, in the map's cancellation-free form.

    Args:
        mirror_map: The map of ``phi``.
        p: Points ``(..., dim)``, strictly inside.
        q: Points ``(..., dim)``, strictly inside; broadcast against ``p``.

    Returns:
        Divergences ``(...)``.

    Raises:
        ShapeError: If a last axis is not ``dim``.
        DomainError: If a point is not strictly inside.
    """
    mirror_map.domain.check(p, "p")
    mirror_map.domain.check(q, "q")
    return mirror_map.divergence(*torch.broadcast_tensors(p, q))


def bregman_projection(mirror_map: MirrorMap, x: Tensor, target: Domain | AffineSet | CappedSimplex | L1Ball) -> Tensor:
    """The left Bregman projection ``argmin {D(u, x) : u in target}``.

    Known pairs: ``AffineSet`` with any map (a scalar root for one equation with ``BoxEntropy``, else Newton on the
    concave dual; batched already), ``Box`` with separable maps (a clamp), any domain with ``Quadratic`` without a
    matrix (the Euclidean projection), ``CappedSimplex`` with ``SimplexEntropy`` (a sort), ``L1Ball`` with
    ``Hypentropy`` (a soft threshold in the dual). Whoever keeps dual points calls ``project_dual`` or
    ``projected_dual`` of ``bregman_projections``.

    Args:
        mirror_map: The map of ``phi``.
        x: Points ``(..., dim)``, strictly inside.
        target: The set, which must meet the interior of the domain.

    Returns:
        Points ``(..., dim)``, strictly inside the domain of the map.

    Raises:
        DomainError: If the pair is unknown, a point is outside, the equations contradict each other, or one equation
            misses the interior of a box.
        ConvergenceError: If Newton's method fails, as it does when an affine set misses the interior.
    """
    return project_dual(mirror_map, mirror_map.to_dual(x), target)
