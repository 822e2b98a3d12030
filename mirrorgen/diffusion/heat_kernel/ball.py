"""The Neumann heat kernel of a ball."""

import math

import torch
from torch import Tensor

from mirrorgen.diffusion.heat_kernel.ball_curvature import CurvatureExpansion
from mirrorgen.diffusion.heat_kernel.ball_series import BallSeries
from mirrorgen.diffusion.heat_kernel.base import HeatKernel, per_point, random_step
from mirrorgen.diffusion.heat_kernel.interval import Pair, interval, log_normal
from mirrorgen.geometry.domains import Ball
from mirrorgen.geometry.domains.base import require_dim
from mirrorgen.geometry.validation import require_kind
from mirrorgen.numerics import eager_values, upcast

__all__ = ["BallHeatKernel"]

# Below this ratio of sigma to the radius the curvature expansion takes over from the series.
_SWITCH = 0.07
_ORDER = 6
# Squared distance over 2 sigma^2 from which on rounding errors of the series, 2e-15 of the peak, become visible.
_FAR = 30.0
# Radius, as a share of the ball's, of the points that count as the centre: their direction carries no digits.
_CENTRE = 2e-8
# Length of a step of ``sample``, as a share of the radius, that more steps would not make noticeably better.
_STEP = 0.05
# Pairs at a time; a pair takes up to 100 kB in the series.
_BLOCK = 2048


class BallHeatKernel(HeatKernel):
    """Brownian motion in a ball of radius ``R`` in ``d`` dimensions, reflected at the sphere.

    Evaluated in float64. With ``s = sigma / R`` and ``E = |x - x_0|^2 / (2 sigma^2)``:

    - ``s >= 0.07``: the series of eigenfunctions, ``BallSeries``. Rounding errors are 2e-15 of the peak of the density,
      so that those of ``log p`` are about ``2e-15 e^E``.
    - ``s < 0.07``: the image in the wall with the curvature expansion of order 6, ``CurvatureExpansion``. At 0.07,
      where it is worst, ``log p`` is off by 4e-7 on average over draws from within 5 ``sigma`` of the wall, by at most
      3e-5 where ``E < 10``, 3e-4 where ``E < 15`` and 0.02 where ``E < 30`` (``d`` up to 10). This falls as ``s^7``.
    - ``E >= 30``, pairs that one draw in 10^8 reaches: the free density and its images in planes that touch the sphere
      next to ``x`` and next to ``x_0``. The leading term of ``log p`` is exact; what is added is right away from the
      wall and off by up to 0.7 if both points are on it. There are none for ``s > 0.26``.

    Where values can be read, pairs are grouped by their ``sigma``, and every group pays for what it needs.

    One specular step is not exact in a ball: ``sample`` takes steps of deviation 0.05 radii, or longer ones if it would
    need more than ``max_steps``. With 64 the mean of ``r`` is within 0.0005 radii of the kernel's, that of a coordinate
    within 0.0005 (``d`` up to 3), 0.002 (6) and 0.003 (10); this bias falls as one over the number of steps.

    In one dimension the ball is an interval, whose kernel is exact.

    Args:
        domain: A ``Ball``.
        max_steps: Most steps of a draw, at least 1.

    Raises:
        DomainError: If the domain is of another kind, or ``max_steps`` is not positive.

    Source: Carslaw and Jaeger, "Conduction of Heat in Solids", 1959, for the series; see also the parts.
    """

    domain: Ball

    def __init__(self, domain: Ball, max_steps: int = 64) -> None:
        require_kind(domain, Ball, "domain")
        super().__init__(domain)
        self.max_steps = require_dim(max_steps, 1, "BallHeatKernel", "max_steps")
        self.curved = domain.dim > 1
        if self.curved:
            self.series = BallSeries(domain.dim, _SWITCH)
            self.expansion = CurvatureExpansion(domain.dim, _ORDER)

    def _log_prob_and_score(self, x: Tensor, x_0: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        radius = upcast(self.domain.radius)
        x_unit, x_0_unit = self.domain.relative(upcast(x)), self.domain.relative(upcast(x_0))
        spread = (upcast(sigma) / radius).expand(*x.shape[:-1], 1)
        if not self.curved:
            log_prob, score = _interval(x_unit, x_0_unit, spread)
        elif eager_values(x, sigma) and x.numel():
            log_prob, score = self._grouped(x_unit, x_0_unit, spread)
        else:
            log_prob, score = self._unit_ball(x_unit, x_0_unit, spread)
        log_prob = log_prob.reshape(x.shape[:-1]) - self.domain.dim * torch.log(radius)
        return log_prob.to(x.dtype), (score.reshape(x.shape) / radius).to(x.dtype)

    def _grouped(self, *arrays: Tensor) -> tuple[Tensor, Tensor]:
        """``_unit_ball`` in groups of points with like deviations, and in blocks."""
        rows = [v.reshape(-1, v.shape[-1]) for v in arrays]
        spread = rows[-1].detach().squeeze(-1).contiguous()
        edges = _SWITCH * 2.0 ** torch.arange(len(self.series.cuts), dtype=spread.dtype, device=spread.device)
        group = torch.bucketize(spread, edges, right=True)
        order = group.argsort()
        sizes = group.bincount(minlength=len(edges) + 1).tolist()
        parts = []
        for i, members in enumerate(order.split(sizes)):
            for block in members.split(_BLOCK) if len(members) else ():
                x, x_0, sigma = (v[block] for v in rows)
                parts.append(self._unit_ball(x, x_0, sigma, i))
        place = order.argsort()
        log_prob, score = (torch.cat(part)[place] for part in zip(*parts, strict=True))
        return log_prob, score

    def _unit_ball(self, x: Tensor, x_0: Tensor, sigma: Tensor, group: int | None = None) -> tuple[Tensor, Tensor]:
        """Log-density and score in the unit ball, in float64.

        Args:
            x: Points ``(*batch, dim)``.
            x_0: Starting points.
            sigma: Deviations ``(*batch, 1)``.
            group: 0 if all ``sigma`` are below 0.07, ``i`` if all are at least ``0.07 2^(i - 1)``, None if unknown.
        """
        polar, polar_0 = _off_centre(x), _off_centre(x_0)
        r, r_0 = (torch.linalg.vector_norm(v, dim=-1) for v in (polar, polar_0))
        out, out_0 = polar / r.unsqueeze(-1), polar_0 / r_0.unsqueeze(-1)
        chord = (out - out_0).square().sum(-1)
        u, s = 1 - 0.5 * chord, sigma.squeeze(-1)
        energy = (x - x_0).square().sum(-1) / (2 * s.square())

        # Relative to free motion: images in the wall.
        log_ratio, in_r, in_u = _tangent_images(r, r_0, u, s)
        if not group:
            small = s.clamp_max(_SWITCH)
            near = self.expansion(r, r_0, u, chord / small.square(), small)
            far = (log_ratio, in_r, in_u)
            log_ratio, in_r, in_u = (torch.where(energy < _FAR, a, b) for a, b in zip(near, far, strict=True))
        log_prob = log_ratio + log_normal(x, x_0, sigma).sum(-1)
        straight = (x_0 - x) / sigma.square()
        if group != 0:
            large = s.clamp_min(_SWITCH)
            density, *slopes = self.series(r, r_0, u, large, max(0, (group or 1) - 1))
            resolved = (energy < _FAR) & (s >= _SWITCH)
            density = torch.where(resolved, density, 1.0)
            log_prob = torch.where(resolved, torch.log(density), log_prob)
            in_r, in_u = (torch.where(resolved, v / density, w) for v, w in zip(slopes, (in_r, in_u), strict=True))
            straight = torch.where(resolved.unsqueeze(-1), 0.0, straight)
        # du/dx = (out_0 - u out) / r, in a form that does not cancel for near directions.
        angular = out_0 - out + 0.5 * chord.unsqueeze(-1) * out
        return log_prob, straight + in_r.unsqueeze(-1) * out + (in_u / r).unsqueeze(-1) * angular

    def sample(self, x_0: Tensor, sigma: Tensor | float, *, generator: torch.Generator | None = None) -> Tensor:
        """As ``HeatKernel.sample``, by specular steps; see the class for their length and their bias."""
        spread = per_point(sigma, x_0).detach()
        steps = self.max_steps if self.curved else 1
        if self.curved and eager_values(spread) and spread.numel():
            ratio = float(spread.amax() / self.domain.radius) / _STEP
            steps = min(self.max_steps, max(1, math.ceil(ratio**2)))
        each = torch.as_tensor(sigma, dtype=x_0.dtype, device=x_0.device) / math.sqrt(steps)
        x = x_0
        for _ in range(steps):
            x = self.domain.reflect(x, random_step(self.domain, x, each, generator=generator))
        return x


def _off_centre(x: Tensor) -> Tensor:
    """``x``, moved by a step of no consequence where it has no direction."""
    shift = torch.full_like(x[..., :1], _CENTRE)
    moved = torch.cat([x[..., :1] + shift, x[..., 1:]], -1)
    return torch.where((x.abs() < 0.5 * _CENTRE).all(-1, keepdim=True), moved, x)


def _tangent_images(r: Tensor, r_0: Tensor, u: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``log(p / phi)`` of far pairs in the unit ball, and its derivatives in ``r`` and ``u``.

    Images in the plane that touches the sphere next to ``x``, in that next to ``x_0``, and in one after the other.
    """
    rate = -2 / sigma.square()
    a, b, turn = 1 - r, 1 - r_0, 1 - u
    zero = torch.zeros_like(r)
    exponents = torch.stack([zero, a * (1 - r_0 * u), b * (1 - r * u), (a + b) * turn], -1)
    in_r = torch.stack([zero, r_0 * u - 1, -b * u, -turn], -1)
    in_u = torch.stack([zero, -a * r_0, -b * r, -(a + b)], -1)
    exponents = rate.unsqueeze(-1) * exponents
    share = rate.unsqueeze(-1) * torch.softmax(exponents, -1)
    return torch.logsumexp(exponents, -1), (share * in_r).sum(-1), (share * in_u).sum(-1)


def _interval(x: Tensor, x_0: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Log-density and score on the interval from -1 to 1."""
    one = torch.ones_like(x)
    log_k, score = interval(Pair.between(-one, one, x, x_0), sigma)
    return log_k.squeeze(-1), score
