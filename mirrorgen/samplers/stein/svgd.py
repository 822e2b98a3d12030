"""Stein variational gradient descent."""

from dataclasses import dataclass

from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Domain, Euclidean
from mirrorgen.samplers.stein.direction import centered, stein_direction
from mirrorgen.samplers.stein.particles import ParticleKernel, Particles

__all__ = ["SVGD"]


@dataclass(frozen=True, eq=False)
class SVGD(ParticleKernel):
    """``x_m <- x_m + step of (1/n) sum_l [k(x_l, x_m) grad log p(x_l) + grad_l k(x_l, x_m)]`` on all of space.

    A step costs ``6 n^2 d`` operations in matrix products.

    Args:
        space: The ``Euclidean`` space.

    Raises:
        DomainError: If the domain is constrained.

    Source: Liu, Wang, "Stein variational gradient descent: a general purpose Bayesian inference algorithm", 2016.
    """

    space: Domain

    def __post_init__(self) -> None:
        if not isinstance(self.space, Euclidean):
            raise DomainError(
                f"{type(self).__name__} moves freely, and {self.space!r} is constrained; use MSVGD with a mirror map"
            )

    @property
    def domain(self) -> Domain:
        return self.space

    def _coordinates(self, x: Tensor) -> Tensor:
        return x

    def _place(self, y: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        # Not the same tensor twice: checkpoints refuse shared memory.
        return y.clone(), y, None

    def _direction(self, state: Particles, gradient: Tensor) -> Tensor:
        return self._stein(self._sets(state.x), self._sets(gradient)).flatten(0, 1)

    def _stein(self, x: Tensor, scores: Tensor) -> Tensor:
        return stein_direction(centered(x), scores, self.kernel)
