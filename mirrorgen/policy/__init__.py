"""Policy optimisation by proximal steps on the simplex."""

from mirrorgen.policy.drifts import ClipDrift, DiscoveredDrift, Drift, KLDrift, check_drift, surrogate
from mirrorgen.policy.evolution import EvolutionRun, call_population, evolution_strategy
from mirrorgen.policy.gae import generalized_advantages
from mirrorgen.policy.learned_drift import LearnedDrift
from mirrorgen.policy.munchausen import munchausen_targets, tsallis_entropy, tsallis_greedy
from mirrorgen.policy.potentials import MixedPotential
from mirrorgen.policy.proximal import geometric_mixture, mirror_prox_step, optimistic_gradient, proximal_step

__all__ = [
    "ClipDrift",
    "DiscoveredDrift",
    "Drift",
    "EvolutionRun",
    "KLDrift",
    "LearnedDrift",
    "MixedPotential",
    "call_population",
    "check_drift",
    "evolution_strategy",
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
