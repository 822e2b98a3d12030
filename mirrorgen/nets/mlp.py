"""The plain multilayer perceptron."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mirrorgen.errors import ShapeError
from mirrorgen.nets.base import Net, activation_module
from mirrorgen.nets.embedding import CosineFeatures, TimeEmbedding

__all__ = ["MLP"]


class MLP(Net):
    """Fully connected network on ``[x, features of t]``; the condition is added to the first hidden layer.

    Adding a learned vector per class to the first pre-activation is the same as feeding one-hot labels.
    The default (three hidden layers of 128, ELU, raw time) is the network of Guan, Balasubramanian and Ma,
    "Mirror Flow Matching with Heavy-Tailed Priors for Generative Modeling on Convex Domains" (2025).

    Args:
        dim: Number of coordinates of a point.
        hidden: Widths of the hidden layers.
        activation: A name from ``ACTIVATIONS``.
        num_classes: Number of class labels; 0 for none.
        condition_dim: Length of a condition vector; 0 for none.
        time_embedding: Number of sinusoidal time features; 0 appends the time itself.
        cosines: Number of cosine features per coordinate in place of the coordinates, see ``CosineFeatures``.
        damping: Of the cosine features, see there.
    """

    def __init__(
        self,
        dim: int,
        hidden: Sequence[int] = (128, 128, 128),
        activation: str = "elu",
        num_classes: int = 0,
        condition_dim: int = 0,
        time_embedding: int = 0,
        cosines: int = 0,
        damping: tuple[float, float] | None = None,
    ) -> None:
        if not hidden or min(hidden) < 1:
            raise ShapeError(f"hidden lists at least one positive width; got {tuple(hidden)}")
        super().__init__(dim, num_classes, condition_dim, condition_width=hidden[0])
        self.hidden, self.activation, self.time_embedding = tuple(hidden), activation, time_embedding
        self.embed_time = TimeEmbedding(time_embedding) if time_embedding else None
        self.cosines, self.damping, self.features = cosines, damping, CosineFeatures(cosines, damping)
        widths = (self.features.size(dim) + (time_embedding or 1), *hidden)
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in zip(widths, hidden, strict=False))
        self.nonlinearity = activation_module(activation)
        self.output = nn.Linear(hidden[-1], dim)

    def _forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        time = t[..., None] if self.embed_time is None else self.embed_time(t)
        h = self.layers[0](torch.cat([self.features(x, t), time.to(x.dtype)], dim=-1))
        h = self.nonlinearity(h if embedding is None else h + embedding)
        for layer in self.layers[1:]:
            h = self.nonlinearity(layer(h))
        return self.output(h)
