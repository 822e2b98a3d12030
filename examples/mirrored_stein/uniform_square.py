"""Particles on the uniform law of the square ``[-1, 1]^2``.

    python examples/mirrored_stein/uniform_square.py [--quick] [--seeds 3] [--out DIR]

Settings of the notebook that accompanies Shi, Liu, Mackey, "Sampling with mirrored Stein operators", 2022: 500
particles, inverse multiquadric kernel with ``h = 0.1``, RMSprop with step size 0.01, here 500 steps, from normal dual
points. The energy distance is a V-statistic to 4000 exact draws, beside its value for 500 exact draws; the variance of
a coordinate is 1/3. Writes ``uniform_square.csv`` and ``uniform_square.png``.
"""

import torch
from common import COLORS, clean, figure, floor, options, show, trajectories, write_csv

from mirrorgen import domains, mirror_maps
from mirrorgen.metrics import energy_distance
from mirrorgen.samplers.stein import IMQ, MSVGD, SVMD, ProjectedSVGD, RMSprop
from mirrorgen.targets import Uniform


def main() -> None:
    """Run every method, write table and figure."""
    chosen = options(__doc__, seeds=3)
    seeds, steps, n = (1, 20, 100) if chosen.quick else (chosen.seeds, 500, 500)
    square = domains.Box(-1.0, 1.0, dim=2)
    entropy, law = mirror_maps.BoxEntropy(square), Uniform(square)
    draws = [square.sample_uniform(4000, generator=torch.Generator().manual_seed(s)) for s in (11, 12)]
    exact, spread = floor(draws[1], n, draws[0])
    normals = [torch.randn(n, 2, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in range(seeds)]
    starts = [entropy.to_primal(y) for y in normals]
    rule = {"kernel": IMQ(0.1), "set_size": n}
    methods = {
        "MSVGD": MSVGD(law, entropy, optimizer=RMSprop(0.01), **rule),
        "MSVGD decay": MSVGD(law, entropy, optimizer=RMSprop(0.1, steps), **rule),
        "SVMD 0.998": SVMD(law, entropy, truncation=0.998, optimizer=RMSprop(0.01), **rule),
        "projected SVGD": ProjectedSVGD(law, square, optimizer=RMSprop(0.01), **rule),
    }
    rows, ends = [], {}
    for name, method in methods.items():
        x = trajectories(method, starts, steps, steps)[:, -1]
        ends[name] = x[0]
        v = [float(energy_distance(s, draws[0])) for s in x]
        variance = [float(s.var(0).mean()) for s in x]
        rows.append({
            "method": name, "ours_v": sum(v) / seeds, "ours_v_min": min(v), "ours_v_max": max(v), "floor_v": exact,
            "floor_v_sd": spread, "ours_variance": sum(variance) / seeds, "exact_variance": 1 / 3,
            "ours_on_edge": float((x.abs() > 0.999).any(-1).double().mean()), "published": "",
        })  # fmt: skip
    show([{k: v for k, v in r.items() if k != "published"} for r in rows])
    notes = [f"{seeds} seeds, {n} particles, {steps} steps", f"floor: V-statistic of {n} exact draws",
             "ours_on_edge: share of particles within 0.001 of the boundary; exact: 0.002",
             "published: the notebook shows particles, no numbers"]  # fmt: skip
    write_csv(chosen.out / "uniform_square.csv", notes, rows)
    made = figure(12, 3.4)
    for axis, (name, x), color in zip(made.subplots(1, len(ends)), ends.items(), COLORS, strict=False):
        axis.scatter(*x.T, s=5, color=color, linewidths=0)
        axis.set_aspect("equal")
        clean(axis, name, "", "")
        axis.set_xlim(-1.03, 1.03)
        axis.set_ylim(-1.03, 1.03)
    made.savefig(chosen.out / "uniform_square.png", dpi=150)
    print(f"wrote {chosen.out / 'uniform_square.png'}")


if __name__ == "__main__":
    main()
