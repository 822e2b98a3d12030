"""The contract of a backbone: ``net(x, t, condition) -> Tensor`` of the shape of ``x``."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.nets.embedding import ConditionEmbedding

__all__ = ["ACTIVATIONS", "Net", "activation_module"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}
"""Activations by the name that configurations use."""


def activation_module(name: str) -> nn.Module:
    """Build the activation called ``name``; a wrong name raises DomainError with the candidates."""
    if name not in ACTIVATIONS:
        raise DomainError(f"unknown activation {name!r}; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


class Net(nn.Module, ABC):
    """A network on vectors: velocity, score or force ``net(x, t, condition)`` of the shape of ``x``.

    A subclass implements ``_forward`` on checked inputs; shapes, dtypes and the default condition are
    handled here once. Inputs of another floating dtype than the weights are cast on the way in and the
    output is cast back, so a double-precision state may run through a single-precision network.

    Args:
        dim: Number of coordinates of a point (last axis of ``x``).
        num_classes: Number of class labels; 0 for none. Index ``num_classes`` is the null class.
        condition_dim: Length of a condition vector; 0 for none.
        condition_width: Size of the embedding handed to ``_forward``.
    """

    def __init__(self, dim: int, num_classes: int, condition_dim: int, condition_width: int) -> None:
        super().__init__()
        if dim < 1:
            raise ShapeError(f"a network acts on points with at least one coordinate; got dim={dim}")
        self.dim, self.num_classes, self.condition_dim = dim, num_classes, condition_dim
        self.embed_condition = ConditionEmbedding(condition_width, num_classes, condition_dim)

    def forward(self, x: Tensor, t: Tensor | float, condition: Tensor | None = None) -> Tensor:
        """Evaluate the network.

        Args:
            x: Points ``(*batch, dim)``.
            t: Time, one number or ``(*batch)``.
            condition: None (unconditional), long labels ``(*batch)`` or vectors ``(*batch, condition_dim)``.

        Returns:
            A tensor of the shape and dtype of ``x``.

        Raises:
            ShapeError: If a shape or dtype kind does not fit.
            DomainError: If a label is out of range.
        """
        time = self.check_inputs(x, t)
        weight = next(self.parameters())
        embedding = self.embed_condition(condition, x.shape[:-1])
        return self._forward(x.to(weight.dtype), time, embedding).to(x.dtype)

    def check_inputs(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Check the shapes of points and time; return the time per point, ``(*batch)``, in float32 or better."""
        if x.ndim == 0 or x.shape[-1] != self.dim or not x.is_floating_point():
            raise ShapeError(
                f"x must be floating point of shape (*, {self.dim}); got {x.dtype} of shape {tuple(x.shape)}"
            )
        batch = x.shape[:-1]
        time = torch.as_tensor(t, device=x.device)
        # Time keeps its own precision if that is finer: the embedding's phases need it.
        time = time.to(torch.promote_types(next(self.parameters()).dtype, torch.float32))
        if time.shape not in ((), batch):
            raise ShapeError(f"t must be one number or have shape {tuple(batch)}; got {tuple(time.shape)}")
        return time.expand(batch)

    @abstractmethod
    def _forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        """Evaluate at points ``(*batch, dim)``, times ``(*batch)`` and an embedding that broadcasts."""

    def drop_condition(self, condition: Tensor, drop: Tensor) -> Tensor:
        """Replace the conditions marked by ``drop`` by the null condition, as guidance training needs.

        Args:
            condition: Labels ``(*batch)`` or vectors ``(*batch, condition_dim)``.
            drop: Bool ``(*batch)``, True where the condition is to be forgotten.

        Returns:
            The conditions with null entries: label ``num_classes``, or vectors of NaN, which mean "missing".
        """
        if self.num_classes:
            return torch.where(drop, torch.full_like(condition, self.num_classes), condition)
        if self.condition_dim:
            return torch.where(drop[..., None], torch.full_like(condition, float("nan")), condition)
        raise ShapeError("this network takes no condition; build it with num_classes=... or condition_dim=...")
