"""Handwritten digits with guidance: Frechet distance and agreement by guidance weight, and bits per dimension.

    python examples/mirror_flow_matching/digits.py [--quick] [--seeds 2] [--num 2500] [--resume] [--out DIR]

Trains ``configs/flow/digits.yaml`` through the command line, a run per seed, and draws digits of all classes in equal
parts, 25 midpoint steps, with guidance weight 0 (the plain conditional flow) to 7.

digits.csv       per weight: Frechet distance of pixels to the 297 held-out digits and to all 1,797, share of pixels
                 below 0.01 and above 0.99, agreement of a support-vector classifier trained on real digits with the
                 class asked for, mean deviation of pixels within a class over that of the data, share strictly inside
digits_bits.csv  bits per dimension of 297 digits, 17 grey levels dequantised uniformly, by the density of the flow with
                 labels and without, its divergence exact along 25 midpoint steps; beside the entropy of independent
                 pixels. Dequantised densities bound the likelihood of the levels from below, the bits from above
digits.png       distance and agreement by weight, and digits of every class, a row per weight

Frechet distances shrink with the number of samples compared; compare with the floor in the header.
"""

import math
from pathlib import Path

import torch
from common import COLORS, clean, figure, kept_rows, options, save, show, write_csv
from pixels import bits, independent_pixels
from torch import Tensor

import mirrorgen as mg
from mirrorgen.cli import main as mirrorgen_main
from mirrorgen.data import Digits

CONFIGS, RUNS = Path(__file__).parents[2] / "configs", Path("runs/mirror_flow_matching")
WEIGHTS = (0, 0.5, 1, 2, 3, 5, 7)
STEPS = 25
COLUMNS = (("frechet_held_out", "Fréchet distance to held-out digits"), ("agreement", "classifier agreement"))


def trained(seed: int, out: Path, quick: bool) -> mg.flows.MirrorFlow:
    """The averaged flow of one run, which is kept and read again when it is there."""
    kept = sorted((out / f"digits_{seed}").rglob("last.ckpt"))
    if kept:
        return mg.load(kept[-1])
    config = ["--config", str(CONFIGS / "flow" / "digits.yaml")]
    config += ["--config", str(CONFIGS / "overlays" / "smoke.yaml")] if quick else []
    named = ["--seed_everything", str(seed), "--run_dir", str(out), "--name", f"digits_{seed}"]
    run = mirrorgen_main(["fit", *config, *named, "--trainer.enable_progress_bar", "false"])
    return mg.load(Path(run.trainer.log_dir) / "checkpoints" / "last.ckpt")


def seeded(seed: int) -> torch.Generator:
    """A generator."""
    return torch.Generator().manual_seed(seed)


def spread(x: Tensor, labels: Tensor) -> float:
    """Root of the variance of pixels within classes, a mean over classes."""
    return float(torch.stack([x[labels == k].var(0).mean() for k in labels.unique()]).mean().sqrt())


class Judge:
    """What samples are compared with."""

    def __init__(self) -> None:
        from sklearn.svm import SVC

        self.data = Digits()
        self.train, self.test = self.data.points("train"), self.data.points("test")
        self.train_labels, self.test_labels = self.data.conditions("train"), self.data.conditions("test")
        self.classifier = SVC(C=10).fit(self.train.numpy(), self.train_labels.numpy())
        self.spread = spread(self.train, self.train_labels)

    def row(self, x: Tensor, labels: Tensor) -> dict[str, float]:
        """Distances, saturation, agreement, variety, membership."""
        return {
            "frechet_held_out": float(mg.metrics.frechet_distance(x, self.test)),
            "frechet_all": float(mg.metrics.frechet_distance(x, torch.cat([self.train, self.test]))),
            "below": float((x < 0.01).float().mean()),
            "above": float((x > 0.99).float().mean()),
            "agreement": float(self.classifier.score(x.numpy(), labels.numpy())),
            "spread": spread(x, labels) / self.spread,
            "inside": float(self.data.domain.contains(x).double().mean()),
        }

    def notes(self) -> list[str]:
        """The same of real digits, for headers."""
        real = self.row(self.train, self.train_labels)
        held_out = self.classifier.score(self.test.numpy(), self.test_labels.numpy())
        return [
            f"training digits: Frechet distance to held-out ones (floor) {real['frechet_held_out']:.4g}, "
            f"below {real['below']:.4f}, above {real['above']:.4f}",
            f"classifier on held-out digits {held_out:.4f}; spread: deviation within classes over that of the data",
        ]


@torch.no_grad()
def bits_rows(flow: mg.flows.MirrorFlow, judge: Judge, seed: int, quick: bool) -> list[dict[str, object]]:
    """Exact likelihoods of the labelled flow, of the unlabelled one, and of the labelled one on training digits."""
    rows: list[dict[str, object]] = []
    for split, name in (("test", "with labels"), ("test", "without labels"), ("train", "with labels")):
        count = 10 if quick else 297
        x, y = judge.data.points(split)[:count], judge.data.conditions(split)[:count]
        condition = y if name == "with labels" else None
        mean, error = bits(-flow.log_prob(x, condition=condition, steps=2 if quick else STEPS).double())
        row: dict[str, object] = {"seed": seed, "digits": split, "model": name}
        rows.append(row | {"bits_per_dimension": mean, "standard_error": error})
    return rows


def shown(flow: mg.flows.MirrorFlow, weights: tuple, quick: bool) -> dict[float, Tensor]:
    """Two digits per class and weight, from one noise."""
    labels = torch.arange(20) // 2
    return {
        w: flow.sample(20, condition=labels, guidance_scale=1.0 + w, steps=4 if quick else STEPS, generator=seeded(5))
        for w in weights
    }


def draw(path: Path, rows: list, images: dict[float, Tensor], judge: Judge, floor: float) -> None:
    """Curves over pictures."""
    made = figure(9, 6.4)
    top, bottom = made.subfigures(2, 1, height_ratios=[1, 1.45])
    weights = list(images)
    for axis, (column, title) in zip(top.subplots(1, 2), COLUMNS, strict=True):
        values = torch.tensor([[r[column] for r in rows if r["weight"] == w] for w in weights], dtype=torch.float64)
        axis.plot(weights, values.mean(1), color=COLORS[0], marker="o", ms=3, label="flow")
        axis.fill_between(weights, values.amin(1), values.amax(1), color=COLORS[0], alpha=0.15, linewidth=0)
        if column == "agreement":
            real = judge.classifier.score(judge.test.numpy(), judge.test_labels.numpy())
            axis.axhline(real, color="k", ls=":", lw=1, label="held-out digits")
        else:
            axis.axhline(floor, color="k", ls=":", lw=1, label="training digits")
            axis.set_yscale("log")
        axis.legend(frameon=False, fontsize=8)
        clean(axis, title, "guidance weight", "")
    order = judge.test_labels.argsort(stable=True)
    starts = [int((judge.test_labels[order] < k).sum()) for k in range(10)]
    real = judge.test[order][[i for s in starts for i in (s, s + 1)]]
    lines = torch.stack([real, *images.values()]).reshape(-1, 20, 8, 8)
    tiles = torch.nn.functional.pad(lines, (1, 1, 1, 1)).transpose(1, 2).reshape(10 * len(lines), 200)
    axis = bottom.subplots()
    axis.imshow(tiles, cmap="gray_r", vmin=0, vmax=1)
    axis.set_yticks(
        [10 * k + 4.5 for k in range(len(lines))], ["held out", *(f"weight {w:g}" for w in weights)], fontsize=8
    )
    axis.set_xticks([])
    for side in axis.spines.values():
        side.set_visible(False)
    save(made, path)


def main() -> None:
    """Train, sample, measure, draw."""
    chosen = options(__doc__, seeds=2, num=2500, resume=False)
    num, runs = (40, chosen.out) if chosen.quick else (chosen.num, RUNS)
    weights = WEIGHTS[:: len(WEIGHTS) - 1] if chosen.quick else WEIGHTS
    judge, labels = Judge(), torch.arange(num) % 10
    floor = float(mg.metrics.frechet_distance(judge.train, judge.test))
    rows = kept_rows(chosen.out / "digits.csv", chosen.resume)
    table = kept_rows(chosen.out / "digits_bits.csv", chosen.resume)
    table = [r for r in table if r["seed"] != ""]
    entropy = independent_pixels(judge.data.split("train")[0], judge.data.split("test")[0])
    last = {
        "seed": "",
        "digits": "test",
        "model": "independent pixels",
        "bits_per_dimension": entropy,
        "standard_error": "",
    }
    images: dict[float, Tensor] = {}
    for seed in range(chosen.seeds):
        flow = trained(seed, runs, chosen.quick)
        images = images or shown(flow, weights, chosen.quick)
        if seed not in {r["seed"] for r in rows}:
            for w in weights:
                steps = 4 if chosen.quick else STEPS
                x = flow.sample(num, condition=labels, guidance_scale=1.0 + w, steps=steps, generator=seeded(seed))
                rows.append({"seed": seed, "weight": float(w)} | judge.row(x, labels))
            write_csv(chosen.out / "digits.csv", [f"{num} samples per weight", *judge.notes()], rows)
        if seed not in {r["seed"] for r in table}:
            table += bits_rows(flow, judge, seed, chosen.quick)
            notes = [
                f"nats / (64 log 2) + log2(17), {math.log2(17):.4f} bits for uniform pixels; the flow's own density"
            ]
            write_csv(chosen.out / "digits_bits.csv", notes, [*table, last])
    show(rows)
    show([*table, last])
    draw(chosen.out / "digits.png", rows, images, judge, floor)


if __name__ == "__main__":
    main()
