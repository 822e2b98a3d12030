"""Filters from designs to densities: linear, symmetric up to a scale, and constants stay what they are.

``apply`` is the filter and ``transpose`` its transpose, which carries gradients back. Radii are in sides of a square.
"""

import numpy as np
from elasticity import Array, Grid
from scipy import sparse
from scipy.linalg import cho_solve_banded, cholesky_banded

__all__ = ["ConeFilter", "HelmholtzFilter"]


class ConeFilter:
    """``sum_j max(0, r - |x_i - x_j|) rho_j`` over the sum of the weights, ``x`` the centres of elements."""

    def __init__(self, grid: Grid, radius: float) -> None:
        reach = np.arange(-int(radius), int(radius) + 1)
        weights, sources, targets = [], [], []
        i, j = np.divmod(np.arange(grid.nx * grid.ny), grid.ny)
        for di, dj in ((a, b) for a in reach for b in reach if np.hypot(a, b) < radius):
            inside = (i + di >= 0) & (i + di < grid.nx) & (j + dj >= 0) & (j + dj < grid.ny)
            targets.append(np.flatnonzero(inside))
            sources.append(((i + di) * grid.ny + j + dj)[inside])
            weights.append(np.full(len(sources[-1]), radius - np.hypot(di, dj)))
        entries = np.concatenate(weights), (np.concatenate(targets), np.concatenate(sources))
        matrix = sparse.csr_matrix(entries)
        self._matrix = sparse.diags(1 / matrix.sum(1).A1) @ matrix

    def apply(self, design: Array) -> Array:
        return self._matrix @ design

    def transpose(self, gradient: Array) -> Array:
        return self._matrix.T @ gradient


class HelmholtzFilter:
    """``rho - s^2 Laplace(density) = density`` without flux, ``s = r / (2 sqrt 3)``, by bilinear finite elements.

    The density of an element is the mean over it. The filter is symmetric. Mass is lumped: densities stay between zero
    and one for every radius, as with consistent mass they do not. Source: Lazarov, Sigmund, "Filters in topology
    optimization based on Helmholtz-type differential equations", 2011.
    """

    def __init__(self, grid: Grid, radius: float) -> None:
        # Along one side of a square: stiffness and mass of linear functions; their tensor products on the square.
        stiff, mass = np.array([[1, -1], [-1, 1]]), np.array([[2, 1], [1, 2]]) / 6
        order = np.array([0, 2, 3, 1])  # Counterclockwise, from the order of the product.
        laplace = (np.kron(mass, stiff) + np.kron(stiff, mass))[np.ix_(order, order)]
        local = radius**2 / 12 * laplace + np.eye(4) / 4
        self._corners, count = grid.corners, grid.freedoms // 2
        rows, columns = np.broadcast_arrays(self._corners[:, :, None], self._corners[:, None, :])
        kept = rows >= columns
        bands = np.zeros((int((rows - columns).max()) + 1, count))
        np.add.at(bands, ((rows - columns)[kept], columns[kept]), np.broadcast_to(local, rows.shape)[kept])
        self._factor, self._count = cholesky_banded(bands, lower=True), count

    def apply(self, design: Array) -> Array:
        spread = np.bincount(self._corners.ravel(), np.repeat(design / 4, 4), self._count)
        return cho_solve_banded((self._factor, True), spread)[self._corners].mean(-1)

    transpose = apply
