"""Step sizes a hundred times too large: truncated models of losses and linear ones, on least squares.

    python examples/online/robustness.py [--quick] [--rounds 400] [--out DIR]

``(<a_t, x> - b_t)^2 / 2`` in five dimensions with noise of 0.1, step sizes ``scale / sqrt(t)``, twenty seeds. A
truncated model knows that losses are not negative. Writes ``robustness.csv`` and ``robustness.png``.

Models: Asi, Duchi, "Stochastic (Approximate) Proximal Point Methods: Convergence, Optimality, and Adaptivity", 2019;
Chen, Orabona, "Generalized Implicit Follow-The-Regularized-Leader", 2023.
"""

import math

import torch
from common import COLORS, F64, clean, figure, interval, normal, options, save, show, write_csv
from torch import Tensor

from mirrorgen.geometry.domains import Euclidean
from mirrorgen.geometry.mirror_maps import Quadratic
from mirrorgen.optim.online import FollowRegularizedLeader, ImplicitFTRL

SEEDS, DIM = 20, 5
SCALES = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 1000.0)
REFERENCE = {
    ("linear", 0.1): 0.133, ("linear", 1.0): 1.62, ("linear", 10.0): math.inf, ("linear", 100.0): math.inf,
    ("truncated", 0.1): 0.134, ("truncated", 1.0): 0.034, ("truncated", 10.0): 0.026, ("truncated", 100.0): 0.023,
}  # fmt: skip


def losses(rule: type[FollowRegularizedLeader], rounds: int) -> Tensor:
    """Average losses ``(scales, seeds)``."""
    features, truth = normal(rounds, SEEDS, DIM, seed=4), normal(SEEDS, DIM, seed=3)
    answers = (features * truth).sum(-1) + 0.1 * normal(rounds, SEEDS, seed=5)
    scales = torch.tensor(SCALES, dtype=F64).unsqueeze(-1).expand(-1, SEEDS)
    learner = rule(Quadratic(Euclidean(DIM)), step_size=lambda t: scales / math.sqrt(t))
    state, lost = learner.init(torch.zeros(len(SCALES), SEEDS, DIM, dtype=F64)), torch.zeros_like(scales)
    for a, b in zip(features, answers, strict=True):
        # Diverging runs are stopped from overflowing, and reported as infinite.
        residual = ((learner.predict(state) * a).sum(-1) - b).clamp(-1e50, 1e50)
        loss, gradient = 0.5 * residual.square(), residual.unsqueeze(-1) * a
        lost = lost + loss / rounds
        if isinstance(learner, ImplicitFTRL):
            state = learner.update(state, gradient, loss)
        else:
            state = learner.update(state, gradient)
    return torch.where(lost < 1e6, lost, math.inf)


def main() -> None:
    chosen = options(__doc__, rounds=400)
    rounds = 20 if chosen.quick else chosen.rounds
    rows = []
    for name, rule in (("linear", FollowRegularizedLeader), ("truncated", ImplicitFTRL)):
        for scale, found in zip(SCALES, losses(rule, rounds), strict=True):
            mean, half = interval(found) if bool(torch.isfinite(found).all()) else (math.inf, 0.0)
            rows.append(
                {"model": name, "step scale": scale, "average loss": mean, "+-": half,
                 "diverged": int((found == math.inf).sum()), "reference": REFERENCE.get((name, scale), "")}
            )  # fmt: skip
    show(rows)
    best = min(r["average loss"] for r in rows)
    worst = max(r["average loss"] for r in rows if r["model"] == "truncated" and 1 <= r["step scale"] <= 100)
    notes = [
        f"{SEEDS} seeds: mean and half width of its 95 % interval; diverged: runs whose average loss exceeds 1e6",
        "reference: another implementation, one seed",
        f"truncated, scales 1 to 100: at most {worst / best:.2f} times the best of the table",
    ]
    write_csv(chosen.out / "robustness.csv", notes, rows)
    made = figure(5.5, 3.8)
    panel = made.subplots()
    for k, name in enumerate(("linear", "truncated")):
        mine = [r for r in rows if r["model"] == name and r["average loss"] < math.inf]
        panel.errorbar([r["step scale"] for r in mine], [r["average loss"] for r in mine], [r["+-"] for r in mine],
                       fmt="o-", ms=4, capsize=2, color=COLORS[k], label=f"{name} models")  # fmt: skip
        gone = [r["step scale"] for r in rows if r["model"] == name and r["average loss"] == math.inf]
        for x in gone:
            place = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "top"}
            panel.annotate("diverges", (x, 0.97), rotation=90, fontsize=7, color=COLORS[k], **place)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(0.006, 1700)
    clean(panel, "Least squares, step size scale / sqrt(t)", "scale of step sizes", "average loss")
    panel.legend(fontsize=8, frameon=False)
    save(made, chosen.out / "robustness.png")


if __name__ == "__main__":
    main()
