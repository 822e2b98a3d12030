"""Mirror descent and its relatives, as optimisers of torch and as functions."""

from mirrorgen.optim.accelerated import accelerated_mirror_descent
from mirrorgen.optim.dual_state import DualOptimizer
from mirrorgen.optim.line_search import LineSearchMirrorDescent
from mirrorgen.optim.mirror_descent import DualAveraging, MirrorDescent, MirrorProx

__all__ = [
    "DualAveraging",
    "DualOptimizer",
    "LineSearchMirrorDescent",
    "MirrorDescent",
    "MirrorProx",
    "accelerated_mirror_descent",
]
