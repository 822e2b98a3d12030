"""Learning without step sizes: regret against comparators of all lengths, and optimisers beside tuned ones.

    python examples/online/parameter_free.py [--quick] [--rounds 100000] [--out DIR]

``ParameterFree`` in float32 and float64 against opponents that flip coins, push one way, turn or drift, for comparators
at 0, 1 and 100: all of a run's rounds are one batch, because the state is a sum of gradients. The optimisers take on a
logistic regression in units in which its minimum is near, at or far from distance one; gradient descent is shown for
every step size of a grid, all after as many steps, at averages. Writes ``parameter_free.csv``,
``parameter_free_descent.csv`` and ``parameter_free.png``.

Methods: Jacobsen, Cutkosky, "Parameter-free Mirror Descent", 2022; Orabona, Tommasi, "Training Deep Networks without
Learning Rates Through Coin Betting", 2017.
"""

import torch
from common import COLORS, F64, clean, figure, generator, normal, options, save, show, write_csv
from torch import Tensor, nn

from mirrorgen.geometry.domains import Euclidean
from mirrorgen.geometry.mirror_maps import Quadratic
from mirrorgen.optim import MirrorDescent, ParameterFreeDescent
from mirrorgen.optim.online import ParameterFree

OPPONENTS = ("coins", "one way", "turning", "drift")
DISTANCES, RATES = (0.1, 1.0, 10.0), [10.0**k for k in range(-4, 5)]


def regrets(rounds: int, dtype: torch.dtype) -> list[dict[str, object]]:
    """Regret and bound of every opponent and length of the comparator."""
    draws = torch.rand(rounds, generator=generator(0), dtype=F64)
    half = torch.where(torch.arange(rounds) < rounds // 2, 0.01, -0.01).double()
    drift = (draws < 0.52).double() * 2 - 1
    g = torch.stack([2 * draws.round() - 1, torch.ones(rounds, dtype=F64), half, drift], -1).to(dtype).unsqueeze(-1)
    totals, squares = g.cumsum(0), g.square().sum(-1).cumsum(0)
    learner = ParameterFree()
    before = learner.init(torch.zeros_like(g))
    V = 4 + torch.cat([torch.zeros_like(squares[:1]), squares[:-1]])
    w = learner.predict(before._replace(y=torch.cat([before.y[:1], -totals[:-1]]), squares=V)).double()
    paid, total, spent = (g.double() * w).sum((0, -1)), g.double().sum(0), 4 + squares[-1].double()
    rows = []
    for length in (0.0, 1.0, 100.0):
        level = torch.log1p(length / learner.unit(spent))
        bound = 4 + 6 * length * torch.maximum((spent * level).sqrt(), level)
        for k, name in enumerate(OPPONENTS):
            regret = float(paid[k] + length * total[k].norm())
            rows.append(
                {"dtype": str(dtype)[6:], "opponent": name, "|u|": length, "rounds": rounds, "regret": regret,
                 "bound": float(bound[k]), "largest |w|": float(w[:, k].abs().max()), "kept": regret <= float(bound[k])}
            )  # fmt: skip
    return rows


def problem(distance: float) -> tuple[Tensor, Tensor]:
    """Features and signs of a logistic regression; features are scaled by the inverse of ``distance``."""
    features = normal(400, 5) / distance
    chances = torch.sigmoid(features @ (distance * torch.tensor([1.0, -1.0, 0.5, 0.0, 2.0], dtype=F64)))
    return features, 2 * (torch.rand(400, generator=generator(1), dtype=F64) < chances).double() - 1


def descend(optimizer, p: nn.Parameter, features: Tensor, signs: Tensor, steps: int) -> float:
    """The loss at the average after steps on batches of eight."""
    draws = torch.randint(0, len(features), (steps, 8), generator=generator(2))
    for batch in draws:
        optimizer.zero_grad()
        nn.functional.softplus(-signs[batch] * (features[batch] @ p)).mean().backward()
        optimizer.step()
    with torch.no_grad():
        return float(nn.functional.softplus(-signs * (features @ optimizer.averages()[0])).mean())


def descents(steps: int) -> list[dict[str, object]]:
    """Excess losses of all optimisers on all problems."""
    rows, euclid = [], Quadratic(Euclidean(5))
    for distance in DISTANCES:
        features, signs = problem(distance)
        w = torch.zeros(5, dtype=F64)
        for _ in range(30):
            chance = torch.sigmoid(-signs * (features @ w))
            hessian = (features.T * (chance * (1 - chance))) @ features
            w = w + torch.linalg.solve(hessian, features.T @ (signs * chance))
        best = float(nn.functional.softplus(-signs * (features @ w)).mean())
        bound = float(features.norm(dim=-1).max())
        made = {
            "coin": lambda p: ParameterFreeDescent([p], euclid, average="uniform"),
            "radial": lambda p, b=bound: ParameterFreeDescent(
                [p], euclid, rule="radial", gradient_bound=b, average="uniform"
            ),
        } | {f"descent, {r:g}": lambda p, r=r: MirrorDescent([p], r, euclid, average="uniform") for r in RATES}
        for name, make in made.items():
            p = nn.Parameter(torch.zeros(5, dtype=F64))
            excess = descend(make(p), p, features, signs, steps) - best
            rows.append({"distance": distance, "optimizer": name, "steps": steps, "excess loss": excess})
    return rows


def main() -> None:
    chosen = options(__doc__, rounds=100_000)
    rounds, steps = (1000, 20) if chosen.quick else (chosen.rounds, 2000)
    rows = [r for dtype in (torch.float32, F64) for r in regrets(rounds, dtype)]
    show(rows)
    notes = [
        "one run of each opponent; |g| <= 1; reference, another implementation and other opponents, regret and bound at"
        " |u| = 0, 1, 100: 0 and 4, 21.3 and 518, 2128 and 65663",
    ]
    write_csv(chosen.out / "parameter_free.csv", notes, rows)
    raced = descents(steps)
    show(raced)
    write_csv(chosen.out / "parameter_free_descent.csv", ["excess over the minimum by Newton's method"], raced)
    draw(rows, raced, chosen.out / "parameter_free.png")


def draw(rows: list[dict[str, object]], raced: list[dict[str, object]], path) -> None:
    """Regret over bound, and losses against step sizes."""
    made = figure(10, 3.9)
    first, second = made.subplots(1, 2)
    for k, length in enumerate((0.0, 1.0, 100.0)):
        mine = [r for r in rows if r["|u|"] == length and r["dtype"] == "float32"]
        shares = [max(r["regret"] / r["bound"], -0.2) for r in mine]
        first.bar([i + 0.27 * (k - 1) for i in range(4)], shares, 0.25, color=COLORS[k], label=f"|u| = {length:g}")
    first.axhline(1, color="0.4", ls="--")
    first.set_xticks(range(4), OPPONENTS)
    clean(first, "Regret over its bound (cut at -0.2), float32", "opponent", "share of the bound")
    first.legend(fontsize=7, frameon=False)
    for k, distance in enumerate(DISTANCES):
        mine = {r["optimizer"]: r["excess loss"] for r in raced if r["distance"] == distance}
        second.loglog(RATES, [mine[f"descent, {r:g}"] for r in RATES], "o-", ms=3, color=COLORS[k],
                      label=f"minimum at {distance:g}")  # fmt: skip
        for rule, style in (("coin", "--"), ("radial", ":")):
            second.axhline(mine[rule], color=COLORS[k], ls=style, lw=1.2)
    clean(second, "Gradient descent; coin (dashed) and radial (dotted)", "step size", "excess loss of the average")
    second.set_ylim(top=30)
    second.legend(fontsize=7, frameon=False)
    save(made, path)


if __name__ == "__main__":
    main()
