"""Draw the dual grid of every two-dimensional mirror map in its domain.

Each panel shows the images, under ``to_primal``, of the straight lines on which one dual coordinate is constant:
what graph paper laid on the dual space looks like inside the domain.

    python examples/gallery/run.py [--quick] [--out DIR]

writes ``gallery.png``.
"""

import argparse
import io
import math
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon
from PIL import Image
from torch import Tensor

from mirrorgen import domains

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from catalogue import Panel, Row, catalogue  # noqa: E402

FILL, EDGE, GREY = "#f5f2ea", "#2b2b2b", "#6b6b6b"
FIRST, SECOND = "#1f5fa8", "#cc5a1c"
CAPTION = "Lines of constant first (blue) and second (orange) dual coordinate; the bold ones are at zero"


def along(panel: Panel, points: int) -> Tensor:
    """Values of the running coordinate: dense around the levels, then ever wider apart; zero is one of them."""
    reach = math.asinh(panel.far)
    return panel.step * torch.linspace(-reach, reach, 2 * (points // 2) + 1, dtype=torch.float64).sinh()


def to_plane(panel: Panel, dual: Tensor) -> Tensor:
    """Where ``to_primal`` sends points of the drawn dual plane; NaN outside the dual domain."""
    mirror_map = panel.mirror_map
    y = dual if panel.frame is None else dual @ panel.frame
    valid = mirror_map.dual_contains(y)
    inner = mirror_map.to_dual(mirror_map.domain.interior_point())
    x = mirror_map.to_primal(torch.where(valid[..., None], y, inner))
    if not bool(mirror_map.domain.contains(x).all()):
        raise RuntimeError(f"{panel.title}: a line leaves {mirror_map.domain!r}")
    z = mirror_map.domain.to_chart(x)
    z = z if panel.frame is None else z @ panel.frame.mT
    return torch.where(valid[..., None], z, torch.nan)


def grid_lines(panel: Panel, points: int) -> tuple[Tensor, Tensor]:
    """Images of the lines of constant first and second dual coordinate, each ``(levels, points, 2)``."""
    fixed, running = torch.broadcast_tensors(panel.levels[:, None], along(panel, points))
    return to_plane(panel, torch.stack([fixed, running], -1)), to_plane(panel, torch.stack([running, fixed], -1))


def facets(domain: domains.Domain) -> tuple[np.ndarray, np.ndarray]:
    """Half-planes ``A z < b`` whose intersection is drawn."""
    if isinstance(domain, domains.Euclidean):
        return np.zeros((0, 2)), np.zeros(0)
    if isinstance(domain, domains.PSD):
        # Equal diagonal entries: the eigenvalues are (z_2 + z_1, z_2 - z_1) / sqrt(2).
        return np.array([[-1.0, -1.0], [1.0, -1.0]]) / math.sqrt(2), np.zeros(2)
    if isinstance(domain, domains.Product):
        parts = [block.halfspaces() for block in domain.blocks]
        return torch.block_diag(*(a for a, _ in parts)).numpy(), torch.cat([b for _, b in parts]).numpy()
    a, b = domain.halfspaces()
    return a.numpy(), b.numpy()


def ring_of(normals: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The corners of a bounded polygon ``normals z <= offsets``, in order."""
    corners = []
    for i in range(len(offsets)):
        for j in range(i):
            pair = normals[[i, j]]
            if abs(np.linalg.det(pair)) > 1e-9:
                corners.append(np.linalg.solve(pair, offsets[[i, j]]))
    points = np.array([c for c in corners if (normals @ c <= offsets + 1e-9).all()])
    middle = points.mean(0)
    return points[np.argsort(np.arctan2(points[:, 1] - middle[1], points[:, 0] - middle[0]))]


def draw_domain(ax: Axes, panel: Panel) -> None:
    """The domain within the window, filled, with its boundary."""
    domain = panel.mirror_map.domain
    if isinstance(domain, domains.Ball):
        outline = {"xy": domain.center.tolist(), "radius": float(domain.radius)}
        ax.add_patch(Circle(**outline, facecolor=FILL, edgecolor="none", zorder=0))
        ax.add_patch(Circle(**outline, facecolor="none", edgecolor=EDGE, linewidth=1.2, zorder=4))
        return
    a, b = facets(domain)
    left, right, bottom, top = panel.window
    frame = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
    ring = ring_of(np.vstack([a, frame]), np.concatenate([b, [-left, right, -bottom, top]]))
    ax.add_patch(Polygon(ring, facecolor=FILL, edgecolor="none", zorder=0))
    # Of the sides of the ring only those on a facet are boundary; the others are the window's.
    sides = [
        (p, q)
        for p, q in zip(ring, np.roll(ring, -1, 0), strict=True)
        if np.any((np.abs(a @ p - b) < 1e-9) & (np.abs(a @ q - b) < 1e-9))
    ]
    ax.add_collection(LineCollection(sides, colors=EDGE, linewidths=1.2, zorder=4, capstyle="round"))


def draw_panel(ax: Axes, panel: Panel, points: int) -> None:
    """One map: its domain, the grid lines, the lines through the dual origin."""
    draw_domain(ax, panel)
    strength = 1 - 0.55 * (panel.levels / panel.levels.abs().max()).abs()
    for lines, color in zip(grid_lines(panel, points), (FIRST, SECOND), strict=True):
        for line, level, alpha in zip(lines, panel.levels, strength, strict=True):
            width, layer = (1.5, 3) if level == 0 else (0.6, 2)
            ax.plot(*line.numpy().T, color=color, alpha=float(alpha), linewidth=width, zorder=layer)
    left, right, bottom, top = panel.window
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    ax.set_axis_off()
    ax.set_title(panel.title, fontsize=8.5, pad=11)
    ax.text(0.5, 1.012, panel.note, transform=ax.transAxes, ha="center", va="bottom", fontsize=6.5, color=GREY)


def draw(rows: list[Row], points: int, dpi: int) -> Figure:
    """The whole gallery, one row of panels per domain."""
    columns, height = max(len(row.panels) for row in rows), 2.42 * len(rows) + 0.35
    figure = Figure(figsize=(2.2 * columns + 0.3, height), dpi=dpi)
    FigureCanvasAgg(figure)
    for i, row in enumerate(rows):
        bottom = (2.42 * (len(rows) - 1 - i) + 0.05) / height
        figure.text(0.012, bottom + 1.0 / height, row.title, rotation=90, ha="center", va="center", fontsize=10)
        for j, panel in enumerate(row.panels):
            left = (0.3 + 2.2 * j) / (2.2 * columns + 0.3)
            ax = figure.add_axes((left, bottom, 2.12 / (2.2 * columns + 0.3), 2.0 / height))
            draw_panel(ax, panel, points)
    figure.text(0.5, 1 - 0.17 / height, CAPTION, ha="center", va="center", fontsize=9, color=GREY)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG with a palette: the figure has few colours, and a third of the bytes will do."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    image = Image.open(buffer).convert("RGB")
    image.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)


def main(arguments: list[str] | None = None) -> Path:
    """Parse the command line, draw, write, and return the path of the picture."""
    parser = argparse.ArgumentParser(description="Draw the dual grid of every two-dimensional mirror map.")
    parser.add_argument("--out", type=Path, default=HERE / "output", help="folder for gallery.png (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="coarse lines and few pixels")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    figure = draw(catalogue(), *((60, 40) if options.quick else (600, 110)))
    path = options.out / "gallery.png"
    save(figure, path)
    print(path)
    return path


if __name__ == "__main__":
    main()
