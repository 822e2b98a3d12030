"""Plane elasticity on a grid of bilinear squares: assembly in banded form, Cholesky factorisation, energies.

Nodes are numbered along the short side first, so that the half bandwidth is about twice the number of nodes there.
Lengths are in units that the caller chooses: stiffness of plane stress does not depend on the size of a square.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve_banded, cholesky_banded

__all__ = ["Array", "Grid", "Support", "square_stiffness"]

Array = NDArray[np.float64]
# Corners of a square in the order of its degrees of freedom, on [-1, 1]^2, and the nodes of two-point Gauss quadrature.
_CORNERS = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], dtype=float)
_GAUSS = 1 / np.sqrt(3)


def square_stiffness(poisson: float = 0.3) -> Array:
    """The stiffness matrix ``(8, 8)`` of a square in plane stress of unit modulus and thickness.

    ``int B^T C B`` with bilinear shape functions, exact by two by two Gauss points.
    """
    elastic = np.array([[1, poisson, 0], [poisson, 1, 0], [0, 0, (1 - poisson) / 2]]) / (1 - poisson**2)
    total = np.zeros((8, 8))
    for x, y in _GAUSS * _CORNERS:
        slopes = 0.25 * _CORNERS * (1 + _CORNERS * [x, y])[:, ::-1]
        strain = np.zeros((3, 8))
        strain[0, 0::2], strain[1, 1::2] = slopes.T
        strain[2, 0::2], strain[2, 1::2] = slopes.T[::-1]
        total += strain.T @ elastic @ strain
    return total


@dataclass(frozen=True)
class Grid:
    """``nx`` by ``ny`` squares; arrays of elements have shape ``(nx, ny)``, row ``j = 0`` at the bottom."""

    nx: int
    ny: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.nx, self.ny

    @property
    def freedoms(self) -> int:
        return 2 * (self.nx + 1) * (self.ny + 1)

    def node(self, i: int | Array, j: int | Array) -> int | Array:
        """The number of node ``(i, j)``; its degrees of freedom are twice that, and one more."""
        return i * (self.ny + 1) + j if self.ny <= self.nx else j * (self.nx + 1) + i

    @cached_property
    def corners(self) -> NDArray[np.int64]:
        """Nodes ``(nx ny, 4)`` of the elements, counterclockwise from the lower left."""
        i, j = np.divmod(np.arange(self.nx * self.ny), self.ny)
        return np.stack([self.node(i + a, j + b) for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))], -1)

    @cached_property
    def element_freedoms(self) -> NDArray[np.int64]:
        """Degrees of freedom ``(nx ny, 8)``."""
        return np.stack([2 * self.corners, 2 * self.corners + 1], -1).reshape(-1, 8)


class Support:
    """Equilibrium on a grid with fixed degrees of freedom and, possibly, springs.

    Args:
        grid: The grid.
        fixed: Degrees of freedom without displacement.
        springs: Stiffness by degree of freedom.
    """

    def __init__(self, grid: Grid, fixed: Array, springs: dict[int, float] | None = None) -> None:
        self.grid, self.stiffness = grid, square_stiffness()
        self.free = np.setdiff1d(np.arange(grid.freedoms), fixed)
        place = np.full(grid.freedoms, -1)
        place[self.free] = np.arange(len(self.free))
        places = place[grid.element_freedoms]
        rows, columns = np.broadcast_arrays(places[:, :, None], places[:, None, :])
        kept = (rows >= columns) & (columns >= 0)
        self._element, row, column = np.nonzero(kept)
        self._entries = self.stiffness[row, column]
        rows, columns = rows[kept], columns[kept]
        self._bands = int((rows - columns).max()) + 1
        self._index = columns * self._bands + rows - columns
        self._springs = [(place[freedom], stiffness) for freedom, stiffness in (springs or {}).items()]

    def displacements(self, modulus: Array, loads: Array) -> Array:
        """Displacements ``(freedoms, k)`` under ``loads (freedoms, k)``, by one factorisation.

        Args:
            modulus: Young's modulus of every element, ``(nx ny,)``.
            loads: Forces on degrees of freedom; what acts on fixed ones is carried by the support.
        """
        size = len(self.free)
        flat = np.bincount(self._index, modulus[self._element] * self._entries, size * self._bands)
        # Fortran order is what LAPACK takes without a copy.
        bands = flat.reshape(size, self._bands).T
        for place, stiffness in self._springs:
            bands[0, place] += stiffness
        factor = cholesky_banded(bands, overwrite_ab=True, lower=True, check_finite=False)
        moved = np.zeros_like(loads)
        moved[self.free] = cho_solve_banded((factor, True), loads[self.free], check_finite=False)
        return moved

    def energies(self, first: Array, second: Array) -> Array:
        """``u^T K_0 v`` of every element at unit modulus, ``(nx ny,)``, for displacements ``(freedoms,)``."""
        freedoms = self.grid.element_freedoms
        return np.einsum("ei,ij,ej->e", first[freedoms], self.stiffness, second[freedoms], optimize=True)
