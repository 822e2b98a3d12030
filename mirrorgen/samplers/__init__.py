"""Samplers on convex domains: one protocol, one runner, one algorithm per file."""

from mirrorgen.samplers.base import Info, Kernel, Noise, NoiseShape, State
from mirrorgen.samplers.chain import Chain
from mirrorgen.samplers.hmc import MirroredHMC
from mirrorgen.samplers.langevin import (
    MAPLA,
    MYULA,
    BregmanMoreauLangevin,
    DikinWalk,
    MirroredLangevin,
    MirrorLangevin,
    ProjectedLangevin,
    ReflectedLangevin,
)
from mirrorgen.samplers.run import extend, resume, run
from mirrorgen.samplers.scale import initial_scale
from mirrorgen.samplers.starts import starting_points
from mirrorgen.samplers.stein import MSVGD, SVGD, SVMD, SVNG, MatrixSVGD, ProjectedSVGD
from mirrorgen.samplers.walks import (
    BilliardWalk,
    CoordinateHitAndRun,
    HitAndRun,
    LinearEllipticalSlice,
    TruncatedGaussianGibbs,
)

__all__ = [
    "BregmanMoreauLangevin",
    "MYULA",
    "ProjectedLangevin",
    "ReflectedLangevin",
    "MAPLA",
    "MSVGD",
    "SVGD",
    "SVMD",
    "SVNG",
    "BilliardWalk",
    "Chain",
    "CoordinateHitAndRun",
    "DikinWalk",
    "HitAndRun",
    "Info",
    "Kernel",
    "LinearEllipticalSlice",
    "MatrixSVGD",
    "MirrorLangevin",
    "MirroredHMC",
    "MirroredLangevin",
    "Noise",
    "NoiseShape",
    "ProjectedSVGD",
    "State",
    "TruncatedGaussianGibbs",
    "extend",
    "initial_scale",
    "resume",
    "run",
    "starting_points",
]
