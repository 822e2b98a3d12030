"""Samplers on convex domains: one protocol, one runner, one algorithm per file."""

from mirrorgen.samplers.base import Info, Kernel, Noise, NoiseShape, State
from mirrorgen.samplers.chain import Chain
from mirrorgen.samplers.hmc import MirroredHMC
from mirrorgen.samplers.langevin import MAPLA, DikinWalk, MirroredLangevin, MirrorLangevin
from mirrorgen.samplers.run import extend, resume, run
from mirrorgen.samplers.stein import MSVGD, SVGD, SVMD, SVNG, MatrixSVGD, ProjectedSVGD

__all__ = [
    "MAPLA",
    "MSVGD",
    "SVGD",
    "SVMD",
    "SVNG",
    "Chain",
    "DikinWalk",
    "Info",
    "Kernel",
    "MatrixSVGD",
    "MirrorLangevin",
    "MirroredHMC",
    "MirroredLangevin",
    "Noise",
    "NoiseShape",
    "ProjectedSVGD",
    "State",
    "extend",
    "resume",
    "run",
]
