"""Mirror descent and its relatives, as optimisers of torch and as functions."""

from mirrorgen.optim.accelerated import accelerated_mirror_descent
from mirrorgen.optim.dual_state import DualOptimizer
from mirrorgen.optim.fixed_point import averaged_fixed_point, harmonic_weight
from mirrorgen.optim.line_search import LineSearchMirrorDescent
from mirrorgen.optim.mirror_descent import DualAveraging, MirrorDescent, MirrorProx
from mirrorgen.optim.optimistic_amsgrad import OptimisticAMSGrad
from mirrorgen.optim.parameter_free import ParameterFreeDescent
from mirrorgen.optim.permutahedron import (
    cvar_spectrum,
    esrm_spectrum,
    extremile_spectrum,
    permutahedron_projection,
)
from mirrorgen.optim.sample_weights import SampleWeights
from mirrorgen.optim.simpl import SiMPL, SiMPLResult, SiMPLStep
from mirrorgen.optim.spectral_risk import Prospect, spectral_weights
from mirrorgen.optim.surrogate import BregmanSurrogate

__all__ = [
    "BregmanSurrogate",
    "DualAveraging",
    "DualOptimizer",
    "LineSearchMirrorDescent",
    "MirrorDescent",
    "MirrorProx",
    "OptimisticAMSGrad",
    "ParameterFreeDescent",
    "Prospect",
    "SampleWeights",
    "SiMPL",
    "SiMPLResult",
    "SiMPLStep",
    "accelerated_mirror_descent",
    "averaged_fixed_point",
    "cvar_spectrum",
    "esrm_spectrum",
    "extremile_spectrum",
    "harmonic_weight",
    "permutahedron_projection",
    "spectral_weights",
]
