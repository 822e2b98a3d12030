"""Invertible transforms of the dual space between the mirror map and the flow."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError, ShapeError

__all__ = ["DualTransform", "RobustStandardize"]


class DualTransform(nn.Module, ABC):
    """A bijection of ``R^dim`` fitted once on dual training data and saved with the model."""

    fitted: Tensor

    @abstractmethod
    def initialize(self, dim: int) -> None:
        """Register buffers for ``dim`` coordinates, at the identity; called when a model takes the transform."""

    @abstractmethod
    def fit(self, y: Tensor) -> None:
        """Fit to dual points ``(n, dim)``."""

    @abstractmethod
    def forward(self, y: Tensor) -> Tensor:
        """Dual points to flow coordinates."""

    @abstractmethod
    def inverse(self, u: Tensor) -> Tensor:
        """Flow coordinates to dual points."""

    @abstractmethod
    def log_det(self, y: Tensor) -> Tensor:
        """``log |det d forward / d y|``, shape ``(...)``."""


class RobustStandardize(DualTransform):
    """``u = (y - median) / scale`` per coordinate, with ``scale`` a quantile range.

    The scale is ``(q(1-a) - q(a)) / (z(1-a) - z(a))`` with ``z`` the normal quantile, so that normal data get
    unit deviation. Mean and standard deviation would be set by outliers: duals of barrier maps are heavy-tailed,
    and standardising them by moments makes the flow worse.

    Args:
        tail: The ``a`` of the lower quantile, in (0, 0.5); 0.25 is the interquartile range.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, tail: float = 0.25) -> None:
        super().__init__()
        if not 0 < tail < 0.5:
            raise DomainError(f"tail must lie in (0, 0.5), got {tail}")
        self.tail = tail

    def extra_repr(self) -> str:
        return f"tail={self.tail:g}"

    def initialize(self, dim: int) -> None:
        if "shift" not in self._buffers:
            self.register_buffer("shift", torch.zeros(dim))
            self.register_buffer("scale", torch.ones(dim))
            self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def fit(self, y: Tensor) -> None:
        if len(y) == 0:
            raise ShapeError("fitting needs at least one point")
        values = y.detach().double().sort(0).values
        a = self.tail
        low, middle, high = (_quantile(values, q) for q in (a, 0.5, 1 - a))
        normal = 2 * torch.special.ndtri(torch.tensor(1 - a, dtype=torch.float64))
        scale = (high - low) / normal
        # A coordinate without spread has no scale of its own; it is only centred.
        scale = torch.where(scale > 1e-6 * (1 + middle.abs()), scale, torch.ones_like(scale))
        self.shift.copy_(middle)
        self.scale.copy_(scale)
        self.fitted.fill_(True)

    def forward(self, y: Tensor) -> Tensor:
        return (y - self.shift.to(y.dtype)) / self.scale.to(y.dtype)

    def inverse(self, u: Tensor) -> Tensor:
        return self.shift.to(u.dtype) + self.scale.to(u.dtype) * u

    def log_det(self, y: Tensor) -> Tensor:
        return -self.scale.to(y.dtype).log().sum().expand(y.shape[:-1])


def _quantile(ordered: Tensor, q: float) -> Tensor:
    """Linear interpolation between order statistics; ``torch.quantile`` refuses more than 16 million entries."""
    position = q * (len(ordered) - 1)
    index = min(int(position), len(ordered) - 2) if len(ordered) > 1 else 0
    upper = ordered[min(index + 1, len(ordered) - 1)]
    return torch.lerp(ordered[index], upper, position - index)
