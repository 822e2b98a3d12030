"""Neumann heat kernels: transition densities of reflected Brownian motion."""

from mirrorgen.diffusion.heat_kernel.base import HeatKernel, random_step
from mirrorgen.diffusion.heat_kernel.default import default_kernel

__all__ = ["HeatKernel", "default_kernel", "random_step"]
