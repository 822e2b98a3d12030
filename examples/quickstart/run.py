"""Train Mirror Flow Matching on handwritten digits, sample, draw and measure: the main job from one command.

    python examples/quickstart/run.py [--quick] [--seed 0] [--out DIR]

Trains the class-conditional flow of ``configs/flow/digits.yaml`` through the command-line interface, draws digits of
every class that lie strictly inside ``Box(0, 1)^64``, and writes to ``DIR``:

* ``digits.png``: real digits beside generated ones, a row per class;
* ``metrics.json`` and ``metrics.csv``: feasibility, distances to held-out digits with their floor, share of near-zero
  pixels, agreement of a classifier trained on real digits with the class that was asked for;
* ``samples.safetensors``: the unguided samples and their labels.
"""

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mirrorgen as mg
from mirrorgen.cli import main as mirrorgen_main
from mirrorgen.data import Digits
from mirrorgen.sample_cli import write_points

CONFIG = Path(__file__).parents[2] / "configs" / "flow" / "digits.yaml"
SMOKE = Path(__file__).parents[2] / "configs" / "overlays" / "smoke.yaml"
NEAR_ZERO = 0.01


def train(out: Path, quick: bool, seed: int) -> mg.flows.MirrorFlow:
    """Run ``mirrorgen fit`` and load the averaged weights from its last checkpoint."""
    overlay = ["--config", str(SMOKE)] if quick else []
    named = ["--run_dir", str(out), "--name", "train", "--seed_everything", str(seed)]
    command = mirrorgen_main(["fit", "--config", str(CONFIG), *overlay, *named])
    return mg.load(Path(command.trainer.log_dir) / "checkpoints" / "last.ckpt")


def agreement(train_x: Tensor, train_y: Tensor, x: Tensor, y: Tensor) -> float:
    """Share of ``x`` that a support-vector classifier trained on real digits puts into class ``y``."""
    from sklearn.svm import SVC

    classifier = SVC().fit(train_x.numpy(), train_y.numpy())
    return float((classifier.predict(x.numpy()) == y.numpy()).mean())


def measure(data: Digits, draws: dict[str, Tensor], labels: Tensor) -> dict[str, Any]:
    """Quality of the draws beside the same numbers for real digits."""
    x, y = data.points("train"), data.split("train")[1]
    held_out, held_out_y = data.points("test"), data.split("test")[1]
    frechet = {name: float(mg.metrics.frechet_distance(s, held_out)) for name, s in draws.items()}
    asked = {name: s for name, s in draws.items() if name != "unconditional"}
    return {
        "samples": {name: len(s) for name, s in draws.items()},
        "strictly_inside": {name: int(data.domain.contains(s).sum()) for name, s in draws.items()},
        "frechet_to_held_out": {"training digits (floor)": float(mg.metrics.frechet_distance(x, held_out)), **frechet},
        "share_of_pixels_below_0.01": {
            "training digits": float((x < NEAR_ZERO).float().mean()),
            **{name: float((s < NEAR_ZERO).float().mean()) for name, s in draws.items()},
        },
        "classifier_agreement": {
            "held-out digits": agreement(x, y, held_out, held_out_y),
            **{name: agreement(x, y, s, labels[: len(s)]) for name, s in asked.items()},
        },
    }


def draw(data: Digits, generated: Tensor, labels: Tensor, path: Path) -> None:
    """Ten real and ten generated digits per class, side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    x, y = data.points("test"), data.split("test")[1]
    figure = Figure(figsize=(10.4, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, (title, images, classes) in zip(
        figure.subfigures(1, 2), (("held-out digits", x, y), ("generated", generated, labels)), strict=True
    ):
        panel.suptitle(title)
        rows = torch.zeros(10, 10, 12, 10)
        for k in range(10):
            of_class = images[classes == k][:10].view(-1, 8, 8)
            rows[k, : len(of_class)] = torch.nn.functional.pad(of_class, (1, 1, 2, 2))
        axis = panel.subplots()
        axis.imshow(rows.transpose(1, 2).reshape(120, 100).numpy(), cmap="gray_r", vmin=0, vmax=1, aspect="equal")
        axis.set_xticks([])
        axis.set_yticks([12 * k + 5.5 for k in range(10)], [str(k) for k in range(10)])
        axis.set_ylabel("class")
    figure.savefig(path, dpi=150)


def show(metrics: dict[str, Any]) -> None:
    """Print the metrics as a table."""
    for name, value in metrics.items():
        print(f"\n{name.replace('_', ' ')}")
        for key, number in value.items():
            print(f"  {key:<32}{number:>10.4f}" if isinstance(number, float) else f"  {key:<32}{number:>10}")


def write_table(metrics: dict[str, Any], path: Path) -> None:
    """The metrics as CSV, a row per number."""
    with path.open("w", newline="") as file:
        file.write(f"# python examples/quickstart/run.py; torch {torch.__version__}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["quantity", "of", "value"])
        for name, values in metrics.items():
            writer.writerows([name.replace("_", " "), of, f"{value:.5g}"] for of, value in values.items())


def main() -> None:
    """Train, sample, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps only, to see that everything runs")
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart"), help="folder (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (default: %(default)s)")
    parser.add_argument("--num", type=int, default=10_000, help="unguided samples (default: %(default)s)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    began = time.perf_counter()
    flow = train(options.out, options.quick, options.seed)
    trained = time.perf_counter()

    data = Digits()
    generator = torch.Generator().manual_seed(1)
    # Labels in the proportions of the training data, so that distances compare like with like.
    labels = data.split("train")[1][torch.randint(1500, (options.num,), generator=generator)]
    steps = 4 if options.quick else 25
    print(f"sampling {options.num} digits unguided, {options.num // 4} guided, {options.num // 2} of no class ...")
    few = options.num // 4
    draws = {
        "unguided": flow.sample(options.num, condition=labels, generator=generator, steps=steps),
        "guidance weight 1": flow.sample(
            few, condition=labels[:few], guidance_scale=2.0, generator=generator, steps=steps
        ),
        "unconditional": flow.sample(options.num // 2, generator=generator, steps=steps),
    }
    sampled = time.perf_counter()

    metrics = measure(data, draws, labels)
    metrics["seconds"] = {"training": trained - began, "sampling": sampled - trained}
    (options.out / "metrics.json").write_text(json.dumps(metrics, indent=2))
    write_table(metrics, options.out / "metrics.csv")
    write_points(options.out / "samples.safetensors", draws["unguided"], labels)
    draw(data, draws["unguided"], labels, options.out / "digits.png")
    show(metrics)
    print(f"\nwrote digits.png, metrics.json, metrics.csv and samples.safetensors to {options.out}")


if __name__ == "__main__":
    main()
