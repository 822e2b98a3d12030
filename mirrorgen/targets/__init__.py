"""Unnormalised log-densities on convex domains, with exact moments and draws where they are known."""

from mirrorgen.targets.base import Target
from mirrorgen.targets.dirichlet import Dirichlet
from mirrorgen.targets.simplex_quadratic import SimplexQuadratic
from mirrorgen.targets.truncated_normal import TruncatedNormal
from mirrorgen.targets.uniform import Uniform

__all__ = ["Dirichlet", "SimplexQuadratic", "Target", "TruncatedNormal", "Uniform"]
