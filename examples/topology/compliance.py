"""The MBB beam by the optimality criterion, moving asymptotes and SiMPL: compliance by finite-element solves.

    python examples/topology/compliance.py [--quick] [--out DIR]

compliance.csv           two meshes: compliance after 10 to 200 iterations, solves to 222 and to a small residual, what
                         was kept on the way
compliance_settings.csv  the coarse mesh with other first steps of SiMPL, other move limits of OC and MMA
compliance.png           curves and designs

SIMP with exponent 3, voids of 1e-9, cone filter, half the volume; OC and MMA move densities by 0.2 at most, SiMPL's
first step is 1. A solve is one factorisation: SiMPL's rejected steps count. The residual is the root mean square of the
projected gradient. Seconds are processor time of one thread.
"""

from common import COLORS, METHODS, Trace, clean, draw_design, figure, options, run, save, show, summary, write_csv
from structures import mbb

GOAL = 222.0
MARKS = (10, 20, 50, 100, 200)
STEPS = (0.1, 0.3, 1.0, 3.0, 10.0)
MOVES = (0.1, 0.2, 0.3, 0.5)


def row(trace: Trace, mesh: str, **more: object) -> dict[str, object]:
    after = {f"after {k}": trace.values[k] if k < len(trace.values) else "" for k in MARKS}
    reached = {f"solves to {GOAL:g}": trace.solves_to(GOAL), "solves to residual 0.01": trace.solves_to_residual(0.01)}
    return {"mesh": mesh, "method": trace.method, **more, **reached, **after, **summary(trace, 0.5)}


def settings(mesh: tuple[int, int, float], iterations: int) -> list[dict[str, object]]:
    """Every method with the settings that it has."""
    rows = []
    for method in METHODS:
        name = "step_size" if method.startswith("SiMPL") else "move"
        for value in STEPS if name == "step_size" else MOVES:
            trace = run(method, mbb(*mesh), iterations, **{name: value})
            rows.append({
                "method": method, "setting": f"{name}={value:g}", f"solves to {GOAL:g}": trace.solves_to(GOAL),
                "solves": trace.solves[-1], f"after {iterations}": trace.values[-1], "monotone": trace.monotone,
            })  # fmt: skip
    return rows


def draw(traces: dict[tuple, list[Trace]], path) -> None:
    made = figure(12, 3.6 * len(traces))
    for band, (mesh, found) in zip(made.subfigures(len(traces), 1, squeeze=False).flat, traces.items(), strict=True):
        left, right = band.subfigures(1, 2, width_ratios=[1, 1.35])
        axis = left.subplots()
        for color, trace in zip(COLORS, found, strict=False):
            axis.plot(trace.solves, trace.values, color=color, label=trace.method)
        axis.axhline(GOAL, color=COLORS[6], linewidth=0.7, linestyle="--")
        axis.set_xlim(0, 100)
        best = min(t.values[-1] for t in found)
        axis.set_ylim(0.98 * best, 1.5 * best)
        axis.legend(fontsize=8, frameon=False)
        clean(axis, f"MBB beam, {mesh[0]} x {mesh[1]}", "finite-element solves", "compliance")
        for panel, trace in zip(right.subplots(2, 2).flat, found, strict=True):
            title = f"{trace.method}, {len(trace.values) - 1} iterations: {trace.values[-1]:.1f}"
            draw_design(panel, mbb(*mesh), trace, title)
    save(made, path)


def main() -> None:
    chosen = options(__doc__)
    meshes = {(60, 20, 1.5): 200, (150, 50, 3.75): 100} if not chosen.quick else {(30, 10, 1.5): 12}
    traces = {mesh: [run(m, mbb(*mesh), n) for m in METHODS] for mesh, n in meshes.items()}
    rows = [row(t, f"{mesh[0]} x {mesh[1]}", radius=mesh[2]) for mesh, found in traces.items() for t in found]
    show(rows)
    notes = [
        "SIMP with exponent 3, cone filter of this radius in sides of an element, half the volume",
        "the residual is the root mean square of the projected gradient; seconds: processor time, one thread",
    ]
    write_csv(chosen.out / "compliance.csv", notes, rows)
    first = next(iter(meshes))
    tried = settings(first, 12 if chosen.quick else 100)
    show(tried)
    write_csv(chosen.out / "compliance_settings.csv", [f"MBB beam, {first[0]} x {first[1]}"], tried)
    draw(traces, chosen.out / "compliance.png")


if __name__ == "__main__":
    main()
