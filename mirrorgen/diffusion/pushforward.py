"""Reflected diffusion on the image of another domain."""

from typing import Any

import torch
from torch import Tensor, nn

from mirrorgen.diffusion.bijections import Bijection
from mirrorgen.diffusion.reflected_diffusion import ReflectedDiffusion
from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.validation import require_batch, require_kind
from mirrorgen.nets import Net

__all__ = ["PushforwardDiffusion"]


class PushforwardDiffusion(nn.Module):
    """A diffusion on ``bijection.source``, seen on ``bijection.target``.

    Data are mapped back and modelled there, samples are mapped forward. The motion on the target is the image of
    reflected Brownian motion: it respects the walls, its noise depends on the place, and its law tends to the image of
    the uniform one. What this gains is the heat kernel of the source, where the target has none in closed form::

        log p(y) = log q(x) - log |det d forward / dx|,    x = inverse(y)

    Args:
        bijection: Between the domain of ``diffusion`` and that of the data.
        diffusion: A model on ``bijection.source``.

    Attributes:
        domain: ``bijection.target``, where data and samples live.
        net: The network of ``diffusion``.

    Raises:
        DomainError: If a part is of the wrong kind, or ``diffusion`` lives on another set than ``bijection.source``.

    Source: for the simplex as an image of the cube: Lou, Ermon, "Reflected Diffusion Models", 2023.
    """

    def __init__(self, bijection: Bijection, diffusion: ReflectedDiffusion) -> None:
        super().__init__()
        require_kind(bijection, Bijection, "bijection")
        require_kind(diffusion, ReflectedDiffusion, "diffusion")
        if not _equal(diffusion.domain, bijection.source):
            raise DomainError(
                f"diffusion lives on {diffusion.domain!r} and bijection starts from {bijection.source!r}; "
                "build the diffusion on bijection.source"
            )
        self.bijection, self.diffusion = bijection, diffusion

    @property
    def domain(self) -> Domain:
        """Where data and samples live."""
        return self.bijection.target

    @property
    def net(self) -> Net:
        """The network."""
        return self.diffusion.net

    def loss(self, x: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """The loss of ``diffusion`` at the points that are mapped to ``x``; a scalar.

        Args:
            x: Data strictly inside ``domain``, ``(n, domain.dim)``.
            condition: As in ``diffusion.loss``.
            generator: Source of noise.

        Raises:
            DomainError: If a point is not strictly inside; the message names the constraint.
            ShapeError: If ``x`` is no batch of points.
        """
        require_batch(x, self.domain.dim)
        return self.diffusion.loss(self.bijection.inverse(x), condition=condition, generator=generator)

    def sample(self, n: int, *, start: Tensor | None = None, **options: Any) -> Tensor:
        """Draw ``n`` points ``(n, domain.dim)``, strictly inside ``domain`` in the dtype of the network.

        Args:
            n: Number of points.
            start: Points of ``domain`` at level ``sigma_start`` of the motion on the source, ``(n, domain.dim)``; see
                ``diffusion.sample``.
            options: As in ``diffusion.sample``, with its errors.
        """
        if start is not None:
            options["start"] = self.bijection.inverse(start)
        return self.bijection(self.diffusion.sample(n, **options))

    def log_prob(self, x: Tensor, **options: Any) -> Tensor:
        """Log-density ``(n,)`` in the measure of ``domain``; differentiable where ``diffusion.log_prob`` is.

        Args:
            x: Points ``(n, domain.dim)``; where they are not strictly inside (NaN included) the result is ``-inf``.
            options: As in ``diffusion.log_prob``, with its errors.
        """
        inside = self.domain.contains(x)
        x = torch.where(inside.unsqueeze(-1), x, self.domain.interior_point().to(x))
        log_prob = self.diffusion.log_prob(self.bijection.inverse(x), **options)
        return torch.where(inside, log_prob + self.bijection.inverse_log_abs_det(x), -torch.inf)

    def log_prob_bound(self, x: Tensor, **options: Any) -> Tensor:
        """An unbiased estimate of a lower bound on the log-likelihood ``(n,)``, in the measure of ``domain``.

        Args:
            x: Points ``(n, domain.dim)`` strictly inside.
            options: As in ``diffusion.log_prob_bound``, with its errors.
        """
        bound = self.diffusion.log_prob_bound(self.bijection.inverse(x), **options)
        return bound + self.bijection.inverse_log_abs_det(x)


def _equal(first: Domain, second: Domain) -> bool:
    """Whether two domains are the same set, judged by their slacks at points that determine affine functions."""
    if type(first) is not type(second) or first.dim != second.dim:
        return False
    center = second.interior_point()
    points = torch.cat([center.unsqueeze(0), center + torch.eye(second.dim).to(center)])
    ours, theirs = (domain.slack(points.to(domain.interior_point())).cpu() for domain in (first, second))
    # Rows of a polytope that went through a file are scaled to unit length once more.
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)
