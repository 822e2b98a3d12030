"""Mirror maps and drifts found by evolution strategies on random decision processes, tested on held-out ones.

learned_potentials.csv  mirror descent along noisy values: tuned steps of fixed potentials, and learned mixtures of them
learned_visits.csv      the same where errors are large for actions that the policy seldom plays
learned_drifts.csv      surrogates on noisy advantages: tuned fixed drifts, and a network that starts at the clip
learned.png             gaps on held-out processes, and what was learned

A gap is that of the last policy, ``v* - v`` from a uniform start. Fixed methods are tuned on the training processes by
a grid, the learned ones start from the best of the grid; all are tested on the same held-out processes and noise.
Differences are paired: method less the tuned KL step (or the tuned clip). Some tables only: --only visits; the figure
needs potentials and drifts.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from common import COLORS, clean, figure, options, save, show, write_csv
from torch import Tensor

from mirrorgen.policy import (
    ClipDrift,
    DiscoveredDrift,
    Drift,
    KLDrift,
    LearnedDrift,
    MixedPotential,
    evolution_strategy,
    proximal_step,
)
from mirrorgen.policy.tabular import TabularMDP, garnet, grid_world, policy_mirror_descent

F64 = torch.float64
ORDERS = (0.5, 1.0, 2.0)
STEPS, INNER, NOISE_OF_DRIFTS = 10, 8, 1.0
GRID = [10 ** (k / 4) for k in range(-4, 13)]
POOL, CHOSEN, GENERATIONS = 64, 4, 50


def garnets(batch: int, seed: int) -> TabularMDP:
    return garnet(20, 4, 3, batch=batch, seed=seed)


def grids(batch: int, seed: int) -> TabularMDP:
    """Four by four cells, random slips up to 0.4, and rewards up to 0.05 for every pair besides that of the goal."""
    generator = torch.Generator().manual_seed(seed)
    slips = 0.4 * torch.rand(batch, generator=generator, dtype=F64)
    worlds = [grid_world(4, 0.9, float(s)) for s in slips]
    extra = 0.05 * torch.rand(batch, 16, 4, generator=generator, dtype=F64)
    return TabularMDP(torch.stack([w.transitions for w in worlds]), worlds[0].rewards + extra, 0.9)


class Setting(NamedTuple):
    """Processes, standard deviation of errors, and whether it grows as ``(actions pi)^(-1/2)``, up to tenfold."""

    make: Callable[[int, int], TabularMDP]
    noise: float
    visits: bool = False

    def values(self, log_policy: Tensor, values: Tensor, draw: Tensor) -> Tensor:
        """Values of actions with errors, as from episodes of the policy itself if ``visits``."""
        seldom = (values.shape[-1] * log_policy.exp()).clamp_min(0.01).rsqrt() if self.visits else 1.0
        return values + self.noise * seldom * draw


SETTINGS = {
    "Garnet, noise 0.3": Setting(garnets, 0.3),
    "Garnet, noise 1": Setting(garnets, 1.0),
    "grid, noise 0.3": Setting(grids, 0.3),
}
VISITS = {"Garnet, errors by visits": Setting(garnets, 0.3, True), "grid, errors by visits": Setting(grids, 0.3, True)}


def pool_size(quick: bool) -> int:
    return CHOSEN if quick else POOL


def repeated(mdp: TabularMDP, population: int) -> TabularMDP:
    """The same processes for every member, ``(population, batch, ...)``."""
    P, r = (t.expand(population, *t.shape) for t in (mdp.transitions, mdp.rewards))
    return TabularMDP(P, r, mdp.discount)


def final_gaps(mdp: TabularMDP, step, setting: Setting, population: int, seed: int) -> Tensor:
    """Gaps after ``STEPS`` steps along values with noise, the same for all members, ``(population, batch)``."""
    generator = torch.Generator().manual_seed(seed)

    def noisy(log_policy: Tensor, values: Tensor, eta: float | Tensor) -> Tensor:
        draw = torch.randn(mdp.shape, generator=generator, dtype=F64)
        return step(log_policy, setting.values(log_policy, values, draw), eta)

    values = policy_mirror_descent(repeated(mdp, population), STEPS, step=noisy).values[-1]
    return (mdp.optimal_values - values).mean(-1)


def tuned(mdp: TabularMDP, setting: Setting, q: float) -> float:
    """The best step size of the grid."""
    grid = torch.tensor(GRID, dtype=F64)[:, None, None]
    gaps = final_gaps(mdp, lambda logs, g, _: proximal_step(logs, g, step_size=grid, q=q), setting, len(GRID), 1)
    return GRID[int(gaps.mean(-1).argmin())]


def learn(setting: Setting, eta: float, seed: int, quick: bool) -> tuple[Tensor, Tensor]:
    """Parameters of a mixture, from nearly the tuned KL step, and mean gaps by generation."""
    pool = setting.make(pool_size(quick), 1000)
    start = torch.tensor([0.0, 3.0, 0.0, *[math.log(eta)] * 3], dtype=F64)
    generator, draws = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(100 + seed)

    def fitness(members: Tensor) -> Tensor:
        some = torch.randperm(len(pool.rewards), generator=draws)[:CHOSEN]
        mdp = TabularMDP(pool.transitions[some], pool.rewards[some], pool.discount)
        step = MixedPotential.from_parameters(members, ORDERS).step
        return -final_gaps(mdp, step, setting, len(members), int(torch.randint(2**31, (), generator=draws))).mean(-1)

    run = evolution_strategy(
        fitness, start, population=16, scale=0.4, step_size=0.15, generations=1 if quick else GENERATIONS, decay=0.98,
        generator=generator,
    )  # fmt: skip
    return run.parameters, -run.mean


def potentials(
    quick: bool, seeds: int, settings: dict[str, Setting] = SETTINGS
) -> tuple[list[dict[str, object]], dict[str, Tensor]]:
    """All methods in all settings; learned maps of one setting also in the others."""
    learned, rows = {}, []
    settings = dict(list(settings.items())[: 1 if quick else None])
    for name, setting in settings.items():
        eta = tuned(setting.make(pool_size(quick), 1000), setting, 1.0)
        runs = [learn(setting, eta, seed, quick) for seed in range(seeds)]
        learned[name] = torch.stack([p for p, _ in runs])
    for name, setting in settings.items():
        training, held = setting.make(pool_size(quick), 1000), setting.make(4 if quick else 200, 2000)
        gaps = {}
        for title, q in (("KL", 1.0), ("Euclidean", 2.0), ("Tsallis 0.5", 0.5)):
            eta = tuned(training, setting, q)
            step = lambda logs, g, _, eta=eta, q=q: proximal_step(logs, g, step_size=eta, q=q)  # noqa: E731
            gaps[f"{title}, tuned step {eta:.3g}"] = final_gaps(held, step, setting, 1, 7)
        for source, parameters in learned.items():
            step = MixedPotential.from_parameters(parameters, ORDERS).step
            gaps[f"learned on {source}"] = final_gaps(held, step, setting, len(parameters), 7)
        base = next(iter(gaps.values()))
        rows += [row(name, method, values, base) for method, values in gaps.items()]
    return rows, learned


def row(setting: str, method: str, gaps: Tensor, base: Tensor) -> dict[str, object]:
    """Means over processes; where there are several searches, also the spread of their means."""
    difference = (gaps - base).mean(0)
    return {
        "setting": setting, "method": method, "gap": float(gaps.mean()),
        "difference": float(difference.mean()), "its error": float(difference.std() / len(difference) ** 0.5),
        "searches": len(gaps), "spread of searches": float(gaps.mean(-1).std()) if len(gaps) > 1 else "",
    }  # fmt: skip


def surrogate_gaps(mdp: TabularMDP, drift: Drift, population: int, rate: float | Tensor, seed: int) -> Tensor:
    """Gaps after ``STEPS`` policies, each of ``INNER`` gradient steps on logits along a surrogate."""
    many, generator = repeated(mdp, population), torch.Generator().manual_seed(seed)
    logits = torch.zeros(many.shape, dtype=F64)
    for _ in range(STEPS):
        old = logits.log_softmax(-1)
        values = many.action_values(many.state_values(old))
        noisy = values + NOISE_OF_DRIFTS * torch.randn(mdp.shape, generator=generator, dtype=F64)
        advantage = noisy - (old.exp() * noisy).sum(-1, keepdim=True)
        # Standardised under the old policy, states alike: drifts are made for that.
        advantage = advantage / (old.exp() * advantage.square()).sum(-1).mean(-1)[..., None, None].sqrt()
        for _ in range(INNER):
            free = logits.detach().requires_grad_()
            log_ratio = free.log_softmax(-1) - old
            gain = old.exp() * (log_ratio.exp() * advantage - drift(log_ratio, advantage))
            logits = (free + rate * torch.autograd.grad(gain.sum(), free)[0]).detach()
    return (mdp.optimal_values - many.state_values(logits.log_softmax(-1))).mean(-1)


RATES = [0.3, 1.0, 3.0, 10.0]


def tuned_drift(mdp: TabularMDP, drifts: dict[str, Drift]) -> tuple[str, Drift, float]:
    """The best of some drifts and learning rates on training processes."""
    rates = torch.tensor(RATES, dtype=F64)[:, None, None, None]
    found = {name: surrogate_gaps(mdp, drift, len(RATES), rates, 1).mean(-1) for name, drift in drifts.items()}
    name = min(found, key=lambda n: float(found[n].min()))
    return name, drifts[name], RATES[int(found[name].argmin())]


def drifts(quick: bool, seeds: int) -> tuple[list[dict[str, object]], dict[str, Drift]]:
    """Families with their tuned constants, and networks from the tuned clip."""
    pool, held = garnets(pool_size(quick), 1000), garnets(4 if quick else 200, 2000)
    families: dict[str, dict[str, Drift]] = {
        "clip": {f"clip {e:g}": ClipDrift(e) for e in (0.1, 0.2, 0.4, 0.8, 1.6)},
        "KL": {f"KL {t:g}": KLDrift(t) for t in (0.1, 0.3, 1.0, 3.0)},
        "discovered": {"discovered": DiscoveredDrift()},
        "none": {"none": lambda log_ratio, advantage: torch.zeros_like(log_ratio)},
    }
    gaps, kept = {}, {}
    for family in families.values():
        name, drift, rate = tuned_drift(pool, family)
        kept[name] = drift
        gaps[f"{name}, rate {rate:g}"] = surrogate_gaps(held, drift, 1, rate, 7)
        if name.startswith("clip"):
            clip, clip_rate = drift, rate
    networks = [learn_drift(pool, clip, clip_rate, seed, quick) for seed in range(seeds)]
    gaps[f"learned from the clip, rate {clip_rate:g}"] = torch.cat(
        [surrogate_gaps(held, n, 1, clip_rate, 7) for n in networks]
    )
    kept["learned"] = networks[0]
    base = next(iter(gaps.values()))
    return [row("Garnet, noise 1", method, values, base) for method, values in gaps.items()], kept


def learn_drift(pool: TabularMDP, clip: Drift, rate: float, seed: int, quick: bool) -> LearnedDrift:
    torch.manual_seed(seed)
    network = LearnedDrift(16, start=clip).double()
    draws = torch.Generator().manual_seed(100 + seed)

    def fitness(members: Tensor) -> Tensor:
        some = torch.randperm(len(pool.rewards), generator=draws)[:CHOSEN]
        mdp = TabularMDP(pool.transitions[some], pool.rewards[some], pool.discount)
        drift = network.population(members)
        return -surrogate_gaps(mdp, drift, len(members), rate, int(torch.randint(2**31, (), generator=draws))).mean(-1)

    run = evolution_strategy(
        fitness, network.vector(), population=16, scale=0.1, step_size=0.03, generations=1 if quick else GENERATIONS,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    return network.with_vector(run.parameters)


def draw(gaps: list[dict[str, object]], learned: dict[str, Tensor], found: dict[str, Drift], path: Path) -> None:
    """Differences to the tuned KL step, slopes of learned potentials, and the drifts."""
    made = figure(13, 4)
    left, middle, right = made.subplots(1, 3)
    for i, setting in enumerate(learned):
        points = [r for r in gaps if r["setting"] == setting]
        names = [str(r["method"]).split(", tuned")[0] for r in points]
        y = [j + 0.25 * (i - 1) for j in range(len(points))]
        left.errorbar(
            [r["gap"] / points[0]["gap"] for r in points], y, fmt="o", ms=4, color=COLORS[i], label=setting,
            xerr=[2 * r["its error"] / points[0]["gap"] for r in points],
        )  # fmt: skip
    left.set_yticks(range(len(names)), names, fontsize=7)
    left.axvline(1.0, color="k", lw=0.8)
    left.invert_yaxis()
    clean(left, "held-out processes", "gap / gap of the tuned KL step", "")
    logs = torch.linspace(-7, 0, 200, dtype=F64)
    for color, (name, parameters) in zip(COLORS, learned.items(), strict=False):
        for i, one in enumerate(parameters):
            slope = MixedPotential.from_parameters(one, ORDERS).dual(logs)
            middle.plot(logs.exp(), slope - slope[-1], color=color, lw=1, label=name if i == 0 else None)
    middle.set_xscale("log")
    clean(middle, "learned slopes of the potential", "probability", "slope less that at one")
    ratio = torch.linspace(0.1, 2.5, 300, dtype=F64)
    for color, (name, drift) in zip(COLORS, found.items(), strict=False):
        for sign, style in ((1.0, "-"), (-1.0, ":")):
            value = drift(ratio.log(), torch.full_like(ratio, sign)).detach()
            right.plot(ratio, value, color=color, ls=style, label=name if sign > 0 else None)
    clean(right, "drifts at advantage 1 (dotted: -1)", "ratio", "drift")
    for axis in (left, middle, right):
        axis.legend(fontsize=7, frameon=False)
    save(made, path)


def table(quick: bool, seeds: int, settings: dict[str, Setting], path: Path):
    """Run, print and write one table of potentials."""
    rows, learned = potentials(quick, seeds, settings)
    show(rows)
    names = ", ".join(f"{q:g}" for q in ORDERS)
    for name, parameters in learned.items():
        for one in parameters:
            mixed = MixedPotential.from_parameters(one, ORDERS)
            print(f"{name}: weights {mixed.weights.tolist()}, scales {mixed.scales.tolist()} of orders {names}")
    note = f"{STEPS} steps; mixtures of orders {names}; {GENERATIONS} generations of 16 members on {CHOSEN} of {POOL}"
    write_csv(path, [note], rows)
    return rows, learned


def main() -> None:
    args = options(__doc__, seeds=3, only="potentials,visits,drifts")
    seeds, names = 2 if args.quick else args.seeds, args.only.split(",")
    if "visits" in names:
        table(args.quick, seeds, VISITS, args.out / "learned_visits.csv")
    if "potentials" in names:
        rows, learned = table(args.quick, seeds, SETTINGS, args.out / "learned_potentials.csv")
    if "drifts" in names:
        other, found = drifts(args.quick, seeds)
        show(other)
        note = f"{STEPS} policies of {INNER} gradient steps each; 144 weights, {GENERATIONS} generations of 16 members"
        write_csv(args.out / "learned_drifts.csv", [note], other)
    if {"potentials", "drifts"} <= set(names):
        draw(rows, learned, found, args.out / "learned.png")


if __name__ == "__main__":
    main()
