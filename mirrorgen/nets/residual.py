"""The residual perceptron, modulated by time and condition."""

from torch import Tensor, nn

from mirrorgen.errors import ShapeError
from mirrorgen.nets.base import Net, activation_module
from mirrorgen.nets.embedding import CosineFeatures, TimeEmbedding

__all__ = ["ResidualMLP"]


class ResidualMLP(Net):
    """Residual blocks ``h + W_2 a((1 + g) W_1 norm(h) + s)``, with ``g`` and ``s`` from time and condition.

    The output layer starts at zero, so the untrained network is the zero field. Feature-wise modulation:
    Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer" (2018).

    Args:
        dim: Number of coordinates of a point.
        width: Width of the residual stream.
        depth: Number of residual blocks.
        time_embedding: Number of sinusoidal time features, even, at least 2.
        num_classes: Number of class labels; 0 for none.
        condition_dim: Length of a condition vector; 0 for none.
        activation: A name from ``ACTIVATIONS``.
        cosines: Number of cosine features per coordinate in place of the coordinates, see ``CosineFeatures``.
    """

    def __init__(
        self,
        dim: int,
        width: int = 384,
        depth: int = 4,
        time_embedding: int = 64,
        num_classes: int = 0,
        condition_dim: int = 0,
        activation: str = "silu",
        cosines: int = 0,
    ) -> None:
        if width < 1 or depth < 1:
            raise ShapeError(f"width and depth are at least 1; got width={width}, depth={depth}")
        context = 2 * time_embedding
        super().__init__(dim, num_classes, condition_dim, condition_width=context)
        self.width, self.depth, self.time_embedding, self.activation = (
            width,
            depth,
            time_embedding,
            activation,
        )
        self.embed_time = TimeEmbedding(time_embedding)
        self.time_layer = nn.Linear(time_embedding, context)
        self.nonlinearity = activation_module(activation)
        self.cosines, self.features = cosines, CosineFeatures(cosines)
        self.input = nn.Linear(self.features.size(dim), width)
        self.blocks = nn.ModuleList(_Block(width, context, activation) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def _forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        context = self.time_layer(self.embed_time(t).to(x.dtype))
        context = self.nonlinearity(context if embedding is None else context + embedding)
        h = self.input(self.features(x))
        for block in self.blocks:
            h = block(h, context)
        return self.output(self.nonlinearity(self.norm(h)))


class _Block(nn.Module):
    """One residual block of ``ResidualMLP``."""

    def __init__(self, width: int, context: int, activation: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.modulation = nn.Linear(context, 2 * width)
        self.second = nn.Linear(width, width)
        self.nonlinearity = activation_module(activation)

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        """Advance the residual stream ``(*, width)`` given the context ``(*, context)``."""
        scale, shift = self.modulation(context).chunk(2, dim=-1)
        return h + self.second(self.nonlinearity((1 + scale) * self.first(self.norm(h)) + shift))
