"""Targets ``exp(-f - g)`` of a smooth and a non-smooth convex part."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from mirrorgen.geometry.bregman import ProximalFunction
from mirrorgen.targets.base import Target

__all__ = ["CompositeTarget", "SmoothPart"]


@dataclass(frozen=True, eq=False)
class SmoothPart:
    """``-f`` with its gradient, as kernels ask for a log-density."""

    value: Callable[[Tensor], Tensor]
    score: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        """``-f(x) (...)``."""
        return self.value(x)


class CompositeTarget(Target):
    """``log p(x) = -f(x) - g(x)``; a subclass gives ``-f``, its gradient and ``nonsmooth``.

    ``score`` has the subgradient of ``g`` of least norm: kernels that follow it do without an envelope.

    Attributes:
        nonsmooth: ``g``.
    """

    nonsmooth: ProximalFunction

    @abstractmethod
    def smooth_value(self, x: Tensor) -> Tensor:
        """``-f(x) (...)``."""

    @abstractmethod
    def smooth_score(self, x: Tensor) -> Tensor:
        """``-grad f(x) (..., dim)``."""

    @property
    def smooth(self) -> SmoothPart:
        """``-f`` as a log-density with a score."""
        return SmoothPart(self.smooth_value, self.smooth_score)

    def log_density(self, x: Tensor) -> Tensor:
        return self.smooth_value(x) - self.nonsmooth(x)

    def score(self, x: Tensor) -> Tensor:
        return self.smooth_score(x) - self.nonsmooth.subgradient(x)
