"""Policy optimisation in finite Markov decision processes, with exact values."""

from mirrorgen.policy.tabular.constrained import (
    ConstrainedMDP,
    ConstrainedRun,
    constrained_garnet,
    lagrangian_ascent_descent,
)
from mirrorgen.policy.tabular.contracted_features import (
    LinearRun,
    contracted_feature_policy_optimization,
    contraction_factors,
    feature_norms,
)
from mirrorgen.policy.tabular.linear_mdp import LinearMDP, one_hot_mdp, random_linear_mdp
from mirrorgen.policy.tabular.mdp import TabularMDP, garnet, grid_world
from mirrorgen.policy.tabular.mean_field import CrowdGame, mean_field_mirror_ascent
from mirrorgen.policy.tabular.mirror_descent import (
    PolicyRun,
    adaptive_steps,
    geometric_steps,
    policy_mirror_descent,
    softmax_mirror_ascent,
)
from mirrorgen.policy.tabular.value_iteration import (
    averaged_value_iteration,
    mirror_value_iteration,
    munchausen_value_iteration,
)

__all__ = [
    "ConstrainedMDP",
    "ConstrainedRun",
    "CrowdGame",
    "LinearMDP",
    "LinearRun",
    "PolicyRun",
    "TabularMDP",
    "adaptive_steps",
    "averaged_value_iteration",
    "constrained_garnet",
    "contracted_feature_policy_optimization",
    "contraction_factors",
    "feature_norms",
    "garnet",
    "geometric_steps",
    "grid_world",
    "lagrangian_ascent_descent",
    "mean_field_mirror_ascent",
    "mirror_value_iteration",
    "munchausen_value_iteration",
    "one_hot_mdp",
    "policy_mirror_descent",
    "random_linear_mdp",
    "softmax_mirror_ascent",
]
