"""Distances between samples, tail and feasibility diagnostics; all without gradients, float64 inside."""

from mirrorgen.metrics.energy import energy_distance
from mirrorgen.metrics.feasibility import FeasibilityReport, feasibility
from mirrorgen.metrics.frechet import frechet_distance, frechet_distance_gaussian
from mirrorgen.metrics.knn import knn_kl
from mirrorgen.metrics.mmd import mmd, mmd_multi, mmd_squared
from mirrorgen.metrics.tails import hill_estimator
from mirrorgen.metrics.wasserstein import sliced_wasserstein

__all__ = [
    "FeasibilityReport",
    "energy_distance",
    "feasibility",
    "frechet_distance",
    "frechet_distance_gaussian",
    "hill_estimator",
    "knn_kl",
    "mmd",
    "mmd_multi",
    "mmd_squared",
    "sliced_wasserstein",
]
