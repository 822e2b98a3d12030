"""One step of the time-reversed reflected motion, from deviation ``high`` to ``low``: each method is a small class.

The reversal of ``dX = sqrt(d sigma^2) dB + dL`` (``L`` pushes inwards at the walls) is again a reflected diffusion,
with drift ``grad log p_sigma`` per unit of ``sigma^2``; the deterministic flow with the same marginal laws is
``dx / d sigma = -sigma grad log p_sigma(x)``. The score's normal component vanishes at the walls.

Sources: Williams, "On time-reversal of reflected Brownian motions", 1988; Cattiaux, "Time reversal of diffusion
processes with a boundary condition", 1988; Song et al., "Score-Based Generative Modeling through Stochastic
Differential Equations", 2021; Lou, Ermon, "Reflected Diffusion Models", 2023.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mirrorgen.diffusion.heat_kernel.base import random_step
from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Domain

__all__ = [
    "Ancestral",
    "Boundary",
    "EulerMaruyama",
    "Heun",
    "OdeEuler",
    "PredictorCorrector",
    "ReverseStep",
    "Score",
    "move",
]

Score = Callable[[Tensor, Tensor], Tensor]
"""``score(x, sigma)``: points ``(n, dim)`` and a scalar tensor to ``grad log p_sigma (n, dim)``."""
Boundary = Literal["reflect", "symmetrize", "project", "reject", "none"]


def move(domain: Domain, x: Tensor, step: Tensor, boundary: Boundary = "reflect") -> Tensor:
    """``x`` after a displacement that respects the domain in one of five ways.

    - ``"reflect"``: along the specular path, which keeps the uniform law however long the step; weak order one.
    - ``"symmetrize"``: a point that would leave is mirrored at its projection ``p``, to ``2 p - y``, or to ``p`` if
      that is outside too; weak order one, needs a projection only, and does not keep the uniform law.
    - ``"project"``: to the nearest point (static thresholding); order one half, and mass piles up on the walls.
    - ``"reject"``: stays where a step would leave (Metropolis); order one with a larger constant in one dimension.
    - ``"none"``: leaves.

    Raises:
        DomainError: If ``boundary`` is none of these.

    Sources: Bossy, Gobet, Talay, "A symmetrized Euler scheme for an efficient approximation of reflected diffusions",
    2004; Fishman et al., "Metropolis Sampling for Constrained Diffusion Models", 2023 (rejection).
    """
    if boundary == "reflect":
        return domain.reflect(x, step)
    end = x + step
    if boundary == "none":
        return end
    if boundary == "reject":
        return torch.where(domain.contains(end).unsqueeze(-1), end, x)
    if boundary not in ("project", "symmetrize"):
        raise DomainError(f"boundary is 'reflect', 'symmetrize', 'project', 'reject' or 'none', got {boundary!r}")
    nearest = domain.pull_inside(domain.project(end))[0]
    if boundary == "project":
        return nearest
    mirrored = torch.where(domain.contains(end).unsqueeze(-1), end, 2 * nearest - end)
    return torch.where(domain.contains(mirrored).unsqueeze(-1), mirrored, nearest)


class ReverseStep(ABC):
    """A method.

    Attributes:
        evaluations: Evaluations of the score per step.
    """

    evaluations: int = 1

    @abstractmethod
    def step(
        self, domain: Domain, score: Score, x: Tensor, high: Tensor, low: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Points ``(n, dim)`` at deviation ``low`` from points at ``high > low``, both scalar tensors."""


@dataclass(frozen=True)
class EulerMaruyama(ReverseStep):
    """``x <- x + D score + sqrt(D) z`` with ``D = high^2 - low^2``, the exact variance of the step, then ``move``.

    Weak order one with reflection. With no drift it is exact in law on boxes, however long the step.
    """

    boundary: Boundary = "reflect"

    def step(
        self, domain: Domain, score: Score, x: Tensor, high: Tensor, low: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        variance = high.square() - low.square()
        noise = random_step(domain, x, variance.sqrt(), generator=generator)
        return move(domain, x, variance * score(x, high) + noise, self.boundary)


@dataclass(frozen=True)
class Ancestral(ReverseStep):
    """As ``EulerMaruyama`` with noise of variance ``D low^2 / high^2``, that of a free motion's way back to a known
    start: less noise on the last steps, where ``low`` is well below ``high``.
    """

    boundary: Boundary = "reflect"

    def step(
        self, domain: Domain, score: Score, x: Tensor, high: Tensor, low: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        variance = high.square() - low.square()
        noise = random_step(domain, x, variance.sqrt() * (low / high), generator=generator)
        return move(domain, x, variance * score(x, high) + noise, self.boundary)


@dataclass(frozen=True)
class PredictorCorrector(ReverseStep):
    """``predictor``, then ``corrections`` steps of reflected Langevin dynamics at the new level.

    A correction is ``x <- x + e score + sqrt(2 e) z`` with ``e = 2 (snr |z| / |score|)^2``, norms averaged over the
    batch.

    Args:
        predictor: The step that is corrected.
        corrections: Langevin steps per level.
        snr: Their signal-to-noise ratio.
    """

    predictor: ReverseStep = EulerMaruyama()
    corrections: int = 1
    snr: float = 0.1

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """Evaluations of the score per step."""
        return self.predictor.evaluations + self.corrections

    def step(
        self, domain: Domain, score: Score, x: Tensor, high: Tensor, low: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        x = self.predictor.step(domain, score, x, high, low, generator)
        for _ in range(self.corrections):
            gradient = score(x, low)
            noise = random_step(domain, x, 1.0, generator=generator)
            ratio = noise.norm(dim=-1).mean() / gradient.norm(dim=-1).mean().clamp_min(torch.finfo(x.dtype).tiny)
            # Never longer than what the level itself has forgotten.
            size = torch.minimum(2 * (self.snr * ratio).square(), low.square())
            x = move(domain, x, size * gradient + (2 * size).sqrt() * noise)
        return x


@dataclass(frozen=True)
class OdeEuler(ReverseStep):
    """Euler's step ``x + (low - high) v`` of the probability-flow equation, ``v = -high score(x, high)``; order one."""

    def step(
        self, domain: Domain, score: Score, x: Tensor, high: Tensor, low: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        return domain.reflect(x, (high - low) * high * score(x, high))


@dataclass(frozen=True)
class Heun(ReverseStep):
    """Heun's trapezoidal step of the probability-flow equation; order two.

    A sample whose first stage would leave the domain takes Euler's reflected step instead: behind a reflection the
    second slope belongs to a mirrored space. With a score that has no normal component at the walls this is rare.
    """

    evaluations: int = 2

    def step(
        self, domain: Domain, score: Score, x: Tensor, high: Tensor, low: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        first = (high - low) * high * score(x, high)
        stays = domain.contains(x + first).unsqueeze(-1)
        second = (high - low) * low * score(domain.reflect(x, first), low)
        return domain.reflect(x, torch.where(stays, 0.5 * (first + second), first))
