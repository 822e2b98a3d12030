"""Euclidean balls."""

import math

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains.base import Domain, as_buffer, margin, require_dim
from mirrorgen.numerics import upcast

__all__ = ["Ball"]


class Ball(Domain):
    """``{x : |x - center| < radius}``.

    Args:
        dim: Number of coordinates.
        radius: Positive radius.
        center: Centre ``(dim,)``; the origin if None.

    Raises:
        DomainError: If the radius is not positive and finite, or the centre not finite.
        ShapeError: If ``center`` has not length ``dim``.
    """

    center: Tensor
    radius: Tensor

    def __init__(self, dim: int, radius: Tensor | float = 1.0, center: Tensor | list | None = None) -> None:
        super().__init__()
        self.dim = require_dim(dim, 1, "Ball")
        self.register_buffer("radius", as_buffer(radius).clone())
        self.register_buffer(
            "center", torch.zeros(dim, dtype=torch.float64) if center is None else as_buffer(center).clone()
        )
        if self.center.shape != (dim,) or self.radius.ndim != 0:
            shapes = f"{tuple(self.center.shape)} and {tuple(self.radius.shape)}"
            raise ShapeError(f"Ball needs a centre of shape ({dim},) and one number as radius, got shapes {shapes}")
        if not (bool(torch.isfinite(self.center).all()) and 0 < float(self.radius) < float("inf")):
            raise DomainError(f"Ball needs a finite centre and 0 < radius < inf, got radius={float(self.radius):g}")

    def extra_repr(self) -> str:
        return f"dim={self.dim}, radius={float(self.radius):g}"

    def relative(self, x: Tensor) -> Tensor:
        """``(x - center) / radius``, a point of the unit ball."""
        return (x - self.center.to(x.dtype)) / self.radius.to(x.dtype)

    def slack(self, x: Tensor) -> Tensor:
        distance = torch.linalg.vector_norm(x - self.center.to(x.dtype), dim=-1, keepdim=True)
        return self.radius.to(x.dtype) - distance

    def constraint_name(self, index: int) -> str:
        return f"|x - center| < {float(self.radius):g}"

    def interior_point(self) -> Tensor:
        return self.center.clone()

    def project(self, x: Tensor) -> Tensor:
        return self._scaled_to(x, self.radius.to(x.dtype))

    def _scaled_to(self, x: Tensor, largest: Tensor) -> Tensor:
        """``x`` where it is within ``largest`` of the centre, else the point of its ray at that distance."""
        center = self.center.to(x.dtype)
        direction, distance = _unit(x - center)
        return torch.where(distance > largest, center + largest * direction, x)

    def pull_inside(self, x: Tensor) -> tuple[Tensor, Tensor]:
        radius, center = self.radius.to(x.dtype), self.center.to(x.dtype)
        gap = torch.minimum(margin(x, radius + center.abs().amax()), 0.25 * radius)
        moved = (self.slack(x) < gap).squeeze(-1)
        return torch.where(moved.unsqueeze(-1), self._scaled_to(x, radius - 2 * gap), x), moved

    def reflect(self, x: Tensor, step: Tensor) -> Tensor:
        """As ``Domain.reflect``, in closed form.

        The path stays in the plane of the offset and the step. Every chord after the first hit ``h`` has length
        ``2k`` with ``k = u . h``, the cosine of incidence, and turns the hit point by the angle
        ``2 atan2(k, sqrt(1 - k^2))``; any number of full chords is therefore one rotation.
        """
        p, v = self.relative(upcast(x)), upcast(step) / self.radius
        p, v = torch.broadcast_tensors(p, v)
        still = (v == 0).all(-1, keepdim=True)
        u, length = _unit(torch.where(still, torch.ones_like(v), v))
        along = (p * u).sum(-1, keepdim=True)
        # The length-to-boundary root in the form without cancellation for either sign of ``along``.
        room = (1 - p.square().sum(-1, keepdim=True)).clamp_min(torch.finfo(p.dtype).tiny)
        k = torch.sqrt(along.square() + room)
        first = torch.where(along > 0, room / (along.clamp_min(0) + k), k - along)
        h = _unit(p + first * u)[0]
        # ``e`` completes the plane; on a diameter it vanishes, and the rotation by pi needs no plane.
        e, s = _unit(u - k * h)
        rest = (length - first).clamp_min(0)
        chords = torch.floor(rest / (2 * k))
        tail = torch.minimum((rest - 2 * k * chords).clamp_min(0), 2 * k)
        turn = 2 * chords * torch.atan2(k, s)
        hit = torch.cos(turn) * h + torch.sin(turn) * e
        side = torch.cos(turn) * e - torch.sin(turn) * h
        bounced = hit + tail * (s * side - k * hit)
        end = torch.where(still | (length <= first), p + v, bounced)
        return self.pull_inside((self.center + self.radius * end).to(x.dtype))[0]

    def _no_flux(self, x: Tensor, v: Tensor, scale: Tensor | float) -> Tensor:
        """``v - (1 - f) (2 - r^2) q (q . v)``, ``q = (x - center) / R``, ``r = |q|``, in O(dim).

        With ``f = tanh(R (1 - r^2) / (2 scale))``. The radial component is multiplied by ``f + (1 - f) (1 - r^2)^2``,
        to first order the distance to the wall over ``scale``; the rest of ``v`` is unchanged. Polynomials in ``q``
        keep the field smooth at the centre, where distance and direction are not.
        """
        q = self.relative(x)
        square = q.square().sum(-1, keepdim=True)
        f = torch.tanh(self.radius.to(x.dtype) * (1 - square) / (2 * scale))
        return v - (1 - f) * (2 - square) * (q * v).sum(-1, keepdim=True) * q

    def log_volume(self) -> float:
        """``log(pi^(d/2) R^d / Gamma(d/2 + 1))``."""
        half = 0.5 * self.dim
        return half * math.log(math.pi) + self.dim * math.log(float(self.radius)) - math.lgamma(half + 1)

    def sample_uniform(
        self, n: int, *, generator: torch.Generator | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """A normal direction times ``U^(1/dim)``, drawn in float64."""
        blank = upcast(torch.empty(n, self.dim, device=self.center.device))
        direction, _ = _unit(blank.normal_(generator=generator))
        distance = blank[:, :1].uniform_(generator=generator) ** (1 / self.dim)
        x = self.center + self.radius * distance * direction
        return self.pull_inside(x.to(dtype or torch.get_default_dtype()))[0]


def _unit(v: Tensor) -> tuple[Tensor, Tensor]:
    """``v / |v|`` and ``|v|``; zero vectors stay zero, with finite derivatives."""
    zero = (v == 0).all(-1, keepdim=True)
    norm = torch.linalg.vector_norm(torch.where(zero, torch.ones_like(v), v), dim=-1, keepdim=True)
    return torch.where(zero, torch.zeros_like(v), v / norm), torch.where(zero, torch.zeros_like(norm), norm)
