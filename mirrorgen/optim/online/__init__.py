"""Online learners: pure functions of a state, batched over experiments."""

from mirrorgen.optim.online.base import OnlineLearner
from mirrorgen.optim.online.descent import FollowRegularizedLeader, OnlineMirrorDescent
from mirrorgen.optim.online.optimistic import OptimisticMirrorDescent, VariationStepSize

__all__ = [
    "FollowRegularizedLeader",
    "OnlineLearner",
    "OnlineMirrorDescent",
    "OptimisticMirrorDescent",
    "VariationStepSize",
]
