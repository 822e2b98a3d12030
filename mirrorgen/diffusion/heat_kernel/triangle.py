"""Neumann heat kernels of the triangles whose reflections tile the plane."""

import math
from itertools import permutations
from typing import ClassVar

import torch
from torch import Tensor

from mirrorgen.diffusion.heat_kernel.base import HeatKernel
from mirrorgen.diffusion.heat_kernel.interval import Pair, interval
from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Domain, Polytope, Simplex
from mirrorgen.numerics import upcast

__all__ = ["EquilateralHeatKernel", "RightIsoscelesHeatKernel"]

# Cosines of angles between walls may be off by this much.
_ANGLE = 1e-9


class _TriangleHeatKernel(HeatKernel):
    """Kernel of a triangle of a given shape, any size and any position, also in a plane of a larger space.

    Evaluated in float64: images next to a corner have no form without cancellation in the precision of the points.

    Args:
        domain: A set with ``dual_dim`` 2 and three walls, without redundant ones.

    Raises:
        DomainError: If the domain is no triangle of the shape.
    """

    # Cosines of the outward normals of walls (0, 1), (0, 2), (1, 2), and orthonormal coordinates as combinations of
    # the distances to the walls.
    _cosines: ClassVar[tuple[float, float, float]]
    _frame: ClassVar[tuple[tuple[float, ...], ...]]
    _shape: ClassVar[str]

    def __init__(self, domain: Domain) -> None:
        super().__init__(domain)
        self.walls = self._match()

    def _match(self) -> list[int]:
        """The rows of ``halfspaces`` in the order of the class."""
        if self.domain.dual_dim == 2:
            rows = self.domain.halfspaces()[0].detach()
            gram = rows @ rows.mT
            wanted = torch.tensor(self._cosines, dtype=gram.dtype, device=gram.device)
            for order in permutations(range(3)) if len(rows) == 3 else ():
                i, j, k = order
                found = torch.stack([gram[i, j], gram[i, k], gram[j, k]])
                if bool(((found - wanted).abs() <= _ANGLE).all()):
                    return list(order)
        raise DomainError(
            f"{type(self).__name__} needs {self._shape}, given by its three walls; got {self.domain!r}; "
            "unfolded_draw serves every polytope whose reflections tile the space"
        )

    def _log_prob_and_score(self, x: Tensor, x_0: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        rows, level = (upcast(t.detach())[self.walls] for t in self.domain.halfspaces())
        frame = torch.tensor(self._frame, dtype=rows.dtype, device=rows.device)
        turn, origin = frame @ rows, frame @ level
        p, q = (origin - self.domain.to_chart(upcast(v)) @ turn.mT for v in (x, x_0))
        log_prob, score = self._planar(p, q, upcast(sigma), level)
        score = self.domain.from_tangent(-score @ turn)
        return (log_prob + self.domain.chart_log_volume).to(x.dtype), score.to(x.dtype)

    def _planar(self, p: Tensor, q: Tensor, sigma: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Log-density ``(*batch)`` and score ``(*batch, 2)`` in the coordinates of ``_frame``, from ``q`` to ``p``.

        ``level`` are the distances of the walls from the origin of the chart, by which sizes are known.
        """
        raise NotImplementedError


class RightIsoscelesHeatKernel(_TriangleHeatKernel):
    """Brownian motion in a right triangle with two equal legs of length ``L``.

    In the coordinates along the legs, ``{p > 0, p_1 + p_2 < L}``, the triangle is half a square, and the other half
    its mirror image, which holds one more image of the start::

        p(x | x_0) = k(p_1 | q_1) k(p_2 | q_2) + k(p_1 | L - q_2) k(p_2 | L - q_1)

    with the kernel ``k`` of an interval of length ``L``. Exact for every ``sigma``.

    Args:
        domain: A ``Polytope`` with ``dual_dim`` 2, such as the corner simplex ``{x > 0, x_1 + x_2 < 1}``; any size,
            position and orientation.

    Raises:
        DomainError: If the domain is no such triangle, or has redundant rows.

    Source: images in the walls; the triangle is the alcove of the affine reflection group of type C2 (Humphreys,
    "Reflection groups and Coxeter groups", 1990).
    """

    domain: Polytope
    _cosines = (0.0, -math.sqrt(0.5), -math.sqrt(0.5))
    _frame = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    _shape = "a right triangle with two equal legs"

    def _planar(self, p: Tensor, q: Tensor, sigma: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        # The normals of the legs and sqrt(2) times that of the long side add up to zero.
        leg = level[0] + level[1] + math.sqrt(2.0) * level[2]
        p, q = _within(p, leg), _within(q, leg)
        images = torch.stack([q, leg - q.flip(-1)], -2)
        pairs = Pair.between(torch.zeros_like(leg), leg, p.unsqueeze(-2), images)
        log_k, slope = interval(pairs, sigma.unsqueeze(-1))
        terms = log_k.sum(-1)
        share = torch.softmax(terms, -1).unsqueeze(-1)
        return torch.logsumexp(terms, -1), (share * slope).sum(-2)


class EquilateralHeatKernel(_TriangleHeatKernel):
    """Brownian motion in an equilateral triangle, such as the probability simplex in three coordinates.

    With one corner at the origin and the first axis along the height ``H`` through it, reflections in the walls
    generate the turns by 120 degrees about the corner, the mirror image ``p_1 -> -p_1`` and shifts by a hexagonal
    lattice, which is the rectangular one with periods ``2 H`` and ``2 sqrt(3) H`` and the same moved by half of
    both. The sum over all images is a sum of six products, over three turns ``T`` and ``j = 0, 1``::

        p(x | x_0) = sum_(T, j) k(p_1 | fold(c_1)) theta(p_2 - c_2),    c = T q + j (H, sqrt(3) H)

    with the kernel ``k`` of the interval of length ``H`` and the normal density ``theta`` wrapped with period
    ``2 sqrt(3) H``, half the kernel of an interval of half that length started at its end. No lattice sum is truncated:
    one-dimensional series serve every ``sigma``.

    Args:
        domain: ``Simplex(3)``, whose triangle has sides of length ``sqrt(2)``, or an equilateral ``Polytope``.

    Raises:
        DomainError: If the domain is no equilateral triangle, or has redundant rows.

    Source: images in the walls; the triangle is the alcove of the affine reflection group of type A2 (Humphreys,
    "Reflection groups and Coxeter groups", 1990).
    """

    domain: Simplex | Polytope
    _cosines = (-0.5, -0.5, -0.5)
    _frame = ((1.0, 1.0, 0.0), (math.sqrt(1 / 3), -math.sqrt(1 / 3), 0.0))
    _shape = "an equilateral triangle"

    def _planar(self, p: Tensor, q: Tensor, sigma: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        # The three normals add up to zero.
        height = level.sum()
        half_period = math.sqrt(3.0) * height
        first, second = _turned(q, height, half_period)
        zero = torch.zeros_like(height)
        along, slope = interval(Pair.between(zero, height, _within(p[..., :1], height), first), sigma)
        gap = _centred(p[..., 1:] - second, 2 * half_period)
        side = torch.where(gap < 0, -1.0, 1.0).to(gap)
        across, slope_2 = interval(Pair.between(zero, half_period, side * gap, torch.zeros_like(gap)), sigma)
        terms = along + across
        share = torch.softmax(terms, -1)
        score = torch.stack([(share * slope).sum(-1), (share * side * slope_2).sum(-1)], -1)
        return torch.logsumexp(terms, -1) - math.log(2.0), score


def _turned(q: Tensor, height: Tensor, half_period: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of the six images, ``(*batch, 6)`` each, the first folded into ``[0, height]``; ``q`` comes first."""
    turns = [2 * math.pi * i / 3 for i in range(3)]
    first = torch.stack([math.cos(t) * q[..., 0] - math.sin(t) * q[..., 1] for t in turns], -1)
    second = torch.stack([math.sin(t) * q[..., 0] + math.cos(t) * q[..., 1] for t in turns], -1)
    first = torch.cat([first, first + height], -1)
    return _centred(first, 2 * height).abs(), torch.cat([second, second + half_period], -1)


def _within(t: Tensor, most: Tensor) -> Tensor:
    """``t`` where rounding put it outside of ``[0, most]`` moved back, with the derivative of ``t`` everywhere."""
    return t + (torch.clamp(t.detach(), torch.zeros_like(most), most) - t.detach())


def _centred(t: Tensor, period: Tensor) -> Tensor:
    """``t`` modulo ``period``, between minus and plus half of it; next to zero no digit is lost."""
    return t - period * torch.round(t / period)
