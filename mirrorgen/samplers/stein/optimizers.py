"""Step rules on the coordinates that particles move in: pure functions of their memory and a counter."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mirrorgen.betting import Bets, bet
from mirrorgen.errors import DomainError

__all__ = ["Coin", "GradientStep", "Optimizer", "RMSprop"]


@dataclass(frozen=True)
class Optimizer(ABC):
    """A rule that moves ``y`` along an ascent direction.

    Attributes:
        slots: Vectors of memory per particle.
    """

    slots: ClassVar[int] = 0

    def init(self, y: Tensor) -> Tensor:
        """The memory ``(chains, slots, dim)`` at starting points ``y (chains, dim)``."""
        return y.new_zeros(len(y), self.slots, y.shape[-1])

    @abstractmethod
    def step(self, y: Tensor, g: Tensor, memory: Tensor, iteration: Tensor) -> tuple[Tensor, Tensor]:
        """New points and memory from directions ``g (chains, dim)`` and the number of steps taken before."""


@dataclass(frozen=True)
class _Scheduled(Optimizer):
    """Rules with a step size that stays constant or falls linearly to zero at step ``total_steps``."""

    step_size: float = 0.1
    total_steps: int | None = None

    def __post_init__(self) -> None:
        if not self.step_size > 0 or (self.total_steps is not None and self.total_steps < 1):
            raise DomainError(
                f"{type(self).__name__} needs step_size > 0 and total_steps >= 1 or None, "
                f"got {self.step_size} and {self.total_steps}"
            )

    def _scale(self, iteration: Tensor, y: Tensor) -> Tensor:
        spent = 0.0 if self.total_steps is None else 1 / self.total_steps
        return self.step_size * (1 - spent * iteration.to(y)).clamp_min(0)


@dataclass(frozen=True)
class GradientStep(_Scheduled):
    """``y + step_size g``: Euler's scheme for the flow of the particles."""

    def step(self, y: Tensor, g: Tensor, memory: Tensor, iteration: Tensor) -> tuple[Tensor, Tensor]:
        return y + self._scale(iteration, y) * g, memory


@dataclass(frozen=True)
class RMSprop(_Scheduled):
    """``v <- decay v + (1 - decay) g^2``, ``y + step_size g / (sqrt(v) + floor)``, with Keras' constants.

    Each coordinate moves by about ``step_size`` per step whatever its gradient (by ``step_size / sqrt(1 - decay)`` in
    the first), so ``step_size`` times the number of steps has to exceed the distance to go. A constant step size
    leaves particles jittering by that much; ``total_steps`` removes it.

    Args:
        step_size: Distance per step, in the units of ``y``.
        total_steps: Step at which the step size has fallen to zero; None keeps it constant.
        decay: Of the mean of squares; 0.99 (another library's default) starts with steps of ``10 step_size``.
        floor: Added to the root.

    Source: Hinton, "Neural networks for machine learning", lecture 6e, 2012.
    """

    decay: float = 0.9
    floor: float = 1e-7

    slots: ClassVar[int] = 1

    def step(self, y: Tensor, g: Tensor, memory: Tensor, iteration: Tensor) -> tuple[Tensor, Tensor]:
        # The memory is sqrt(v): squares of directions near a boundary may overflow.
        root = torch.hypot(self.decay**0.5 * memory[:, 0], (1 - self.decay) ** 0.5 * g)
        return y + self._scale(iteration, y) * g / (root + self.floor), root.unsqueeze(1)


@dataclass(frozen=True)
class Coin(Optimizer):
    """Betting on coordinates, which has no step size.

    Per coordinate, ``y = y_0 + G (L + R) / (L (S + L))`` with the start ``y_0`` and the quantities of ``betting.bet``,
    whose losses are forgiven.

    Source: Orabona, Tommasi, "Training deep networks without learning rates through coin betting", 2017; for
    particles: Sharrock, Mackey, Nemeth, "Learning rate free Bayesian inference in constrained domains", 2023.
    """

    slots: ClassVar[int] = 5

    def init(self, y: Tensor) -> Tensor:
        zero = torch.zeros_like(y)
        return torch.stack([y, zero, zero, zero, zero], 1)

    def step(self, y: Tensor, g: Tensor, memory: Tensor, iteration: Tensor) -> tuple[Tensor, Tensor]:
        start, *bets = memory.unbind(1)
        offset, after = bet(y - start, g, Bets(*bets), forgive=True)
        return start + offset, torch.stack([start, *after], 1)
