"""Watermarked patches of photographs: Mirror Flow Matching in the slabs beside an unconstrained flow and projection.

    python examples/mirror_flow_matching/watermark.py [--quick] [--num 10000] [--projected 2500] [--resume] [--out DIR]

Trains ``configs/flow/watermark.yaml`` (16x16 colour patches of two photographs, 32 tokens) through the command line,
the same with the published ``kappa = 0.1``, and in free space, where samples are projected onto the slabs. Per method:
the share of samples that the detector accepts as they are returned, after clamping and rounding to bytes, with the
tolerance for rounding, and after rounding that keeps the mark; images with a coefficient on a wall (within 1e-5) or
beyond; the distance of the laws of coefficients (Wasserstein-1, mean over tokens); the Frechet distance to all marked
training patches in random convolutional features, of as many samples per row. Writes ``watermark.csv`` and
``watermark.png``.
"""

import sys
import time
from pathlib import Path

import torch
import yaml
from torch import Tensor

import mirrorgen as mg
from mirrorgen.cli import main as mirrorgen_main
from mirrorgen.data import BYTE_TOLERANCE, Patches, Watermarked, embed, from_bytes, sign_p_value, to_bytes
from mirrorgen.flows import MirrorFlow

sys.path.append(str(Path(__file__).resolve().parents[1]))

from images import sheet, some, texture_features
from report import figure, kept_rows, options, save, show, write_csv

CONFIGS = Path(__file__).parents[2] / "configs"
DIM, STEPS, WALL = 768, 8, 1e-5


# Changes to the configuration, by method; None is free space.
METHODS: dict[str, dict[str, object] | None] = {
    "mirror flow": {}, "mirror flow, kappa=0.1": {"kappa": 0.1}, "unconstrained flow, projected": None,
}  # fmt: skip


def trained(method: str, out: Path, quick: bool, resume: bool, finished: bool) -> tuple[MirrorFlow, float]:
    """The averaged model of a method, and the processor seconds that its training took now."""
    content = yaml.safe_load((CONFIGS / "flow" / "watermark.yaml").read_text(encoding="utf-8"))
    flow, changes = content["model"]["init_args"]["flow"]["init_args"], METHODS[method]
    if changes is None:
        space = {"class_path": "Euclidean", "init_args": {"dim": DIM}}
        flow["mirror_map"] = {"class_path": "Quadratic", "init_args": {"domain": space}}
    else:
        flow["mirror_map"]["init_args"] |= changes
    out.mkdir(parents=True, exist_ok=True)
    config = out / f"watermark_{list(METHODS).index(method)}.yaml"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    stored = sorted(out.glob(f"{config.stem}/*/checkpoints/last.ckpt")) if resume else []
    if stored and finished:
        return mg.load(stored[-1]), 0.0
    extra = ["--config", str(CONFIGS / "overlays" / "smoke.yaml")] if quick else []
    extra += ["--ckpt_path", str(stored[-1])] if stored else []
    begin = time.process_time()
    run = mirrorgen_main(
        ["fit", "--config", str(config), *extra, "--run_dir", str(out), "--trainer.enable_progress_bar", "false"]
    )
    seconds = time.process_time() - begin
    return mg.load(Path(run.trainer.log_dir) / "checkpoints" / "last.ckpt"), seconds


def colours(x: Tensor) -> Tensor:
    """Values of ``[-1, 1]`` as colours in 0..1, clamped."""
    return (0.5 * (x + 1)).clamp(0, 1)


class Study:
    """The marked patches, and what is measured of samples beside them."""

    def __init__(self, quick: bool, reference: int) -> None:
        self.mark = mg.domains.Watermark(DIM, 32, key=0)
        data = Watermarked(Patches(), self.mark)
        generator = torch.Generator().manual_seed(0)
        stored = some(data.split("train")[0], 128 if quick else 10**9)
        self.train = data.mark(stored, generator)
        self.again = data.mark(some(stored, reference), generator)
        held_out = Watermarked(Patches(eval_stride=4), self.mark).split("test")[0]
        self.unmarked = data.unmarked(some(held_out, reference), generator)
        self.held_out = embed(self.unmarked, self.mark, data.noise, generator)
        self.features = texture_features()
        self.reference, self.target = reference, self.features(colours(self.train))
        self.quantiles = torch.linspace(0.005, 0.995, 100, dtype=torch.float64)
        self.coefficients = self.spread(self.train)

    def spread(self, x: Tensor) -> Tensor:
        """Quantiles of the coefficients, ``(100, tokens)``."""
        return self.mark.coefficients(x).quantile(self.quantiles, 0)

    def row(self, method: str, x: Tensor, training: float, sampling: float) -> dict[str, object]:
        """A row of the table."""
        mark = self.mark
        rounded, kept = from_bytes(to_bytes(x)), from_bytes(to_bytes(x, mark))

        def share(inside: Tensor) -> float:
            return float(inside.double().mean())

        return {
            "method": method, "samples": len(x), "accepted": int(mark.contains(x).sum()),
            "accepted_bytes": share(mark.contains(rounded)),
            "accepted_bytes_tolerance": share(mark.contains(rounded, atol=BYTE_TOLERANCE)),
            "significant_bytes": share(sign_p_value(rounded, mark) < 1e-6),
            "accepted_bytes_kept": share(mark.contains(kept)),
            "on_wall": share((mark.slack(x.double()) < WALL).any(-1)),
            "coefficients_w1": float((self.spread(x) - self.coefficients).abs().mean()),
            "frechet": float(mg.metrics.frechet_distance(self.features(colours(x[: self.reference])), self.target)),
            "training_seconds": training, "sampling_seconds": sampling,
        }  # fmt: skip


def sampled(flow: MirrorFlow, n: int) -> tuple[Tensor, float]:
    """Samples, and the processor seconds they took."""
    begin = time.process_time()
    x = flow.sample(n, steps=STEPS, generator=torch.Generator().manual_seed(1), batch_size=500)
    return x, time.process_time() - begin


def draw(path: Path, pictures: dict[str, Tensor]) -> None:
    """Sheets of patches, two by two."""
    made = figure(9, 9.4)
    for axis, (name, x) in zip(made.subplots(2, 2).flatten(), pictures.items(), strict=True):
        axis.imshow(sheet(colours(x), 10, 10).numpy(), interpolation="nearest")
        axis.set_axis_off()
        axis.set_title(name, fontsize=10)
    save(made, path)


def main() -> None:
    """Train, sample, compare, draw; rows are written as they come."""
    parsed = options(__doc__, num=10_000, projected=2500, resume=False)
    num, projected = (40, 20) if parsed.quick else (parsed.num, parsed.projected)
    runs = parsed.out if parsed.quick else Path("runs/watermark")
    path, study = parsed.out / "watermark.csv", Study(parsed.quick, projected)
    notes = [
        "accepted: strictly inside all slabs in float32; bytes: clamped to 0..255 and rounded; tolerance: six standard",
        "deviations of rounding; kept: alternating projections first; significant: p-value of the signs below 1e-6",
        f"frechet: {projected} samples against all marked training patches; midpoint, {STEPS} steps; processor seconds",
    ]
    rows = kept_rows(path, parsed.resume)
    references = {
        "unmarked, held out": study.unmarked,
        "marked, held out": study.held_out,
        "marked training patches, other noise": study.again,
        "uniform noise": 2 * torch.rand_like(study.again) - 1,
    }
    done = {row["method"] for row in rows}
    rows = [study.row(name, x, 0.0, 0.0) for name, x in references.items() if name not in done] + rows
    shown = {"held out": study.unmarked, "held out, marked": study.held_out}
    for method, changes in METHODS.items():
        flow, seconds = trained(method, runs, parsed.quick, parsed.resume, method in done)
        x, sampling = sampled(flow, 100 if method in done else projected if changes is None else num)
        if changes is None and method not in done:
            rows.append(study.row("unconstrained flow", x, seconds, sampling))
        shown[method] = study.mark.project(x) if changes is None else x
        if method not in done:
            rows.append(study.row(method, shown[method], seconds, sampling))
        write_csv(path, notes, rows)
    show(rows)
    del shown["mirror flow, kappa=0.1"]
    draw(parsed.out / "watermark.png", shown)


if __name__ == "__main__":
    main()
