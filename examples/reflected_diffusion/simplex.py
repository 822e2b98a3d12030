"""Reflected diffusion on simplices of three and seven dimensions and on a product, directly and through images.

    python examples/reflected_diffusion/simplex.py [--quick] [--seeds 2] [--iterations 2000] [--out DIR]

The laws are mixtures whose densities are unbounded at every face, positive at some, and far from symmetric (``faces``):
hard for anything that adds noise of one size. Simplices of more than two dimensions have no heat kernel in closed form.

- sticks: the image of the cube by ``StickBreaking``, denoising score matching with the kernel of the cube
- gaps: the image of ordered numbers by ``Gaps``, denoising with the permanent of kernels of an interval
- direct: on the simplex itself, implicit score matching along billiard paths of four levels
- direct, short: the same with ``sigma_max`` halved
- on ``Simplex(3) x Box``: the product of the kernels of the triangle and of the square; the image of a cube by sticks;
  implicit score matching

For all the same perceptron (three layers of 128), iterations, 512 pairs of a point and a noise level per iteration, and
levels from 0.005 to 1.5 times the extent of the set of the motion. Writes ``simplex.csv``: energy distance of 5,000
samples (100 steps of the predictor-corrector, 200 evaluations) to 10,000 exact draws (unbiased, may be negative; floor:
other exact draws), ``kl`` the mean of ``log p - log q`` over 600 held-out exact draws with the density ``q`` of the
probability flow and its standard error, the share inside, processor seconds; and ``simplex.png``, which shows values
below 1e-5 at 1e-5.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from common import COLORS, clean, draws, figure, options, save, show, train, write_csv
from torch import Tensor

from mirrorgen.diffusion import (
    Gaps,
    GeometricSchedule,
    Identity,
    Implicit,
    ProductBijection,
    PushforwardDiffusion,
    ReflectedDiffusion,
    StickBreaking,
    extent,
)
from mirrorgen.geometry.domains import Box, Domain, Product, Simplex
from mirrorgen.metrics import energy_distance, feasibility
from mirrorgen.nets import MLP
from mirrorgen.targets import DirichletMixture, Target

Model = ReflectedDiffusion | PushforwardDiffusion
LEVELS = 4


def faces(dim: int) -> DirichletMixture:
    """Three Dirichlet laws on ``Simplex(dim)``: parameters one half, from 1 to 6, and ones but for a 12 and an 8."""
    parameters = torch.ones(3, dim, dtype=torch.float64)
    parameters[0] = 0.5
    parameters[1] = torch.linspace(1, 6, dim)
    parameters[2, 0], parameters[2, dim // 2] = 12.0, 8.0
    return DirichletMixture(parameters, [0.4, 0.3, 0.3])


class Blocks(Target):
    """``faces(3)`` on ``Simplex(3)`` and numbers in ``(0, 1)`` with Beta laws that depend on the component.

    Components are independent between blocks; a number is the first coordinate of a Dirichlet law on ``Simplex(2)``.
    """

    numbers = ([[0.5, 0.5], [4.0, 1.0], [2.0, 9.0]], [[0.7, 2.0], [1.0, 5.0], [6.0, 6.0]])

    def __init__(self) -> None:
        self.domain = Product(Simplex(3), Box(0.0, 1.0, dim=len(self.numbers)))
        mixture = faces(3)
        self.weights = mixture.weights
        rows = [mixture.concentration.tolist(), *self.numbers]
        self.blocks = [[DirichletMixture(row[k]) for row in rows] for k in range(len(self.weights))]

    def log_density(self, x: Tensor) -> Tensor:
        shares, numbers = x[:, :3], [torch.stack([u, 1 - u], -1) for u in x[:, 3:].T]
        terms = [
            sum(law.log_density(part) for law, part in zip(laws, [shares, *numbers], strict=True))
            for laws in self.blocks
        ]
        return torch.logsumexp(torch.stack(terms, -1) + self.weights.log().to(x), -1)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        drawn = []
        for laws in self.blocks:
            shares, *numbers = (law.sample(n, generator=generator) for law in laws)
            drawn.append(torch.cat([shares, *(u[:, :1] for u in numbers)], -1))
        return torch.stack(drawn)[k, torch.arange(n)]


@dataclass(frozen=True)
class Case:
    """A law by name."""

    name: str
    target: Target

    @cached_property
    def domain(self) -> Domain:
        """Of the law."""
        return self.target.domain

    def draws(self, n: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """Exact draws, strictly inside."""
        return draws(self.target, n, seed, dtype)

    def models(self, seed: int) -> dict[str, Callable[[], Model]]:
        """What makes an untrained model of every way."""
        implicit = Implicit(levels=LEVELS)
        if isinstance(self.domain, Product):
            sticks = ProductBijection(StickBreaking(2), Identity(self.domain.blocks[1]))
            return {
                "product kernel": lambda: on(self.domain, seed),
                "sticks": lambda: PushforwardDiffusion(sticks, on(sticks.source, seed)),
                "direct": lambda: on(self.domain, seed, objective=implicit),
            }
        images = {"sticks": StickBreaking(self.domain.dual_dim), "gaps": Gaps(self.domain.dual_dim)}
        ways: dict[str, Callable[[], Model]] = {
            name: lambda b=bijection: PushforwardDiffusion(b, on(b.source, seed)) for name, bijection in images.items()
        }
        ways["direct"] = lambda: on(self.domain, seed, objective=implicit)
        return ways | {"direct, short": lambda: on(self.domain, seed, 0.75, objective=implicit)}


def on(domain: Domain, seed: int, sigma_max: float = 1.5, **arguments) -> ReflectedDiffusion:
    """An untrained model with the network of this study."""
    torch.manual_seed(seed)
    net = MLP(domain.dual_dim, hidden=(128, 128, 128), activation="silu", time_embedding=32)
    width = extent(domain)
    return ReflectedDiffusion(domain, net, GeometricSchedule(0.005 * width, sigma_max * width), **arguments)


@dataclass(frozen=True)
class Sizes:
    """Seeds, iterations, training points, samples, exact draws, held-out draws, steps of samplers and of the flow."""

    seeds: int
    iterations: int
    data: int = 100_000
    samples: int = 5000
    exact: int = 10_000
    held_out: int = 600
    steps: int = 100
    flow: int = 50


def measure(model: Model, case: Case, exact: Tensor, sizes: Sizes, seed: int) -> tuple[dict[str, float], Tensor]:
    """A row of a trained model, and its samples."""
    begin = time.process_time()
    x = model.sample(sizes.samples, steps=sizes.steps, generator=torch.Generator().manual_seed(500 + seed))
    seconds = time.process_time() - begin
    held_out = case.draws(sizes.held_out, 2000 + seed, torch.float32)
    with torch.no_grad():
        log_q = model.log_prob(held_out, steps=sizes.flow).double()
    gap = case.target.log_density(held_out.double()) - log_q
    row = {"energy": float(energy_distance(x.double(), exact, unbiased=True)), "kl": float(gap.mean())}
    row |= {"kl_se": float(gap.std() / math.sqrt(len(gap))), "inside": feasibility(case.domain, x).share}
    return row | {"sampling_seconds": seconds}, x


def study(case: Case, sizes: Sizes) -> tuple[list[dict[str, object]], dict[str, Tensor]]:
    """Rows of one law, and samples of the first seed."""
    exact = case.draws(sizes.exact, 1000)
    rows: list[dict[str, object]] = []
    kept = {"exact draws": exact}
    for seed in range(sizes.seeds):
        energy = float(energy_distance(case.draws(sizes.samples, 3000 + seed), exact, unbiased=True))
        floor = {
            "energy": energy,
            "kl": 0.0,
            "kl_se": 0.0,
            "inside": 1.0,
            "sampling_seconds": "",
            "training_seconds": "",
        }
        rows.append({"target": case.name, "method": "exact draws", "seed": seed} | floor)
        data = case.draws(sizes.data, seed, torch.float32)
        for name, make in case.models(seed).items():
            model = make()
            levels = getattr(model, "diffusion", model).levels
            seconds = train(model, data, sizes.iterations, seed=seed, batch=512 // levels)
            row, x = measure(model, case, exact, sizes, seed)
            rows.append({"target": case.name, "method": name, "seed": seed} | row | {"training_seconds": seconds})
            print(
                ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else str(v) for k, v in rows[-1].items()), flush=True
            )
            kept.setdefault(name, x)
    return rows, kept


def averages(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """A row per law and method: means over seeds."""
    made = []
    for key in dict.fromkeys((r["target"], r["method"]) for r in rows):
        group = [r for r in rows if (r["target"], r["method"]) == key]
        means = {k: sum(r[k] for r in group) / len(group) for k, v in group[0].items() if isinstance(v, float)}
        made.append(group[0] | {"seed": "mean"} | means)
    return made


def draw(rows: list[dict], kept: dict[str, dict[str, Tensor]], domains: dict[str, Domain], path) -> None:
    """Distances to the nearest face in a panel per law; energies, divergences and seconds below."""
    made = figure(4.2 * 3, 6.4)
    above, below = made.subplots(2, 3)
    names = list(dict.fromkeys(r["method"] for r in rows))
    colors = dict(zip(names, ["#444444", *COLORS], strict=False))
    for axis, (name, samples) in zip(above, kept.items(), strict=True):
        for method, x in samples.items():
            near = domains[name].slack(x.double()).amin(-1).sort().values
            style = {"lw": 2.5, "ls": ":"} if method == "exact draws" else {"lw": 1.2}
            axis.plot(near, torch.linspace(0, 1, len(near)), color=colors[method], label=method, **style)
        axis.set(xscale="log", xlim=(1e-6, 0.3))
        axis.legend(fontsize=7)
        clean(axis, name, "distance to the nearest face", "share of samples")
    panels = (("energy", "energy distance"), ("kl", "KL divergence, nats"), ("training_seconds", "seconds of training"))
    for axis, (key, title) in zip(below, panels, strict=True):
        for at, name in enumerate(kept):
            for place, method in enumerate(m for m in names if m in kept[name]):
                values = [r[key] for r in rows if (r["target"], r["method"]) == (name, method)]
                shown = [max(v, 1e-5) for v in values if isinstance(v, float) and (key == "energy" or v > 0)]
                axis.plot([at + 0.13 * (place - 2)] * len(shown), shown, "o", ms=4, color=colors[method])
        axis.set_xticks(range(len(kept)), list(kept), fontsize=8)
        axis.set_yscale("log")
        clean(axis, title, "", "")
    save(made, path)


def main() -> None:
    """Train, sample, evaluate; table and figure."""
    chosen = options(__doc__, seeds=2, iterations=2000)
    sizes = Sizes(chosen.seeds, chosen.iterations)
    sizes = Sizes(1, 4, 1000, 200, 400, 20, 4, 3) if chosen.quick else sizes
    cases = [Case("Simplex(4)", faces(4)), Case("Simplex(8)", faces(8)), Case("Simplex(3) x Box", Blocks())]
    notes = [
        f"{sizes.iterations} iterations; {sizes.samples} samples, {sizes.exact} exact draws, {sizes.held_out} held out",
        "energy: unbiased, may be negative; kl: nats, by the probability flow; seconds: processor time, one thread",
    ]
    rows: list[dict[str, object]] = []
    kept = {}
    for case in cases:
        made, kept[case.name] = study(case, sizes)
        rows += made
        write_csv(chosen.out / "simplex.csv", notes, rows + averages(rows))
    show(averages(rows))
    draw(rows, kept, {c.name: c.domain for c in cases}, chosen.out / "simplex.png")


if __name__ == "__main__":
    main()
