"""What is optimised: functions of a design with their gradients, and the problems that these studies share."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from density_filters import ConeFilter, HelmholtzFilter
from elasticity import Array, Grid, Support
from torch import Tensor

__all__ = ["Structure", "bridge", "inverter", "mbb", "ramp", "simp"]

Law = Callable[[Array, float], tuple[Array, Array]]


def simp(density: Array, void: float, penalty: float = 3.0) -> tuple[Array, Array]:
    """Young's modulus ``E_0 + density^p (1 - E_0)`` and its derivative; ``E_0`` is that of a ``void``."""
    return void + density**penalty * (1 - void), penalty * density ** (penalty - 1) * (1 - void)


def ramp(density: Array, void: float, penalty: float = 8.0) -> tuple[Array, Array]:
    """``E_0 + density / (1 + q (1 - density)) (1 - E_0)``: thin matter keeps a stiffness for its weight."""
    below = 1 + penalty * (1 - density)
    return void + density / below * (1 - void), (1 + penalty) / below**2 * (1 - void)


@dataclass
class Structure:
    """``F(design) = a^T u`` with ``K(density) u = f``; called with a design it returns ``F`` and its gradient.

    ``a`` is the load ``f`` itself, for compliance, or ``output``. The load is ``load`` and the weight of the matter,
    ``gravity`` times the density. ``solves`` counts factorisations.

    Args:
        support: Supports and springs.
        filter: From designs to densities.
        load: Forces ``(freedoms,)``.
        fraction: Share of the volume that designs have.
        output: ``a``, if the function is not compliance.
        gravity: Weight of an element of density one.
        law: Modulus of a density, beside that of voids.
        void: Modulus of voids.
        solid: Elements of the design that are fixed at one, a mask ``(nx, ny)``.
        at_most: Whether designs may have less than that volume.
    """

    support: Support
    filter: ConeFilter | HelmholtzFilter
    load: Array
    fraction: float
    output: Array | None = None
    gravity: float = 0.0
    law: Law = simp
    void: float = 1e-9
    solid: Tensor | None = None
    at_most: bool = False
    solves: int = field(default=0, init=False)

    @property
    def grid(self) -> Grid:
        return self.support.grid

    def start(self) -> Tensor:
        """The design of one density wherever it is free."""
        count = self.grid.nx * self.grid.ny
        solid = torch.zeros(self.grid.shape, dtype=torch.bool) if self.solid is None else self.solid
        share = (self.fraction * count - int(solid.sum())) / (count - int(solid.sum()))
        return torch.where(solid, 1.0, torch.full(self.grid.shape, share, dtype=torch.float64))

    def density(self, design: Tensor) -> Array:
        """The filtered design ``(nx, ny)``."""
        return self.filter.apply(design.detach().numpy().ravel()).reshape(self.grid.shape)

    def __call__(self, design: Tensor) -> tuple[float, Tensor]:
        self.solves += 1
        density = self.density(design).ravel()
        modulus, slope = self.law(density, self.void)
        down = 2 * self.grid.corners + 1
        weight = np.bincount(down.ravel(), np.repeat(-self.gravity / 4 * density, 4), self.grid.freedoms)
        load = self.load + weight
        if self.output is None:
            moved = adjoint = self.support.displacements(modulus, load[:, None])[:, 0]
            value, carried = load @ moved, 2 * moved
        else:
            moved, adjoint = self.support.displacements(modulus, np.stack([load, self.output], -1)).T
            value, carried = self.output @ moved, adjoint
        gradient = -slope * self.support.energies(moved, adjoint) - self.gravity * carried[down].mean(-1)
        return float(value), torch.from_numpy(self.filter.transpose(gradient).reshape(self.grid.shape))


def mbb(nx: int, ny: int, radius: float, filter=ConeFilter) -> Structure:
    """The right half of the Messerschmitt-Bolkow-Blohm beam, half the volume: load above, mirrored on the left."""
    grid = Grid(nx, ny)
    mirrored = [2 * grid.node(0, j) for j in range(ny + 1)]
    load = np.zeros(grid.freedoms)
    load[2 * grid.node(0, ny) + 1] = -1
    return Structure(Support(grid, [*mirrored, 2 * grid.node(nx, 0) + 1]), filter(grid, radius), load, 0.5)


def inverter(nx: int, ny: int, radius: float, spring: float = 0.1) -> Structure:
    """The lower half of a force inverter: pushed to the right on the left, it has to move left on the right.

    ``F`` is the displacement of the output port, negative when it inverts; both ports have springs. The axis of
    symmetry is the top edge.
    """
    grid = Grid(nx, ny)
    axis = [2 * grid.node(i, ny) + 1 for i in range(nx + 1)]
    held = [2 * grid.node(0, j) + k for j in range(2) for k in range(2)]
    first, last = 2 * grid.node(0, ny), 2 * grid.node(nx, ny)
    load, output = np.zeros(grid.freedoms), np.zeros(grid.freedoms)
    load[first], output[last] = 1, 1
    support = Support(grid, [*axis, *held], {first: spring, last: spring})
    return Structure(support, ConeFilter(grid, radius), load, 0.3, output)


def bridge(nx: int, ny: int, radius: float, share: float = 0.3) -> Structure:
    """The right half of a bridge with a solid deck of two rows on top, loaded by its weight alone; hinge below."""
    grid = Grid(nx, ny)
    mirrored = [2 * grid.node(0, j) for j in range(ny + 1)]
    hinge = [2 * grid.node(nx, 0) + k for k in range(2)]
    solid = torch.zeros(grid.shape, dtype=torch.bool)
    solid[:, -2:] = True
    nothing = np.zeros(grid.freedoms)
    return Structure(
        Support(grid, [*mirrored, *hinge]), ConeFilter(grid, radius), nothing, share,
        gravity=1 / (nx * ny), law=ramp, solid=solid, at_most=True,
    )  # fmt: skip
