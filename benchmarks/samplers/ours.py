"""The samplers of this library."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.samplers.contender import Contender, Sampler, block_of, leapfrog_setting, start
from benchmarks.samplers.problems import Problem
from mirrorgen import samplers
from mirrorgen.samplers.base import Kernel
from mirrorgen.seeding import counter_generator
from mirrorgen.targets import TruncatedNormal

TUNING = 400
TUNED = f"tuned in {TUNING} steps"

Build = Callable[[Problem], Kernel]


@dataclass(frozen=True)
class Mode:
    """How a kernel runs: steps of warm-up that tune it, steps per draw, compiled or not, in which dtype."""

    chains: int
    dtype: torch.dtype = torch.float32
    compiled: bool = False
    warmup: int = 0
    thin: int = 1


def prepare(problem: Problem, build: Build, mode: Mode) -> Sampler:
    """Chains of ``samplers.run``, each call going on where the last one stopped."""
    name = zlib.crc32(problem.name.encode())
    generator = counter_generator(12, name, mode.chains, mode.compiled, mode.warmup)
    kernel, x = build(problem), start(problem, mode.chains, mode.dtype)
    if mode.warmup:
        chain = samplers.run(kernel, x, 1, num_warmup=mode.warmup, generator=generator)
        kernel, x = chain.kernel, chain.positions[-1]

    def sample(draws: int) -> Tensor:
        nonlocal x
        steps = draws * mode.thin
        chain = samplers.run(kernel, x, steps, thin=mode.thin, generator=generator, compile=mode.compiled)
        x = chain.positions[-1].clone()
        return chain.positions

    return sample


def contenders(problem: Problem) -> list[Contender]:
    """Mirrored HMC in all modes, and the walks and exact samplers that suit the problem."""
    return [*_hmc(problem), *_walks(problem)]


def _contender(name: str, problem: Problem, build: Build, mode: Mode, setting: str) -> Contender:
    return Contender(
        f"{name}{', compiled' if mode.compiled else ''}", mode.chains, str(mode.dtype)[6:], setting,
        lambda p: prepare(p, build, mode), block_of(problem, mode.chains),
    )  # fmt: skip


def _hmc(problem: Problem) -> list[Contender]:
    chains = problem.chains[:2][-1]
    modes = [Mode(c) for c in problem.chains]
    if problem.closed:
        modes += [Mode(c, compiled=True) for c in problem.chains if problem.full or c == chains]
    if problem.full:
        modes += [Mode(chains, torch.float64, compiled) for compiled in (False, True)]

    def fixed(p: Problem) -> Kernel:
        return samplers.MirroredHMC(p.target, p.mirror_map, step_size=p.step_size, num_steps=p.num_steps)

    def untuned(p: Problem) -> Kernel:
        return samplers.MirroredHMC(p.target, p.mirror_map)

    rows = [_contender("MirroredHMC", problem, fixed, mode, leapfrog_setting(problem)) for mode in modes]
    return [*rows, _contender("MirroredHMC", problem, untuned, _tuned(problem, chains), TUNED)]


def _walks(problem: Problem) -> list[Contender]:
    """Kernels by name, so that the study runs while some do not exist."""
    entries: list[tuple[str, Build, Mode, str]] = []
    many = Mode(256)
    if problem.uniform:
        for name in ("CoordinateHitAndRun", "HitAndRun", "BilliardWalk"):
            entries.append((name, partial(_walk, name), many, "one sweep" if name[0] == "C" else "defaults"))
    if isinstance(problem.target, TruncatedNormal):
        for name in ("TruncatedGaussianGibbs", "LinearEllipticalSlice"):
            entries.append((name, lambda p, name=name: getattr(samplers, name)(p.target), many, "defaults"))
    if problem.full or not problem.closed:
        entries.append(("MirrorLangevin", _mirror_langevin, _tuned(problem, 64), TUNED))
    if problem.uniform and not problem.closed:
        entries.append(("DikinWalk", _dikin, _tuned(problem, 64), TUNED))
    return [_contender(name, problem, build, mode, words) for name, build, mode, words in entries
            if hasattr(samplers, name)]  # fmt: skip


def _tuned(problem: Problem, chains: int) -> Mode:
    return Mode(chains, warmup=round(problem.effort * TUNING))


def _walk(name: str, problem: Problem) -> Kernel:
    return getattr(samplers, name)(None, problem.target.domain)


def _mirror_langevin(problem: Problem) -> Kernel:
    return samplers.MirrorLangevin(problem.target, problem.mirror_map)


def _dikin(problem: Problem) -> Kernel:
    return samplers.DikinWalk(problem.target, problem.target.domain)
