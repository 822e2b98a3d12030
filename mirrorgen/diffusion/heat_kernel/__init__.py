"""Neumann heat kernels: transition densities of reflected Brownian motion."""

from mirrorgen.diffusion.heat_kernel.base import HeatKernel, random_step

__all__ = ["HeatKernel", "random_step"]
