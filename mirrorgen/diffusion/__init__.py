"""Reflected diffusion on convex domains."""

from mirrorgen.diffusion.heat_kernel import HeatKernel, random_step

__all__ = ["HeatKernel", "random_step"]
