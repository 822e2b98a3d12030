"""Distances between samples, diagnostics of chains, tails and feasibility; all without gradients, float64 inside."""

from mirrorgen.metrics.energy import energy_distance
from mirrorgen.metrics.ess import effective_sample_size, mcse, weight_ess
from mirrorgen.metrics.feasibility import FeasibilityReport, feasibility
from mirrorgen.metrics.frechet import frechet_distance, frechet_distance_gaussian
from mirrorgen.metrics.half_volume import HalfVolume, gauge, half_volume, half_volume_of_gauge
from mirrorgen.metrics.knn import knn_kl
from mirrorgen.metrics.ksd import ksd, ksd_squared
from mirrorgen.metrics.mmd import mmd, mmd_multi, mmd_squared
from mirrorgen.metrics.rhat import rhat
from mirrorgen.metrics.tails import boundary_exponent, hill_estimator
from mirrorgen.metrics.wasserstein import sliced_wasserstein

__all__ = [
    "boundary_exponent",
    "FeasibilityReport",
    "HalfVolume",
    "effective_sample_size",
    "energy_distance",
    "feasibility",
    "frechet_distance",
    "frechet_distance_gaussian",
    "gauge",
    "half_volume",
    "half_volume_of_gauge",
    "hill_estimator",
    "knn_kl",
    "ksd",
    "ksd_squared",
    "mcse",
    "mmd",
    "mmd_multi",
    "mmd_squared",
    "rhat",
    "sliced_wasserstein",
    "weight_ess",
]
