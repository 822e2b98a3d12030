"""From nothing to the first 1,000 effective samples: fresh processes, interpreter, imports and compilation included."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from mirrorgen.metrics import effective_sample_size

TITLE = "Cold start: CPU seconds to the first 1,000 effective samples"
GENERAL = (
    "seconds: CPU time of a fresh process from its start, all included; the best of three processes",
    "the first half of the draws at any time is thrown away; ess: of the second half as in the study of warm speed; "
    "blocks of draws are compiled and judged as a whole",
)
NOTES = list(GENERAL)
FORMATS = {"seconds": ".2f", "first_draw": ".2f", "ess": ".4g"}
ENOUGH = 1000
NEEDS = {"blackjax NUTS": ("jax", "blackjax"), "hopsy coordinate hit-and-run": ("hopsy",)}
RACES = {
    "dirichlet": ("Dirichlet(4) K=21", ("MirroredHMC", "blackjax NUTS")),
    "cube": (
        "uniform 50-cube",
        ("MirroredHMC", "CoordinateHitAndRun", "blackjax NUTS", "hopsy coordinate hit-and-run"),
    ),
}


@dataclass(frozen=True)
class ColdRow:
    """One contender from a cold start.

    Attributes:
        problem: The law.
        contender: The sampler, with its own tuning where it has one.
        chains: Side by side.
        seconds: CPU seconds until ``ess`` first reached 1,000; empty if it never did.
        first_draw: CPU seconds until the first block of draws.
        ess: What was reached then.
    """

    problem: str
    contender: str
    chains: int
    seconds: float | None
    first_draw: float
    ess: float


def start(contender: str, problem: str, blocks: int) -> tuple[int, float | None, float, float]:
    """Chains, seconds to enough, seconds to the first block, effective sample size: of one fresh process."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "XLA_FLAGS": flags}
    with tempfile.TemporaryDirectory() as folder:
        script = str(Path(__file__).with_name("cold_child.py"))
        command = [sys.executable, script, contender, problem, folder, str(blocks)]
        subprocess.run(command, check=True, env=environment)
        x = torch.from_numpy(np.load(f"{folder}/draws.npy"))
        times = json.loads(Path(folder, "times.json").read_text())
    size = len(x) // blocks
    for k, seconds in enumerate(times, 1):
        part = x[k * size // 2 : k * size].double()
        ess = float(effective_sample_size(part).min())
        if problem == "cube":
            ess = min(ess, float(effective_sample_size(part.square()).min()))
        if ess >= ENOUGH:
            return x.shape[1], seconds, times[0], ess
    return x.shape[1], None, times[0], ess


def run(quick: bool = False) -> list[ColdRow]:
    """All contenders that are installed; the quick check starts one once."""
    NOTES[:] = GENERAL
    rows = []
    for problem, (words, contenders) in RACES.items():
        for name in contenders[:1] if quick else contenders:
            missing = [need for need in NEEDS.get(name, ()) if find_spec(need) is None]
            if missing:
                NOTES.append(f"left out, for want of {', '.join(missing)}: {name}")
                continue
            tries = [start(name, problem, 2 if quick else 40) for _ in range(1 if quick else 3)]
            chains, seconds, first, ess = min(tries, key=lambda t: (t[1] is None, t[1]))
            rows.append(ColdRow(words, name, chains, seconds, first, ess))
    return rows
