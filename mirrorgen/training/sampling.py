"""Constrained sampling in many processes or on many devices, through Lightning Fabric."""

import copy
import dataclasses
import math
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor

from mirrorgen.geometry.domains import Domain
from mirrorgen.samplers.api import sample
from mirrorgen.samplers.chain import Chain
from mirrorgen.samplers.density import LogDensity
from mirrorgen.seeding import counter_generator

__all__ = ["sample_distributed"]


def sample_distributed(
    fabric: Fabric, log_density: LogDensity, domain: Domain, num_samples: int, *, seed: int = 0, **options: Any
) -> Chain:
    """``mirrorgen.sample`` with the chains divided among the processes of a launched ``fabric``.

    Every process runs its own chains on its own device, with noise that follows from ``(seed, rank)``, and tunes its
    own kernel; only the draws travel, once, at the end. Call it in every process.

    Args:
        fabric: A launched Fabric.
        log_density: As for ``mirrorgen.sample``.
        domain: The set.
        num_samples: Draws asked for over all processes.
        seed: The seed of all noise.
        **options: Passed on to ``mirrorgen.sample``; ``num_chains`` counts all processes, and a ``directory`` gets one
            folder per process.

    Returns:
        In every process, the chain of all, those of process 0 first, with the kernel and the state of the own process.
        ``extend`` does not continue it if there are several.
    """
    share = math.ceil(num_samples / fabric.world_size)
    if options.get("num_chains") is not None:
        options["num_chains"] = math.ceil(options["num_chains"] / fabric.world_size)
    if options.get("directory") is not None:
        options["directory"] = f"{options['directory']}/process{fabric.global_rank}"
    warn = options.pop("warn", True)
    chain = sample(
        log_density, copy.deepcopy(domain).to(fabric.device), share, device=fabric.device, warn=False,
        generator=counter_generator(seed, fabric.global_rank, device=fabric.device), **options,
    )  # fmt: skip
    merged = _merged(fabric, chain)
    if warn and fabric.is_global_zero:
        merged.warn()
    return merged


def _merged(fabric: Fabric, chain: Chain) -> Chain:
    """The chains of all processes side by side."""
    if fabric.world_size == 1:
        return chain

    def gather(draws: Tensor) -> Tensor:
        return torch.cat(list(fabric.all_gather(draws)), 1)

    stats = {name: gather(values) for name, values in chain.stats.items()}
    dual = None if chain.dual is None else gather(chain.dual)
    return dataclasses.replace(chain, positions=gather(chain.positions), dual=dual, stats=stats, meta={})
