"""Policy mirror descent with exact values: rates, averages over errors, constraints, crowds.

tabular_rates.csv        gaps to the optimal values by steps on Garnet processes, geometric means over seeds
tabular_bounds.csv       on 100 random processes: how often the stated bounds hold, and how tightly
tabular_entropy.csv      asymptotic factor per step with an entropy weight, beside its bound
tabular_errors.csv       value iteration with noise in every backup: gaps, and the bound on the average of errors
tabular_constrained.csv  last iterates of ascent-descent on a constrained process, against the linear program
tabular_crowd.csv        regularised exploitability of mirror ascent in mean-field games, by step size
tabular_linear.csv       regret of contracted features policy optimisation in linear processes of five steps
tabular.png              one panel per table but that of entropy

Some of them only: --only rates,errors (the figure then has their panels). Columns "earlier": measured with a NumPy
prototype of this project on processes of the same kind with other seeds; no published numbers.
"""

import math

import tabular_figure as figure
import torch
from common import options, show, write_csv
from torch import Tensor

from mirrorgen.geometry.divergences import tsallis_bregman
from mirrorgen.policy import tabular as tab

F64 = torch.float64
MARKS = [0, 5, 10, 20, 50, 100, 200]
# Gaps at the marks.
EARLIER = {
    "KL, step 1": [3.5, 0.89, 0.29, 8.1e-2, 1.6e-2, 4.8e-3, 1.3e-3],
    "KL, step 10": [3.5, 2.5e-2, 7.6e-3, 1.9e-3, 8.4e-5, 9.6e-7, 1e-10],
    "KL, geometric steps": [3.5, 0.55, 9.2e-2, 8.2e-3, 9.9e-11, 0.0, 0.0],
    "KL, adaptive steps": [3.5, 0.64, 0.20, 2.5e-2, 4.5e-5, 1.2e-9, 0.0],
    "Euclidean, step 1": [3.5, 0.13, 4e-2, 1e-2, 1.6e-3, 4e-9, 0.0],
    "softmax ascent": [3.5, 3.2, 2.8, 2.1, 0.87, 0.28, 8e-2],
}


def all_gaps(mdp: tab.TabularMDP, steps: int) -> dict[str, Tensor]:
    """Gaps of all methods ``(steps + 1, batch)``."""
    runs = {
        "KL, step 1": tab.policy_mirror_descent(mdp, steps, 1.0),
        "KL, step 10": tab.policy_mirror_descent(mdp, steps, 10.0),
        "KL, geometric steps": tab.policy_mirror_descent(mdp, steps, tab.geometric_steps(mdp)),
        "KL, adaptive steps": tab.policy_mirror_descent(mdp, steps, tab.adaptive_steps(mdp)),
        "Euclidean, step 1": tab.policy_mirror_descent(mdp, steps, 1.0, q=2.0),
        "softmax ascent": tab.softmax_mirror_ascent(mdp, steps, 1 - mdp.discount),
    }
    return {name: run.gaps(mdp.optimal_values) for name, run in runs.items()}


def sublinear_bound(mdp: tab.TabularMDP, steps: int, eta: float, q: float) -> Tensor:
    """``(D(pi*, pi_0) / eta + 1 / (1 - g)) / ((1 - g) (k + 1))`` from the uniform policy."""
    start = mdp.uniform_policy()[..., :1, :]
    greedy = torch.zeros_like(start)
    greedy[..., 0] = 1
    distance = tsallis_bregman(greedy.log(), start, q).squeeze(-1)
    k = torch.arange(steps + 1, dtype=F64).unsqueeze(-1)
    return (distance / eta + 1 / (1 - mdp.discount)) / ((1 - mdp.discount) * (k + 1))


def linear_bound(mdp: tab.TabularMDP, gaps: Tensor) -> Tensor:
    """``g^k (first gap + 1 / (1 - g))``."""
    k = torch.arange(len(gaps), dtype=F64).unsqueeze(-1)
    return mdp.discount**k * (gaps[0] + 1 / (1 - mdp.discount))


def rates(quick: bool, seeds: int) -> tuple[list[dict[str, object]], dict[str, Tensor]]:
    """Gaps of the Garnet processes with 50 states, 4 actions, 3 successors."""
    marks = MARKS[:4] if quick else MARKS
    mdp = tab.garnet(batch=seeds)
    gaps = all_gaps(mdp, marks[-1])
    first = next(iter(gaps.values()))[0]
    gaps["discount^k"] = mdp.discount ** torch.arange(marks[-1] + 1, dtype=F64).unsqueeze(-1) * first
    rows = []
    for name, values in gaps.items():
        for i, k in enumerate(marks):
            mean = float(values[k].clamp_min(1e-16).log().mean().exp())
            row = {"method": name, "steps": k, "gap": mean, "largest": float(values[k].max())}
            rows.append({**row, "earlier": EARLIER[name][i] if name in EARLIER else ""})
    return rows, gaps


def bounds(quick: bool, seeds: int) -> tuple[list[dict[str, object]], dict[str, Tensor]]:
    """Four kinds of processes, 25 each: share of them on which a bound holds at every step up to 200."""
    kinds = ((50, 4, 3, 0.9), (20, 2, 2, 0.95), (10, 8, 10, 0.9), (30, 4, 1, 0.99))
    steps, batch = (20, 3) if quick else (200, 25)
    ratios: dict[str, list[Tensor]] = {}
    for i, (states, actions, branching, discount) in enumerate(kinds):
        mdp = tab.garnet(states, actions, branching, discount, batch=batch, seed=100 + i)
        for name, gaps in all_gaps(mdp, steps).items():
            own = {
                "KL, step 1": (1.0, 1.0), "KL, step 10": (10.0, 1.0), "Euclidean, step 1": (1.0, 2.0),
            }.get(name)  # fmt: skip
            linear = linear_bound(mdp, gaps)
            if own:
                ratios.setdefault(f"{name}: its O(1/k)", []).append(gaps / sublinear_bound(mdp, steps, *own))
            ratios.setdefault(f"{name}: discount^k (gap_0 + 1 / (1 - discount))", []).append(gaps / linear)
            plain = gaps[0] * mdp.discount ** torch.arange(steps + 1, dtype=F64).unsqueeze(-1)
            ratios.setdefault(f"{name}: discount^k gap_0", []).append(gaps / plain)
    rows, found = [], {}
    for name, parts in ratios.items():
        # From the first step on: before it some of the bounds hold with equality.
        worst = torch.cat(parts, 1)[1:].amax(0)
        found[name] = worst.sort().values
        method, bound = name.split(": ", 1)
        rows.append(
            {
                "method": method, "bound": bound, "processes": len(worst), "held": int((worst <= 1 + 1e-9).sum()),
                "median of the largest ratio": float(worst.median()), "largest ratio": float(worst.max()),
            }
        )  # fmt: skip
    return rows, found


def entropy(quick: bool, seeds: int) -> tuple[list[dict[str, object]], None]:
    """Factor per step of ``|q*_tau - q_k|`` in the tail, and the bound ``a + (1 - a) g``, ``a = 1 / (1 + eta tau)``."""
    earlier = {(0.1, 1.0): 0.826, (0.1, 10.0): 0.250, (0.1, math.inf): 0.003}
    earlier |= {(0.01, 1.0): 0.969, (0.01, 10.0): 0.826, (0.01, math.inf): 0.002}
    mdp, rows = tab.garnet(batch=seeds), []
    for (tau, eta), old in earlier.items():
        best = tab.policy_mirror_descent(mdp, 40, torch.inf, entropy_weight=tau).values[-1]
        steps = 20 if quick else 600
        run = tab.policy_mirror_descent(mdp, steps, eta, entropy_weight=tau)
        errors = mdp.discount * run.gaps(best)
        # The last ten factors before rounding matters.
        factors = []
        for gap in errors.T:
            last = int((gap > 1e-11).sum()) - 1
            begin = max(last - 10, 0)
            factors.append(float((gap[last] / gap[begin]) ** (1 / max(last - begin, 1))))
        share = 1 / (1 + eta * tau)
        row = {"entropy weight": tau, "step": eta, "factor": sum(factors) / seeds, "largest": max(factors)}
        row |= {"bound": share + (1 - share) * mdp.discount, "earlier": old}
        rows.append(row | {"error at 10": float(errors[10].max())})
    return rows, None


def errors(quick: bool, seeds: int) -> tuple[list[dict[str, object]], dict[str, Tensor]]:
    """Gaps ``|v* - v_(pi_k)|`` under normal noise in every backup, and whether their bound holds at every ``k``."""
    methods = {"no regularisation": (0.0, 0.0), "entropy 0.1 only": (0.0, 0.1)}
    methods |= {f"KL {w:g}": (w, 0.0) for w in (0.1, 1.0, 10.0)}
    earlier = {(0.1, "no regularisation"): 0.516, (0.1, "entropy 0.1 only"): 0.533, (1.0, "no regularisation"): 3.29}
    earlier |= {(0.1, "KL 0.1"): 0.0025, (0.1, "KL 1"): 0.0034, (0.1, "KL 10"): 0.021}
    earlier |= {(1.0, "KL 0.1"): 0.095, (1.0, "KL 1"): 0.129, (1.0, "KL 10"): 0.097}
    mdp, steps = tab.garnet(batch=seeds), 30 if quick else 500
    rows, curves = [], {}
    for noise in (0.1, 1.0):
        for name, (weight, tau) in methods.items():
            gaps, means = noisy_run(mdp, steps, weight, tau, noise)
            k = torch.arange(1, steps + 1, dtype=F64).unsqueeze(-1)
            horizon = 1 / (1 - mdp.discount)
            bound = 2 * horizon * means + 4 * horizon * (1 + weight * math.log(4)) * horizon / k
            row = {"noise": noise, "method": name, "gap": float(gaps[-1].mean()), "spread": float(gaps[-1].std())}
            row |= {"earlier": earlier.get((noise, name), ""), "gap at 100": float(gaps[min(99, steps - 1)].mean())}
            # Action values differ by discount times the values of states.
            ratio = mdp.discount * gaps / bound
            held = f"{int((ratio <= 1).sum())} of {ratio.numel()}" if weight else ""
            rows.append(row | {"bound held": held, "largest ratio": float(ratio.max()) if weight else ""})
            curves[f"{name}, noise {noise:g}"] = gaps.mean(1)
    return rows, curves


def noisy_run(mdp: tab.TabularMDP, steps: int, weight: float, tau: float, noise: float) -> tuple[Tensor, Tensor]:
    """Gaps of the policies and largest entries of averaged errors, both ``(steps, batch)``."""
    generator, total = torch.Generator().manual_seed(0), torch.zeros_like(mdp.rewards)
    gaps, means = [], []

    def draw(_: int) -> Tensor:
        drawn = noise * torch.randn(mdp.shape, generator=generator, dtype=F64)
        total.add_(drawn)
        return drawn

    def look(log_policy: Tensor, _: Tensor) -> None:
        gaps.append((mdp.optimal_values - mdp.state_values(log_policy)).abs().amax(-1))
        means.append((total / len(gaps)).abs().amax((-1, -2)))

    tab.mirror_value_iteration(mdp, steps, weight, tau, draw, look)
    return torch.stack(gaps), torch.stack(means)


def constrained(quick: bool, seeds: int) -> tuple[list[dict[str, object]], dict[str, Tensor]]:
    """Largest residuals over the last tenth of 5000 steps, 20 states and 4 actions; step of multipliers half of it."""
    earlier = {(0.5, False): "1.1e-2 / 1.9e-2", (0.5, True): "2.0e-5 / 2.0e-5"}
    earlier |= {(0.1, False): "7.9e-3 / 1.8e-2", (0.1, True): "1.7e-3 / 3.4e-3"}
    steps, rows, curves = 60 if quick else 5000, [], {}
    for (step, optimistic), old in earlier.items():
        residuals = []
        for seed in range(seeds):
            problem = tab.constrained_garnet(seed=seed)
            best, _ = problem.optimum()
            run = tab.lagrangian_ascent_descent(
                problem, steps, policy_step=step, multiplier_step=step / 2, optimistic=optimistic
            )
            residuals.append(torch.stack([(best - run.rewards).abs(), run.excess.clamp_min(0.0).amax(-1)]))
        every = torch.stack(residuals)
        tail = every[..., -steps // 10 :].amax(-1)
        name = f"{'optimistic' if optimistic else 'plain'}, step {step:g}"
        row = {"method": name, "seeds": seeds}
        for i, kind in enumerate(("reward gap", "violation")):
            row |= {kind: float(tail[:, i].median()), f"largest {kind}": float(tail[:, i].max())}
        rows.append(row | {"earlier (gap / violation)": old})
        # The curve is the largest residual of windows of fifty steps, in the middle of the seeds.
        curves[name] = every.amax(1).unflatten(-1, (-1, min(50, steps // 4))).amax(-1).median(0).values
    return rows, curves


def crowd(quick: bool, seeds: int) -> tuple[list[dict[str, object]], dict[str, Tensor]]:
    """Ten states, three actions, discount 0.8, entropy weight 0.5; cost: of a state with all players, over states."""
    earlier = {(0.5, 2.0, 0.5): "2.5e-11", (0.5, 2.0, 5.0): "5e-17", (2.0, 2.0, 0.5): "2.4e-11", (2.0, 2.0, 5.0): "6.8"}
    rows, curves, steps = [], {}, 2 if quick else 50
    for cost in (0.5, 2.0):
        for q in (1.0, 2.0):
            for step in (0.5, 5.0, 50.0):
                runs = []
                for seed in range(1 if quick else seeds):
                    game = crowd_game(10 * cost, seed)
                    runs.append(tab.mean_field_mirror_ascent(game, steps, step, entropy_weight=0.5, q=q)[1])
                gaps = torch.stack(runs)
                row = {"cost": cost, "q": q, "step": step, "first": float(gaps[:, 0].median())}
                row |= {"last": float(gaps[:, -1].median()), "largest last": float(gaps[:, -1].max())}
                row["converged"] = f"{int((gaps[:, -1] < 1e-6).sum())} of {len(gaps)}"
                rows.append(row | {"earlier": earlier.get((cost, q, step), "")})
                if cost == 2.0:
                    curves[f"q = {q:g}, step {step:g}"] = gaps.median(0).values.clamp_min(1e-16)
    return rows, curves


def crowd_game(crowding: float, seed: int) -> tab.CrowdGame:
    generator = torch.Generator().manual_seed(seed)
    transitions = torch.rand(10, 3, 10, generator=generator, dtype=F64).pow(4)
    rewards = torch.rand(10, 3, generator=generator, dtype=F64)
    return tab.CrowdGame(transitions / transitions.sum(-1, keepdim=True), rewards, crowding=crowding)


def linear(quick: bool, seeds: int) -> tuple[list[dict[str, object]], dict[str, Tensor]]:
    """Regret against the exact optimum; step 1, bonus scale 0.3 and contraction log K unless the row says otherwise."""
    episodes = 40 if quick else 2000
    kinds = {
        "one-hot, dim 6": tab.one_hot_mdp(batch=seeds),
        "simplex features, dim 6": tab.random_linear_mdp(batch=seeds),
        "lock, dim 18": lock(batch=seeds),
    }
    theory = math.sqrt(2 * math.log(4) / episodes) / 5
    settings: dict[str, dict[str, float]] = {
        "step 1, bonus 0.3": {}, "bonus 0": {"bonus_scale": 0.0}, "bonus 1": {"bonus_scale": 1.0},
        "bonus 3": {"bonus_scale": 3.0}, "step 10": {"step_size": 10.0}, "no contraction": {"contraction": 0.0},
        "contraction 30": {"contraction": 30.0}, "the theory's step": {"step_size": theory},
    }  # fmt: skip
    rows, curves = [], {}
    for kind, mdp in kinds.items():
        best = mdp.value_of()
        uniform = (best - mdp.value_of(mdp.uniform_policy())).mean()
        for name, changes in settings.items():
            generator = torch.Generator().manual_seed(0)
            run = tab.contracted_feature_policy_optimization(
                mdp, episodes, **{"bonus_scale": 0.3, **changes}, generator=generator
            )
            regret = run.regret(best).mean(-1)
            half, end = float(regret[episodes // 2 - 1]), float(regret[-1])
            row = {"process": kind, "setting": name, "regret at K / 2": half, "regret at K": end}
            row |= {"spread": float(run.regret(best)[-1].std()), "uniform policy": episodes * float(uniform)}
            rows.append(row | {"exponent": math.log2(end / half), "epochs": float(run.epochs.double().mean())})
            if kind.startswith("simplex"):
                curves[name] = regret
        if kind.startswith("simplex"):
            curves["uniform policy"] = uniform * torch.arange(1, episodes + 1)
    return rows, curves


def lock(horizon: int = 5, actions: int = 3, batch: int = 1) -> tab.LinearMDP:
    """A reward of one after ``horizon`` right actions in a row; a wrong one pays 0.1 and ends everything."""
    states = horizon + 1
    pairs = torch.arange(states * actions)
    state, right = pairs // actions, pairs % actions == 0
    following = torch.where(right & (state < horizon - 1), state + 1, horizon)
    pays = torch.where(right, (state == horizon - 1).double(), 0.1) * (state < horizon)
    features = torch.eye(len(pairs), dtype=F64).reshape(states, actions, -1)
    measures = torch.nn.functional.one_hot(following, states).double()
    return tab.LinearMDP(
        features.expand(batch, -1, -1, -1), pays.expand(batch, horizon, -1), measures.expand(batch, horizon, -1, -1)
    )


TABLES = {
    "rates": (
        rates,
        figure.draw_rates,
        "50 states, 4 actions, 3 successors, discount 0.9, uniform start; geometric means with 1e-16 for zero",
    ),
    "bounds": (
        bounds,
        figure.draw_bounds,
        "25 processes of four kinds; held: at every step from 1 to 200; gap_0: the first gap",
    ),
    "entropy": (entropy, None, "factor: last ten steps above 1e-11, mean and largest of the seeds"),
    "errors": (
        errors,
        figure.draw_errors,
        "500 backups; spread: over seeds; bound: on the average of errors, at every backup",
    ),
    "constrained": (
        constrained,
        figure.draw_constrained,
        "residuals: median and largest of seeds, over the last 500 of 5000",
    ),
    "crowd": (
        crowd,
        figure.draw_crowd,
        "after 50 steps, median and largest of seeds; earlier: an instance whose seed and scale of costs are not known",
    ),
    "linear": (
        linear,
        figure.draw_linear,
        "K = 2000 episodes of 5 steps, means over seeds; exponent: log2 of the last two",
    ),
}


def main() -> None:
    args = options(__doc__, only="", seeds=5)
    names = args.only.split(",") if args.only else list(TABLES)
    drawn = {}
    for name in names:
        make, draw, note = TABLES[name]
        rows, curves = make(args.quick, 2 if args.quick else args.seeds)
        print(f"\n{name}")
        show(rows)
        write_csv(args.out / f"tabular_{name}.csv", [note], rows)
        if draw is not None:
            drawn[name] = (draw, curves)
    figure.draw_all(drawn, args.out / "tabular.png")


if __name__ == "__main__":
    main()
