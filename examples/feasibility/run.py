"""Are all samples strictly inside, in float32, over ten million draws, with a float32 and with a bfloat16 network?

    python examples/feasibility/run.py [--quick] [--num 2500000] [--out DIR]

Trains a small flow on points that crowd the boundary of a box, a simplex, a ball and a polytope with 30 rows, with a
heavy-tailed prior (Student's t with 2 degrees of freedom, so that some dual points are very far out), samples in
float32 and tests membership by formulas written here, in float32 and again in float64 on the same float32 numbers. Then
the weights of the network are cast to bfloat16, and everything is done again.
Writes ``feasibility.csv``.
"""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mirrorgen import domains, mirror_maps
from mirrorgen.data import polytope10_domain
from mirrorgen.flows import MirrorFlow, StudentT
from mirrorgen.nets import MLP

Membership = Callable[[Tensor], Tensor]


def cases() -> dict[str, tuple[mirror_maps.MirrorMap, Tensor, Membership]]:
    """Map, training points near the boundary, and a membership test that does not use the library."""
    generator = torch.Generator().manual_seed(0)
    n, power = 5000, 8
    u = torch.rand(n, 10, generator=generator)
    box = domains.Box(0.0, 1.0, dim=10)
    arcs = torch.sin(torch.pi * u / 2).square()
    simplex = domains.Simplex(10)
    spiky = torch.softmax(6 * torch.randn(n, 10, generator=generator), -1)
    ball = domains.Ball(6)
    direction = torch.nn.functional.normalize(torch.randn(n, 6, generator=generator), dim=-1)
    shell = direction * (1 - u[:, :1] ** power * 0.5)
    polytope = polytope10_domain()
    spread = polytope.project(6 * torch.randn(n, 10, generator=generator))
    A, b = polytope.A, polytope.b
    return {
        "Box(10), BoxEntropy": (mirror_maps.BoxEntropy(box), arcs, lambda x: ((x > 0) & (x < 1)).all(-1)),
        "Simplex(10), SimplexEntropy": (
            mirror_maps.SimplexEntropy(simplex),
            spiky,
            lambda x: (x > 0).all(-1) & ((x.sum(-1) - 1).abs() < 1e-6),
        ),
        "Ball(6), RegularizedBarrier(0.3)": (
            mirror_maps.RegularizedBarrier(ball, kappa=0.3),
            shell,
            lambda x: x.square().sum(-1) < 1,
        ),
        "polytope, 30 rows, RegularizedBarrier(0.3)": (
            mirror_maps.RegularizedBarrier(polytope, kappa=0.3),
            spread,
            lambda x: (x @ A.to(x.dtype).mT < b.to(x.dtype)).all(-1),
        ),
    }


def trained(mirror_map: mirror_maps.MirrorMap, x: Tensor, steps: int) -> MirrorFlow:
    """A flow after ``steps`` steps of Adam on batches of 256."""
    torch.manual_seed(0)
    flow = MirrorFlow(mirror_map, MLP(dim=mirror_map.domain.dual_dim, hidden=[64, 64]), prior=StudentT(df=2.0))
    flow.fit_dual_transform(x)
    optimizer = torch.optim.Adam(flow.parameters(), lr=2e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        flow.loss(x[torch.randint(len(x), (256,))]).backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        optimizer.step()
    return flow


def check(flow: MirrorFlow, inside: Membership, num: int, batch: int = 50_000) -> dict[str, float]:
    """Draw ``num`` samples in batches and count."""
    generator = torch.Generator().manual_seed(1)
    counts = {"float32": 0, "float64": 0}
    slack, norm = float("inf"), 0.0
    for start in range(0, num, batch):
        x = flow.sample(min(batch, num - start), generator=generator, steps=10)
        counts["float32"] += int(inside(x).sum())
        counts["float64"] += int(inside(x.double()).sum())
        slack = min(slack, float(flow.mirror_map.domain.slack(x).min()))
        norm = max(norm, float(flow.encode(x).norm(dim=-1).max()))
        print(f"\r  {start + len(x):,} of {num:,}", end="", flush=True)
    print()
    return {**{f"inside ({k})": v for k, v in counts.items()}, "smallest slack": slack, "largest flow norm": norm}


def main() -> None:
    """Check every case and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps and samples, to see that everything runs")
    parser.add_argument("--num", type=int, default=2_500_000, help="samples per domain (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="output folder")
    options = parser.parse_args()
    num, steps = (2_000, 20) if options.quick else (options.num, 300)
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, (mirror_map, points, inside) in cases().items():
        x = mirror_map.domain.pull_inside(points)[0]
        flow = trained(mirror_map, x, steps)
        for dtype in (torch.float32, torch.bfloat16):
            flow.net.to(dtype)
            network = str(dtype).removeprefix("torch.")
            print(name, network)
            rows.append({"case": name, "network": network, "samples": num, **check(flow, inside, num)})
            print("  " + ", ".join(f"{k} {v:,.6g}" for k, v in rows[-1].items() if k not in ("case", "network")))
    with (options.out / "feasibility.csv").open("w", newline="") as file:
        file.write(f"# python examples/feasibility/run.py --num {num}; torch {torch.__version__}\n")
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
