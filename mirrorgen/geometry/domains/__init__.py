"""Convex domains, one set per file."""

from mirrorgen.geometry.domains.ball import Ball
from mirrorgen.geometry.domains.base import Domain
from mirrorgen.geometry.domains.box import Box
from mirrorgen.geometry.domains.polytope import Polytope
from mirrorgen.geometry.domains.simplex import Simplex

__all__ = ["Ball", "Box", "Domain", "Polytope", "Simplex"]
