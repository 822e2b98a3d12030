"""Walks on polyhedra: hit-and-run, coordinate walks, billiards, and exact moves for truncated normal laws."""

from mirrorgen.samplers.walks.billiard import BilliardWalk
from mirrorgen.samplers.walks.coordinate import CoordinateHitAndRun
from mirrorgen.samplers.walks.elliptical_slice import LinearEllipticalSlice
from mirrorgen.samplers.walks.hit_and_run import HitAndRun
from mirrorgen.samplers.walks.truncated_gaussian import TruncatedGaussianGibbs

__all__ = [
    "BilliardWalk",
    "CoordinateHitAndRun",
    "HitAndRun",
    "LinearEllipticalSlice",
    "TruncatedGaussianGibbs",
]
