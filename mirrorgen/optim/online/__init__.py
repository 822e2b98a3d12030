"""Online learners: pure functions of a state, batched over experiments."""

from mirrorgen.optim.online.bandits import axis_action, axis_gradient, draw_actions, importance_weighted
from mirrorgen.optim.online.banker import BankerOMD, banker_scale, scale_free
from mirrorgen.optim.online.base import OnlineLearner
from mirrorgen.optim.online.descent import FollowRegularizedLeader, OnlineMirrorDescent
from mirrorgen.optim.online.implicit import ImplicitFTRL
from mirrorgen.optim.online.newton import OptimisticNewton
from mirrorgen.optim.online.optimistic import (
    OptimisticMirrorDescent,
    StronglyConvexStepSize,
    VariationStepSize,
)
from mirrorgen.optim.online.parameter_free import ParameterFree

__all__ = [
    "BankerOMD",
    "FollowRegularizedLeader",
    "ImplicitFTRL",
    "OnlineLearner",
    "OnlineMirrorDescent",
    "OptimisticMirrorDescent",
    "OptimisticNewton",
    "ParameterFree",
    "StronglyConvexStepSize",
    "VariationStepSize",
    "axis_action",
    "axis_gradient",
    "banker_scale",
    "draw_actions",
    "importance_weighted",
    "scale_free",
]
