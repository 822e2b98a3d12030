"""The protocol of online learners: ``init``, ``predict``, ``update``, pure and batched over experiments."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.bregman_projections import AffineSet, CappedSimplex, L1Ball, projected_dual
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.mirror_maps import MirrorMap
from mirrorgen.geometry.validation import check_shape, should_check

__all__ = ["Constraint", "OnlineLearner", "StepSize", "step_size_at"]

StepSize = float | Tensor | Callable[[int], float | Tensor]
Constraint = Domain | AffineSet | CappedSimplex | L1Ball


@dataclass(frozen=True, eq=False)
class OnlineLearner(ABC):
    """A rule that plays ``x_t`` and is then told the gradient ``g_t`` of the loss there.

    ``state = learner.init(start)``, then round after round ``x = learner.predict(state)`` and
    ``state = learner.update(state, gradient)``. Nothing is changed in place. Leading axes are experiments that run in
    parallel; what a learner keeps are dual points, because points near a wall have lost in rounding where they are.

    Attributes:
        mirror_map: The geometry. Points are ``(*batch, dim)``, gradients have their shape.
        constraint: A set to stay in, within the map's domain, that has a Bregman projection (``bregman_projection``
            lists the pairs); None for the whole domain.
    """

    mirror_map: MirrorMap
    constraint: Constraint | None = None

    @abstractmethod
    def init(self, start: Tensor) -> Any:
        """The state before the first round, at points ``start (*batch, dim)`` strictly inside.

        Raises:
            ShapeError: If the last axis is not the domain's.
            DomainError: If a point is not strictly inside.
        """

    @abstractmethod
    def predict(self, state: Any) -> Tensor:
        """The points ``x_t (*batch, dim)`` of this round, strictly inside."""

    @abstractmethod
    def update(self, state: Any, gradient: Tensor) -> Any:
        """The state of the next round, given gradients ``(*batch, dim)`` at the points of this one.

        Raises:
            ShapeError: If the last axis of ``gradient`` is not the domain's.
        """

    def _start(self, start: Tensor) -> Tensor:
        """The dual points of the start, checked."""
        check_shape(start, self.mirror_map.domain.dim, "start")
        return self.mirror_map.to_dual(start)

    def _pull(self, gradient: Tensor) -> Tensor:
        """Gradients in the coordinates that pair with dual points, checked."""
        check_shape(gradient, self.mirror_map.domain.dim, "gradient")
        return self.mirror_map.pull_back(gradient)

    def _keep(self, y: Tensor) -> Tensor:
        """The dual points of the Bregman projections onto ``constraint``."""
        if self.constraint is None:
            return y
        return projected_dual(self.mirror_map, y, self.constraint)


def step_size_at(step_size: StepSize, round: int) -> float | Tensor:
    """The step size of ``round = 1, 2, ...``; a tensor ``(*batch)`` of them gets an axis for coordinates.

    Raises:
        DomainError: If a step size is not positive.
    """
    size = step_size(round) if callable(step_size) else step_size
    if isinstance(size, Tensor):
        if should_check(size) and not bool((size > 0).all()):
            raise DomainError(f"step sizes must be positive; the smallest of round {round} is {float(size.min())}")
        return size.unsqueeze(-1) if size.ndim else size
    if not size > 0:
        raise DomainError(f"step_size must be positive, got {size} in round {round}")
    return size


def squared_norm(g: Tensor) -> Tensor:
    """``|g|^2`` over coordinates, ``(*batch)``."""
    return torch.linalg.vecdot(g, g)
