"""Samplers side by side on one core: effective samples per CPU second, each row with its correctness."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec

import torch
import torch._dynamo
import torch._inductor.config

from benchmarks.samplers import bare_torch, ours
from benchmarks.samplers.bars import verdicts
from benchmarks.samplers.contender import Contender
from benchmarks.samplers.problems import Problem, catalogue
from benchmarks.samplers.scoring import SamplerRow
from benchmarks.samplers.study import one_core, race

TITLE = "Samplers on convex domains against peers"
GENERAL = (
    "seconds: CPU time of the process on one core, one thread in torch and in XLA; the best of three repeats, which "
    "all contenders of a problem take in turn; setup_seconds: compilation, tuning and one block of draws",
    "ess: the least over coordinates of the rank-normalised bulk effective sample size of x and of x^2; spread: of "
    "squared deviations from the exact mean; one implementation for all; relative: to the fastest row of the problem",
    "contenders with the same eps and L share the algorithm, the dual coordinates and the jitter of the step size",
)
NOTES = list(GENERAL)
"""Filled by ``run`` with the peers that take part and the verdicts on what was asked."""

FORMATS = {
    "setup_seconds": ".2f", "seconds_per_draw": ".3e", "ess_per_draw": ".3g", "ess_per_second": ".4g",
    "spread_per_second": ".4g", "relative": ".3g", "variance_ratio": ".4f", "max_z": ".1f", "inside": ".6f",
}  # fmt: skip
PEERS = {"benchmarks.samplers.jax_peer": ("jax", "blackjax"), "benchmarks.samplers.hopsy_peer": ("hopsy",)}


def entrants(with_peers: bool) -> Iterator[Callable[[Problem], list[Contender]]]:
    """What lists the contenders of a problem, for ours and for the peers that are installed."""
    yield ours.contenders
    yield bare_torch.contenders
    for module, needs in PEERS.items():
        missing = [name for name in needs if find_spec(name) is None]
        if with_peers and missing:
            NOTES.append(f"left out, for want of {', '.join(missing)}: the rows of {module.rsplit('.', 1)[-1]}")
        elif with_peers:
            NOTES.append(", ".join(f"{name} {version(name)}" for name in needs))
            yield importlib.import_module(module).contenders


@contextmanager
def compiled_afresh() -> Iterator[None]:
    """Torch compiles as for a user with one number of chains, and nothing is taken from earlier runs."""
    fixed_sizes = torch._dynamo.config.patch(automatic_dynamic_shapes=False)
    with fixed_sizes, torch._inductor.config.patch(force_disable_caches=True):
        yield


def run(quick: bool = False) -> list[SamplerRow]:
    """All problems; the quick check has tiny ones and no peers."""
    NOTES[:] = GENERAL
    lists = list(entrants(with_peers=not quick))
    rows = []
    with one_core(), compiled_afresh():
        for problem in catalogue(quick):
            torch.compiler.reset()
            contenders = [c for lister in lists for c in lister(problem) if not (quick and "compiled" in c.name)]
            rows += race(problem, contenders, 0.02 if quick else 0.3, 2 if quick else 3)
            print(f"done: {problem.name}", file=sys.stderr)
    NOTES.extend(verdicts(rows))
    return rows
