"""Convex domains, one set per file."""

from mirrorgen.geometry.domains.ball import Ball
from mirrorgen.geometry.domains.base import Domain
from mirrorgen.geometry.domains.box import Box
from mirrorgen.geometry.domains.euclidean import Euclidean
from mirrorgen.geometry.domains.halfspace import Halfspace
from mirrorgen.geometry.domains.intersection import Intersection
from mirrorgen.geometry.domains.orthant import Orthant
from mirrorgen.geometry.domains.polytope import Polytope
from mirrorgen.geometry.domains.product import Product
from mirrorgen.geometry.domains.psd import PSD
from mirrorgen.geometry.domains.simplex import Simplex
from mirrorgen.geometry.domains.slabs import Slabs
from mirrorgen.geometry.domains.transport_polytope import Birkhoff, TransportPolytope
from mirrorgen.geometry.domains.watermark import Watermark

__all__ = [
    "Ball",
    "Birkhoff",
    "Box",
    "Domain",
    "Euclidean",
    "Halfspace",
    "Intersection",
    "Orthant",
    "Polytope",
    "Product",
    "PSD",
    "Simplex",
    "Slabs",
    "TransportPolytope",
    "Watermark",
]
