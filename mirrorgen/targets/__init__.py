"""Unnormalised log-densities on convex domains, with exact moments and draws where they are known."""

from mirrorgen.targets.anisotropic_laplace import AnisotropicLaplace
from mirrorgen.targets.base import Target
from mirrorgen.targets.checkerboard import Checkerboard
from mirrorgen.targets.composite import CompositeTarget
from mirrorgen.targets.dirichlet import Dirichlet
from mirrorgen.targets.distributions import TargetDistribution, UniformOn
from mirrorgen.targets.mixtures import DirichletMixture, TruncatedMixture
from mirrorgen.targets.simplex_quadratic import SimplexQuadratic
from mirrorgen.targets.sparse_logistic import SparseLogistic
from mirrorgen.targets.truncated_normal import TruncatedNormal
from mirrorgen.targets.uniform import Uniform

__all__ = [
    "AnisotropicLaplace",
    "Checkerboard",
    "CompositeTarget",
    "SparseLogistic",
    "Dirichlet",
    "DirichletMixture",
    "SimplexQuadratic",
    "Target",
    "TargetDistribution",
    "TruncatedMixture",
    "TruncatedNormal",
    "Uniform",
    "UniformOn",
]
