"""Data modules that work offline: bundled images, seeded synthetic targets, tables."""

from mirrorgen.data.base import TensorDataModule
from mirrorgen.data.digits import Digits
from mirrorgen.data.loader import TensorLoader
from mirrorgen.data.patches import Patches, png_bits_per_dim
from mirrorgen.data.published import (
    ball6,
    ball6_domain,
    bimodal,
    checkerboard,
    cube_mixture,
    dirichlet,
    disc,
    polytope10,
    polytope10_domain,
    sphere_mixture,
    toy2d,
    toy2d_domain,
)
from mirrorgen.data.synthetic import Synthetic
from mirrorgen.data.table import Table

__all__ = [
    "Digits",
    "Patches",
    "Synthetic",
    "Table",
    "TensorDataModule",
    "TensorLoader",
    "ball6",
    "ball6_domain",
    "bimodal",
    "checkerboard",
    "cube_mixture",
    "dirichlet",
    "disc",
    "png_bits_per_dim",
    "polytope10",
    "polytope10_domain",
    "sphere_mixture",
    "toy2d",
    "toy2d_domain",
]
