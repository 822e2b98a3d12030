"""Flow matching in the dual of a mirror map, and flows without one for comparison."""

from mirrorgen.flows.baselines import GaugeFlow, ReflectedFlow, RepairedFlow, SphereFlow
from mirrorgen.flows.couplings import Coupling, Independent, OptimalTransport
from mirrorgen.flows.flow_model import FlowModel
from mirrorgen.flows.mirror_flow import MirrorFlow
from mirrorgen.flows.paths import PathSample, linear_path
from mirrorgen.flows.potential_flow import ConvexPotentialFlow
from mirrorgen.flows.priors import Gaussian, Prior, StudentT
from mirrorgen.flows.soft_log import SoftLog
from mirrorgen.flows.tails import TailReport, tail_report
from mirrorgen.geometry.dual_transform import DualTransform, RobustStandardize

__all__ = [
    "ConvexPotentialFlow",
    "Coupling",
    "DualTransform",
    "FlowModel",
    "GaugeFlow",
    "Gaussian",
    "Independent",
    "MirrorFlow",
    "OptimalTransport",
    "PathSample",
    "Prior",
    "ReflectedFlow",
    "RepairedFlow",
    "RobustStandardize",
    "SoftLog",
    "SphereFlow",
    "StudentT",
    "TailReport",
    "linear_path",
    "tail_report",
]
