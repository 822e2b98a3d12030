"""How kappa and the prior's degrees of freedom act: quality, tails, size of the velocity, cost of the inverse.

    python examples/mirror_flow_matching/sweep.py [--quick] [--seeds 1] [--resume] [--out DIR]

The ten-dimensional polytope under the harness of the publication with 5,000 iterations, on the raw dual: kappa from 0
(entropic) over .05 to .9, priors with 3, 10 and infinitely many degrees of freedom.

sweep.csv        means and deviations over seeds: distances to held-out points; the largest norm and the 99% quantile of
                 Lipschitz quotients |v(a, t) - v(b, t)| / |a - b| of neighbours on sampling paths; iterations and
                 seconds of the inverse for 10,000 generated points, against those of 99 network evaluations
sweep_seeds.csv  one row per model
sweep_tails.csv  of the dual data by kappa: Hill's index, theory's beta / kappa with the measured beta, largest norm;
                 the share of noise that float32 cannot tell from the boundary and the kappa that would do
sweep.png        divergence by kappa; norms of the dual data; velocity norms along the path

Theory: a law with P(slack < s) ~ s^beta has dual tails of index beta / kappa. Source: Guan, Balasubramanian, Ma,
"Mirror Flow Matching with Heavy-Tailed Priors for Generative Modeling on Convex Domains", 2025.
"""

import time
from pathlib import Path

import torch
from common import (
    COLORS,
    PAPER,
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
from mirrorgen.flows import Gaussian, MirrorFlow, StudentT, tail_report
from mirrorgen.geometry.mirror_maps import LogBarrier, RegularizedBarrier
from mirrorgen.nets import MLP

KAPPAS = (0.0, 0.05, 0.1, 0.3, 0.5, 0.9)
TAIL_KAPPAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
PRIORS = {"t(3)": lambda: StudentT(3.0), "t(10)": StudentT, "normal": Gaussian}
NAMES = ("mmd", "knn_kl", "sliced_w2")
COSTS = ("speed", "lipschitz", "inverse_seconds", "network_seconds")


@torch.no_grad()
def paths(flow: MirrorFlow, n: int, steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    """Ends of Euler's paths, velocity norms ``(steps, n)``, Lipschitz quotients, seconds of the evaluations."""
    generator = torch.Generator().manual_seed(7)
    u = flow.prior.sample(n, flow.dim, generator=generator)
    begin, spent, speeds, quotients = time.process_time(), 0.0, [], []
    for k in range(steps):
        t = torch.full((n,), k / steps)
        begin = time.process_time()
        v = flow.velocity(u, t)
        spent += time.process_time() - begin
        near = u + 1e-2 * torch.nn.functional.normalize(torch.randn(u.shape, generator=generator), dim=-1)
        quotients.append((flow.velocity(near, t) - v).norm(dim=-1) / 1e-2)
        speeds.append(v.norm(dim=-1))
        u = u + v / steps
    return u, torch.stack(speeds), torch.stack(quotients), spent


def one(kappa: float, prior: str, seed: int, quick: bool) -> dict:
    """Train and measure a flow."""
    points = data.Synthetic(data.polytope10())
    num, recipe = (200, replace(PAPER, iterations=3)) if quick else (10_000, replace(PAPER, iterations=5000))
    torch.manual_seed(seed)
    flow = MirrorFlow(RegularizedBarrier(points.domain, kappa), MLP(10), PRIORS[prior](), dual_transform=None)
    seconds = train(flow, points.points("train"), recipe, seed)
    u, speeds, quotients, spent = paths(flow, num, 4 if quick else 99)
    begin = time.process_time()
    x = flow.decode(u)
    inverse = time.process_time() - begin
    row = {"kappa": kappa, "prior": prior, "seed": seed} | distances(x, points.points("test")[:num])
    row |= {"speed": float(speeds.max()), "lipschitz": float(quotients.flatten()[::7].quantile(0.99))}
    row |= {"inverse_seconds": inverse, "network_seconds": spent}
    row |= {"speeds": " ".join(f"{v:.3g}" for v in speeds.quantile(0.9, dim=1))}
    return row | {"inside": float(points.domain.contains(x).double().mean()), "training": seconds}


def tails() -> tuple[list[dict], dict[str, torch.Tensor]]:
    """Of the dual data; no training."""
    points = data.Synthetic(data.polytope10())
    x, rows, norms = points.points("train"), [], {}
    for kappa in TAIL_KAPPAS:
        barrier = LogBarrier(points.domain) if kappa == 1.0 else RegularizedBarrier(points.domain, kappa)
        report = tail_report(MirrorFlow(barrier, MLP(10), Gaussian(), dual_transform=None), x, share=0.01)
        norms["log barrier" if kappa == 1.0 else f"kappa {kappa:g}"] = report.norms
        theory = report.boundary_exponent / kappa if kappa else float("inf")
        rows.append({
            "map": "log barrier" if kappa == 1.0 else "regularised", "kappa": kappa, "tail_index": report.tail_index,
            "beta": report.boundary_exponent, "theory": theory, "largest_norm": float(report.norms.max()),
            "pinned": report.pinned, "usable_kappa": "" if report.kappa is None else report.kappa,
        })  # fmt: skip
    return rows, norms


def draw(found: list[dict], rows: list[dict], norms: dict[str, torch.Tensor], path: Path) -> None:
    """Three panels."""
    made = figure(13, 3.7)
    quality, histogram, speed = made.subplots(1, 3)
    for color, prior in zip(COLORS, PRIORS, strict=False):
        mine = [r for r in found if r["prior"] == prior]
        spread = [r["knn_kl_sd"] or 0.0 for r in mine]
        quality.errorbar([r["kappa"] for r in mine], [r["knn_kl"] for r in mine], yerr=spread, color=color, label=prior)
    quality.set_yscale("log")
    clean(quality, "divergence to held-out points", "kappa", "k-NN KL")
    for color, name in zip(COLORS, ("kappa 0", "kappa 0.3", "kappa 0.9", "log barrier"), strict=False):
        ordered = norms[name].sort(descending=True).values
        histogram.plot(ordered, (torch.arange(len(ordered)) + 1) / len(ordered), color=color, label=name)
    histogram.set_xscale("log")
    histogram.set_yscale("log")
    clean(histogram, "dual data: share with a larger norm", "norm", "")
    for color, kappa in zip(COLORS, (0.0, 0.1, 0.3, 0.9), strict=False):
        row = next(r for r in rows if r["kappa"] == kappa and r["prior"] == "t(10)")
        values = [float(v) for v in str(row["speeds"]).split()]
        speed.plot([k / len(values) for k in range(len(values))], values, color=color, label=f"kappa {kappa:g}")
    speed.set_yscale("log")
    clean(speed, "90% quantile of velocity norms, t(10)", "time", "")
    for axis in (quality, histogram, speed):
        axis.legend(fontsize=7, frameon=False)
    save(made, path)


def main() -> None:
    """Tails, then all combinations seed by seed."""
    chosen = options(__doc__, seeds=1, resume=False)
    known, norms = tails()
    show(known)
    write_csv(chosen.out / "sweep_tails.csv", ["tail: the largest hundredth of 10,000 points"], known)
    rows = kept_rows(chosen.out / "sweep_seeds.csv", chosen.resume)
    done = {(r["kappa"], r["prior"], r["seed"]) for r in rows}
    for seed in range(1 if chosen.quick else chosen.seeds):
        for kappa in KAPPAS:
            for prior in PRIORS:
                if (kappa, prior, seed) not in done:
                    rows.append(one(kappa, prior, seed, chosen.quick))
                    print({k: v for k, v in rows[-1].items() if k != "speeds"}, flush=True)
                    write_csv(chosen.out / "sweep_seeds.csv", ["speeds: 90% quantiles of norms along the path"], rows)
    found = mean_and_spread(rows, ("kappa", "prior"), (*NAMES, *COSTS, "inside"))
    show(found)
    write_csv(chosen.out / "sweep.csv", ["against 10,000 held-out points"], found)
    draw(found, rows, norms, chosen.out / "sweep.png")


if __name__ == "__main__":
    main()
