"""Policy optimisation by proximal steps on the simplex.

Agents with networks load lazily (PEP 562), because they bring Stable-Baselines3, the extra ``rl``.
"""

import importlib
from typing import TYPE_CHECKING

from mirrorgen.policy.drifts import ClipDrift, DiscoveredDrift, Drift, KLDrift, check_drift, surrogate
from mirrorgen.policy.evolution import EvolutionRun, call_population, evolution_strategy
from mirrorgen.policy.gae import generalized_advantages
from mirrorgen.policy.gaussian_step import gaussian_proximal_step, natural_gradient_step
from mirrorgen.policy.learned_drift import LearnedDrift
from mirrorgen.policy.munchausen import munchausen_targets, tsallis_entropy, tsallis_greedy
from mirrorgen.policy.potentials import MixedPotential
from mirrorgen.policy.proximal import geometric_mixture, mirror_prox_step, optimistic_gradient, proximal_step

if TYPE_CHECKING:
    from mirrorgen.policy.agents import MDPO, MMD, MVIQ, DriftPO, SoftMDPO, StaQ

_AGENTS = frozenset({"MDPO", "MMD", "MVIQ", "DriftPO", "SoftMDPO", "StaQ"})

__all__ = [
    "MDPO",
    "MMD",
    "MVIQ",
    "ClipDrift",
    "DiscoveredDrift",
    "Drift",
    "DriftPO",
    "EvolutionRun",
    "KLDrift",
    "LearnedDrift",
    "MixedPotential",
    "SoftMDPO",
    "StaQ",
    "call_population",
    "check_drift",
    "evolution_strategy",
    "gaussian_proximal_step",
    "generalized_advantages",
    "geometric_mixture",
    "mirror_prox_step",
    "munchausen_targets",
    "natural_gradient_step",
    "optimistic_gradient",
    "proximal_step",
    "surrogate",
    "tsallis_entropy",
    "tsallis_greedy",
]


def __getattr__(name: str) -> object:
    if name in _AGENTS:
        return getattr(importlib.import_module("mirrorgen.policy.agents"), name)
    raise AttributeError(f"module 'mirrorgen.policy' has no attribute {name!r}")
