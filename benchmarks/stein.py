"""Steps of Stein particles: matrix products against tensors of all pairs and coordinates."""

import torch
from torch import Tensor

from benchmarks.records import Row
from benchmarks.timing import interleaved
from mirrorgen import domains, mirror_maps
from mirrorgen.geometry.mirror_maps import MirrorMap
from mirrorgen.samplers.stein import IMQ, MSVGD, SVGD, SVMD
from mirrorgen.samplers.stein.direction import centered
from mirrorgen.samplers.stein.kernels import squared_distances
from mirrorgen.samplers.stein.repulsion import mirror_repulsion
from mirrorgen.targets import Dirichlet, Target

TITLE = "Stein particles: matrix products against all pairs and coordinates"
NOTES = (
    "naive: the sum over n x n x d numbers, bandwidth fixed; ours: a whole step with median bandwidth, RMSprop and map",
    "ratio: seconds over those of the yardstick in remark, timed in turn; 1 where there is none",
    "error: largest difference of the two directions over the largest entry; feasible: share of points strictly inside",
    "rows of a set: the block of 32 of n rows in which a step of that many particles proceeds",
)


def naive(mirror_map: MirrorMap, y: Tensor, scores: Tensor, h: float) -> Tensor:
    """The mirrored direction from gradients of the kernel for all pairs ``(n, n, d)``."""
    local = mirror_map.local(y)
    z = mirror_map.coordinates(local.x)
    difference = z.unsqueeze(1) - z.unsqueeze(0)
    value = (1 + difference.square().sum(-1) / h).rsqrt()
    slope = -difference * (value**3 / h).unsqueeze(-1)
    hessian = mirror_map.hessian(local.x.unsqueeze(1))
    return (value.mT @ scores + hessian.solve(slope).sum(0)) / len(y)


def direction_error(mirror_map: MirrorMap, y: Tensor, target: Target) -> float:
    """Largest relative difference of the direction from the naive sum."""
    local = mirror_map.local(y)
    scores = local.mirrored_score(target.score(local.x))
    kernel = MSVGD(target, mirror_map, kernel=IMQ(0.1))
    expected = naive(mirror_map, y, scores, 0.1)
    state = kernel.init(local.x)._replace(x=local.x, y=y)
    ours = kernel._direction(state, target.score(local.x))
    return float((ours - expected).abs().max() / expected.abs().max())


def against_naive(n: int, dim: int, chart: str, groups: int) -> list[Row]:
    """One step against the naive sum on a simplex of ``dim + 1`` coordinates, in float32."""
    target = Dirichlet([4.0] * (dim + 1))
    mirror_map = mirror_maps.SimplexEntropy(target.domain, chart=chart)
    x = target.sample(n, generator=torch.Generator().manual_seed(0)).float()
    kernel = MSVGD(target, mirror_map)
    state = kernel.init(x)
    scores = mirror_map.local(state.y).mirrored_score(target.score(state.x))
    seconds = interleaved(
        {"ours": lambda: kernel.step(state, None), "naive": lambda: naive(mirror_map, state.y, scores, 0.1)},
        groups,
        groups,
    )
    error = direction_error(mirror_map, state.y, target)
    inside = float(target.domain.contains(kernel.step(state, None)[0].x).double().mean())
    return [
        Row(f"SimplexEntropy {chart}", "MSVGD step", who, "float32", f"{n}x{dim}", seconds[who],
            seconds[who] / seconds["naive"], error if who == "ours" else None, inside if who == "ours" else None,
            "naive sum, n x n x d")
        for who in ("ours", "naive")
    ]  # fmt: skip


def kernels(n: int, dim: int) -> list[Row]:
    """Steps of other kernels over that of MSVGD on the simplex."""
    target = Dirichlet([4.0] * (dim + 1))
    entropy, box = mirror_maps.SimplexEntropy(target.domain), domains.Box(0.0, 1.0, dim=dim)
    x = target.sample(n, generator=torch.Generator().manual_seed(0)).float()
    gaussian = lambda p: -0.5 * p.square().sum(-1)  # noqa: E731
    cases = {
        "MSVGD": (MSVGD(target, entropy), x),
        "MSVGD, dual kernel": (MSVGD(target, entropy, space="dual"), x),
        "MSVGD, box": (MSVGD(gaussian, mirror_maps.BoxEntropy(box)), x[:, 1:].contiguous()),
        "SVGD": (SVGD(gaussian, domains.Euclidean(dim)), x[:, 1:].contiguous()),
        "SVMD": (SVMD(target, entropy), x),
    }
    states = {name: (kernel, kernel.init(start)) for name, (kernel, start) in cases.items()}
    seconds = interleaved({name: lambda k=k, s=s: k.step(s, None) for name, (k, s) in states.items()}, 2, 2)
    return [
        Row(name, "step", "ours", "float32", f"{n}x{dim}", t, t / seconds["MSVGD"], None, None, "our MSVGD step")
        for name, t in seconds.items()
    ]


def rows_of_a_set(n: int, dim: int, rows: int = 32) -> Row:
    """A block of rows of a large set."""
    target = Dirichlet([4.0] * (dim + 1))
    mirror_map = mirror_maps.SimplexEntropy(target.domain, chart="alr")
    local = mirror_map.local(mirror_map.to_dual(target.sample(n, generator=torch.Generator().manual_seed(0)).float()))
    z = centered(mirror_map.coordinates(local.x).unsqueeze(0))
    scores = local.mirrored_score(target.score(local.x))
    whole = mirror_map.local(local.y.unsqueeze(0))
    repulsion = mirror_repulsion(mirror_map, whole, z)
    h = torch.full((1, 1, 1), 0.1)

    def block() -> Tensor:
        products, squared = squared_distances(z[:, :rows], z)
        value, weight = IMQ(0.1).value_and_weight(squared, h)
        return value @ scores + repulsion.rows(slice(0, rows), weight, products)

    seconds = interleaved({"ours": block}, 2, 3)["ours"]
    remark = f"a step is {n / rows:.0f} of them: {seconds * n / rows:.0f} s"
    return Row("SimplexEntropy alr", f"{rows} rows of a set", "ours", "float32", f"{n}x{dim}", seconds, 1.0,
               None, None, remark)  # fmt: skip


def one_step(n: int, dim: int, chart: str = "alr", groups: int = 1) -> Row:
    """A whole step of a large set."""
    target = Dirichlet([4.0] * (dim + 1))
    kernel = MSVGD(target, mirror_maps.SimplexEntropy(target.domain, chart=chart))
    state = kernel.init(target.sample(n, generator=torch.Generator().manual_seed(0)).float())
    seconds = interleaved({"ours": lambda: kernel.step(state, None)}, groups, groups)["ours"]
    return Row(f"SimplexEntropy {chart}", "MSVGD step", "ours", "float32", f"{n}x{dim}", seconds, 1.0, None, None, "")


@torch.no_grad()
def run(quick: bool = False) -> list[Row]:
    """Sets of 50 to 2000 particles against the naive sum, larger ones alone."""
    if quick:
        return [*against_naive(20, 4, "ilr", 1), *kernels(20, 4), one_step(100, 4), rows_of_a_set(200, 4)]
    rows = []
    # The naive sum of 2000 particles in 100 coordinates takes eight gigabytes.
    for n, dim, groups in ((50, 19, 5), (500, 19, 3), (1000, 100, 1), (2000, 19, 1)):
        rows += against_naive(n, dim, "alr", groups)
    rows += against_naive(500, 19, "ilr", 3)
    rows += [one_step(2000, 100, chart, groups=3) for chart in ("alr", "ilr")]
    return [*rows, *kernels(500, 19), one_step(20_000, 19), rows_of_a_set(100_000, 19)]
