"""Neumann heat kernels: transition densities of reflected Brownian motion."""

from mirrorgen.diffusion.heat_kernel.base import HeatKernel, random_step
from mirrorgen.diffusion.heat_kernel.box import BoxHeatKernel
from mirrorgen.diffusion.heat_kernel.default import default_kernel
from mirrorgen.diffusion.heat_kernel.product import ProductHeatKernel
from mirrorgen.diffusion.heat_kernel.unbounded import EuclideanHeatKernel, HalfspaceHeatKernel, OrthantHeatKernel

__all__ = [
    "BoxHeatKernel",
    "EuclideanHeatKernel",
    "HalfspaceHeatKernel",
    "HeatKernel",
    "OrthantHeatKernel",
    "ProductHeatKernel",
    "default_kernel",
    "random_step",
]
