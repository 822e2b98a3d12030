"""Unnormalised log-densities on convex domains, with exact moments and draws where they are known."""

from mirrorgen.targets.base import Target
from mirrorgen.targets.dirichlet import Dirichlet

__all__ = ["Dirichlet", "Target"]
