"""Every way to diffuse on the same sets: cubes and corner simplices in 2, 3 and 10 dimensions.

    python examples/reflected_diffusion/domains.py [--quick] [--seeds 2] [--iterations 3000] [--resume] [--out DIR]

Laws: on ``[-1, 1]^d`` seven tenths of a normal at ``(.5, ...)`` and three tenths of one at ``(-.5, ...)``, deviation
.25, truncated, the recipe of the benchmark of Fishman et al., "Diffusion Models for Constrained Domains" (2023); on the
corner simplex ``{x > 0, sum x < 1}`` a mixture of two Dirichlet laws with the weights and means of their modes. Their
numbers are not reproduced here: the comparison is between methods under equal conditions, a perceptron of three layers
of 128, batches of 512 pairs of a point and a noise level, the same number of iterations.

- kernel: reflected diffusion, denoising score matching with the heat kernel (cubes, and the simplex for ``d = 2``)
- implicit: reflected diffusion, implicit score matching along billiard paths, score tangent at the walls
- weighted: the same with weights that vanish at the walls and a score that is free there
- Metropolis: implicit score matching along paths that stay where a step would leave, and sampling alike
- barrier: diffusion in the metric of the logarithmic barrier
- stick-breaking, ordered: reflected diffusion on the cube and on ordered coordinates, whose images simplices are
- clamped, thresholded: diffusion in free space, samples projected; and the same with projected predictions
- mirror flow: flow matching in the dual of the default mirror map

Stochastic samplers take 200 levels, the flow 50 steps. Writes ``domains.csv``: squared MMD (Gaussian kernel, bandwidth
the median distance of the target; unbiased, may be negative) and energy distance of 5,000 samples to 5,000 exact
draws, the share inside before anything is projected at the end, processor seconds of training and of sampling; and
``domains.png``.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from common import COLORS, clean, draws, figure, kept_rows, options, save, show, train, write_csv
from torch import Tensor, nn

import mirrorgen as mg
from mirrorgen.diffusion import (
    Ancestral,
    BarrierDiffusion,
    ClampedDiffusion,
    Denoising,
    Gaps,
    Implicit,
    PushforwardDiffusion,
    ReflectedDiffusion,
    StickBreaking,
    Thresholding,
    default_kernel,
    random_step,
    reverse,
    stratified,
)
from mirrorgen.flows import MirrorFlow
from mirrorgen.geometry.domains import Box, Domain, Simplex
from mirrorgen.nets import MLP
from mirrorgen.targets import DirichletMixture, TruncatedMixture

LEVELS = 8


@dataclass(frozen=True)
class Case:
    """A law on a set, ``"cube"`` or ``"simplex"``, in ``dim`` dimensions."""

    shape: str
    dim: int

    @cached_property
    def domain(self) -> Domain:
        """The cube or the corner simplex."""
        return Box(-1.0, 1.0, dim=self.dim) if self.shape == "cube" else Gaps(self.dim, corner=True).target

    def sample(self, n: int, seed: int) -> Tensor:
        """Exact draws in float32."""
        if self.shape == "cube":
            means = torch.tensor([[0.5], [-0.5]]).expand(2, self.dim)
            return draws(TruncatedMixture(self.domain, means, 0.25**2, [0.7, 0.3]), n, seed, torch.float32)
        others = self.dim - 1
        modes = [[0.6, *[0.25 / others] * others, 0.15], [0.18, *[0.77 / others] * others, 0.05]]
        amounts = torch.tensor([[5.0 * (self.dim + 1)], [60.0]])
        law = DirichletMixture(amounts * torch.tensor(modes), [0.7, 0.3])
        return self.domain.pull_inside(draws(law, n, seed, torch.float32)[:, :-1])[0]


@dataclass
class Sizes:
    """Training points, samples, iterations and levels of samplers."""

    data: int = 20_000
    samples: int = 5000
    iterations: int = 3000
    steps: int = 200


def network(dim: int, seed: int) -> MLP:
    """The same for every method."""
    torch.manual_seed(seed)
    return MLP(dim, hidden=(128, 128, 128), activation="silu", time_embedding=32)


class OnPaths(nn.Module):
    """The loss of a ``BarrierDiffusion`` on rows of a point of a path and its noise level."""

    def __init__(self, model: BarrierDiffusion) -> None:
        super().__init__()
        self.model, self.net = model, model.net

    def loss(self, rows: Tensor, *, generator: torch.Generator) -> Tensor:
        """The mean of ``implicit_errors``."""
        with mg.validation(False):
            return self.model.implicit_errors(self.model.scaled_score, rows[:, :-1], rows[:, -1], generator).mean()


def train_on_paths(model: BarrierDiffusion, x: Tensor, iterations: int, seed: int) -> float:
    """As ``train``, on paths simulated before, each of whose states is used four times: a path takes 150 steps."""
    generator = torch.Generator().manual_seed(seed)
    begin = time.process_time()
    rows = []
    for _ in range(max(1, iterations // 750)):
        some = x[torch.randint(len(x), (min(iterations, 750) * 512 // (4 * LEVELS) + 1,), generator=generator)]
        sigmas = model.schedule.sigma(stratified(LEVELS, len(some), like=x, generator=generator))
        with torch.no_grad(), mg.validation(False):
            path = model.motion(some, sigmas, generator)
        rows.append(torch.cat([path, sigmas.unsqueeze(-1)], -1).flatten(0, 1))
    simulated = time.process_time() - begin
    return simulated + train(OnPaths(model), torch.cat(rows), iterations, seed=seed)


def lifted(x: Tensor) -> Tensor:
    """Points of the probability simplex from points of the corner simplex, which lack the last coordinate."""
    return Simplex(x.shape[1] + 1).pull_inside(torch.cat([x, 1 - x.sum(-1, keepdim=True)], -1))[0]


Draw = Callable[[int, torch.Generator], Tensor]


def score_model(model, x: Tensor, sizes: Sizes, seed: int, method=None) -> tuple[float, Draw]:
    """Train; seconds, and what draws."""
    levels = getattr(getattr(model, "diffusion", model), "levels", 1)
    seconds = train(model, x, sizes.iterations, seed=seed, batch=512 // levels)
    method = method or Ancestral()
    return seconds, lambda n, generator: model.sample(n, steps=sizes.steps, method=method, generator=generator)


def barrier(case: Case, x: Tensor, sizes: Sizes, seed: int) -> tuple[float, Draw]:
    """On the cube, or on the probability simplex, on which the barrier is the same and its inverse cheaper."""
    corner = case.shape == "simplex"
    model = BarrierDiffusion(Simplex(case.dim + 1) if corner else case.domain, network(case.dim, seed))
    x = lifted(x) if corner else x
    seconds = train_on_paths(model, x, sizes.iterations, seed)
    return seconds, lambda n, g: model.sample(n, steps=sizes.steps, generator=g)[:, : case.dim]


def mirror_flow(case: Case, x: Tensor, sizes: Sizes, seed: int) -> tuple[float, Draw]:
    """Mirror Flow Matching with its defaults."""
    flow = MirrorFlow(mg.mirror_maps.default(case.domain), network(case.dim, seed))
    flow.fit_dual_transform(x)
    seconds = train(flow, x, sizes.iterations, seed=seed)
    return seconds, lambda n, g: flow.sample(n, steps=max(2, sizes.steps // 4), generator=g)


def clamped(case: Case, x: Tensor, sizes: Sizes, seed: int) -> dict[str, tuple[float, Draw]]:
    """One network, plain and thresholded; draws are those before the last projection."""
    model = ClampedDiffusion(case.domain, network(case.dim, seed))
    seconds = train(model, x, sizes.iterations, seed=seed)

    def free(step) -> Draw:
        sigmas = mg.diffusion.sigma_grid(model.schedule.sigma_max, model.schedule.sigma_min, sizes.steps)

        def draw(n: int, generator: torch.Generator) -> Tensor:
            many = model.center.expand(n, -1)
            start = many + random_step(model.space, many, model.schedule.sigma_max, generator=generator)
            return reverse(model.space, model.score, start, sigmas, step, generator=generator)

        return draw

    return {
        "clamped": (seconds, free(Ancestral())),
        "thresholded": (seconds, free(Thresholding(case.domain, Ancestral()))),
    }


def trained(case: Case, x: Tensor, sizes: Sizes, seed: int):
    """Yield ``name, (seconds, draw)`` of one method after the other."""
    domain = case.domain
    reject = Implicit(levels=4, steps=10, boundary="reject")
    settings = {
        "implicit": ({"objective": Implicit(levels=4)}, None),
        "weighted": ({"objective": Implicit(levels=4, weighted=True), "no_flux": False}, None),
        "Metropolis": ({"objective": reject}, Ancestral("reject")),
    }
    if default_kernel(domain) is not None:
        settings = {"kernel": ({}, None)} | settings
    for name, (arguments, method) in settings.items():
        model = ReflectedDiffusion(domain, network(case.dim, seed), **arguments)
        yield name, score_model(model, x, sizes, seed, method)
    yield "barrier", barrier(case, x, sizes, seed)
    if case.shape == "simplex":
        images = {"ordered": (Gaps(case.dim), Denoising()), "stick-breaking": (StickBreaking(case.dim), "auto")}
        for name, (bijection, objective) in images.items():
            source = ReflectedDiffusion(bijection.source, network(case.dim, seed), objective=objective)
            seconds, draw = score_model(PushforwardDiffusion(bijection, source), lifted(x), sizes, seed)
            yield name, (seconds, lambda n, g, draw=draw: draw(n, g)[:, :-1])
    yield from clamped(case, x, sizes, seed).items()
    yield "mirror flow", mirror_flow(case, x, sizes, seed)


def measure(x: Tensor, y: Tensor, bandwidth: float) -> dict[str, float]:
    """Distances of samples to exact draws."""
    return {
        "mmd_squared": float(mg.metrics.mmd_squared(x, y, bandwidth)),
        "energy": float(mg.metrics.energy_distance(x, y, unbiased=True)),
    }


def study(case: Case, sizes: Sizes, seeds: int) -> list[dict[str, object]]:
    """Rows of one law."""
    y = case.sample(sizes.samples, 1000)
    bandwidth = float(torch.pdist(y[:2000]).median())
    name = {"domain": case.shape, "dim": case.dim}
    other = case.sample(sizes.samples, 1001)
    empty = {"inside": 1.0, "training_seconds": "", "sampling_seconds": ""}
    rows: list[dict[str, object]] = [
        name | {"method": "exact draws", "seed": ""} | measure(other, y, bandwidth) | empty
    ]
    for seed in range(seeds):
        x = case.sample(sizes.data, seed)
        for method, (seconds, draw) in trained(case, x, sizes, seed):
            begin = time.process_time()
            free = draw(sizes.samples, torch.Generator().manual_seed(500 + seed))
            spent = time.process_time() - begin
            inside = float(case.domain.contains(free).double().mean())
            samples = case.domain.pull_inside(case.domain.project(free))[0]
            row = name | {"method": method, "seed": seed} | measure(samples, y, bandwidth)
            rows.append(row | {"inside": inside, "training_seconds": seconds, "sampling_seconds": spent})
            print(rows[-1], flush=True)
    return rows


def draw_table(rows: list[dict], path) -> None:
    """Energy distances of all methods, a panel per law, grey where those of exact draws are."""
    cases = list(dict.fromkeys((r["domain"], r["dim"]) for r in rows))
    made = figure(4.2 * min(3, len(cases)), 3.1 * -(-len(cases) // 3))
    axes = made.subplots(-(-len(cases) // 3), min(3, len(cases)), squeeze=False).flatten()
    names = list(dict.fromkeys(r["method"] for r in rows if r["seed"] != ""))
    for axis, (shape, dim) in zip(axes, cases, strict=False):
        mine = [r for r in rows if (r["domain"], r["dim"]) == (shape, dim)]
        present = [n for n in names if any(r["method"] == n for r in mine)]
        for at, name in enumerate(present):
            values = [float(r["energy"]) for r in mine if r["method"] == name]
            axis.plot(values, [at] * len(values), "o", ms=4, color=COLORS[names.index(name) % len(COLORS)])
        axis.set_yticks(range(len(present)), present, fontsize=8)
        axis.invert_yaxis()
        floor = next(abs(float(r["energy"])) for r in mine if r["seed"] == "")
        axis.set_xscale("symlog", linthresh=3e-4, linscale=0.7)
        axis.axvspan(-floor, floor, color="#444444", alpha=0.15, lw=0)
        clean(axis, f"{shape}, d = {dim}", "energy distance", "")
    for axis in axes[len(cases) :]:
        axis.set_axis_off()
    save(made, path)


def main() -> None:
    """Train, sample, compare, law after law."""
    chosen = options(__doc__, seeds=2, iterations=3000, resume=False)
    sizes = Sizes(500, 200, 4, 4) if chosen.quick else Sizes(iterations=chosen.iterations)
    notes = [f"{sizes.iterations} iterations, {sizes.samples} samples; exact draws: the floor, one set against another"]
    rows = kept_rows(chosen.out / "domains.csv", chosen.resume)
    done = {(r["domain"], r["dim"]) for r in rows}
    cases = [(s, d) for s in ("cube", "simplex") for d in ((2,) if chosen.quick else (2, 3, 10))]
    for shape, dim in (c for c in cases if c not in done):
        rows += study(Case(shape, dim), sizes, 1 if chosen.quick else chosen.seeds)
        write_csv(chosen.out / "domains.csv", notes, rows)
    show(rows)
    draw_table(rows, chosen.out / "domains.png")


if __name__ == "__main__":
    main()
