"""Langevin kernels: in the dual space of a mirror map, and in the metric of its Hessian."""

from mirrorgen.samplers.langevin.bregman_moreau import BregmanMoreauLangevin
from mirrorgen.samplers.langevin.dikin import DikinWalk
from mirrorgen.samplers.langevin.mapla import MAPLA
from mirrorgen.samplers.langevin.mirror_langevin import MirrorLangevin
from mirrorgen.samplers.langevin.mirrored_langevin import MirroredLangevin
from mirrorgen.samplers.langevin.myula import MYULA
from mirrorgen.samplers.langevin.projected import ProjectedLangevin
from mirrorgen.samplers.langevin.reflected import ReflectedLangevin

__all__ = [
    "BregmanMoreauLangevin",
    "MYULA",
    "ProjectedLangevin",
    "ReflectedLangevin",
    "MAPLA",
    "DikinWalk",
    "MirrorLangevin",
    "MirroredLangevin",
]
