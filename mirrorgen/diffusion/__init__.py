"""Reflected diffusion on convex domains."""

from mirrorgen.diffusion.heat_kernel import HeatKernel, default_kernel, random_step
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
    "Denoising",
    "EulerMaruyama",
    "GeometricSchedule",
    "HeatKernel",
    "Heun",
    "Implicit",
    "METHODS",
    "Objective",
    "OdeEuler",
    "PredictorCorrector",
    "ReflectedDiffusion",
    "ReverseStep",
    "Schedule",
    "default_kernel",
    "extent",
    "motion",
    "move",
    "random_step",
    "reverse",
    "sigma_grid",
]
