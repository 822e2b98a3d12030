"""Non-smooth convex functions with Bregman proximity operators in closed form."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains.base import Domain, margin

__all__ = ["GroupNorm", "Indicator", "L1Norm", "ProximalFunction"]


class ProximalFunction(ABC):
    """A convex function, callable on points ``(..., dim)`` with values ``(...)``, that ``prox_dual`` knows."""

    @abstractmethod
    def __call__(self, u: Tensor) -> Tensor:
        """``f(u)``, shape ``(...)``."""

    @abstractmethod
    def subgradient(self, u: Tensor) -> Tensor:
        """The subgradient of least norm at ``u (..., dim)``."""


def _checked(weight: float | Tensor) -> None:
    values = torch.as_tensor(weight)
    if not bool((torch.isfinite(values) & (values >= 0)).all()):
        raise DomainError(f"weight must be finite and non-negative, got {weight}")


@dataclass(frozen=True, eq=False)
class L1Norm(ProximalFunction):
    """``f(u) = sum_i weight_i |u_i|``.

    Args:
        weight: Non-negative factor, or one per coordinate ``(dim,)``.
    """

    weight: float | Tensor = 1.0

    def __post_init__(self) -> None:
        _checked(self.weight)

    def weights(self, u: Tensor) -> Tensor:
        """The weight in the dtype and on the device of ``u``."""
        return torch.as_tensor(self.weight, dtype=u.dtype, device=u.device)

    def __call__(self, u: Tensor) -> Tensor:
        return (self.weights(u) * u.abs()).sum(-1)

    def subgradient(self, u: Tensor) -> Tensor:
        return self.weights(u) * torch.sign(u)


@dataclass(frozen=True, eq=False)
class GroupNorm(ProximalFunction):
    """``f(u) = weight sum_g |u_g|_2`` over consecutive groups of coordinates (group lasso).

    Args:
        weight: Non-negative factor.
        size: Coordinates per group, a divisor of the dimension.
    """

    weight: float
    size: int

    def __post_init__(self) -> None:
        _checked(self.weight)

    def groups(self, u: Tensor) -> Tensor:
        """``u (..., dim)`` as ``(..., dim / size, size)``."""
        if u.shape[-1] % self.size:
            raise ShapeError(f"GroupNorm has groups of {self.size}, which do not divide {u.shape[-1]} coordinates")
        return u.unflatten(-1, (-1, self.size))

    def __call__(self, u: Tensor) -> Tensor:
        return self.weight * torch.linalg.vector_norm(self.groups(u), dim=-1).sum(-1)

    def subgradient(self, u: Tensor) -> Tensor:
        return self.weight * torch.nn.functional.normalize(self.groups(u), dim=-1, eps=1e-300).flatten(-2)


@dataclass(frozen=True, eq=False)
class Indicator(ProximalFunction):
    """Zero on the closure of a convex set, infinite elsewhere; its left proximity operator is the projection.

    Args:
        target: The set.
    """

    target: Domain

    def __call__(self, u: Tensor) -> Tensor:
        # Projections are on the boundary up to rounding.
        room = margin(u, u.abs().amax(-1, keepdim=True).clamp_min(1.0))
        return torch.where((self.target.slack(u) >= -room).all(-1), 0.0, torch.inf).to(u)

    def subgradient(self, u: Tensor) -> Tensor:
        return torch.zeros_like(u)
