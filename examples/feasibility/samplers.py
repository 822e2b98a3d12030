"""Does anything leave the domain in a hundred million float32 steps of the samplers?

    python examples/feasibility/samplers.py [--quick] [--steps 1e8] [--out DIR]

Every kernel runs in float32 on densities that crowd the boundary: Beta(.2, .2) factors on a box, a Dirichlet law of
parameter .1 on a simplex, a law that pushes against a corner of a polytope with 30 rows, and one that pushes
against the wall of a ball. After every step every chain is tested by formulas written here, in float32, and in float64
on the same numbers. Proposals with log-densities that are not finite must be rejected and counted. Writes
``samplers.csv``.
"""

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import mirrorgen as mg
from mirrorgen import mirror_maps as M
from mirrorgen import samplers as S
from mirrorgen.data import polytope10_domain
from mirrorgen.geometry.validation import validation
from mirrorgen.samplers.run import NoiseSource

BOX, SIMPLEX, BALL = mg.domains.Box(-1.0, 1.0, dim=10), mg.domains.Simplex(10), mg.domains.Ball(6)
POLYTOPE = polytope10_domain()


def beta(x: Tensor) -> Tensor:
    """Beta(.2, .2) on every coordinate of the box."""
    return -0.8 * (torch.log1p(x) + torch.log1p(-x)).sum(-1)


def sparse(x: Tensor) -> Tensor:
    """Dirichlet(.1, ..., .1)."""
    return -0.9 * x.log().sum(-1)


def corner(x: Tensor) -> Tensor:
    """Steep along one direction, into a corner."""
    return 20.0 * x.sum(-1)


def wall(x: Tensor) -> Tensor:
    """Steep towards the sphere."""
    return 30.0 * x.square().sum(-1)


INSIDE: dict[str, Callable[[Tensor], Tensor]] = {
    "box": lambda x: ((x > -1) & (x < 1)).all(-1),
    "simplex": lambda x: (x > 0).all(-1) & ((x.sum(-1) - 1).abs() < 1e-5),
    "ball": lambda x: x.square().sum(-1) < 1,
    "polytope": lambda x: (x @ POLYTOPE.A.to(x.dtype).mT < POLYTOPE.b.to(x.dtype)).all(-1),
}
Build = Callable[[], S.Kernel]
# Kernel, domain, share of the steps (cheap ones take more), kernel.
CASES: list[tuple[str, str, float, Build]] = [
    ("MirroredHMC", "box", 0.12, lambda: S.MirroredHMC(beta, M.BoxEntropy(BOX), 0.8, 2)),
    ("MirroredHMC", "simplex", 0.10, lambda: S.MirroredHMC(sparse, M.SimplexEntropy(SIMPLEX), 2.0, 2)),
    ("MirroredHMC", "polytope", 0.002, lambda: S.MirroredHMC(corner, M.SlackEntropy(POLYTOPE), 0.5, 2)),
    ("MirroredHMC", "ball", 0.004, lambda: S.MirroredHMC(wall, M.default(BALL), 0.3, 2)),
    ("MirroredLangevin", "simplex", 0.10, lambda: S.MirroredLangevin(sparse, M.SimplexEntropy(SIMPLEX), 1.0)),
    ("MirroredLangevin, unadjusted", "box", 0.10,
     lambda: S.MirroredLangevin(beta, M.BoxEntropy(BOX), 0.5, adjusted=False)),
    ("MirrorLangevin (MAMLA)", "box", 0.02, lambda: S.MirrorLangevin(beta, M.BoxEntropy(BOX), 0.02)),
    ("MirrorLangevin (MAMLA)", "polytope", 0.002, lambda: S.MirrorLangevin(corner, M.LogBarrier(POLYTOPE), 0.02)),
    ("MirrorLangevin, unadjusted", "simplex", 0.02,
     lambda: S.MirrorLangevin(sparse, M.LogBarrier(SIMPLEX), 0.002, adjusted=False)),
    ("MAPLA", "box", 0.05, lambda: S.MAPLA(beta, BOX, 0.02)),
    ("DikinWalk", "simplex", 0.05, lambda: S.DikinWalk(sparse, SIMPLEX, 0.5)),
    ("HitAndRun", "polytope", 0.02, lambda: S.HitAndRun(corner, POLYTOPE)),
    ("HitAndRun, uniform", "polytope", 0.1, lambda: S.HitAndRun(None, POLYTOPE)),
    ("CoordinateHitAndRun, uniform", "simplex", 0.08, lambda: S.CoordinateHitAndRun(None, SIMPLEX)),
    ("CoordinateHitAndRun", "box", 0.02, lambda: S.CoordinateHitAndRun(beta, BOX)),
    ("BilliardWalk, uniform", "polytope", 0.02, lambda: S.BilliardWalk(None, POLYTOPE)),
    ("ReflectedLangevin", "box", 0.1, lambda: S.ReflectedLangevin(beta, BOX, 0.05)),
    ("ProjectedLangevin", "ball", 0.1, lambda: S.ProjectedLangevin(wall, BALL, 0.05)),
]  # fmt: skip


def study(name: str, domain: str, build: Build, steps: int, chains: int = 4096) -> dict[str, object]:
    """Run one kernel and count what is outside."""
    kernel, inside = build(), INSIDE[domain]
    generator = torch.Generator().manual_seed(3)
    x = kernel.domain.sample_uniform(chains, generator=generator, dtype=torch.float32)
    began = time.process_time()
    counts = {"outside_float32": 0, "outside_float64": 0, "nonfinite": 0}
    accepted, smallest = 0.0, float("inf")
    with torch.no_grad():
        state = kernel.init(x)
        noise = NoiseSource(5, kernel, state.x)
        with validation(False):
            for t in range(-(-steps // chains)):
                state, info = kernel.step(state, noise.at(t))
                counts["outside_float32"] += int((~inside(state.x)).sum())
                counts["outside_float64"] += int((~inside(state.x.double())).sum())
                counts["nonfinite"] += int(info.nonfinite.sum())
                accepted += float(info.accepted.float().mean())
                smallest = min(smallest, float(kernel.domain.slack(state.x).min()))
    total = -(-steps // chains)
    return {
        "kernel": name, "domain": domain, "steps": total * chains, **counts, "accepted": round(accepted / total, 3),
        "smallest_slack": f"{smallest:.2e}", "cpu_seconds": round(time.process_time() - began, 1),
    }  # fmt: skip


def main() -> None:
    """Run the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=float, default=1.0e8, help="chain steps over all kernels (%(default)g)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--quick", action="store_true", help="a hundred thousand steps")
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps = 1e5 if options.quick else options.steps
    total = sum(share for _, _, share, _ in CASES)
    rows = []
    for name, domain, share, build in CASES:
        rows.append(study(name, domain, build, int(steps * share / total), 256 if options.quick else 4096))
        print(", ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    print(f"{sum(int(str(row['steps'])) for row in rows)} steps in all")
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "samplers.csv"
    with path.open("w", newline="") as file:
        flags = " --quick" if options.quick else f" --steps {options.steps:g}"
        file.write(f"# command: python examples/feasibility/samplers.py{flags}\n")
        file.write(f"# float32, torch {torch.__version__}; slack: of the draws after each step\n")
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(path)


if __name__ == "__main__":
    main()
