"""Bijections onto simplices from the cube, by breaking sticks, and from ordered numbers, by their gaps."""

import torch
from torch import Tensor

from mirrorgen.diffusion.bijections import Bijection
from mirrorgen.diffusion.heat_kernel import ordered_simplex
from mirrorgen.geometry.domains import Box, Polytope, Simplex
from mirrorgen.geometry.domains.base import require_dim

__all__ = ["Gaps", "StickBreaking"]


class StickBreaking(Bijection):
    """The open unit cube ``Box(0, 1, dim)`` onto ``Simplex(dim + 1)``: every coordinate is a share of what is left.

    With ``r_0 = 1`` and the rest ``r_k = (1 - x_1) ... (1 - x_k)``::

        y_k = x_k r_(k-1),   y_(dim+1) = r_dim;      x_k = y_k / (y_k + ... + y_(dim+1));      |det| = r_1 ... r_(dim-1)

    with respect to Lebesgue measure on the first ``dim`` coordinates, the measure of ``Simplex``. Rests are products
    and sums of positive numbers, which lose no digits. What a point of the cube cannot hold, in its dtype, is how far a
    share is below one where that rounds: coordinates of ``forward(inverse(y))`` after such a share are right to the
    rounding error of 1, not to that of their own size. Uniform points do not stay uniform: coordinate ``k`` has mean
    ``2^-k``, and the last ones of more than about 80 are below what float32 holds.

    Args:
        dim: Number of shares.

    Raises:
        DomainError: If ``dim < 1``.

    Sources: Sethuraman, "A Constructive Definition of Dirichlet Priors", 1994, for the sticks; Lou, Ermon, "Reflected
    Diffusion Models", 2023, for reflected diffusion on the simplex as an image of that in the cube.
    """

    def __init__(self, dim: int) -> None:
        require_dim(dim, 1, "StickBreaking")
        super().__init__(Box(0.0, 1.0, dim=dim), Simplex(dim + 1))
        self.dim = dim

    def _forward(self, x: Tensor) -> Tensor:
        rest = torch.cumprod(1 - x, -1)
        before = torch.cat([torch.ones_like(rest[..., :1]), rest[..., :-1]], -1)
        return torch.cat([x * before, rest[..., -1:]], -1)

    def _inverse(self, y: Tensor) -> Tensor:
        return y[..., :-1] / _sums_from(y)[..., :-1]

    def _log_abs_det(self, y: Tensor) -> Tensor:
        return _sums_from(y)[..., 1:-1].log().sum(-1)


class Gaps(Bijection):
    """``ordered_simplex(dim)`` onto ``Simplex(dim + 1)`` by the gaps ``1 - x_1, x_1 - x_2, ..., x_dim``.

    Affine, with determinant ``+-1`` in the measures of the two sets. Reflected Brownian motion of the source, whose
    heat kernel is known up to ``dim = 10`` and whose unfolded targets in any dimension, becomes a motion on the simplex
    with covariance ``D D^T``, ``D`` the matrix of differences, reflected along the conormals ``D D^T n`` of the walls.
    Uniform points stay uniform.

    Args:
        dim: Number of ordered coordinates.
        corner: Leave out the first gap: the target is then the corner simplex ``{y : y_i > 0, sum y < 1}`` as a
            ``Polytope`` with ``dim`` coordinates.

    Raises:
        DomainError: If ``dim < 1``.
    """

    def __init__(self, dim: int, corner: bool = False) -> None:
        require_dim(dim, 1, "Gaps")
        super().__init__(ordered_simplex(dim), _corner_simplex(dim) if corner else Simplex(dim + 1))
        self.dim, self.corner = dim, corner

    def _forward(self, x: Tensor) -> Tensor:
        zero = torch.zeros_like(x[..., :1])
        ends = [x, zero] if self.corner else [zero + 1, x, zero]
        return -torch.diff(torch.cat(ends, -1), dim=-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return _sums_from(y if self.corner else y[..., 1:])

    def _log_abs_det(self, y: Tensor) -> Tensor:
        return torch.zeros_like(y[..., 0])


def _sums_from(y: Tensor) -> Tensor:
    """``y_k + ... + y_n`` for every ``k``."""
    return torch.cumsum(y.flip(-1), -1).flip(-1)


def _corner_simplex(dim: int) -> Polytope:
    """``{y : y_i > 0, sum y < 1}``."""
    rows = torch.cat([-torch.eye(dim, dtype=torch.float64), torch.ones(1, dim, dtype=torch.float64)])
    return Polytope(rows, torch.cat([torch.zeros(dim, dtype=torch.float64), torch.ones(1, dtype=torch.float64)]))
