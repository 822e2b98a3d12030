"""Where a mirror flow spends its time: geometry against network, in training and in sampling."""

from collections.abc import Callable

import torch
from torch import nn

from benchmarks.cases import polytope
from benchmarks.records import Row
from benchmarks.timing import interleaved
from mirrorgen import domains, mirror_maps
from mirrorgen.flows import MirrorFlow
from mirrorgen.nets import MLP, ResidualMLP

TITLE = "Mirror flow: geometry against network"
NOTES = (
    "ratio: share of the whole, a training step or sampling with 50 midpoint steps, timed in turn",
    "encode: points to flow coordinates, once per training step; decode: flow coordinates to points, once per sample",
    "error: largest |decode(encode(x)) - x| / (1 + |x|) in float32; feasible: share of samples strictly inside",
)


def models(quick: bool) -> dict[str, tuple[MirrorFlow, int]]:
    """Flows as in the shipped configurations, with their batch sizes."""
    dim, width = (4, 16) if quick else (64, 384)
    low = 3 if quick else 10
    box = domains.Box(0.0, 1.0, dim=dim)
    body = polytope(low, 4 * low)
    simplex, ball = domains.Simplex(dim), domains.Ball(low)
    small = [width] * 4 if quick else [256] * 4
    entropy, barrier = mirror_maps.SlackEntropy(body), mirror_maps.RegularizedBarrier(body, kappa=0.3)
    radial = mirror_maps.RegularizedBarrier(ball, kappa=0.0)
    return {
        "BoxEntropy": (MirrorFlow(mirror_maps.BoxEntropy(box), ResidualMLP(dim, width)), 256),
        "SimplexEntropy": (MirrorFlow(mirror_maps.SimplexEntropy(simplex), ResidualMLP(dim - 1, width)), 256),
        "RegularizedBarrier, ball": (MirrorFlow(radial, MLP(low, small)), 256),
        "SlackEntropy, polytope": (MirrorFlow(entropy, MLP(low, small)), 256),
        "RegularizedBarrier, polytope": (MirrorFlow(barrier, MLP(low, small)), 256),
    }


def training_step(flow: MirrorFlow, x: torch.Tensor) -> Callable[[], None]:
    """Loss, gradients and an Adam update."""
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(3)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        flow.loss(x, generator=generator).backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        optimizer.step()

    return step


def rows_of(name: str, flow: MirrorFlow, batch: int, groups: int) -> list[Row]:
    """The two wholes and the geometry in them."""
    domain = flow.mirror_map.domain
    x = domain.sample_uniform(batch, generator=torch.Generator().manual_seed(4), dtype=torch.float32)
    flow.fit_dual_transform(x)
    generator = torch.Generator().manual_seed(5)
    u = flow.encode(x)
    error = float(((flow.decode(u) - x).abs() / (1 + x.abs())).max())
    feasible = float(domain.contains(flow.sample(batch, generator=generator)).double().mean())
    train, sample = training_step(flow, x), lambda: flow.sample(batch, generator=generator)
    training = interleaved({"training step": train, "encode": lambda: flow.encode(x)}, groups)
    sampling = interleaved({"sample": sample, "decode": lambda: flow.decode(u)}, groups, calls=3)
    shape = f"{batch}x{domain.dim}"
    rows = []
    for whole, seconds in (("training step", training), ("sample", sampling)):
        rows += [
            Row(name, operation, type(flow.net).__name__, "float32", shape, s, s / seconds[whole], error,
                feasible if whole == "sample" else None, f"share of one {whole}")
            for operation, s in seconds.items()
        ]  # fmt: skip
    return rows


def run(quick: bool = False) -> list[Row]:
    """Batches of 256 points in float32."""
    torch.manual_seed(0)
    rows = []
    for name, (flow, batch) in models(quick).items():
        rows += rows_of(name, flow, 8 if quick else batch, 1 if quick else 5)
    return rows
