"""Small backbones called as ``net(x, t, condition)``: plain networks without geometry inside."""

from mirrorgen.nets.base import ACTIVATIONS, Net
from mirrorgen.nets.embedding import ConditionEmbedding, CosineFeatures, TimeEmbedding
from mirrorgen.nets.guidance import expand_condition, guided, state_options
from mirrorgen.nets.input_convex import InputConvexMLP
from mirrorgen.nets.mlp import MLP
from mirrorgen.nets.preconditioned import Preconditioned
from mirrorgen.nets.residual import ResidualMLP
from mirrorgen.nets.sum import Sum
from mirrorgen.nets.unet import UNet

__all__ = [
    "ACTIVATIONS",
    "ConditionEmbedding",
    "CosineFeatures",
    "InputConvexMLP",
    "MLP",
    "Net",
    "Preconditioned",
    "ResidualMLP",
    "Sum",
    "TimeEmbedding",
    "UNet",
    "expand_condition",
    "guided",
    "state_options",
]
