"""Network evaluations per sample, with and without optimal-transport pairing, and what else sampling costs.

    python examples/mirror_flow_matching/few_steps.py [--quick] [--seeds 3] [--num 5000] [--resume] [--out DIR]

Flows on the ten-dimensional polytope (regularised entropic map, normal prior, 5,000 iterations of 256 points, network
of four layers of 128 units), with noise and data paired independently or by optimal transport within each batch. Every
fixed-step method draws the same noise with 2 to 200 network evaluations in all; samples are compared with as many
held-out points.

few_steps.csv        means and deviations over seeds, beside the floor of two exact samples
few_steps_seeds.csv  one row per model, method and number of evaluations
latency.csv          by domain: processor seconds for 10,000 samples of 50 midpoint steps, of the 100 bare network
                     evaluations in them and of the inverse map; "ratio" is the first over the second, its goal 1.10,
                     inverse_share the third over the second; medians of three. The network is that of the study: with
                     a larger one the inverse counts for less
few_steps.png        distances against evaluations

mmd, knn_kl, sliced_w2 as in tables.py. The estimate knn_kl is no guide with very few evaluations, where its bias makes
it negative; a divergence is not.
"""

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import (
    COLORS,
    Recipe,
    clean,
    distances,
    figure,
    kept_rows,
    mean_and_spread,
    options,
    replace,
    save,
    show,
    train,
    write_csv,
)

from mirrorgen import data
from mirrorgen.flows import Gaussian, Independent, MirrorFlow, OptimalTransport, RobustStandardize
from mirrorgen.geometry.domains import Ball, Box, Simplex, Slabs
from mirrorgen.geometry.mirror_maps import BoxEntropy, MirrorMap, RegularizedBarrier, SimplexEntropy, SlackEntropy
from mirrorgen.integrate import resolve_method
from mirrorgen.nets import MLP

NAMES = ("mmd", "knn_kl", "sliced_w2")
RECIPE = Recipe((128,) * 4, 3e-3, 0.98, iterations=5000)
COUPLINGS = {"independent": Independent, "optimal transport": OptimalTransport}
METHODS = ("euler", "midpoint", "heun", "rk4")
EVALUATIONS = (2, 4, 8, 16, 40, 100, 200)
GOAL = 1.10


def trained(coupling: str, seed: int, quick: bool) -> tuple[MirrorFlow, float]:
    """A flow on the polytope and the seconds of its training."""
    points = data.Synthetic(data.polytope10())
    torch.manual_seed(seed)
    flow = MirrorFlow(
        RegularizedBarrier(points.domain, 0.0),
        MLP(10, RECIPE.hidden),
        Gaussian(),
        coupling=COUPLINGS[coupling](),
        dual_transform=RobustStandardize(0.03),
    )
    recipe = replace(RECIPE, iterations=3, batch=64) if quick else RECIPE
    return flow, train(flow, points.points("train"), recipe, seed)


def quality(coupling: str, seed: int, num: int, quick: bool) -> list[dict[str, object]]:
    """Rows of one model: the same noise by every method and number of evaluations."""
    flow, seconds = trained(coupling, seed, quick)
    held_out = data.Synthetic(data.polytope10()).points("test")[:num]
    rows = []
    for method, evaluations in itertools.product(METHODS, EVALUATIONS[:3] if quick else EVALUATIONS):
        steps = evaluations // resolve_method(method).evaluations
        if steps == 0:
            continue
        x = flow.sample(num, steps=steps, method=method, generator=torch.Generator().manual_seed(seed + 1))
        row: dict[str, object] = {"coupling": coupling, "method": method, "evaluations": evaluations, "seed": seed}
        inside = float(flow.domain.contains(x).double().mean())
        rows.append(row | distances(x, held_out) | {"inside": inside, "training": seconds})
    return rows


def maps() -> dict[str, MirrorMap]:
    """A map per kind of domain."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.linalg.qr(torch.randn(64, 8, generator=generator, dtype=torch.float64))[0].mT
    polytope = data.polytope10_domain()
    return {
        "box, 64": BoxEntropy(Box(0.0, 1.0, dim=64)),
        "simplex, 64": SimplexEntropy(Simplex(64)),
        "ball, 6, kappa .3": RegularizedBarrier(Ball(6, 1.0), 0.3),
        "8 slabs, 64": RegularizedBarrier(Slabs(tokens), 0.3),
        "polytope, 10, kappa .3": RegularizedBarrier(polytope, 0.3),
        "polytope, 10, kappa 0": RegularizedBarrier(polytope, 0.0),
        "polytope, 10, entropy of slacks": SlackEntropy(polytope),
    }


def medians(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Medians of processor seconds, the works in turn; a first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats + 1):
        for name, work in works.items():
            begin = time.process_time()
            work()
            found[name].append(time.process_time() - begin)
    return {name: sorted(seconds[1:])[repeats // 2] for name, seconds in found.items()}


@torch.no_grad()
def latency(name: str, mirror_map: MirrorMap, quick: bool) -> dict[str, object]:
    """Sampling against its network evaluations; dual points of the size of normal noise, as after training."""
    n, steps, repeats = (200, 2, 1) if quick else (10_000, 50, 3)
    dim = mirror_map.domain.dual_dim
    torch.manual_seed(0)
    flow = MirrorFlow(mirror_map, MLP(dim, RECIPE.hidden), Gaussian(), dual_transform=None)
    u, t = torch.randn(n, dim), torch.tensor(0.5)

    def evaluate() -> None:
        for _ in range(2 * steps):
            flow.net(u, t)

    def sample() -> torch.Tensor:
        return flow.sample(n, steps=steps, generator=torch.Generator().manual_seed(1))

    seconds = medians({"network": evaluate, "inverse": lambda: flow.decode(u), "sampling": sample}, repeats)
    row = {"domain": name, "map": type(mirror_map).__name__, "samples": n} | seconds
    row |= {"ratio": seconds["sampling"] / seconds["network"], "goal": GOAL}
    row |= {"inverse_share": seconds["inverse"] / seconds["network"]}
    return row | {"inside": float(flow.domain.contains(sample()).double().mean())}


def summary(rows: list[dict], num: int) -> list[dict]:
    """Means over seeds under the floor."""
    points = data.Synthetic(data.polytope10())
    found = mean_and_spread(rows, ("coupling", "method", "evaluations"), (*NAMES, "inside", "training"))
    floor = dict.fromkeys(found[0], "") | {"coupling": "exact draws"}
    return [floor | distances(points.points("val")[:num], points.points("test")[:num]), *found]


def draw(found: list[dict], path: Path) -> None:
    """One panel per distance."""
    made = figure(11, 3.9)
    for axis, name, title in zip(
        made.subplots(1, 3), NAMES, ("MMD", "k-NN divergence", "sliced Wasserstein-2"), strict=True
    ):
        for coupling, style in zip(COUPLINGS, ("-", "--"), strict=True):
            for color, method in zip(COLORS, METHODS, strict=False):
                mine = [r for r in found if r["coupling"] == coupling and r["method"] == method]
                axis.plot(
                    [r["evaluations"] for r in mine], [r[name] for r in mine], style, color=color, marker="o", ms=3,
                    label=f"{method}, {coupling}",
                )  # fmt: skip
        if found[0][name] > 0:
            axis.axhline(found[0][name], color="#999999", ls=":", label="exact draws")
        axis.set_xscale("log")
        # The estimate of the divergence is biased, and negative with few evaluations.
        axis.set_yscale("symlog" if name == "knn_kl" else "log", **({"linthresh": 0.1} if name == "knn_kl" else {}))
        axis.set_xticks(EVALUATIONS, [str(k) for k in EVALUATIONS])
        axis.xaxis.set_minor_formatter("")
        clean(axis, f"{title} to held-out points", "network evaluations", "")
    axis.legend(fontsize=6.5, frameon=False)
    save(made, path)


def main() -> None:
    """Train, sample with every budget, time."""
    chosen = options(__doc__, seeds=3, num=5000, resume=False)
    num = 200 if chosen.quick else chosen.num
    rows = kept_rows(chosen.out / "few_steps_seeds.csv", chosen.resume)
    done = {(r["coupling"], r["seed"]) for r in rows}
    for seed, coupling in itertools.product(range(chosen.seeds), COUPLINGS):
        if (coupling, seed) not in done:
            rows += quality(coupling, seed, num, chosen.quick)
            write_csv(chosen.out / "few_steps_seeds.csv", [f"{num} samples; seconds of one core"], rows)
    found = summary(rows, num)
    show(found)
    write_csv(chosen.out / "few_steps.csv", [f"{num} samples against as many held-out points"], found)
    draw(found, chosen.out / "few_steps.png")
    if chosen.resume and (chosen.out / "latency.csv").exists():
        return
    table = [latency(name, mirror_map, chosen.quick) for name, mirror_map in maps().items()]
    show(table)
    write_csv(chosen.out / "latency.csv", ["processor seconds; network: four layers of 128 units"], table)


if __name__ == "__main__":
    main()
