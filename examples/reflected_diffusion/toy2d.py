"""Two laws on the unit square, learnt: samples, densities, and what a score tangent at the walls is worth.

    python examples/reflected_diffusion/toy2d.py [--quick] [--seeds 3] [--samples 10000] [--ablation 4000] [--out DIR]

Targets: ``data.bimodal()`` and ``data.checkerboard()``; a perceptron of three hidden layers (128 and 256 wide) on
cosine waves that are damped as noise damps them, trained for each seed on its own 100,000 points. Stochastic methods
take 200 evaluations of the network, the probability flow 40 (20 of Heun's steps).
Rows with the exact score put the closed form in place of the network: what is left there is the method's own error.
Comparators, with the same network: projection onto the square after each step, and no treatment of the walls.

- ``toy2d.csv``: energy distance to the target (U-statistic in the samples, which may be negative; bar 2e-4), total
  variation of 6000 samples on a 20 x 20 grid, share strictly inside, share within 1e-6 of a wall (exact draws: 4e-6).
- ``toy2d_density.csv``: integral of the flow's density over the square, ``KL(truth || model)``, both by quadrature;
  likelihoods of exact draws (``nll``) beside the exact entropy and the variational bound, in nats.
- ``toy2d_ablation.csv``: networks with and without the factor that makes the score tangent, ``sigma_max`` 5 and 1.5.
  ``leak`` is the share of quadrature points that are outside after some step of a Heun integrator without guards, from
  data to noise (hatched in the figure); the density is then what code without a check returns, the uniform density
  wherever the path ends.

``reference`` columns are measurements of an earlier program of ours after 3000 (bimodal) or 5000 iterations; "original
code" means the original authors' loss and sampler. Also writes ``toy2d.png`` and ``toy2d_ablation.png``.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch
from common import (
    ExactLaw,
    Square,
    cell_masses,
    draws,
    figure,
    options,
    save,
    show,
    total_variation,
    train,
    write_csv,
)
from torch import Tensor

from mirrorgen import data, nets
from mirrorgen.diffusion import (
    Ancestral,
    GeometricSchedule,
    PredictorCorrector,
    ReflectedDiffusion,
    reverse,
    sigma_grid,
)
from mirrorgen.diffusion.reverse import resolve_step
from mirrorgen.geometry.domains import Domain
from mirrorgen.integrate import divergence_exact
from mirrorgen.metrics import feasibility
from mirrorgen.targets import Target


@dataclass(frozen=True)
class Case:
    """A target with the settings of its model."""

    target: Target
    width: int
    cosines: int
    sigma_min: float
    iterations: int
    order: int
    known: dict[str, tuple[float | str, float | str]]


@dataclass(frozen=True)
class Sizes:
    """Seeds, iterations in the ablation, samples, training points, steps and draws for likelihoods, levels for bounds,
    and what iterations, steps of samplers and nodes per panel are divided by.
    """

    seeds: int
    ablation: int
    samples: int
    data: int = 100_000
    steps: int = 50
    test: int = 4000
    levels: int = 256
    coarsen: int = 1


@dataclass(frozen=True)
class Way:
    """A way to sample: ``steps`` levels of ``method`` on a grid."""

    method: object
    steps: int
    grid: str

    @property
    def evaluations(self) -> int:
        """Evaluations of the score per sample."""
        return self.steps * resolve_step(self.method).evaluations


# Energy distance and total variation by an earlier program, some with the original authors' samplers.
CASES = {
    "bimodal": Case(data.bimodal(), 128, 8, 0.01, 8000, 16, {
        "ancestral": (1e-4, 0.091), "Heun": (1e-4, 0.131), "ancestral, project": (6e-4, 0.101),
        "ancestral, none": (2.77, 0.49), "Euler-Maruyama, original code": (3e-4, 0.090),
        "flow, 128 evaluations, original code": (3e-4, "")}),
    "checkerboard": Case(data.checkerboard(), 256, 64, 0.002, 12_000, 32, {
        "ancestral": (4e-5, 0.112), "ancestral, project": (2e-4, 0.123), "Euler-Maruyama, original code": (1e-4, 0.120),
        "flow, 374 evaluations, original code": (2e-4, "")}),
}  # fmt: skip
WAYS = {
    "Euler-Maruyama": Way("em", 200, "log"),
    "ancestral": Way("ancestral", 200, "log"),
    "predictor-corrector": Way("pc", 100, "rho"),
    "predictor-corrector, snr 0.05": Way(PredictorCorrector(snr=0.05), 100, "rho"),
    "Heun": Way("ode", 20, "rho"),
    "ancestral, project": Way(Ancestral("project"), 200, "log"),
    "ancestral, none": Way(Ancestral("none"), 200, "log"),
}
ABLATION_REFERENCE = {  # leak, integral, nll, KL, bound, energy by ancestral steps, energy by Heun's
    ("plain", 5.0): (0.405, 1.413, -1.011, -0.119, -0.843, 5.3e-4, 7e-5),
    ("plain", 1.5): (0.306, 1.339, -0.968, -0.074, -0.841, 7e-5, -1e-4),
    ("tangent", 5.0): (0.0, 1.0011, -0.847, 0.0305, -0.848, 4.9e-4, 3e-4),
    ("tangent", 1.5): (0.0, 1.0006, -0.858, 0.0216, -0.848, 6e-5, -2e-5),
}


def build(case: Case, seed: int, tangent: bool = True, sigma_max: float = 1.5) -> ReflectedDiffusion:
    """An untrained model."""
    torch.manual_seed(seed)
    schedule = GeometricSchedule(case.sigma_min, sigma_max)
    half = 0.5  # Of the width of the square: the network sees [-1, 1]^2.
    damping = (case.sigma_min / half, sigma_max / half)
    settings = {"activation": "silu", "time_embedding": 32, "cosines": case.cosines, "damping": damping}
    net = nets.MLP(2, (case.width,) * 3, **settings)
    return ReflectedDiffusion(case.target.domain, net, schedule, no_flux=tangent)


def judge(x: Tensor, square: Square, cells: Tensor, domain: Domain) -> dict[str, float]:
    """What the table says of one sample."""
    near = float((domain.slack(x).amin(-1).abs() <= 1e-6).double().mean())
    inside = feasibility(domain, x).share
    return {"energy": square.energy(x), "tv": total_variation(x[:6000], cells), "inside": inside, "near_wall": near}


def sampling(
    name: str, label: str, seed: int, draw: Callable[[Way, int], Tensor], ways: dict[str, Way], marks: Callable
) -> tuple[list[dict[str, object]], dict[str, Tensor]]:
    """Rows of one model, and the samples."""
    rows, kept = [], {}
    for method, way in ways.items():
        begin = time.process_time()
        x = draw(way, seed)
        seconds = time.process_time() - begin
        energy, tv = CASES[name].known.get(method, ("", "")) if label == "network" else ("", "")
        found = marks(x)
        row = {"target": name, "score": label, "method": method, "seed": seed, "evaluations": way.evaluations}
        row |= {"energy_ours": found["energy"], "energy_reference": energy, "tv_ours": found["tv"], "tv_reference": tv}
        rows.append(row | {"inside": found["inside"], "near_wall": found["near_wall"], "seconds": seconds})
        print(", ".join(f"{k} {v:.3g}" if isinstance(v, float) else str(v) for k, v in row.items()), flush=True)
        kept[method] = x
    return rows, kept


def model_draw(model: ReflectedDiffusion, n: int, way: Way, seed: int) -> Tensor:
    """Samples of a model."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return model.sample(n, generator=generator, steps=way.steps, method=way.method, grid=way.grid, batch_size=2000)


def exact_draw(case: Case, n: int, way: Way, seed: int) -> Tensor:
    """Samples with the exact score."""
    generator = torch.Generator().manual_seed(1000 + seed)
    x = case.target.domain.sample_uniform(n, generator=generator, dtype=torch.float64)
    levels = sigma_grid(1.5, case.sigma_min, way.steps, way.grid)
    return reverse(case.target.domain, ExactLaw(case.target).score, x, levels, way.method, generator=generator)


def density(name: str, seed: int, model: ReflectedDiffusion, square: Square, sizes: Sizes) -> dict[str, object]:
    """A row on likelihoods; ``*_se`` are standard errors over exact draws."""
    target, n, steps = CASES[name].target, sizes.test, sizes.steps
    x = draws(target, n, 500 + seed, torch.float32)
    log_q, left = unguarded(model, square.points.float(), steps)
    log_q = log_q.double()
    with torch.no_grad():
        nll = -model.log_prob(x, steps=steps).double()
    bound = -model.log_prob_bound(x, draws=sizes.levels, generator=torch.Generator().manual_seed(seed)).double()
    excess = nll + target.log_density(x.double()) - square.log_mass

    row: dict[str, object] = {"target": name, "seed": seed}
    row |= {"integral_ours": float(square.integral(log_q.exp())), "integral_exact": 1}
    row |= {"leak_ours": float(left.double().mean()), "leak_exact": 0}
    row |= {"kl_ours": square.divergence(log_q), "kl_exact": smoothing(CASES[name], square)}
    row |= {"entropy_exact": square.entropy}
    differences = {"nll_minus_entropy": excess, "bound_minus_nll": bound - nll}
    for key, v in ({"nll": nll, "bound": bound} | differences).items():
        row |= {f"{key}_ours": float(v.mean()), f"{key}_se": float(v.std() / math.sqrt(n))}
    return row


def smoothing(case: Case, square: Square) -> float:
    """``KL(truth || truth with noise of sigma_min)``: what no score can avoid."""
    log_q = ExactLaw(case.target).log_density(square.points, torch.tensor(case.sigma_min, dtype=torch.float64))
    return square.divergence(log_q - square.integral(log_q.exp()).log())


@torch.no_grad()
def unguarded(model: ReflectedDiffusion, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Heun's steps of the probability flow from data to noise in ``log sigma``, as if there were no walls.

    Returns:
        Log-densities ``(n,)`` with the uniform density wherever a path ends, and whether it was outside after a step.
    """
    levels = sigma_grid(model.schedule.sigma_max, model.schedule.sigma_min, steps).flip(0).to(x.dtype)
    log_det, left = torch.zeros_like(x[:, 0]), torch.zeros(len(x), dtype=torch.bool)

    def rate(y: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return divergence_exact(lambda z: -sigma * model.scaled_score(z, sigma), y)

    for low, high in pairwise(levels):
        h = torch.log(high / low)
        first, first_rate = rate(x, low)
        second, second_rate = rate(x + h * first, high)
        x, log_det = x + 0.5 * h * (first + second), log_det + 0.5 * h * (first_rate + second_rate)
        left |= ((x <= 0) | (x >= 1)).any(-1)
    return log_det, left


def ablation(model: ReflectedDiffusion, kind: str, seed: int, square: Square, marks: Callable, sizes: Sizes) -> dict:
    """A row of the ablation, with the map of the density."""
    log_q, left = unguarded(model, square.points.float(), sizes.steps)
    x = draws(CASES["bimodal"].target, sizes.test, 500 + seed, torch.float32)
    bound = -model.log_prob_bound(x, draws=sizes.levels, generator=torch.Generator().manual_seed(seed)).double()
    ways = [Way("ancestral", 100, "log"), WAYS["Heun"]]
    energies = [marks(model_draw(model, sizes.samples, way, seed))["energy"] for way in ways]
    kl = square.divergence(log_q.double())
    found = {"leak": float(left.double().mean()), "integral": float(square.integral(log_q.double().exp())),
             "nll": square.entropy + kl, "kl": kl, "bound": float(bound.mean()), "energy_ancestral": energies[0],
             "energy_heun": energies[1]}  # fmt: skip
    row: dict = {"network": kind, "sigma_max": model.schedule.sigma_max, "seed": seed}
    references = ABLATION_REFERENCE[kind, model.schedule.sigma_max]
    for (key, value), known in zip(found.items(), references, strict=True):
        row |= {f"{key}_ours": value, f"{key}_reference": known}
    row |= {"entropy_exact": square.entropy, "bound_se": float(bound.std() / math.sqrt(len(x)))}
    return row | {"map": log_q.exp(), "left": left}


def mean_rows(rows: list[dict[str, object]], keys: tuple[str, ...]) -> list[dict[str, object]]:
    """Averages over seeds of every group of rows that agree in ``keys``."""
    groups: dict[tuple, list[dict]] = {}
    for row in (r for r in rows if r["seed"] != "mean"):
        groups.setdefault(tuple(row[k] for k in keys), []).append(row)
    made = []
    for group in groups.values():
        first = dict(group[0]) | {"seed": "mean"}
        for key, value in group[0].items():
            if isinstance(value, float) and not key.endswith("reference"):
                first[key] = sum(r[key] for r in group) / len(group)
        made.append(first)
    return made


def target_study(name: str, sizes: Sizes) -> tuple[list[dict], list[dict], dict[str, Tensor]]:
    """Rows on samples, rows on densities, and the samples of the first seed."""
    case, n = CASES[name], sizes.samples
    ways = {k: replace(w, steps=max(2, w.steps // sizes.coarsen)) for k, w in WAYS.items()}
    square = Square(case.target, case.order // min(sizes.coarsen, 4))
    marks = partial(judge, square=square, cells=cell_masses(case.target), domain=case.target.domain)
    floor = {"exact draws": Way("em", 0, "log")}
    rows = sampling(name, "none", 0, lambda way, seed: draws(case.target, n, 401), floor, marks)[0]
    ours = {k: w for k, w in ways.items() if not k.endswith(("project", "none"))}
    rows += sampling(name, "exact", 0, partial(exact_draw, case, n), ours, marks)[0]
    for method, (energy, tv) in case.known.items():
        if "original" in method:
            row = dict.fromkeys(rows[0], "") | {"target": name, "score": "network", "method": method, "seed": "mean"}
            rows.append(row | {"energy_reference": energy, "tv_reference": tv})
    densities, kept = [], {}
    for seed in range(sizes.seeds):
        model = build(case, seed)
        points = draws(case.target, sizes.data, seed, torch.float32)
        seconds = train(model, points, case.iterations // sizes.coarsen**2, seed=seed)
        made, samples = sampling(name, "network", seed, partial(model_draw, model, n), ways, marks)
        rows += made
        densities.append(density(name, seed, model, square, sizes) | {"training_seconds": seconds})
        kept = kept or {"data": draws(case.target, n, 400)} | samples
    return rows, densities, kept


def ablation_study(sizes: Sizes) -> tuple[list[dict], Square]:
    """Rows of the ablation with maps, and their grid."""
    case = CASES["bimodal"]
    square = Square(case.target, case.order // min(sizes.coarsen, 4))
    marks = partial(judge, square=square, cells=cell_masses(case.target), domain=case.target.domain)
    rows = []
    for kind, high in ABLATION_REFERENCE:
        model = build(case, 0, kind == "tangent", high)
        train(model, draws(case.target, sizes.data, 0, torch.float32), sizes.ablation, seed=0)
        rows.append(ablation(model, kind, 0, square, marks, sizes))
    return rows, square


def draw_samples(kept: dict[str, dict[str, Tensor]], path) -> None:
    """Samples beside data, a row per target."""
    first = next(iter(kept.values()))
    made = figure(2.1 * len(first), 2.25 * len(kept) + 0.2)
    axes = made.subplots(len(kept), len(first), squeeze=False)
    for row, (name, samples) in zip(axes, kept.items(), strict=True):
        for axis, (method, x) in zip(row, samples.items(), strict=True):
            axis.scatter(*x[:6000].T, s=0.6, color="#1b6ca8", linewidths=0, rasterized=True)
            axis.plot([0, 1, 1, 0, 0], [0, 0, 1, 1, 0], color="#444444", lw=0.6)
            axis.set(xlim=(-0.09, 1.09), ylim=(-0.09, 1.09), aspect="equal", xticks=[], yticks=[])
            axis.set_title(method.replace(", ", ",\n") if name == next(iter(kept)) else "", fontsize=9)
            for side in axis.spines.values():
                side.set_visible(False)
        row[0].set_ylabel(name)
    save(made, path)


def draw_ablation(rows: list[dict], square: Square, path) -> None:
    """The exact density, and the four models' maps, hatched where paths leave."""
    import matplotlib as mpl

    mpl.rcParams |= {"hatch.color": "white", "hatch.linewidth": 0.5}
    made = figure(13.5, 3.2)
    axes = made.subplots(1, len(rows) + 1)
    panels = [("exact", square.p, None), *((r, r["map"], r["left"]) for r in rows)]
    top = float(square.p.max())
    for axis, (what, p, left) in zip(axes, panels, strict=True):
        n = len(square.line)
        mesh = axis.pcolormesh(square.line, square.line, p.reshape(n, n).T, vmin=0, vmax=top, cmap="viridis",
                               shading="gouraud", rasterized=True)  # fmt: skip
        title = "exact"
        if left is not None and bool(left.any()):
            outside = left.double().reshape(n, n).T
            axis.contourf(square.line, square.line, outside, [0.5, 1.5], colors="none", hatches=["////"])
            axis.contour(square.line, square.line, outside, [0.5], colors="white", linewidths=0.8)
        if left is not None:
            title = f"{what['network']}, $\\sigma_{{max}}$ = {what['sigma_max']:g}\n"
            title += f"integral {what['integral_ours']:.3f}, leak {100 * what['leak_ours']:.0f} %"
        axis.set_title(title, fontsize=10)
        for side in axis.spines.values():
            side.set_visible(False)
        axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[], yticks=[])
    made.colorbar(mesh, ax=axes, shrink=0.8, label="density")
    save(made, path)


def main() -> None:
    """Train, sample, evaluate; tables and figures."""
    chosen = options(__doc__, seeds=3, samples=10_000, ablation=4000)
    sizes = Sizes(chosen.seeds, chosen.ablation, chosen.samples)
    sizes = Sizes(1, 20, 200, 2000, 4, 100, 8, 20) if chosen.quick else sizes
    rows, densities, kept = [], [], {}
    for name in CASES:
        made, likelihoods, kept[name] = target_study(name, sizes)
        rows += made
        densities += likelihoods
    rows += mean_rows(rows, ("target", "score", "method"))
    densities += mean_rows(densities, ("target",))
    show([r for r in rows if r["seed"] == "mean"])
    show(densities)
    notes = [
        "; ".join(
            f"{k}: {c.iterations} iterations, width {c.width}, {c.cosines} cosines, sigma_min {c.sigma_min}"
            for k, c in CASES.items()
        ),
        f"{sizes.samples} samples; seconds: processor time of sampling, one thread",
        "energy: unbiased in the samples (may be negative), the target by quadrature; floor: exact draws",
        f"seed mean: average over {sizes.seeds} seeds",
    ]
    write_csv(chosen.out / "toy2d.csv", notes, rows)
    test = f"likelihoods of {sizes.test} exact draws, bound with {sizes.levels} levels for each"
    notes = [f"nats; {test}; *_se: standard errors"]
    notes += ["kl_exact: of the law that a perfect score would give, the data with noise of sigma_min"]
    write_csv(chosen.out / "toy2d_density.csv", notes, densities)
    draw_samples(kept, chosen.out / "toy2d.png")
    found, square = ablation_study(sizes)
    draw_ablation(found, square, chosen.out / "toy2d_ablation.png")
    found = [{k: v for k, v in r.items() if k not in ("map", "left")} for r in found]
    show(found)
    write_csv(chosen.out / "toy2d_ablation.csv", [f"bimodal, one seed, {sizes.ablation} iterations; nats"], found)


if __name__ == "__main__":
    main()
