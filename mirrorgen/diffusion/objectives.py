"""What a score network is trained on: pairs of noisy points and targets, or the divergence of the network itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.diffusion.heat_kernel.base import HeatKernel, random_step
from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.validation import validation
from mirrorgen.integrate import divergence_named

__all__ = ["Denoising", "Implicit", "Objective", "ScaledScore", "motion"]

ScaledScore = Callable[[Tensor, Tensor], Tensor]
"""``f(x, sigma)``: points ``(n, dim)`` and deviations ``(n,)`` to ``sigma * score``, ``(n, dim)``."""


def motion(domain: Domain, x: Tensor, sigmas: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Reflected Brownian motion from ``x (n, dim)`` at increasing deviations ``sigmas (levels, n)``.

    One specular step per level. Every step keeps the uniform law; where reflections tile the space the law at each
    level is exact, elsewhere (corners of general polytopes, curved walls) of first order in the length of the steps.

    Returns:
        Points ``(levels, n, dim)``.
    """
    states, before = [], torch.zeros_like(sigmas[0])
    for sigma in sigmas:
        spread = (sigma.square() - before.square()).clamp_min(torch.finfo(sigma.dtype).tiny).sqrt()
        x = domain.reflect(x, random_step(domain, x, spread, generator=generator))
        states.append(x)
        before = sigma
    return torch.stack(states)


class Objective(ABC):
    """A loss whose minimiser is ``grad log p_sigma``, weighted by ``sigma^2``.

    Attributes:
        levels: Noise levels per data point that ``loss`` is given.
    """

    levels: int = 1

    @abstractmethod
    def loss(
        self, domain: Domain, f: ScaledScore, x: Tensor, sigmas: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Sums over coordinates, one value per level and point, ``(levels, n)``.

        Args:
            domain: The set.
            f: ``sigma * score`` of the model, for ``levels * n`` points at a time.
            x: Data ``(n, dim)``.
            sigmas: Deviations ``(levels, n)``, increasing in the level.
            generator: Source of noise.
        """


@dataclass(frozen=True, eq=False)
class Denoising(Objective):
    """``|sigma score(x_t) - sigma grad log k_sigma(x_t | x)|^2`` with ``x_t`` drawn from the heat kernel ``k``.

    The target has the wall in it, so that the loss needs no boundary term; unlike in free space it is not
    ``(x - x_t) / sigma^2``, and no estimate of ``x`` follows from it.

    Args:
        kernel: The heat kernel of the domain.

    Source: Lou, Ermon, "Reflected Diffusion Models", 2023.
    """

    kernel: HeatKernel

    def pair(self, x: Tensor, sigma: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Noisy points ``(n, dim)`` at deviations ``sigma (n,)``, and ``sigma * target (n, dim)``."""
        noisy = self.kernel.sample(x, sigma, generator=generator)
        with validation(False):
            return noisy, sigma.unsqueeze(-1) * self.kernel.score(noisy, x, sigma)

    def loss(
        self, domain: Domain, f: ScaledScore, x: Tensor, sigmas: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        sigma = sigmas.flatten()
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            noisy, target = self.pair(x.repeat(len(sigmas), 1), sigma, generator)
        return (f(noisy, sigma) - target).square().sum(-1).reshape(sigmas.shape)


@dataclass(frozen=True, eq=False)
class Implicit(Objective):
    """``sigma^2 (|score|^2 + 2 div score)`` at points of the motion, for domains whose heat kernel is not known.

    Equals the denoising loss up to a constant if the score has no normal component on the boundary; a model with
    ``no_flux`` has none. Levels come from one simulated path per data point (``motion``).

    Args:
        divergence: ``"exact"`` (``dim`` products) or ``"hutchinson"`` (one, sliced score matching).
        levels: Noise levels per path.

    Raises:
        DomainError: If ``levels < 1``.

    Sources: Hyvarinen, "Estimation of Non-Normalized Statistical Models by Score Matching", 2005; Song, Garg, Shi,
    Ermon, "Sliced Score Matching", 2019; on reflected motions: Fishman et al., "Diffusion Models for Constrained
    Domains", 2023.
    """

    divergence: str = "hutchinson"
    levels: int = 8

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise DomainError(f"implicit score matching needs at least one level, got {self.levels}")

    def loss(
        self, domain: Domain, f: ScaledScore, x: Tensor, sigmas: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        sigma = sigmas.flatten()
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            noisy = motion(domain, x, sigmas, generator).flatten(0, 1)
        rate = divergence_named(self.divergence, noisy, generator)
        value, divergence = rate(lambda y: f(y, sigma), noisy)
        return (value.square().sum(-1) + 2 * sigma * divergence).reshape(sigmas.shape)
