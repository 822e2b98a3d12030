"""Reflected diffusion on convex domains."""

from mirrorgen.diffusion.barrier_diffusion import BarrierDiffusion, MirrorStep
from mirrorgen.diffusion.bijections import Bijection, Identity, ProductBijection
from mirrorgen.diffusion.clamped_diffusion import ClampedDiffusion
from mirrorgen.diffusion.free_diffusion import FreeDiffusion
from mirrorgen.diffusion.heat_kernel import (
    BallHeatKernel,
    BoxHeatKernel,
    EquilateralHeatKernel,
    EuclideanHeatKernel,
    HalfspaceHeatKernel,
    HeatKernel,
    OrderedSimplexHeatKernel,
    OrthantHeatKernel,
    ProductHeatKernel,
    RightIsoscelesHeatKernel,
    default_kernel,
    ordered_simplex,
    random_step,
    unfolded_draw,
)
from mirrorgen.diffusion.mirror_diffusion import MirrorDiffusion
from mirrorgen.diffusion.objectives import Denoising, Implicit, Objective, motion
from mirrorgen.diffusion.pushforward import PushforwardDiffusion
from mirrorgen.diffusion.reflected_diffusion import ReflectedDiffusion
from mirrorgen.diffusion.reverse import METHODS, reverse
from mirrorgen.diffusion.schedules import GeometricSchedule, Schedule, sigma_grid, stratified
from mirrorgen.diffusion.score_model import ScoreModel
from mirrorgen.diffusion.simplex_bijections import Gaps, StickBreaking
from mirrorgen.diffusion.steps import (
    Ancestral,
    EulerMaruyama,
    Heun,
    OdeEuler,
    PredictorCorrector,
    ReverseStep,
    move,
)
from mirrorgen.diffusion.thresholding import Thresholding
from mirrorgen.geometry.extent import extent

__all__ = [
    "Ancestral",
    "BallHeatKernel",
    "Bijection",
    "BarrierDiffusion",
    "BoxHeatKernel",
    "ClampedDiffusion",
    "Denoising",
    "EquilateralHeatKernel",
    "EuclideanHeatKernel",
    "EulerMaruyama",
    "FreeDiffusion",
    "Gaps",
    "GeometricSchedule",
    "HalfspaceHeatKernel",
    "HeatKernel",
    "Heun",
    "Identity",
    "Implicit",
    "METHODS",
    "MirrorDiffusion",
    "MirrorStep",
    "Objective",
    "OdeEuler",
    "OrderedSimplexHeatKernel",
    "OrthantHeatKernel",
    "PredictorCorrector",
    "ProductBijection",
    "ProductHeatKernel",
    "PushforwardDiffusion",
    "ReflectedDiffusion",
    "ReverseStep",
    "RightIsoscelesHeatKernel",
    "Schedule",
    "StickBreaking",
    "ScoreModel",
    "Thresholding",
    "default_kernel",
    "extent",
    "motion",
    "move",
    "ordered_simplex",
    "random_step",
    "reverse",
    "sigma_grid",
    "stratified",
    "unfolded_draw",
]


def __getattr__(name: str) -> object:
    # This class is one of diffusers, which is optional and takes seconds to import.
    if name == "ReflectedVEScheduler":
        from mirrorgen.diffusion import scheduler

        return scheduler.ReflectedVEScheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
