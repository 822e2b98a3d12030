"""A force inverter: the output port is to move against the push at the input port.

    python examples/topology/mechanism.py [--quick] [--out DIR]

mechanism.csv   displacement of the output (negative: inverted) by solves
mechanism.png   curves and densities, mirrored

80 by 40 elements of the lower half, 30 per cent of the volume, springs of 0.1 at both ports, filter of radius 2.4.
"soft first": the voids have modulus 1e-2 in the first half of the iterations and 1e-9 in the second. "hard": 1e-9 from
the start, where a design that does not connect its ports, of displacement zero, is a minimum that descent ends in.
"""

import numpy as np
from common import COLORS, Trace, clean, figure, options, run, save, show, summary, write_csv
from structures import Structure, inverter

METHODS = ("MMA", "SiMPL-A", "SiMPL-B")
SOFT = 1e-2


def staged(method: str, structure: Structure, iterations: int, soft: bool) -> Trace:
    """One run, or two of half the length with their curves joined; only the second has the values that are compared."""
    if not soft:
        return run(method, structure, iterations)
    hard, structure.void = structure.void, SOFT
    first = run(method, structure, iterations // 2)
    structure.void = hard
    second = run(method, structure, iterations // 2, start=first.design)
    second.solves = [s + first.solves[-1] for s in second.solves]
    second.seconds += first.seconds
    return second


def main() -> None:
    chosen = options(__doc__)
    sizes, iterations = ((20, 10, 1.5), 10) if chosen.quick else ((80, 40, 2.4), 150)
    rows, traces = [], {}
    for method in METHODS:
        for soft in (True, False):
            structure = inverter(*sizes)
            trace = staged(method, structure, iterations, soft)
            voids = "soft first" if soft else "hard"
            traces[method, voids] = trace
            rows.append({"method": method, "voids": voids, **summary(trace, structure.fraction)})
    show(rows)
    write_csv(chosen.out / "mechanism.csv", ["values: displacement of the output port; seconds: processor time"], rows)
    picture = figure(11, 3.6)
    left, right = picture.subfigures(1, 2, width_ratios=[1, 1.6])
    axis = left.subplots()
    for color, method, panel in zip(COLORS, METHODS, right.subplots(1, 3), strict=False):
        for (_, voids), trace in ((k, t) for k, t in traces.items() if k[0] == method):
            style = "-" if voids == "soft first" else ":"
            axis.plot(trace.solves, trace.values, style, color=color, label=f"{method}, {voids}")
        trace = traces[method, "soft first"]
        half = inverter(*sizes).density(trace.design).T
        panel.imshow(np.concatenate([half, half[::-1]]), origin="lower", cmap="gray_r", vmin=0, vmax=1)
        panel.set_title(f"{method}: {trace.values[-1]:.3f}", fontsize=9)
        panel.set_xticks([])
        panel.set_yticks([])
    axis.legend(fontsize=7, frameon=False)
    clean(axis, "Force inverter", "finite-element solves", "displacement of the output")
    save(picture, chosen.out / "mechanism.png")


if __name__ == "__main__":
    main()
