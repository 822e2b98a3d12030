"""The protocol of every sampler: ``init`` a state, then take pure steps from it with noise that the runner draws.

A kernel is a frozen dataclass. It keeps no random state and changes nothing in place, so that steps compile, vmap,
share noise and resume exactly. States are named tuples of tensors whose first axis counts chains.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains import Domain
from mirrorgen.samplers.density import check_values

__all__ = ["Info", "Kernel", "Noise", "NoiseShape", "State", "choose", "metropolis", "unadjusted"]


class State(Protocol):
    """What the runner asks of the state of a kernel, a named tuple of tensors ``(chains, ...)`` or None.

    States that have a member ``y`` are recorded with their dual points, those with ``log_density`` with its values.
    """

    @property
    def x(self) -> Tensor:
        """Points ``(chains, dim)``, strictly inside the domain in their own dtype."""

    def _asdict(self) -> dict[str, Any]: ...


class Noise(NamedTuple):
    """Randomness of one step.

    Attributes:
        normal: Standard normal numbers ``(chains, n)``.
        uniform: Uniform numbers ``(chains, k)`` in ``[0, 1)``.
    """

    normal: Tensor
    uniform: Tensor


class NoiseShape(NamedTuple):
    """How many numbers of each kind one step of one chain consumes."""

    normal: int = 0
    uniform: int = 0


class Info(NamedTuple):
    """What one step did, per chain.

    Attributes:
        acceptance: Acceptance probability of the proposal ``(chains,)``; one for unadjusted kernels.
        accepted: Whether the chain moved to the proposal ``(chains,)``.
        nonfinite: Whether the proposal had a log-density or geometry that is not finite ``(chains,)``; such proposals
            are never accepted.
    """

    acceptance: Tensor
    accepted: Tensor
    nonfinite: Tensor


@dataclass(frozen=True, eq=False)
class Kernel(ABC):
    """One Markov transition of many chains.

    Attributes:
        target_acceptance: Acceptance that warm-up steers ``step_size`` to; None for kernels without either.
        interacting: Whether "chains" are particles that move each other: then only the last draw approximates the law,
            and what compares chains says nothing.
    """

    target_acceptance: ClassVar[float | None] = None
    interacting: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The name of the algorithm in tables and messages."""
        return type(self).__name__

    @property
    @abstractmethod
    def domain(self) -> Domain:
        """The set that holds every ``state.x``."""

    @property
    @abstractmethod
    def noise_shape(self) -> NoiseShape:
        """The randomness that ``step`` consumes."""

    @abstractmethod
    def init(self, x: Tensor) -> Any:
        """The state at points ``x (chains, dim)``.

        Raises:
            ShapeError: If ``x`` is not a matrix of points.
            DomainError: If a point is not strictly inside, or its log-density is not finite.
        """

    @abstractmethod
    def step(self, state: Any, noise: Noise) -> tuple[Any, Info]:
        """The next state, and what happened."""

    def check_start(self, x: Tensor) -> None:
        """Raise unless ``x (chains, dim)`` holds strictly interior points."""
        if x.ndim != 2 or not x.is_floating_point():
            raise ShapeError(f"x must have shape (chains, {self.domain.dim}), got {x.dtype} of shape {tuple(x.shape)}")
        self.domain.check(x)


def check_log_density(value: Tensor, chains: int) -> None:
    """Raise unless ``value`` holds a finite log-density per starting point."""
    check_values(value, chains)
    if not bool(torch.isfinite(value).all()):
        bad = int((~torch.isfinite(value)).nonzero()[0])
        raise DomainError(f"log_density is {float(value[bad])} at starting point {bad}; start where it is finite")


def metropolis(log_ratio: Tensor, uniform: Tensor) -> Info:
    """Metropolis' decision: accept with probability ``min(1, exp(log_ratio))``; NaN and ``+inf`` never.

    Args:
        log_ratio: ``log [pi(z) q(z, x) / (pi(x) q(x, z))]``, ``(chains,)``; ``-inf`` outside the support.
        uniform: Uniform numbers ``(chains,)`` in ``[0, 1)``.
    """
    nonfinite = torch.isnan(log_ratio) | (log_ratio == torch.inf)
    acceptance = torch.where(nonfinite, 0.0, torch.exp(log_ratio.clamp_max(0.0)))
    return Info(acceptance, uniform < acceptance, nonfinite)


def unadjusted(finite: Tensor) -> Info:
    """The ``Info`` of a kernel that keeps every finite proposal, ``finite (chains,)``."""
    return Info(finite.to(torch.get_default_dtype()), finite, ~finite)


def choose(accepted: Tensor, proposal: Any, state: Any) -> Any:
    """``proposal`` where ``accepted (chains,)``, else ``state``, field by field of two named tuples."""

    def pick(new: Tensor | None, old: Tensor | None) -> Tensor | None:
        if new is None or old is None:
            return None
        return torch.where(accepted.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return type(state)(*[pick(new, old) for new, old in zip(proposal, state, strict=True)])
