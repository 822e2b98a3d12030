"""Watermarks by themselves: what marking costs, who is accepted, and what 8 bits leave of a mark. Nothing is trained.

    python examples/mirror_flow_matching/watermark_detection.py [--quick] [--keys 20] [--num 1000] [--out DIR]

Patches of two photographs, of 16, 32 and 64 pixels (the last ones through ``ImageFolder``), are marked with one-sided
slabs under several keys and numbers of tokens, and with the symmetric slabs ``+-0.9`` and 100 tokens of the
publications. Per setting: unmarked patches that the detector accepts over all keys, with an upper confidence limit of
95% (Clopper and Pearson; for patches as if they were independent, which neighbours are not), the bound ``2^-tokens``
and the approximate probability from the sizes of the patches; marked patches accepted as they are, under another key,
after clamping and rounding to bytes, and after rounding that keeps the mark; the peak signal-to-noise ratio of both.
All but the counts is for one key.
``inverse_seconds`` is the processor time of the inverse map for 64 images. Writes ``watermark_detection.csv``.
"""

import math
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from scipy import stats
from sklearn.datasets import load_sample_images
from torch import Tensor

import mirrorgen as mg
from mirrorgen.data import (
    BYTE_TOLERANCE,
    ImageFolder,
    Patches,
    acceptance_probability,
    embed,
    from_bytes,
    sign_p_value,
    to_bytes,
)

sys.path.append(str(Path(__file__).resolve().parents[1]))

from images import some
from report import options, show, write_csv

BYTES_KEPT = 200
ONE_SIDED, SYMMETRIC = (0.05, 1.0), (-0.9, 0.9)
SETTINGS = [(16, 16, ONE_SIDED), (16, 32, ONE_SIDED), (32, 32, ONE_SIDED), (32, 100, ONE_SIDED), (32, 100, SYMMETRIC),
            (64, 100, ONE_SIDED), (64, 100, SYMMETRIC)]  # fmt: skip


def patches(size: int, num: int) -> Tensor:
    """Bytes of at most ``num`` patches, at random."""
    if size < 64:
        return some(Patches(size=size).split("train")[0], num)
    with tempfile.TemporaryDirectory() as folder:
        for k, photo in enumerate(load_sample_images().images):
            for top in range(0, photo.shape[0] - size + 1, 33):
                for left in range(0, photo.shape[1] - size + 1, 32):
                    crop = photo[top : top + size, left : left + size]
                    Image.fromarray(crop).save(Path(folder, f"{k}_{top}_{left}.png"))
        data = ImageFolder(folder, size, fractions=(0.01, 0.01))
        return some(torch.cat([data.split(name)[0] for name in ("train", "val", "test")]), num)


def psnr(x: Tensor, y: Tensor) -> float:
    """Of values in ``[-1, 1]``, in decibels, from the mean error over all images."""
    return float(10 * torch.log10(4 / (x - y).square().mean()))


def setting(size: int, length: int, bounds: tuple[float, float], x: Tensor, keys: int) -> dict[str, object]:
    """A row of the table: counts over all keys, shares of the patches marked with the last one."""
    accepted, elsewhere = 0, 0
    rms = x.square().mean(-1).sqrt()
    for key in range(keys):
        mark, other = (mg.domains.Watermark(x.shape[1], length, k, *bounds) for k in (key, key + 1000))
        y = embed(x, mark, generator=torch.Generator().manual_seed(key))
        accepted += int(mark.contains(x, atol=BYTE_TOLERANCE).sum())
        elsewhere += int(other.contains(y, atol=BYTE_TOLERANCE).sum())
    total = keys * len(x)
    rounded = from_bytes(to_bytes(y))
    few = slice(0, BYTES_KEPT)
    kept = from_bytes(to_bytes(y[few], mark))

    def share(inside: Tensor) -> float:
        return float(inside.double().mean())

    begin = time.process_time()
    mg.mirror_maps.RegularizedBarrier(mark, kappa=0.1).to_primal(torch.randn(64, x.shape[1]))
    seconds = time.process_time() - begin
    return {
        "size": size, "tokens": length, "low": bounds[0], "high": bounds[1], "patches": len(x), "keys": keys,
        "unmarked_accepted": accepted, "of": total,
        "upper_limit": float(stats.beta.ppf(0.95, accepted + 1, total - accepted)) if accepted < total else 1.0,
        "bound": 2.0**-length if mark.one_sided else math.nan,
        "expected": float(acceptance_probability(rms, mark, BYTE_TOLERANCE).mean()), "other_key_accepted": elsewhere,
        "marked": share(mark.contains(y)), "bytes": share(mark.contains(rounded)),
        "bytes_tolerance": share(mark.contains(rounded, atol=BYTE_TOLERANCE)),
        "bytes_significant": share(sign_p_value(rounded, mark) < 1e-4) if mark.one_sided else math.nan,
        "bytes_kept": share(mark.contains(kept)), "psnr": psnr(x, y), "psnr_kept": psnr(x[few], kept),
        "inverse_seconds": seconds,
    }  # fmt: skip


def main() -> None:
    """Every setting, and the table."""
    parsed = options(__doc__, keys=20, num=1000)
    keys, num = (2, 40) if parsed.quick else (parsed.keys, parsed.num)
    rows: list[dict[str, object]] = []
    for size, length, bounds in SETTINGS:
        pixels = patches(size, num)
        # Fewer keys for larger images: the same work.
        rows.append(setting(size, length, bounds, from_bytes(pixels), max(1, keys * 256 // size**2)))
        print(rows[-1], flush=True)
    notes = [
        "unmarked_accepted, other_key_accepted, bytes_tolerance: with the tolerance for rounding to bytes",
        "expected: approximate probability, mean over patches; bytes_significant: p-values of the signs below 1e-4",
        f"psnr, psnr_kept: of marked patches and of their bytes with the mark kept ({BYTES_KEPT} of them), in decibels",
    ]
    show(rows)
    write_csv(parsed.out / "watermark_detection.csv", notes, rows)


if __name__ == "__main__":
    main()
