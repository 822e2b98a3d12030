"""Particles on the selective density of a randomised LASSO in two dimensions: a normal law restricted to the orthant.

    python examples/mirrored_stein/selective_density.py [--quick] [--out DIR]

Settings of Shi, Liu, Mackey, "Sampling with mirrored Stein operators", 2022: density ``exp(-|A x + b|^2 / (2 s^2))`` on
``x > 0``, ten independent sets of 50 particles, inverse multiquadric kernel with ``h = 0.01``, 1000 steps of RMSprop.
Mean and covariance of all particles are compared with quadrature; the energy distance of each set to 10,000 exact draws
(rejection) is a V-statistic, given as mean and range over the sets beside its value for 50 exact draws. Writes
``selective_density.csv`` and ``selective_density.png``.
"""

from pathlib import Path

import torch
from common import COLORS, clean, figure, floor, options, show, trajectories, write_csv
from torch import Tensor

from mirrorgen import domains, mirror_maps
from mirrorgen.metrics import energy_distance
from mirrorgen.samplers.stein import IMQ, MSVGD, SVMD, ProjectedSVGD, RMSprop
from mirrorgen.targets import TruncatedNormal

A = torch.tensor([[2.39859464, -1.90815867], [0.0, 1.18099191]], dtype=torch.float64)
B = torch.tensor([2.39751093, -1.46103937], dtype=torch.float64)
S = 0.2488836156425015
START = torch.tensor([0.30883, 1.48012], dtype=torch.float64)
SETS, PARTICLES = 10, 50


def target() -> TruncatedNormal:
    """The law in the form of a truncated normal: mean ``-A^-1 b``, covariance ``s^2 (A^T A)^-1``."""
    return TruncatedNormal(domains.Orthant(2), -torch.linalg.solve(A, B), S**2 * torch.linalg.inv(A.T @ A))


def quadrature(points: int = 1200) -> tuple[Tensor, Tensor]:
    """Exact mean and covariance by a product of Gauss-Legendre rules on ``(0, 1.5) x (0, 3)``."""
    import numpy as np

    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(points))
    x = torch.cartesian_prod(0.75 * (nodes + 1), 1.5 * (nodes + 1))
    mass = torch.cartesian_prod(weights, weights).prod(-1) * torch.exp(-(x @ A.T + B).square().sum(-1) / (2 * S**2))
    mass = mass / mass.sum()
    mean = mass @ x
    return mean, (mass.unsqueeze(-1) * (x - mean)).T @ (x - mean)


def exact_draws(n: int, seed: int) -> Tensor:
    """By rejection: about half of the normal law lies in the orthant."""
    law = target()
    z = torch.randn(4 * n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = law.location + z @ torch.linalg.cholesky(law.covariance).T
    return x[(x > 0).all(-1)][:n]


def starts(seed: int) -> list[Tensor]:
    """The published point, moved by independent normal vectors in the dual: equal particles would stay equal."""
    noise = torch.randn(SETS, PARTICLES, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return list(mirror_maps.NegEntropy(domains.Orthant(2)).to_primal(START.log() + noise))


def main() -> None:
    """Run every method, write table and figure."""
    chosen = options(__doc__, seed=0)
    steps = 50 if chosen.quick else 1000
    law, entropy, kernel = target(), mirror_maps.NegEntropy(domains.Orthant(2)), IMQ(0.01)
    mean, covariance = quadrature(200 if chosen.quick else 1200)
    reference = exact_draws(500 if chosen.quick else 10_000, 1)
    exact, spread = floor(exact_draws(5000, 2), PARTICLES, reference)
    methods = {
        f"{name} {size}{' decay' if total else ''}": build(
            optimizer=RMSprop(size, total), kernel=kernel, set_size=PARTICLES
        )
        for name, build in (
            ("MSVGD", lambda **o: MSVGD(law, entropy, **o)),
            ("SVMD 0.99", lambda **o: SVMD(law, entropy, truncation=0.99, **o)),
            ("projected SVGD", lambda **o: ProjectedSVGD(law, law.domain, **o)),
        )
        for size, total in ((0.01, None), (0.1, None), (0.1, steps))
    }
    rows, ends = [], {}
    for name, method in methods.items():
        sets = trajectories(method, starts(chosen.seed), steps, steps)[:, -1]
        v, u = ([float(energy_distance(s, reference, unbiased=kind)) for s in sets] for kind in (False, True))
        ends[name] = x = sets.flatten(0, 1)
        ours, shape = x.mean(0), torch.cov(x.T)
        rows.append({
            "method": name, "ours_v": sum(v) / SETS, "ours_v_min": min(v), "ours_v_max": max(v), "floor_v": exact,
            "floor_v_sd": spread, "ours_u": sum(u) / SETS,
            "ours_mean_1": float(ours[0]), "exact_mean_1": float(mean[0]),
            "ours_mean_2": float(ours[1]), "exact_mean_2": float(mean[1]),
            "ours_var_1": float(shape[0, 0]), "exact_var_1": float(covariance[0, 0]),
            "ours_cov_12": float(shape[0, 1]), "exact_cov_12": float(covariance[0, 1]),
            "ours_var_2": float(shape[1, 1]), "exact_var_2": float(covariance[1, 1]), "published": "",
        })  # fmt: skip
    show([{k: v for k, v in r.items() if k != "published"} for r in rows])
    notes = ["exact: quadrature", f"floor: V-statistic of {PARTICLES} exact draws", f"{steps} steps",
             "published: the publication shows particles over contours, no numbers"]  # fmt: skip
    write_csv(chosen.out / "selective_density.csv", notes, rows)
    draw({k: ends[k] for k in ("MSVGD 0.01", "SVMD 0.99 0.01", "projected SVGD 0.01")}, chosen.out)


def draw(ends: dict[str, Tensor], out: Path) -> None:
    """Particles over the contours of the density."""
    made = figure(11, 3.8)
    first, second = torch.meshgrid(torch.linspace(0, 0.8, 200), torch.linspace(0.7, 2.1, 200), indexing="ij")
    x = torch.stack([first, second], -1).double()
    density = torch.exp(-(x @ A.T + B).square().sum(-1) / (2 * S**2))
    for axis, (name, points), color in zip(
        made.subplots(1, len(ends), sharey=True), ends.items(), COLORS, strict=False
    ):
        axis.contour(first, second, density, levels=8, colors="0.6", linewidths=0.7)
        axis.scatter(*points.T, s=6, color=color, linewidths=0)
        axis.set_xlim(-0.02, 0.6)
        axis.set_ylim(0.9, 1.95)
        clean(axis, name, "first coordinate", "second coordinate" if axis.get_subplotspec().is_first_col() else "")
    made.savefig(out / "selective_density.png", dpi=150)
    print(f"wrote {out / 'selective_density.png'}")


if __name__ == "__main__":
    main()
