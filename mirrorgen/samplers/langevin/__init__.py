"""Langevin kernels: in the dual space of a mirror map, and in the metric of its Hessian."""

from mirrorgen.samplers.langevin.dikin import DikinWalk
from mirrorgen.samplers.langevin.mapla import MAPLA
from mirrorgen.samplers.langevin.mirror_langevin import MirrorLangevin
from mirrorgen.samplers.langevin.mirrored_langevin import MirroredLangevin

__all__ = ["MAPLA", "DikinWalk", "MirrorLangevin", "MirroredLangevin"]
