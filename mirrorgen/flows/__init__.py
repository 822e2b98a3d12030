"""Flow matching in the dual of a mirror map."""

from mirrorgen.flows.couplings import Coupling, Independent, OptimalTransport
from mirrorgen.flows.dual_transform import DualTransform, RobustStandardize
from mirrorgen.flows.mirror_flow import MirrorFlow
from mirrorgen.flows.paths import PathSample, linear_path
from mirrorgen.flows.priors import Gaussian, Prior, StudentT

__all__ = [
    "Coupling",
    "DualTransform",
    "Gaussian",
    "Independent",
    "MirrorFlow",
    "OptimalTransport",
    "PathSample",
    "Prior",
    "RobustStandardize",
    "StudentT",
    "linear_path",
]
