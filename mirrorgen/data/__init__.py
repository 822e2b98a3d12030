"""Data modules that work offline: bundled images, folders and data sets of images, seeded synthetic targets, tables."""

from mirrorgen.data.base import TensorDataModule
from mirrorgen.data.digits import Digits
from mirrorgen.data.hugging_face import HuggingFaceImages
from mirrorgen.data.image_folder import ImageFolder
from mirrorgen.data.images import ImageData
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
from mirrorgen.data.watermark import (
    BYTE_TOLERANCE,
    Watermarked,
    acceptance_probability,
    embed,
    from_bytes,
    sign_p_value,
    to_bytes,
)

__all__ = [
    "BYTE_TOLERANCE",
    "Digits",
    "HuggingFaceImages",
    "ImageData",
    "ImageFolder",
    "Patches",
    "Synthetic",
    "Table",
    "TensorDataModule",
    "TensorLoader",
    "Watermarked",
    "acceptance_probability",
    "ball6",
    "ball6_domain",
    "bimodal",
    "checkerboard",
    "cube_mixture",
    "dirichlet",
    "disc",
    "embed",
    "from_bytes",
    "png_bits_per_dim",
    "polytope10",
    "polytope10_domain",
    "sign_p_value",
    "sphere_mixture",
    "to_bytes",
    "toy2d",
    "toy2d_domain",
]
