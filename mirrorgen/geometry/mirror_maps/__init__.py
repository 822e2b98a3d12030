"""Mirror maps, one Legendre function per file."""

from mirrorgen.geometry.mirror_maps.base import MirrorMap, SeparableMap
from mirrorgen.geometry.mirror_maps.box_entropy import BoxEntropy

__all__ = ["BoxEntropy", "MirrorMap", "SeparableMap"]
