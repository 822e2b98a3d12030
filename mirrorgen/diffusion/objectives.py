"""What a score network is trained on: pairs of noisy points and targets, or the divergence of the network itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.diffusion.heat_kernel.base import HeatKernel, random_step
from mirrorgen.diffusion.heat_kernel.unfolded import unfolded_draw
from mirrorgen.diffusion.steps import Boundary, move
from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.validation import validation
from mirrorgen.integrate import divergence_named

__all__ = ["Denoising", "Implicit", "Objective", "ScaledScore", "motion"]

ScaledScore = Callable[[Tensor, Tensor], Tensor]
"""``f(x, sigma)``: points ``(n, dim)`` and deviations ``(n,)`` to ``sigma * score``, ``(n, dim)``."""


def motion(
    domain: Domain,
    x: Tensor,
    sigmas: Tensor,
    generator: torch.Generator | None = None,
    *,
    steps: int = 1,
    boundary: Boundary = "reflect",
) -> Tensor:
    """Brownian motion that stays in the domain, from ``x (n, dim)``, at increasing deviations ``sigmas (levels, n)``.

    Between two levels it takes ``steps`` of equal variance. Specular steps keep the uniform law; where reflections
    tile the space the law at each level is exact, elsewhere (corners of general polytopes, curved walls) of first
    order in the variance of a step. Rejection, which needs a test of membership only, is of first order everywhere.

    Returns:
        Points ``(levels, n, dim)``.
    """
    states, before = [], torch.zeros_like(sigmas[0])
    for sigma in sigmas:
        spread = ((sigma.square() - before.square()) / steps).clamp_min(torch.finfo(sigma.dtype).tiny).sqrt()
        for _ in range(steps):
            x = move(domain, x, random_step(domain, x, spread, generator=generator), boundary)
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
        kernel: The heat kernel of the domain. If None, targets come from ``unfolded_draw``: the same minimiser without
            any series and more variance, on domains that reflections tile the space with.

    Source: Lou, Ermon, "Reflected Diffusion Models", 2023.
    """

    kernel: HeatKernel | None = None

    def pair(
        self, domain: Domain, x: Tensor, sigma: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Noisy points ``(n, dim)`` at deviations ``sigma (n,)``, and ``sigma * target (n, dim)``."""
        with validation(False):
            if self.kernel is None:
                noisy, target = unfolded_draw(domain, x, sigma, generator=generator)
            else:
                noisy = self.kernel.sample(x, sigma, generator=generator)
                target = self.kernel.score(noisy, x, sigma)
        return noisy, sigma.unsqueeze(-1) * target

    def loss(
        self, domain: Domain, f: ScaledScore, x: Tensor, sigmas: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        sigma = sigmas.flatten()
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            noisy, target = self.pair(domain, x.repeat(len(sigmas), 1), sigma, generator)
        return (f(noisy, sigma) - target).square().sum(-1).reshape(sigmas.shape)


@dataclass(frozen=True, eq=False)
class Implicit(Objective):
    """``sigma^2 (|score|^2 + 2 div score)`` at points of the motion, for domains whose heat kernel is not known.

    Equals the denoising loss up to a constant if the score has no normal component on the boundary; a model with
    ``no_flux`` has none. With ``weighted``, whatever the score does there: points count by
    ``h = min(1, distance to the boundary / sigma)``, and no boundary term is left out of
    ``sigma^2 (h |score|^2 + 2 div(h score))``. Levels come from one simulated path per data point (``motion``).

    Args:
        divergence: ``"exact"`` (``dim`` products) or ``"hutchinson"`` (one, sliced score matching).
        levels: Noise levels per path.
        weighted: Whether points count by ``h``.
        steps: Steps of the path per level.
        boundary: How its steps respect the walls, see ``move``.

    Raises:
        DomainError: If ``levels < 1`` or ``steps < 1``.

    Sources: Hyvarinen, "Estimation of Non-Normalized Statistical Models by Score Matching", 2005; Song, Garg, Shi,
    Ermon, "Sliced Score Matching", 2019; weights that vanish on the boundary: Liu, Kanamori, Williams, "Estimating
    Density Models with Truncation Boundaries using Score Matching", 2022; on reflected motions: Fishman et al.,
    "Diffusion Models for Constrained Domains", 2023, and with rejection "Metropolis Sampling for Constrained
    Diffusion Models", 2023.
    """

    divergence: str = "hutchinson"
    levels: int = 8
    weighted: bool = False
    steps: int = 1
    boundary: Boundary = "reflect"

    def __post_init__(self) -> None:
        if self.levels < 1 or self.steps < 1:
            raise DomainError(
                f"implicit score matching needs at least one level and step, got {self.levels} and {self.steps}"
            )

    def loss(
        self, domain: Domain, f: ScaledScore, x: Tensor, sigmas: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        sigma = sigmas.flatten()
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            path = motion(domain, x, sigmas, generator, steps=self.steps, boundary=self.boundary)
            noisy = path.flatten(0, 1)
        rate = divergence_named(self.divergence, noisy, generator)
        value, divergence = rate(lambda y: f(y, sigma), noisy)
        loss = value.square().sum(-1) + 2 * sigma * divergence
        if self.weighted:
            h, slope = _boundary_weight(domain, noisy, sigma)
            loss = h * loss + 2 * sigma * (slope * value).sum(-1)
        return loss.reshape(sigmas.shape)


def _boundary_weight(domain: Domain, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """``min(1, slack / sigma)`` with the least slack ``(n,)``, and its gradient ``(n, dim)``."""
    with torch.enable_grad():
        y = x.detach().requires_grad_()
        h = torch.clamp(domain.slack(y).amin(-1) / sigma, max=1.0)
        return h.detach(), torch.autograd.grad(h.sum(), y)[0]
