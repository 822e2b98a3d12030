"""Thresholding: pulling the prediction of the data inside on every step of a diffusion in free space."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from mirrorgen.diffusion.reverse import resolve_step
from mirrorgen.diffusion.steps import ReverseStep, Score
from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Box, Domain
from mirrorgen.geometry.validation import require_kind

__all__ = ["Thresholding"]


class Thresholding(ReverseStep):
    """A step whose score is that of a thresholded prediction ``D`` of the data, for ``ClampedDiffusion``.

    ``D = x + sigma^2 score`` becomes ``P(D)``, and the step runs with the score ``(P(D) - x) / sigma^2``. Static
    thresholding projects onto the domain. Dynamic thresholding divides ``D``, seen from the centre of a box, by the
    given quantile of its coordinates (in units of half widths) where that exceeds one, after clipping to it.

    The prediction is Tweedie's formula, which is false for reflected noise: not for ``ReflectedDiffusion``.

    Args:
        domain: Where the data are; states are its chart coordinates.
        step: The step, or its name in ``METHODS``.
        kind: ``"static"`` or ``"dynamic"``.
        quantile: Of dynamic thresholding.

    Raises:
        DomainError: If a parameter is out of range, the method is no step, or dynamic thresholding is asked for on
            a domain that is no box.

    Source: Saharia et al., "Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding", 2022.
    """

    def __init__(
        self,
        domain: Domain,
        step: str | ReverseStep = "ancestral",
        kind: Literal["static", "dynamic"] = "static",
        quantile: float = 0.995,
    ) -> None:
        require_kind(domain, Domain, "domain")
        resolved = resolve_step(step)
        if not isinstance(resolved, ReverseStep):
            raise DomainError(f"thresholding acts between steps, and {step!r} is an adaptive solver; use 'ancestral'")
        if kind not in ("static", "dynamic") or not 0 < quantile <= 1:
            raise DomainError(f"kind is 'static' or 'dynamic' and quantile in (0, 1], got {kind!r} and {quantile}")
        if kind == "dynamic" and not isinstance(domain, Box):
            raise DomainError(f"dynamic thresholding needs a Box, got {domain!r}; use kind='static'")
        self.domain, self.inner, self.kind, self.quantile = domain, resolved, kind, quantile
        self.evaluations = resolved.evaluations

    def step(
        self, domain: Domain, score: Score, x: Tensor, high: Tensor, low: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        return self.inner.step(domain, partial(self._score, score), x, high, low, generator)

    def _score(self, score: Score, x: Tensor, sigma: Tensor) -> Tensor:
        return (self.threshold(x + sigma.square() * score(x, sigma)) - x) / sigma.square()

    def threshold(self, z: Tensor) -> Tensor:
        """``P``, on chart coordinates ``(n, dual_dim)``."""
        if self.kind == "static" or not isinstance(self.domain, Box):
            return self.domain.to_chart(self.domain.project(self.domain.from_chart(z)))
        low, high = self.domain.low.to(z.dtype), self.domain.high.to(z.dtype)
        half, middle = 0.5 * (high - low), 0.5 * (high + low)
        u = (z - middle) / half
        limit = torch.quantile(u.abs(), self.quantile, dim=-1, keepdim=True).clamp_min(1.0)
        return middle + half * torch.maximum(torch.minimum(u, limit), -limit) / limit
