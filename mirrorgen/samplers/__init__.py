"""Samplers on convex domains: one protocol, one runner, one algorithm per file."""

from mirrorgen.samplers.base import Info, Kernel, Noise, NoiseShape, State
from mirrorgen.samplers.chain import Chain
from mirrorgen.samplers.hmc import MirroredHMC
from mirrorgen.samplers.run import extend, resume, run

__all__ = [
    "Chain",
    "Info",
    "Kernel",
    "MirroredHMC",
    "Noise",
    "NoiseShape",
    "State",
    "extend",
    "resume",
    "run",
]
