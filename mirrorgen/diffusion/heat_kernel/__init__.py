"""Neumann heat kernels: transition densities of reflected Brownian motion."""

from mirrorgen.diffusion.heat_kernel.ball import BallHeatKernel
from mirrorgen.diffusion.heat_kernel.base import HeatKernel, random_step
from mirrorgen.diffusion.heat_kernel.box import BoxHeatKernel
from mirrorgen.diffusion.heat_kernel.default import default_kernel
from mirrorgen.diffusion.heat_kernel.ordered import OrderedSimplexHeatKernel, ordered_simplex
from mirrorgen.diffusion.heat_kernel.product import ProductHeatKernel
from mirrorgen.diffusion.heat_kernel.triangle import EquilateralHeatKernel, RightIsoscelesHeatKernel
from mirrorgen.diffusion.heat_kernel.unbounded import EuclideanHeatKernel, HalfspaceHeatKernel, OrthantHeatKernel
from mirrorgen.diffusion.heat_kernel.unfolded import unfolded_draw

__all__ = [
    "BallHeatKernel",
    "BoxHeatKernel",
    "EquilateralHeatKernel",
    "EuclideanHeatKernel",
    "HalfspaceHeatKernel",
    "HeatKernel",
    "OrderedSimplexHeatKernel",
    "OrthantHeatKernel",
    "ProductHeatKernel",
    "RightIsoscelesHeatKernel",
    "default_kernel",
    "ordered_simplex",
    "random_step",
    "unfolded_draw",
]
