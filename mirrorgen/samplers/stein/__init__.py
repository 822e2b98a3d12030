"""Stein variational methods: particles that interact through a reproducing kernel, one algorithm per file."""

from mirrorgen.samplers.stein.kernels import IMQ, RBF, RadialKernel
from mirrorgen.samplers.stein.matrix_svgd import MatrixSVGD
from mirrorgen.samplers.stein.msvgd import MSVGD
from mirrorgen.samplers.stein.optimizers import Coin, GradientStep, Optimizer, RMSprop
from mirrorgen.samplers.stein.projected_svgd import ProjectedSVGD
from mirrorgen.samplers.stein.svgd import SVGD
from mirrorgen.samplers.stein.svmd import SVMD
from mirrorgen.samplers.stein.svng import SVNG

__all__ = [
    "IMQ",
    "MSVGD",
    "RBF",
    "SVGD",
    "SVMD",
    "SVNG",
    "Coin",
    "GradientStep",
    "MatrixSVGD",
    "Optimizer",
    "ProjectedSVGD",
    "RMSprop",
    "RadialKernel",
]
