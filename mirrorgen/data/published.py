"""The targets of published experiments. Each is a function, usable as ``class_path`` in a configuration."""

import itertools

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Ball, Box, Polytope
from mirrorgen.targets import Checkerboard, DirichletMixture, TruncatedMixture

__all__ = [
    "ball6",
    "ball6_domain",
    "bimodal",
    "checkerboard",
    "cube_mixture",
    "dirichlet",
    "disc",
    "polytope10",
    "polytope10_domain",
    "sphere_mixture",
    "toy2d",
    "toy2d_domain",
]


def corners(dim: int, scale: float) -> Tensor:
    """The ``2^dim`` points ``{-scale, scale}^dim``, float64."""
    return scale * torch.tensor(list(itertools.product([-1.0, 1.0], repeat=dim)), dtype=torch.float64)


def uniform_box(n: int, dim: int, half_width: float, seed: int) -> Tensor:
    """``n`` uniform points of ``[-half_width, half_width]^dim`` from a seed, float64."""
    generator = torch.Generator().manual_seed(seed)
    return half_width * (2 * torch.rand(n, dim, generator=generator, dtype=torch.float64) - 1)


def polytope10_domain() -> Polytope:
    """Ten random half-spaces ``G x < h`` cut out of the cube ``|x_i| < 4``, in ten dimensions.

    ``G`` and ``U`` are uniform on ``[-1, 1]``, drawn in this order in float64 from seed 1145; ``h`` is the row sum
    of ``|G U|``. The recipe is that of Guan, Balasubramanian and Ma, "Mirror Flow Matching with Heavy-Tailed Priors
    for Generative Modeling on Convex Domains" (2025); their own instance is not public as text, so this is a twin.
    """
    draw = uniform_box(20, 10, 1.0, seed=1145)
    G, U = draw[:10], draw[10:]
    eye = torch.eye(10, dtype=torch.float64)
    h = (G @ U).abs().sum(1)
    return Polytope(torch.cat([G, eye, -eye]), torch.cat([h, torch.full((20,), 4.0, dtype=torch.float64)]))


def polytope10() -> TruncatedMixture:
    """1,033 normal components of variance 0.4 on ``polytope10_domain``, at ``{-3, 3}^10`` and 9 seeded points.

    45.5% of the means are feasible, and rejection accepts 26% of the proposals.
    """
    means = torch.cat([corners(10, 3.0), uniform_box(9, 10, 2.0, seed=7)])
    return TruncatedMixture(polytope10_domain(), means, 0.4)


def ball6_domain() -> Ball:
    """The ball of radius 5 in six dimensions."""
    return Ball(6, 5.0)


def ball6() -> TruncatedMixture:
    """69 normal components of variance 0.4 on ``ball6_domain``, at ``{-2, 2}^6`` (norm 4.90) and 5 seeded points."""
    means = torch.cat([corners(6, 2.0), uniform_box(5, 6, 2.0, seed=7)])
    return TruncatedMixture(ball6_domain(), means, 0.4)


def bimodal(dim: int = 2) -> TruncatedMixture:
    """Two normal components of deviation 0.125 on the unit cube, 70% at 0.75 and 30% at 0.25 in every coordinate.

    The recipe of the cube in Fishman, Klarner, De Bortoli, Mathieu and Hutchinson, "Diffusion Models for Constrained
    Domains" (2023), moved from ``[-1, 1]^dim`` to ``[0, 1]^dim``.
    """
    means = [[0.75] * dim, [0.25] * dim]
    return TruncatedMixture(Box(0.0, 1.0, dim=dim), means, 0.125**2, [0.7, 0.3])


def checkerboard(cells: int = 4) -> Checkerboard:
    """The uniform law on the dark cells of a checkerboard, see ``targets.Checkerboard``."""
    return Checkerboard(cells)


def toy2d_domain() -> Polytope:
    """The five-sided polygon of the appendix of Guan, Balasubramanian and Ma (2025)."""
    A = [[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-5.0, 1.0], [-1.0 / 3.0, 1.0]]
    return Polytope(A, [10.0, 30.0, 1.0, 90.0, 5.0])


def toy2d() -> TruncatedMixture:
    """Three normal components on ``toy2d_domain``, two of them against a facet."""
    means = [[-10.0, 0.0], [-15.0, -10.0], [3.0, 3.0]]
    variances = [[8.0, 2.0], [1.0, 1.0], [0.5, 0.25]]
    return TruncatedMixture(toy2d_domain(), means, variances, [0.6, 0.2, 0.2])


_DIRICHLET: dict[str, list[float]] = {
    "3a": [2, 4, 8],
    "3b": [1, 0.1, 5],
    "7": [1, 2, 2, 4, 4, 8, 8],
    "9": [1, 0.5, 2, 0.3, 0.6, 4, 8, 8, 2],
    "20": [i / 5 for i in range(1, 21)],
}


def dirichlet(name: str = "7") -> DirichletMixture:
    """A Dirichlet law of Liu, Chen, Theodorou and Tao.

    Source: "Mirror Diffusion Models for Constrained and Watermarked Generation" (2023).

    Args:
        name: ``"3a"``, ``"3b"``, ``"7"``, ``"9"`` or ``"20"``: the number of coordinates and the variant.
    """
    if name not in _DIRICHLET:
        raise DomainError(f"unknown Dirichlet target {name!r}; choose one of {', '.join(_DIRICHLET)}")
    return DirichletMixture(_DIRICHLET[name])


def sphere_mixture(dim: int = 6) -> TruncatedMixture:
    """Normal components of deviation 0.05 at the unit vectors, on the unit ball (Liu et al., 2023)."""
    return TruncatedMixture(Ball(dim, 1.0), torch.eye(dim, dtype=torch.float64), 0.05**2)


def _curve(radius: Tensor | float, first: float, last: float, n: int) -> Tensor:
    """``n`` points in polar coordinates between two angles in degrees, float64."""
    angle = torch.deg2rad(torch.linspace(first, last, n, dtype=torch.float64))
    return radius * torch.stack([angle.cos(), angle.sin()])


def disc(name: str = "spiral") -> TruncatedMixture:
    """A law on the unit disc (Liu et al., 2023): a curve plus normal noise, or normal components on a ring.

    ``"moons"``: two quarter arcs of radius 0.8, deviation 0.025. ``"spiral"``: 1,000 degrees from the centre to radius
    0.95, uniform in the angle, deviation 0.025. ``"ring"``: eight components at radius 0.8, deviation 0.05. Curves are
    lined with components less than half a deviation apart, so that the density is known.

    Args:
        name: ``"moons"``, ``"spiral"`` or ``"ring"``.
    """
    if name == "moons":
        means, deviation = torch.cat([_curve(0.8, start, start + 90, 128) for start in (45, 225)], 1), 0.025
    elif name == "spiral":
        means, deviation = _curve(torch.linspace(0, 0.95, 1400, dtype=torch.float64), 0, 1000, 1400), 0.025
    elif name == "ring":
        means, deviation = _curve(0.8, 0, 315, 8), 0.05
    else:
        raise DomainError(f"unknown law on the disc {name!r}; choose one of moons, spiral, ring")
    return TruncatedMixture(Ball(2, 1.0), means.mT, deviation**2)


class _FoldedMixture(TruncatedMixture):
    """As ``TruncatedMixture``, but folded into a box by reflection instead of rejection."""

    def log_density(self, x: Tensor) -> Tensor:
        raise DomainError("folded mixtures can be sampled; their log-density, a sum over reflections, is not provided")

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        origin = self.domain.interior_point().expand(n, -1)
        return self.domain.reflect(origin, self.propose(n, generator) - origin)


def cube_mixture(dim: int = 6) -> TruncatedMixture:
    """Normal components of deviation 0.2 at the unit vectors, folded into the unit cube (Liu et al., 2023)."""
    return _FoldedMixture(Box(0.0, 1.0, dim=dim), torch.eye(dim, dtype=torch.float64), 0.2**2)
