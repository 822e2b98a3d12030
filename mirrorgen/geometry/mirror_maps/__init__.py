"""Mirror maps, one Legendre function per file."""

from mirrorgen.geometry.mirror_maps.ball_log_barrier import BallLogBarrier
from mirrorgen.geometry.mirror_maps.base import MirrorMap, SeparableMap
from mirrorgen.geometry.mirror_maps.box_entropy import BoxEntropy
from mirrorgen.geometry.mirror_maps.hellinger_ball import HellingerBall
from mirrorgen.geometry.mirror_maps.simplex_entropy import SimplexEntropy

__all__ = ["BallLogBarrier", "BoxEntropy", "HellingerBall", "MirrorMap", "SeparableMap", "SimplexEntropy"]
