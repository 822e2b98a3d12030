"""The race: contenders of a problem take turns on one core, and everyone's draws are judged alike."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.samplers.contender import Contender, Sampler
from benchmarks.samplers.problems import Problem
from benchmarks.samplers.scoring import MOST_VALUES, SamplerRow, score

MOST_STORED = 30_000_000


@dataclass
class Runner:
    """A prepared contender, its draws and its times."""

    contender: Contender
    sampler: Sampler
    setup_seconds: float
    blocks: int
    kept: list[Tensor]
    best: float = float("inf")

    def lap(self) -> None:
        """One timed repeat."""
        begin = time.process_time()
        parts = [self.sampler(self.contender.block) for _ in range(self.blocks)]
        self.best = min(self.best, (time.process_time() - begin) / (self.blocks * self.contender.block))
        self.kept.extend(parts)


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process on one core, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def prepared(contender: Contender, problem: Problem, seconds: float, repeats: int) -> Runner:
    """Compile, tune, throw one block away, and choose how many blocks fill the time."""
    begin = time.process_time()
    sampler = contender.prepare(problem)
    sampler(contender.block)
    setup = time.process_time() - begin
    begin = time.process_time()
    sampler(contender.block)
    each = max(time.process_time() - begin, 1e-6)
    block_values = repeats * contender.block * problem.target.domain.dim
    most = min(
        MOST_VALUES // (min(4, contender.chains) * block_values), MOST_STORED // (contender.chains * block_values)
    )
    return Runner(contender, sampler, setup, max(1, min(most, round(seconds / each))), [])


def race(problem: Problem, contenders: list[Contender], seconds: float, repeats: int) -> list[SamplerRow]:
    """Rows of one problem, the fastest first."""
    runners = [prepared(c, problem, seconds, repeats) for c in contenders]
    for _ in range(repeats):
        for runner in runners:
            runner.lap()
    rows = [_row(problem, runners.pop(0)) for _ in range(len(runners))]
    best = max(row.ess_per_second for row in rows)
    rows = [replace(row, relative=row.ess_per_second / best) for row in rows]
    return sorted(rows, key=lambda row: -row.relative)


def _row(problem: Problem, runner: Runner) -> SamplerRow:
    x = torch.cat(runner.kept)
    contender, judged = runner.contender, score(problem, x)
    draws, chains, _ = x.shape
    per_second = 1 / (runner.best * draws)
    return SamplerRow(
        problem.name, contender.name, contender.dtype, contender.chains, contender.setting, draws,
        runner.setup_seconds, runner.best / chains, judged.ess / (draws * chains), judged.ess * per_second,
        judged.spread * per_second, 1.0, judged.variance_ratio, judged.max_z, judged.inside,
    )  # fmt: skip
