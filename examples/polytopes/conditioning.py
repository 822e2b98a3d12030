"""Uniform points of ill-conditioned boxes: barrier metrics and HMC in the dual, in a box and in a polytope.

    python examples/polytopes/conditioning.py [--quick] [--groups 4] [--out DIR]

Boxes with sides from 1 to 1/condition, in geometric progression, condition e^(d/4) and d^2/4 as in the study of
Srinivasan, Wibisono, Wilson, "Fast sampling from constrained spaces using the Metropolis-adjusted mirror Langevin
algorithm", 2024. Each set appears as a ``Box`` and, rotated, as a ``Polytope`` of 2d rows. All chains start at the
centre; warm-up tunes the step size to the target acceptance of each kernel; the second half of the draws counts. On a
uniform law MAMLA is the Metropolised mirror random walk, and MAPLA differs from the Dikin walk in its tuning alone.
Effective sample sizes are the least over the axes of the box; spread is over groups of chains. Writes
``conditioning.csv``.
"""

import argparse
import csv
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen import domains, mirror_maps, samplers, targets
from mirrorgen.metrics import effective_sample_size, gauge, half_volume

GROUP = 16


class Case(NamedTuple):
    """A box under a rotation: the domain, its axes as columns, and the entropic map for HMC."""

    domain: domains.Domain
    axes: Tensor
    entropic: mirror_maps.MirrorMap


def box(half: Tensor) -> Case:
    """The box itself, with diagonal Hessians."""
    domain = domains.Box(-half, half)
    return Case(domain, torch.eye(len(half), dtype=half.dtype), mirror_maps.BoxEntropy(domain))


def polytope(half: Tensor) -> Case:
    """The box at a random angle, with dense Hessians."""
    generator = torch.Generator().manual_seed(1234)
    axes = torch.linalg.qr(torch.randn(len(half), len(half), generator=generator, dtype=half.dtype))[0]
    domain = domains.Polytope(torch.cat([axes.mT, -axes.mT]), torch.cat([half, half]))
    return Case(domain, axes, mirror_maps.SlackEntropy(domain))


class Setting(NamedTuple):
    """A kernel on a case, and steps after warm-up."""

    kernel: Callable[[Case], samplers.Kernel]
    steps: int


def uniform(case: Case) -> targets.Uniform:
    """The target."""
    return targets.Uniform(case.domain)


SETTINGS = {
    "MAMLA": Setting(lambda c: samplers.MirrorLangevin(uniform(c), mirror_maps.LogBarrier(c.domain)), 3000),
    "MAPLA": Setting(lambda c: samplers.MAPLA(uniform(c), c.domain), 3000),
    "DikinWalk": Setting(lambda c: samplers.DikinWalk(uniform(c), c.domain), 3000),
    "MirroredHMC": Setting(lambda c: samplers.MirroredHMC(uniform(c), c.entropic), 100),
}


def measure(case: Case, setting: Setting, groups: int, quick: bool) -> dict[str, str]:
    """The measured columns of one row."""
    start = case.domain.interior_point().expand(groups * GROUP, -1).clone()
    steps = 20 if quick else setting.steps
    generator = torch.Generator().manual_seed(7)
    warm = samplers.run(setting.kernel(case), start, 1, num_warmup=10 if quick else 120, generator=generator)
    begin = time.process_time()
    chain = samplers.run(warm.kernel, start, steps, generator=generator)
    seconds = time.process_time() - begin
    draws = chain.positions[steps // 2 :]
    count = len(draws) * GROUP
    sizes = [float(effective_sample_size(part @ case.axes).min()) / count for part in draws.split(GROUP, 1)]
    outside = (gauge(case.domain, draws) > 2.0 ** (-1.0 / case.domain.dual_dim)).double()
    indicator = max(float(effective_sample_size(outside, "mean")), 1.0)
    half = half_volume(case.domain, draws, indicator)
    return {
        "step_size": f"{float(warm.kernel.step_size):.3g}",  # type: ignore[attr-defined]
        "leapfrog_steps": str(getattr(warm.kernel, "num_steps", "")),
        "acceptance": f"{chain.stats['acceptance'][steps // 2 :].mean():.3f}",
        "ess_per_step (ours)": f"{statistics.mean(sizes):.5f}",
        "spread": f"{statistics.stdev(sizes) if groups > 1 else math.nan:.5f}",
        "ess_per_cpu_second (ours)": f"{statistics.mean(sizes) * steps * groups * GROUP / seconds:.0f}",
        "half_volume_share (ours)": f"{half.share:.4f}",
        "standard_error": f"{half.standard_error:.4f}",
        "half_volume_share (exact)": "0.5",
        "published": "",
    }


def main() -> None:
    """Run the grid and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few chains and steps, to see that everything runs")
    parser.add_argument("--groups", type=int, default=4, help=f"groups of {GROUP} chains (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="output folder")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    groups = 1 if options.quick else options.groups
    rows = []
    for d in (4,) if options.quick else (10, 20):
        for label, condition in (("e^(d/4)", math.exp(d / 4)), ("d^2/4", d**2 / 4)):
            half = condition ** -torch.linspace(0, 1, d, dtype=torch.float64)
            for form in (box, polytope):
                for name, setting in SETTINGS.items():
                    row = {"d": str(d), "condition": f"{label} = {condition:.3g}", "set": form.__name__, "kernel": name}
                    rows.append(row | measure(form(half), setting, groups, options.quick))
                    print(rows[-1], flush=True)
    with (options.out / "conditioning.csv").open("w", newline="") as file:
        file.write(
            f"# command: python examples/polytopes/conditioning.py --groups {groups}\n"
            "# uniform laws, start at the centre, second half of 3000 steps (MirroredHMC: 100 paths);\n"
            f"# {groups} groups of {GROUP} chains; ess per step: least over the axes of the box, per chain;\n"
            "# published: the paper shows curves of the half-volume share only\n"
        )
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
