"""Axis-aligned boxes."""

import math

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains.base import Domain, as_buffer, require_dim
from mirrorgen.geometry.validation import should_check

__all__ = ["Box"]


class Box(Domain):
    """``{x : low < x < high}`` coordinatewise.

    Args:
        low: Lower bounds, a number or ``(dim,)``.
        high: Upper bounds, a number or ``(dim,)``.
        dim: Number of coordinates; needed only when both bounds are numbers and ``dim > 1``.

    Raises:
        DomainError: If a bound is not finite or ``low >= high`` somewhere (empty interior).
        ShapeError: If the shapes disagree.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self, low: Tensor | float | list = 0.0, high: Tensor | float | list = 1.0, dim: int | None = None
    ) -> None:
        super().__init__()
        lower, upper = torch.atleast_1d(as_buffer(low)), torch.atleast_1d(as_buffer(high))
        self.dim = require_dim(max(len(lower), len(upper)) if dim is None else dim, 1, "Box")
        if any(bound.shape not in ((1,), (self.dim,)) for bound in (lower, upper)):
            shapes = f"{tuple(lower.shape)}, {tuple(upper.shape)} and dim={dim}"
            raise ShapeError(f"low and high must be numbers or vectors of length dim, got {shapes}")
        self.register_buffer("low", lower.expand(self.dim).clone())
        self.register_buffer("high", upper.expand(self.dim).clone())
        if not bool((torch.isfinite(self.low) & torch.isfinite(self.high)).all()):
            raise DomainError("Box bounds must be finite; use Orthant, Halfspace or Euclidean for unbounded sets")
        if not bool((self.low < self.high).all()):
            i = int((self.low >= self.high).nonzero()[0])
            raise DomainError(f"Box has an empty interior: low[{i}]={self.low[i]:g} >= high[{i}]={self.high[i]:g}")

    def extra_repr(self) -> str:
        ends = ((bound.min(), bound.max()) for bound in (self.low, self.high))
        low, high = (f"[{first:g}, {last:g}]" for first, last in ends)
        return f"dim={self.dim}, low in {low}, high in {high}"

    def _bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.low.to(x.dtype), self.high.to(x.dtype)

    def slack(self, x: Tensor) -> Tensor:
        low, high = self._bounds(x)
        return torch.cat([x - low, high - x], -1)

    def constraint_name(self, index: int) -> str:
        i = index % self.dim
        return f"x[{i}] > {self.low[i]:g}" if index < self.dim else f"x[{i}] < {self.high[i]:g}"

    def interior_point(self) -> Tensor:
        return 0.5 * (self.low + self.high)

    def project(self, x: Tensor) -> Tensor:
        low, high = self._bounds(x)
        return torch.clamp(x, low, high)

    def reflect(self, x: Tensor, step: Tensor) -> Tensor:
        # Unfolding: the path is straight in the mirrored copies of the box, whose period is twice the width.
        low, high = self._bounds(x)
        width = high - low
        # Whole periods go first, exactly: added to a long step the point would lose its digits.
        phase = torch.remainder(x - low + torch.fmod(step, 2 * width), 2 * width)
        return self.pull_inside(low + torch.where(phase > width, 2 * width - phase, phase))[0]

    def pull_inside(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self._bounds(x)
        # Next to a zero bound the nearest number is subnormal, which accelerators flush to zero.
        tiny = torch.finfo(x.dtype).tiny
        first = torch.maximum(torch.nextafter(low, high), low + tiny)
        last = torch.minimum(torch.nextafter(high, low), high - tiny)
        room = (low < first) & (first <= last) & (last < high)
        if should_check(room) and not bool(room.all()):
            i = int((~room).nonzero()[0])
            bounds = f"low[{i}]={self.low[i]:.17g} and high[{i}]={self.high[i]:.17g}"
            raise DomainError(f"no {x.dtype} number lies strictly between {bounds}; use float64, or shift the box")
        return torch.clamp(x, first, last), ((x < first) | (x > last)).any(-1)

    def _no_flux(self, x: Tensor, v: Tensor, scale: Tensor | float) -> Tensor:
        """``v_j tanh(sin(pi u) / (pi s))``, ``u = (x_j - low_j) / width_j`` and ``s = scale / width_j``, in O(dim).

        The slope at both walls is ``1 / scale``, like that of ``tanh(distance / scale)``. The factor is smooth in
        between, and beyond, where it is odd about every wall, as the score is on the mirrored copies of the box.
        """
        low, high = self._bounds(x)
        width = high - low
        # From the nearer end: sin(pi u) has no digits left, and possibly the wrong sign, where pi u rounds near pi.
        near = torch.where(x - low <= high - x, x - low, high - x)
        return torch.tanh(width * torch.sin(math.pi * (near / width)) / (math.pi * scale)) * v

    def sample_uniform(
        self, n: int, *, generator: torch.Generator | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        dtype = dtype or torch.get_default_dtype()
        u = torch.rand(n, self.dim, generator=generator, dtype=dtype, device=self.low.device)
        low, high = self._bounds(u)
        return self.pull_inside(torch.lerp(low, high, u))[0]

    def log_volume(self) -> float:
        """``sum log(high - low)``."""
        return float((self.high - self.low).log().sum())

    def halfspaces(self) -> tuple[Tensor, Tensor]:
        eye = torch.eye(self.dim, dtype=self.low.dtype, device=self.low.device)
        return torch.cat([-eye, eye]), torch.cat([-self.low, self.high])
