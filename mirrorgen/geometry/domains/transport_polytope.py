"""Matrices with given row and column sums."""

import math

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains.base import as_buffer
from mirrorgen.geometry.domains.polytope import Polytope

__all__ = ["Birkhoff", "TransportPolytope"]


class TransportPolytope(Polytope):
    """``{X > 0 : X 1 = r, X^T 1 = c}``, couplings of two weight vectors, flattened row by row.

    A point has ``dim = len(r) len(c)`` coordinates (``pack`` and ``unpack`` convert); the affine hull has
    ``(len(r) - 1)(len(c) - 1)`` dimensions. ``radius`` is that of the ball around ``r c^T / sum(r)``.

    Args:
        r: Row sums ``(p,)``, positive.
        c: Column sums ``(q,)``, positive, with the same total.

    Raises:
        DomainError: If a sum is not positive and finite, or the totals differ.
        ShapeError: If ``r`` or ``c`` is not a vector of at least two entries.
    """

    r: Tensor
    c: Tensor

    def __init__(self, r: Tensor | list, c: Tensor | list) -> None:
        super(Polytope, self).__init__()
        rows, columns = as_buffer(r).detach(), as_buffer(c).detach()
        self._check_sums(rows, columns)
        self.register_buffer("r", rows.clone())
        self.register_buffer("c", columns.clone())
        self._couple(rows, columns)

    def _couple(self, r: Tensor, c: Tensor) -> None:
        p, q = len(r), len(c)
        eye = torch.eye(p * q, dtype=r.dtype, device=r.device)
        cells = eye.reshape(p, q, p * q)
        equal = torch.cat([cells.sum(1), cells.sum(0)])
        # The independent coupling is inside, which saves the linear programme.
        start = torch.outer(r, c).flatten() / r.sum()
        self._build(-eye, eye.new_zeros(p * q), equal, torch.cat([r, c]), start=start)

    @staticmethod
    def _check_sums(r: Tensor, c: Tensor) -> None:
        for name, sums in (("r", r), ("c", c)):
            if sums.ndim != 1 or len(sums) < 2:
                raise ShapeError(f"{name} must be a vector of at least two sums, got shape {tuple(sums.shape)}")
            if not bool((torch.isfinite(sums) & (sums > 0)).all()):
                raise DomainError(f"{name} must be positive and finite; remove empty rows and columns")
        if not math.isclose(float(r.sum()), float(c.sum()), rel_tol=1e-9):
            raise DomainError(
                f"r and c must have the same total, got {float(r.sum()):.9g} and {float(c.sum()):.9g}; rescale one"
            )

    def pack(self, matrix: Tensor) -> Tensor:
        """Points ``(..., p q)`` of matrices ``(..., p, q)``."""
        return matrix.flatten(-2)

    def unpack(self, x: Tensor) -> Tensor:
        """Matrices ``(..., p, q)`` of points ``(..., p q)``."""
        return x.unflatten(-1, (len(self.r), len(self.c)))

    def slack(self, x: Tensor) -> Tensor:
        return x

    def constraint_name(self, index: int) -> str:
        return f"X[{index // len(self.c)}, {index % len(self.c)}] > 0"


class Birkhoff(TransportPolytope):
    """Doubly stochastic ``n`` by ``n`` matrices with positive entries, the interior of Birkhoff's polytope.

    Points are flattened row by row, ``dim = n^2``; the affine hull has ``(n - 1)^2`` dimensions.

    Args:
        n: Number of rows and columns, at least 2.

    Raises:
        ShapeError: If ``n < 2``.
    """

    def __init__(self, n: int) -> None:
        if n < 2:
            raise ShapeError(f"n must be at least 2, got {n}; there is a single doubly stochastic 1 by 1 matrix")
        ones = torch.ones(n, dtype=torch.float64)
        super().__init__(ones, ones)
        self.n = n

    def extra_repr(self) -> str:
        return f"n={self.n}"
