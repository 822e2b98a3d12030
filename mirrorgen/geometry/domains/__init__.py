"""Convex domains, one set per file."""

from mirrorgen.geometry.domains.base import Domain
from mirrorgen.geometry.domains.box import Box

__all__ = ["Box", "Domain"]
