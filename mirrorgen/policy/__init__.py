"""Policy optimisation by proximal steps on the simplex."""

from mirrorgen.policy.drifts import ClipDrift, DiscoveredDrift, Drift, KLDrift, check_drift, surrogate
from mirrorgen.policy.gae import generalized_advantages
from mirrorgen.policy.munchausen import munchausen_targets, tsallis_entropy, tsallis_greedy
from mirrorgen.policy.proximal import geometric_mixture, mirror_prox_step, optimistic_gradient, proximal_step

__all__ = [
    "ClipDrift",
    "DiscoveredDrift",
    "Drift",
    "KLDrift",
    "check_drift",
    "generalized_advantages",
    "geometric_mixture",
    "mirror_prox_step",
    "munchausen_targets",
    "optimistic_gradient",
    "proximal_step",
    "surrogate",
    "tsallis_entropy",
    "tsallis_greedy",
]
