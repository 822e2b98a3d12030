"""The core: convex domains, mirror maps on them and the Bregman geometry they induce."""

from mirrorgen.geometry import domains, mirror_maps
from mirrorgen.geometry.validation import validation

__all__ = ["domains", "mirror_maps", "validation"]
