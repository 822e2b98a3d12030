"""The MBB beam on finer and finer meshes: do solves grow with the number of elements?

    python examples/topology/mesh.py [--quick] [--out DIR]

mesh.csv   per mesh and method: solves to 1.02 times the last value, and to 222
mesh.png   curves and designs of SiMPL-A

One beam of 60 by 20 with a filter of radius 1.5, cut into squares of side 1, 1/2 and 1/3. Weights are areas of
elements. "unweighted" takes gradients by densities as they are, without the areas. Steps and filter as in
``compliance.py``; "Helmholtz" is the filter of that name.
"""

import torch
from common import COLORS, Trace, clean, draw_design, figure, options, run, save, show, write_csv
from density_filters import ConeFilter, HelmholtzFilter
from structures import mbb

VARIANTS = (
    ("OC", "cone"), ("MMA", "cone"), ("SiMPL-A", "cone"), ("SiMPL-B", "cone"), ("SiMPL-A", "Helmholtz"),
    ("SiMPL-A", "cone, unweighted"),
)  # fmt: skip


def made(cuts: int, kind: str, quick: bool):
    """The beam with elements of side ``1 / cuts``."""
    scale = cuts / (2 if quick else 1)
    return mbb(int(60 * scale), int(20 * scale), 1.5 * cuts, HelmholtzFilter if kind == "Helmholtz" else ConeFilter)


def traced(method: str, kind: str, cuts: int, iterations: int, quick: bool) -> Trace:
    structure = made(cuts, kind, quick)
    areas = torch.full(structure.grid.shape, 1.0 if "unweighted" in kind else cuts**-2.0, dtype=torch.float64)
    return run(method, structure, iterations, weights=areas)


def draw(found: dict[int, Trace], path, quick: bool) -> None:
    picture = figure(11, 4)
    left, right = picture.subfigures(1, 2, width_ratios=[1, 0.9])
    axis = left.subplots()
    panels = right.subplots(len(found), 1, squeeze=False).flat
    for color, panel, (cuts, trace) in zip(COLORS, panels, found.items(), strict=False):
        structure = made(cuts, "cone", quick)
        name = f"{structure.grid.nx} x {structure.grid.ny}"
        axis.plot(trace.solves, [v / trace.values[-1] for v in trace.values], color=color, label=name)
        draw_design(panel, structure, trace, f"{name}: {trace.values[-1]:.1f}")
    axis.axhline(1.02, color=COLORS[6], linewidth=0.7, linestyle="--")
    axis.set_xlim(0, 80)
    axis.set_ylim(0.98, 1.6)
    axis.legend(fontsize=8, frameon=False)
    clean(axis, "SiMPL-A on three meshes", "finite-element solves", "compliance over its last value")
    save(picture, path)


def main() -> None:
    chosen = options(__doc__)
    iterations = 8 if chosen.quick else 150
    rows, pictured = [], {}
    for method, kind in VARIANTS:
        for cuts in (1, 2) if chosen.quick else (1, 2, 3):
            trace = traced(method, kind, cuts, iterations, chosen.quick)
            goal, shape = 1.02 * trace.values[-1], made(cuts, kind, chosen.quick).grid.shape
            rows.append({
                "method": method, "filter": kind, "mesh": "{} x {}".format(*shape),
                "solves to 1.02 of the last": trace.solves_to(goal), "solves to 222": trace.solves_to(222.0),
                "iterations": iterations, "solves": trace.solves[-1], "value": trace.values[-1],
                "seconds": trace.seconds,
            })  # fmt: skip
            if (method, kind) == ("SiMPL-A", "cone"):
                pictured[cuts] = trace
    show(rows)
    write_csv(chosen.out / "mesh.csv", ["seconds: processor time, one thread"], rows)
    draw(pictured, chosen.out / "mesh.png", chosen.quick)


if __name__ == "__main__":
    main()
