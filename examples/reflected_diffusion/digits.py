"""Handwritten digits: guidance weight against distance, saturation and agreement, and bits per dimension.

    python examples/reflected_diffusion/digits.py [--quick] [--seeds 3] [--num 5000] [--out DIR]

Trains ``configs/diffusion/digits.yaml`` through the command line, a run per seed, and the same network as a diffusion
in free space (``ClampedDiffusion``). Per guidance weight and way of keeping samples inside (reflected model:
reflection, projection of every state, the probability flow; free model: clamping at the end, static and dynamic
thresholding of predictions): Frechet distance of
pixels to all 1,797 digits (classes in equal parts), share of pixels below 0.01 and above 0.99 beside the data's,
agreement of a support-vector classifier with the class asked for. The variational bound on held-out and on training
digits stands beside the entropy of independent pixels. Earlier numbers are those of another program with other
networks. Writes ``digits.csv``, ``digits_bits.csv`` and ``digits.png``.
"""

from itertools import product
from pathlib import Path

import torch
from common import COLORS, clean, figure, options, save, show, write_csv
from pixels import bits, independent_pixels
from torch import Tensor

import mirrorgen as mg
from mirrorgen.cli import main as mirrorgen_main
from mirrorgen.data import Digits
from mirrorgen.diffusion import Ancestral, EulerMaruyama, Thresholding

CONFIGS, RUNS = Path(__file__).parents[2] / "configs", Path("runs/reflected_diffusion")
UNIT = mg.domains.Box(0.0, 1.0, dim=64)
STEPS = {
    "ReflectedDiffusion": {
        "reflected": (EulerMaruyama(), 100), "projected": (EulerMaruyama("project"), 100), "flow": ("ode", 20),
    },
    "ClampedDiffusion": {
        "free, clamped": (Ancestral(), 100), "free, static": (Thresholding(UNIT), 100),
        "free, dynamic": (Thresholding(UNIT, kind="dynamic"), 100),
    },
}  # fmt: skip
# Frechet distance, share below 0.01, agreement: one seed of an earlier program.
EARLIER: dict[str, dict[int, tuple[float, float, float]]] = {
    "reflected": {
        0: (0.081, 0.080, 0.978), 1: (0.085, 0.086, 1.0), 3: (0.215, 0.091, 1.0), 7: (0.875, 0.117, 1.0),
        15: (3.12, 0.169, 1.0),
    },
    "projected": {
        0: (0.069, 0.122, 0.960), 1: (0.061, 0.128, 1.0), 3: (0.200, 0.134, 1.0), 7: (0.868, 0.168, 1.0),
        15: (2.97, 0.230, 0.997),
    },
    "flow": {
        0: (0.059, 0.152, 0.968), 1: (0.114, 0.171, 1.0), 3: (0.386, 0.197, 1.0), 7: (1.04, 0.227, 1.0),
        15: (2.66, 0.233, 1.0),
    },
    "free, clamped": {0: (0.152, 0.102, 0.975), 3: (0.763, 0.183, 1.0), 7: (2.80, 0.288, 1.0), 15: (6.18, 0.540, 0.81)},
    "free, static": {0: (0.187, 0.087, 0.971), 3: (0.519, 0.105, 1.0), 7: (1.26, 0.111, 1.0), 15: (2.96, 0.105, 1.0)},
    "free, dynamic": {
        0: (0.445, 0.028, 0.934), 3: (0.803, 0.023, 1.0), 7: (1.73, 0.015, 1.0), 15: (3.14, 0.008, 0.998),
    },
}  # fmt: skip


def trained(kind: str, seed: int, out: Path, quick: bool) -> mg.diffusion.ScoreModel:
    """The averaged model of one run."""
    config = ["--config", str(CONFIGS / "diffusion" / "digits.yaml")]
    config += ["--config", str(CONFIGS / "overlays" / "smoke.yaml")] if quick else []
    if kind == "ClampedDiffusion":
        # Free noise has to drown the data, not only to forget them between walls.
        model = "--model.init_args.diffusion"
        config += [f"{model}.class_path", kind, f"{model}.init_args.schedule.init_args.sigma_max", "5.0"]
    named = ["--seed_everything", str(seed), "--run_dir", str(out), "--name", f"digits_{kind}_{seed}"]
    run = mirrorgen_main(["fit", *config, *named, "--trainer.enable_progress_bar", "false"])
    return mg.load(Path(run.trainer.log_dir) / "checkpoints" / "last.ckpt")


def bound_rows(model: mg.diffusion.ReflectedDiffusion, data: Digits, seed: int, quick: bool) -> list[dict[str, object]]:
    """The bound on held-out and on training digits."""
    rows: list[dict[str, object]] = []
    for split in ("test", "train"):
        count = 20 if quick else 600
        x, y = data.points(split)[:count], data.conditions(split)[:count]
        mean, error = bits(-model.log_prob_bound(x, condition=y, draws=200, generator=_seeded(seed)).double())
        rows.append({"seed": seed, "digits": split, "bits_per_dimension": mean, "standard_error": error})
    return rows


def main() -> None:
    """Train, sample, measure, draw."""
    parsed = options(__doc__, seeds=3, num=5000)
    num = 40 if parsed.quick else parsed.num
    weights = (0, 7) if parsed.quick else (0, 1, 3, 7, 15)
    data = Digits()
    train, test = data.points("train"), data.points("test")
    everything, labels = torch.cat([train, test]), torch.arange(num) % 10
    from sklearn.svm import SVC

    classifier = SVC(C=10).fit(train.numpy(), data.conditions("train").numpy())
    rows, table, samples = [], [], {}
    for seed in range(1 if parsed.quick else parsed.seeds):
        for kind, ways in STEPS.items():
            model = trained(kind, seed, parsed.out if parsed.quick else RUNS, parsed.quick)
            if isinstance(model, mg.diffusion.ReflectedDiffusion):
                table += bound_rows(model, data, seed, parsed.quick)
            for (name, (method, steps)), w in product(ways.items(), weights):
                x = model.sample(
                    num, condition=labels, guidance_scale=1.0 + w, steps=4 if parsed.quick else steps, method=method,
                    generator=_seeded(seed),
                )  # fmt: skip
                samples.setdefault((name, w), x)
                rows.append(_row(seed, name, w, x, everything, classifier, labels))
                print(rows[-1], flush=True)
    raw = [data.split(name)[0] for name in ("train", "test")]
    table.append(
        {
            "seed": "",
            "digits": "test, independent pixels",
            "bits_per_dimension": independent_pixels(*raw),
            "standard_error": "",
        }
    )
    notes = [
        f"{num} samples; floor: training digits to held-out ones "
        f"{float(mg.metrics.frechet_distance(train, test)):.3g}; classifier on held-out digits "
        f"{classifier.score(test.numpy(), data.conditions('test').numpy()):.4f}",
        "data: "
        + ", ".join(
            f"{what} {float(share.float().mean()):.4f}"
            for what, share in (("below 0.01", train < 0.01), ("above 0.99", train > 0.99))
        ),
        "earlier: another program, one seed",
    ]
    show(rows)
    show(table)
    write_csv(parsed.out / "digits.csv", notes, rows)
    write_csv(parsed.out / "digits_bits.csv", ["bound of conditional models, nats / (64 log 2) + log2 17"], table)
    _draw(parsed.out / "digits.png", rows, samples, weights, train)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _row(seed: int, name: str, w: int, x: Tensor, everything: Tensor, classifier, labels: Tensor) -> dict[str, object]:
    earlier = EARLIER[name].get(w, ("", "", ""))
    return {
        "seed": seed, "method": name, "weight": w,
        "frechet": float(mg.metrics.frechet_distance(x, everything)), "frechet_earlier": earlier[0],
        "below": float((x < 0.01).float().mean()), "below_earlier": earlier[1],
        "above": float((x > 0.99).float().mean()),
        "agreement": classifier.score(x.numpy(), labels.numpy()), "agreement_earlier": earlier[2],
        "inside": bool(UNIT.contains(x).all()),
    }  # fmt: skip


def _draw(path: Path, rows: list, samples: dict, weights: tuple, train: Tensor) -> None:
    made = figure(11, 4.6)
    top, bottom = made.subfigures(2, 1, height_ratios=[2.2, 1])
    panels = top.subplots(1, 3)
    data = {"below": float((train < 0.01).float().mean())}
    for axis, (column, title) in zip(
        panels,
        (("frechet", "Fréchet distance"), ("below", "pixels below 0.01"), ("agreement", "classifier agreement")),
        strict=True,
    ):
        for color, name in zip(COLORS, [name for ways in STEPS.values() for name in ways], strict=False):
            values = torch.tensor(
                [[r[column] for r in rows if r["method"] == name and r["weight"] == w] for w in weights]
            )
            axis.plot(weights, values.mean(1), color=color, marker="o", ms=3, label=name)
            axis.fill_between(weights, values.amin(1), values.amax(1), color=color, alpha=0.15, linewidth=0)
        if column in data:
            axis.axhline(data[column], color="k", linestyle=":", linewidth=1, label="data")
        clean(axis, title, "guidance weight", "")
    panels[0].set_yscale("log")
    panels[1].legend(frameon=False, fontsize=8)
    for axis, w in zip(bottom.subplots(1, len(weights), squeeze=False)[0], weights, strict=True):
        first = samples["reflected", w][:40].reshape(4, 10, 8, 8)
        tiles = torch.nn.functional.pad(first, (1, 1, 1, 1)).transpose(1, 2).reshape(40, 100)
        axis.imshow(tiles, cmap="gray_r", vmin=0, vmax=1)
        axis.set_axis_off()
        axis.set_title(f"reflected, weight {w}", fontsize=9)
    save(made, path)


if __name__ == "__main__":
    main()
