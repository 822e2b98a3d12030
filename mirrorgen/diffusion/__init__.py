"""Reflected diffusion on convex domains."""

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
from mirrorgen.diffusion.objectives import Denoising, Implicit, Objective, motion
from mirrorgen.diffusion.reflected_diffusion import ReflectedDiffusion
from mirrorgen.diffusion.reverse import METHODS, reverse
from mirrorgen.diffusion.schedules import GeometricSchedule, Schedule, extent, sigma_grid
from mirrorgen.diffusion.steps import (
    Ancestral,
    EulerMaruyama,
    Heun,
    OdeEuler,
    PredictorCorrector,
    ReverseStep,
    move,
)

__all__ = [
    "Ancestral",
    "BallHeatKernel",
    "BoxHeatKernel",
    "Denoising",
    "EquilateralHeatKernel",
    "EuclideanHeatKernel",
    "EulerMaruyama",
    "GeometricSchedule",
    "HalfspaceHeatKernel",
    "HeatKernel",
    "Heun",
    "Implicit",
    "METHODS",
    "Objective",
    "OdeEuler",
    "OrderedSimplexHeatKernel",
    "OrthantHeatKernel",
    "PredictorCorrector",
    "ProductHeatKernel",
    "ReflectedDiffusion",
    "ReverseStep",
    "RightIsoscelesHeatKernel",
    "Schedule",
    "default_kernel",
    "extent",
    "motion",
    "move",
    "ordered_simplex",
    "random_step",
    "reverse",
    "sigma_grid",
    "unfolded_draw",
]


def __getattr__(name: str) -> object:
    # This class is one of diffusers, which is optional and takes seconds to import.
    if name == "ReflectedVEScheduler":
        from mirrorgen.diffusion import scheduler

        return scheduler.ReflectedVEScheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
