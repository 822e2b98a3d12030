"""A bridge that carries its own weight: loads that depend on the design, and a deck that is solid.

    python examples/topology/self_load.py [--quick] [--out DIR]

self_load.csv   compliance by solves
self_load.png   curves and densities, mirrored

80 by 40 elements of the right half, at most 30 per cent of the volume, the two rows on top fixed as solid, filter of
radius 2.4, RAMP with q = 8. Gradients have both signs, so that the optimality criterion does not apply.
"""

import numpy as np
from common import COLORS, clean, figure, options, run, save, show, summary, write_csv
from structures import bridge

METHODS = ("MMA", "SiMPL-A", "SiMPL-B")


def main() -> None:
    chosen = options(__doc__)
    sizes, iterations = ((20, 10, 1.5), 8) if chosen.quick else ((80, 40, 2.4), 150)
    traces = [run(method, bridge(*sizes), iterations) for method in METHODS]
    within = 1.02 * min(t.values[-1] for t in traces)
    rows = [
        {"method": t.method, "solves to 1.02 of the best": t.solves_to(within), "volume": t.volumes[-1], **summary(t)}
        for t in traces
    ]
    show(rows)
    write_csv(chosen.out / "self_load.csv", ["seconds: processor time, one thread"], rows)
    picture = figure(11, 4.4)
    left, right = picture.subfigures(1, 2, width_ratios=[1, 1.2])
    axis = left.subplots()
    for color, trace, panel in zip(COLORS, traces, right.subplots(3, 1), strict=False):
        axis.plot(trace.solves, trace.values, color=color, label=trace.method)
        half = bridge(*sizes).density(trace.design).T
        panel.imshow(np.concatenate([half[:, ::-1], half], 1), origin="lower", cmap="gray_r", vmin=0, vmax=1)
        panel.set_title(f"{trace.method}: {trace.values[-1]:.4f}", fontsize=9)
        panel.set_xticks([])
        panel.set_yticks([])
    best = min(t.values[-1] for t in traces)
    axis.set_ylim(0.95 * best, 2 * best)
    axis.legend(fontsize=8, frameon=False)
    clean(axis, "Bridge under its own weight", "finite-element solves", "compliance")
    save(picture, chosen.out / "self_load.png")


if __name__ == "__main__":
    main()
