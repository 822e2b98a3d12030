"""A learned mirror map on the two-dimensional polytope: likelihood before and after, and flow matching on top of it.

    python examples/mirror_flow_matching/learned_map.py [--quick] [--seeds 3] [--out DIR]

The base map is the regularised barrier (kappa 0.3, weight and quadratic factor 0.1); the learned one adds an
input-convex network, trained by the exact likelihood of a ``ConvexPotentialFlow`` under a normal law of the dual. The
same model of the base alone, of which only shift and scale are trained, is its comparison. ``MirrorFlow`` then
trains for one number of iterations on the base map, on the learned map as it is, and on a map that starts at the base
and is trained along (``map_weight``). Log-likelihoods and distances are those of 10,000 held-out points.

learned_map.csv        means and deviations over seeds
learned_map_seeds.csv  one row per model
learned_map.png        seed 0: duals of the data before and after, the data, and densities of three of the models

Source of the potential: Huang et al., "Convex Potential Flows", 2021; the comparison is this package's.
"""

import copy
import time

import torch
from common import COLORS, Recipe, clean, distances, figure, mean_and_spread, options, save, show, train, write_csv

from mirrorgen import data
from mirrorgen.flows import ConvexPotentialFlow, Gaussian, MirrorFlow
from mirrorgen.geometry.mirror_maps import LearnedMirrorMap, RegularizedBarrier
from mirrorgen.nets import MLP, InputConvexMLP

NAMES = ("log_prob", "knn_kl", "mmd", "sliced_w2", "training_seconds", "sampling_seconds")
WINDOW = (-21.0, 6.0, -15.0, 7.0)
MAP_WEIGHT = 0.1
BEFORE, AFTER = "potential flow, base map", "potential flow, learned map"
BASE, FROZEN, ALONG = "mirror flow, base map", "mirror flow, learned map", "mirror flow, map trained along"
SHOWN = (AFTER, BASE, FROZEN)


def recipes(quick: bool) -> tuple[Recipe, Recipe]:
    """Of the likelihood and of flow matching."""
    likelihood = Recipe((), 5e-3, decay=0.75, iterations=30 if quick else 1500)
    return likelihood, Recipe((128,) * 3, 2e-3, decay=0.9, iterations=20 if quick else 2000)


def base() -> RegularizedBarrier:
    """The map to improve."""
    return RegularizedBarrier(data.toy2d_domain(), kappa=0.3, weight=0.1, quadratic=0.1)


def learned(x: torch.Tensor, seed: int) -> LearnedMirrorMap:
    """The base and a small convex function on the scale of the data."""
    scale, center = float(x.std(0).mean()), x.mean(0).tolist()
    return LearnedMirrorMap(base(), InputConvexMLP(2, (64, 64), gain=0.1, scale=scale, center=center, seed=seed))


def one_seed(points: data.Synthetic, seed: int, quick: bool) -> tuple[list[dict], dict]:
    """The rows of a seed and its models."""
    x, (likelihood, matching) = points.points("train"), recipes(quick)
    potential = {BEFORE: ConvexPotentialFlow(base()), AFTER: ConvexPotentialFlow(learned(x, seed))}
    seconds = {name: train(model, x, likelihood, seed) for name, model in potential.items()}
    frozen = copy.deepcopy(potential[AFTER].mirror_map).requires_grad_(False)
    flows = {}
    for name, mirror_map in ((BASE, base()), (FROZEN, frozen), (ALONG, learned(x, seed))):
        torch.manual_seed(seed)
        weight = MAP_WEIGHT if name == ALONG else 0.0
        flows[name] = MirrorFlow(mirror_map, MLP(2), Gaussian(), map_weight=weight)
        seconds[name] = train(flows[name], x, matching, seed)
    models = potential | flows
    return [row(points, name, model, seed, seconds[name], quick) for name, model in models.items()], models


def row(points: data.Synthetic, name: str, model, seed: int, seconds: float, quick: bool) -> dict:
    """Likelihood of held-out points, and distances from samples to them."""
    test = points.points("test")[: 300 if quick else 10_000]
    begin = time.process_time()
    x = model.sample(len(test), generator=torch.Generator().manual_seed(seed + 1))
    sampling = time.process_time() - begin
    with torch.no_grad():
        log_prob = float(model.log_prob(test).mean())
    inside = {"inside": int(points.domain.contains(x).sum()), "samples": len(x)}
    times = {"training_seconds": seconds, "sampling_seconds": sampling}
    return {"model": name, "seed": seed, "log_prob": log_prob, **distances(x, test), **inside, **times}


def draw(points: data.Synthetic, models: dict, quick: bool, path) -> None:
    """Dual images of the data, the data, and densities."""
    made = figure(12, 7.4)
    axes = made.subplots(2, 3)
    x = points.points("test")[: 300 if quick else 4000]
    angle = torch.linspace(0, 2 * torch.pi, 200)
    for axis, name in zip(axes[0], (BEFORE, AFTER), strict=False):
        model = models[name]
        with torch.no_grad():
            v = (model.encode(x) - model.shift) * torch.exp(-model.log_scale)
        axis.scatter(*v.T, s=2, alpha=0.35, color=COLORS[0], linewidths=0)
        for radius in (1, 2, 3):
            axis.plot(radius * angle.cos(), radius * angle.sin(), color=COLORS[1], linewidth=0.8)
        clean(axis, f"dual of held-out data, {name.split(', ')[1]}", "$v_1$", "$v_2$")
        axis.set(xlim=(-4.5, 4.5), ylim=(-4.5, 4.5), aspect="equal")
    axes[0, 2].scatter(*x.T, s=2, alpha=0.35, color=COLORS[0], linewidths=0)
    clean(axes[0, 2], "held-out data", "$x_1$", "$x_2$")
    axes[0, 2].set(xlim=WINDOW[:2], ylim=WINDOW[2:])
    for axis, name in zip(axes[1], SHOWN, strict=True):
        image = density(models[name], 40 if quick else 160)
        axis.imshow(image, origin="lower", extent=WINDOW, cmap="Blues", vmax=0.04, aspect="auto")
        clean(axis, f"density: {name}", "$x_1$", "$x_2$")
    save(made, path)


@torch.no_grad()
def density(model, size: int) -> torch.Tensor:
    """Values on a grid of the window, rows from bottom to top."""
    left, right, bottom, top = WINDOW
    grid = torch.cartesian_prod(torch.linspace(bottom, top, size), torch.linspace(left, right, size)).flip(-1)
    return model.log_prob(grid).exp().reshape(size, size)


def main() -> None:
    """Train, compare and draw."""
    chosen = options(__doc__, seeds=3)
    points = data.Synthetic(data.toy2d())
    rows: list[dict] = []
    for seed in range(chosen.seeds):
        new, models = one_seed(points, seed, chosen.quick)
        show(new)
        rows += new
        if seed == 0:
            draw(points, models, chosen.quick, chosen.out / "learned_map.png")
    floor = distances(points.points("val"), points.points("test")) if not chosen.quick else {}
    likelihood, matching = recipes(chosen.quick)
    notes = [
        f"iterations: {likelihood.iterations} of likelihood, {matching.iterations} of flow matching",
        f"map_weight {MAP_WEIGHT}",
        "two samples of the target: " + ", ".join(f"{k} {v:.3g}" for k, v in floor.items()),
        "seconds of one core",
    ]
    write_csv(chosen.out / "learned_map_seeds.csv", notes, rows)
    table = mean_and_spread(rows, ("model",), NAMES)
    write_csv(chosen.out / "learned_map.csv", notes, table)
    show(table)


if __name__ == "__main__":
    main()
