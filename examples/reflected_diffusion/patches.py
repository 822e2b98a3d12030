"""Patches of photographs: the variational bound in bits per dimension beside what PNG needs for the same patches.

    python examples/reflected_diffusion/patches.py [--quick] [--seeds 1] [--num 256] [--repeats 4] [--out DIR]

Trains ``configs/diffusion/patches.yaml`` through the command line for 16 and for 32 pixels, a run per size and seed.
The bound is that of held-out patches, bytes dequantised afresh in every repeat; PNG packs each of them on its own,
headers not counted. ``bits_se`` is the standard error over repeats (levels, noise, dequantisation) for these patches,
``difference_se`` that of the difference over the 14 cells that they are cut from. Samples are compared with all
training patches by the Frechet distance of the means of random convolutional features, beside as many held-out
patches. Writes ``patches.csv`` and ``patches.png``.
"""

import math
import time
from pathlib import Path

import torch
from common import figure, options, save, show, write_csv
from images import sheet, some, texture_features
from torch import Tensor

import mirrorgen as mg
from mirrorgen.cli import main as mirrorgen_main
from mirrorgen.data import Patches, png_bits_per_dim

CONFIGS = Path(__file__).parents[2] / "configs"
# Patches of 32 pixels come in batches of as many pixels, so that a step costs the same.
BATCH = {16: 32, 32: 8}
DRAWS = 16


def trained(size: int, seed: int, out: Path, quick: bool) -> tuple[mg.diffusion.ReflectedDiffusion, float]:
    """The averaged model of one run, and the processor seconds of its training."""
    config = ["--config", str(CONFIGS / "diffusion" / "patches.yaml")]
    model = "--model.init_args.diffusion.init_args"
    config += [f"{model}.domain.init_args.dim", str(3 * size**2), "--data.init_args.size", str(size)]
    config += [f"{model}.net.init_args.{side}={size}" for side in ("height", "width")]
    config += ["--data.init_args.batch_size", str(BATCH[size])]
    config += ["--config", str(CONFIGS / "overlays" / "smoke.yaml")] if quick else []
    named = ["--seed_everything", str(seed), "--run_dir", str(out), "--name", f"patches{size}_{seed}"]
    begin = time.process_time()
    run = mirrorgen_main(["fit", *config, *named, "--trainer.enable_progress_bar", "false"])
    seconds = time.process_time() - begin
    return mg.load(Path(run.trainer.log_dir) / "checkpoints" / "last.ckpt"), seconds


def bound_bits(model: mg.diffusion.ReflectedDiffusion, data: Patches, pixels: Tensor, repeats: int) -> Tensor:
    """The bound in bits per dimension of 256 levels, ``(repeats, n)``, from bytes ``(n, dim)``."""
    unit = pixels.shape[1] * math.log(2)
    rows = []
    for k in range(repeats):
        generator = torch.Generator().manual_seed(k)
        x = data.transform(pixels, generator)
        parts = [model.log_prob_bound(part, draws=DRAWS, generator=generator) for part in x.split(128)]
        rows.append(8 - torch.cat(parts).double() / unit)
    return torch.stack(rows)


def study(size: int, seed: int, num: int, repeats: int, out: Path, quick: bool) -> tuple[dict[str, object], list]:
    """A row of the table; held-out patches, and samples."""
    model, seconds = trained(size, seed, out, quick)
    data = Patches(size=size)
    held_out, = data.split("test")  # fmt: skip
    train = some(data.split("train")[0], len(held_out))
    held_out, train = (held_out[:8], train[:8]) if quick else (held_out, train)
    png = png_bits_per_dim(held_out)
    bits = bound_bits(model, data, held_out, repeats)
    gap = bits.mean(0) - png
    # Patches of a cell overlap, and follow one another.
    cells = gap.reshape(math.gcd(len(gap), 14), -1).mean(1)
    begin = time.process_time()
    x = model.sample(
        num, steps=4 if quick else 100, method="ancestral", generator=torch.Generator().manual_seed(seed),
        batch_size=256,
    )  # fmt: skip
    sampling = time.process_time() - begin
    features = texture_features()
    many = some(Patches(size=size, eval_stride=4).points("test"), num)
    everything = features(some(data.points("train"), 64) if quick else data.points("train"))
    distances = [float(mg.metrics.frechet_distance(features(y), everything)) for y in (x, many, torch.rand_like(x))]
    row = {
        "size": size, "seed": seed, "patches": len(held_out), "bits_held_out": float(bits.mean()),
        "bits_se": float(bits.mean(1).std()) / repeats**0.5, "png": float(png.mean()), "difference": float(gap.mean()),
        "difference_se": float(cells.std()) / len(cells) ** 0.5, "better": float((gap < 0).double().mean()),
        "bits_train": float(bound_bits(model, data, train, repeats).mean()),
        "png_train": float(png_bits_per_dim(train).mean()),
        "frechet": distances[0], "frechet_held_out": distances[1], "frechet_uniform_noise": distances[2],
        "inside": float(((x > 0) & (x < 1)).all(-1).double().mean()),
        "training_seconds": seconds, "sampling_seconds": sampling,
    }  # fmt: skip
    print(row, flush=True)
    return row, [many, x]


def draw(path: Path, samples: dict[int, list]) -> None:
    """Held-out patches beside samples, a row per size."""
    made = figure(10, 9.2)
    axes = made.subplots(2, 2)
    for pair, (size, images) in zip(axes, samples.items(), strict=True):
        side = 160 // size
        for axis, name, x in zip(pair, ("held out", "samples"), images, strict=True):
            axis.imshow(sheet(x, side, side).numpy())
            axis.set_axis_off()
            axis.set_title(f"{name}, {size}x{size}", fontsize=10)
    save(made, path)


def main() -> None:
    """Train, measure, sample, draw."""
    parsed = options(__doc__, seeds=1, num=256, repeats=4)
    num, repeats, seeds = (16, 2, 1) if parsed.quick else (parsed.num, parsed.repeats, parsed.seeds)
    runs = parsed.out if parsed.quick else Path("runs/reflected_diffusion")
    rows, samples = [], {}
    for size in BATCH:
        for seed in range(seeds):
            row, images = study(size, seed, num, repeats, runs, parsed.quick)
            rows.append(row)
            samples.setdefault(size, images)
    notes = [
        f"bound: {repeats} repeats of {DRAWS} levels for every patch; batches of "
        + ", ".join(f"{b} patches of {s} pixels" for s, b in BATCH.items()),
        "better: share of held-out patches that the model describes in fewer bits than PNG",
        f"{num} samples, ancestral, 100 steps; frechet: to all training patches; *_seconds: processor time",
        "the model has seen the rest of both photographs; PNG has seen nothing",
    ]
    show(rows)
    write_csv(parsed.out / "patches.csv", notes, rows)
    draw(parsed.out / "patches.png", samples)


if __name__ == "__main__":
    main()
