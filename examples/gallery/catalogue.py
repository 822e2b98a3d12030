"""Every two-dimensional mirror map of the gallery, with the part of its dual space that is worth drawing."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen import domains, mirror_maps
from mirrorgen.nets import InputConvexMLP

Window = tuple[float, float, float, float]


@dataclass(frozen=True)
class Panel:
    """A map and how to draw it.

    Attributes:
        mirror_map: The map; its dual points have two coordinates, or three where ``frame`` picks a plane.
        title: The name under which users find it.
        window: ``(left, right, bottom, top)`` of what is shown, in the coordinates of the drawing.
        step: Distance of neighbouring grid lines in the dual.
        first: The lowest level, in steps.
        last: The highest level, in steps.
        far: How far a line is followed, in steps.
        frame: Orthonormal ``(2, dual_dim)``: the plane of dual points drawn, for a map that keeps this plane.
        place: The domain, where the row holds several.
    """

    mirror_map: mirror_maps.MirrorMap
    title: str
    window: Window
    step: float
    first: int = -8
    last: int = 8
    far: float = 100.0
    frame: Tensor | None = None
    place: str = ""

    @property
    def levels(self) -> Tensor:
        """Values of a dual coordinate whose lines are drawn."""
        return self.step * torch.arange(self.first, self.last + 1, dtype=torch.float64)

    @property
    def note(self) -> str:
        """The range of the levels in words."""
        low, high = self.step * self.first, self.step * self.last
        span = rf"$|y_i| \leq {high:g}$" if low == -high else rf"${low:g} \leq y_i \leq {high:g}$"
        return f"{self.place}{', ' if self.place else ''}{span}, step {self.step:g}"


@dataclass(frozen=True)
class Row:
    """A domain and the maps that live on it."""

    title: str
    panels: list[Panel]


def pentagon() -> domains.Polytope:
    """An irregular pentagon about the origin."""
    angle = torch.tensor([0.35, 1.55, 2.75, 3.95, 5.35], dtype=torch.float64)
    normals = torch.stack([angle.cos(), angle.sin()], -1)
    return domains.Polytope(normals, torch.tensor([1.0, 0.8, 1.1, 0.85, 0.95], dtype=torch.float64))


def euclidean() -> Row:
    """Maps of the plane; the dual of the last one is the positive quadrant."""
    m, plane, window = mirror_maps, domains.Euclidean(2), (-3.1, 3.1, -3.1, 3.1)
    skew = m.Quadratic(plane, [[1.0, 0.4], [0.4, 0.8]])
    return Row(
        "Euclidean",
        [
            Panel(m.Quadratic(plane), "Quadratic", window, 0.5),
            Panel(skew, "Quadratic, with a matrix", window, 0.5, -12, 12),
            Panel(m.PNorm(plane, p=1.5), "PNorm, p = 1.5", window, 0.5, -9, 9),
            Panel(m.Hypentropy(plane, beta=0.05), r"Hypentropy, $\beta$ = 0.05", window, 0.5, -10, 10, far=20),
            Panel(m.Exponential(plane), "Exponential", window, 0.5, 1, 24, far=100),
        ],
    )


def orthant() -> Row:
    """Maps of the positive quadrant; the dual of the last two is the negative quadrant."""
    m, quadrant, window = mirror_maps, domains.Orthant(2), (-0.15, 3.2, -0.15, 3.2)
    barrier, tsallis = m.RegularizedBarrier(quadrant, kappa=0.5), m.TsallisEntropy(quadrant, q=0.5)
    return Row(
        "Orthant",
        [
            Panel(m.SoftplusDual(quadrant), "SoftplusDual", window, 0.5, -9, 7),
            Panel(m.NegEntropy(quadrant), "NegEntropy", window, 0.5, -9, 2, far=24),
            Panel(barrier, r"RegularizedBarrier, $\kappa$ = 0.5", window, 0.5, -12, 5, far=1e3),
            Panel(tsallis, "TsallisEntropy, q = 0.5", window, 0.4, -16, -1, far=1e3),
            Panel(m.BurgEntropy(quadrant), "BurgEntropy", window, 0.25, -24, -1, far=1e4),
        ],
    )


def box() -> Row:
    """Maps of a square."""
    m, square, window = mirror_maps, domains.Box(-1.0, 1.0, dim=2), (-1.1, 1.1, -1.1, 1.1)
    barriers = {kappa: m.RegularizedBarrier(square, kappa=kappa) for kappa in (0.0, 0.5, 1.0)}
    return Row(
        "Box",
        [
            Panel(m.BoxEntropy(square), "BoxEntropy", window, 0.5),
            Panel(barriers[0.0], r"RegularizedBarrier, $\kappa$ = 0", window, 0.75),
            Panel(barriers[0.5], r"RegularizedBarrier, $\kappa$ = 0.5", window, 0.5, far=1e3),
            Panel(barriers[1.0], r"RegularizedBarrier, $\kappa$ = 1", window, 1, far=1e4),
            Panel(m.LogBarrier(square), "LogBarrier", window, 0.75, far=1e4),
        ],
    )


def simplex() -> Row:
    """Maps of the triangle, drawn in the isometric chart of the simplex."""
    m, triangle, window = mirror_maps, domains.Simplex(3), (-0.78, 0.78, -0.9, 0.5)
    barrier = m.RegularizedBarrier(triangle, kappa=0.3)
    return Row(
        "Simplex",
        [
            Panel(m.SimplexEntropy(triangle), "SimplexEntropy, ilr", window, 0.5),
            Panel(m.SimplexEntropy(triangle, chart="alr"), "SimplexEntropy, alr", window, 0.5),
            Panel(barrier, r"RegularizedBarrier, $\kappa$ = 0.3", window, 0.5, far=1e3),
            Panel(m.TsallisEntropy(triangle, q=0.5), "TsallisEntropy, q = 0.5", window, 1, far=1e3),
            Panel(m.LogBarrier(triangle), "LogBarrier", window, 3, far=1e4),
        ],
    )


def ball() -> Row:
    """Maps of the disc."""
    m, disc, window = mirror_maps, domains.Ball(2), (-1.1, 1.1, -1.1, 1.1)
    barriers = {kappa: m.RegularizedBarrier(disc, kappa=kappa) for kappa in (0.0, 0.3, 1.0)}
    return Row(
        "Ball",
        [
            Panel(barriers[0.0], r"RegularizedBarrier, $\kappa$ = 0", window, 0.75),
            Panel(barriers[0.3], r"RegularizedBarrier, $\kappa$ = 0.3", window, 0.75, far=1e3),
            Panel(m.HellingerBall(disc), "HellingerBall", window, 0.3, far=1e3),
            Panel(barriers[1.0], r"RegularizedBarrier, $\kappa$ = 1", window, 1, far=1e4),
            Panel(m.BallLogBarrier(disc), "BallLogBarrier", window, 0.75, far=1e4),
        ],
    )


def polytope() -> Row:
    """Maps of a pentagon."""
    m, polygon, window = mirror_maps, pentagon(), (-1.32, 1.32, -1.38, 1.02)
    barriers = {kappa: m.RegularizedBarrier(polygon, kappa=kappa) for kappa in (0.0, 0.3)}
    bent = m.LearnedMirrorMap(barriers[0.3], InputConvexMLP(2, hidden=(6,), gain=4.0, scale=0.2, seed=4))
    bent.requires_grad_(False)
    return Row(
        "Polytope",
        [
            Panel(m.SlackEntropy(polygon), "SlackEntropy", window, 0.6),
            Panel(barriers[0.0], r"RegularizedBarrier, $\kappa$ = 0", window, 0.75),
            Panel(barriers[0.3], r"RegularizedBarrier, $\kappa$ = 0.3", window, 0.6, far=1e3),
            Panel(bent, r"LearnedMirrorMap on $\kappa$ = 0.3", window, 0.6, far=1e3),
            Panel(m.LogBarrier(polygon), "LogBarrier", window, 1, far=1e4),
        ],
    )


def others() -> Row:
    """A half-plane, a strip, and the cone of 2 x 2 matrices cut by the plane of equal diagonal entries.

    Both matrix maps send that plane to itself: its matrices share their eigenvectors.
    """
    m, half = mirror_maps, domains.Halfspace([1.0, 1.0], 1.0)
    strip = m.ProductMap(m.BoxEntropy(domains.Box(-1.0, 1.0)), m.SoftplusDual(domains.Orthant(1)))
    plane, cone = (-2.0, 2.0, -2.0, 2.0), (-2.0, 2.0, -0.25, 3.75)
    frame = torch.tensor([[0.0, 0.0, 1.0], [0.5**0.5, 0.5**0.5, 0.0]], dtype=torch.float64)
    barriers = {kappa: m.RegularizedBarrier(half, kappa=kappa) for kappa in (0.0, 1.0)}
    matrices = {"frame": frame, "place": "PSD slice"}
    return Row(
        "Halfspace, Product, PSD",
        [
            Panel(barriers[0.0], r"RegularizedBarrier, $\kappa$ = 0", plane, 0.5, place="Halfspace"),
            Panel(barriers[1.0], r"RegularizedBarrier, $\kappa$ = 1", plane, 0.75, far=1e4, place="Halfspace"),
            Panel(strip, "ProductMap: BoxEntropy, SoftplusDual", (-1.45, 1.45, -0.15, 2.75), 0.5, place="Product"),
            Panel(m.VonNeumann(domains.PSD(2)), "VonNeumann", cone, 0.3, -8, 6, far=30, **matrices),
            Panel(m.LogDet(domains.PSD(2)), "LogDet", cone, 0.3, -14, 14, far=1e3, **matrices),
        ],
    )


def catalogue() -> list[Row]:
    """The gallery: one row per domain, within it from light to heavy dual tails."""
    return [euclidean(), orthant(), box(), simplex(), ball(), polytope(), others()]
