"""Mirror maps, one Legendre function per file."""

from mirrorgen.geometry.mirror_maps.ball_log_barrier import BallLogBarrier
from mirrorgen.geometry.mirror_maps.base import MirrorMap, SeparableMap
from mirrorgen.geometry.mirror_maps.box_entropy import BoxEntropy
from mirrorgen.geometry.mirror_maps.burg_entropy import BurgEntropy
from mirrorgen.geometry.mirror_maps.default import default
from mirrorgen.geometry.mirror_maps.exponential import Exponential
from mirrorgen.geometry.mirror_maps.hellinger_ball import HellingerBall
from mirrorgen.geometry.mirror_maps.hypentropy import Hypentropy
from mirrorgen.geometry.mirror_maps.learned import LearnedMirrorMap
from mirrorgen.geometry.mirror_maps.log_barrier import LogBarrier
from mirrorgen.geometry.mirror_maps.log_det import LogDet
from mirrorgen.geometry.mirror_maps.neg_entropy import NegEntropy
from mirrorgen.geometry.mirror_maps.p_norm import PNorm
from mirrorgen.geometry.mirror_maps.product_map import ProductMap
from mirrorgen.geometry.mirror_maps.quadratic import Quadratic
from mirrorgen.geometry.mirror_maps.registry import default_transform
from mirrorgen.geometry.mirror_maps.regularized_barrier import RegularizedBarrier
from mirrorgen.geometry.mirror_maps.simplex_entropy import SimplexEntropy
from mirrorgen.geometry.mirror_maps.slack_entropy import SlackEntropy
from mirrorgen.geometry.mirror_maps.softplus_dual import SoftplusDual
from mirrorgen.geometry.mirror_maps.tsallis_entropy import TsallisEntropy
from mirrorgen.geometry.mirror_maps.von_neumann import VonNeumann

__all__ = [
    "BallLogBarrier",
    "BoxEntropy",
    "BurgEntropy",
    "Exponential",
    "HellingerBall",
    "Hypentropy",
    "LearnedMirrorMap",
    "LogBarrier",
    "LogDet",
    "MirrorMap",
    "NegEntropy",
    "PNorm",
    "ProductMap",
    "Quadratic",
    "RegularizedBarrier",
    "SeparableMap",
    "SimplexEntropy",
    "SlackEntropy",
    "SoftplusDual",
    "TsallisEntropy",
    "VonNeumann",
    "default",
]
