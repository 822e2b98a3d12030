"""What the diffusion models share: a network for the score at every noise level, its loss, and the way back.

A model is a motion in a space, whose noise levels are ``sigma``; a network predicts ``sigma`` times the score of the
law of the data at each level. Subclasses say which motion it is and how its score is learnt.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from mirrorgen.diffusion.objectives import ScaledScore
from mirrorgen.diffusion.reverse import flow_log_det, resolve_step, reverse
from mirrorgen.diffusion.schedules import Grid, Schedule, sigma_grid, stratified
from mirrorgen.diffusion.steps import ReverseStep
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.extent import extent
from mirrorgen.geometry.validation import require_batch, require_kind, validation
from mirrorgen.integrate import Adaptive, divergence_named
from mirrorgen.nets import Net, expand_condition, guided, state_options

__all__ = ["ScoreModel"]


class ScoreModel(nn.Module, ABC):
    """Score-based generative model on a bounded convex domain.

    The network sees ``u``, the chart coordinates of a point, centred and scaled to about ``[-1, 1]``, and the time
    ``t`` of the noise level in the schedule.

    Args:
        domain: A bounded domain.
        net: Network ``net(u, t, condition)`` on ``domain.dual_dim`` coordinates.
        schedule: Noise levels; if None, ``default_schedule`` of the ``extent`` of the domain.
        condition_dropout: Probability of forgetting the condition in training, which guidance needs.

    Attributes:
        space: Where the motion runs: the domain, unless a subclass says otherwise.
        levels: Noise levels per data point in ``loss``.
        default_method: Sampling method when none is named.

    Raises:
        DomainError: If the domain is unbounded or a part is of the wrong kind.
        ShapeError: If the dimension of the network is not that of the domain's affine hull.
    """

    center: Tensor
    space: Domain
    levels: int = 1
    default_method: ClassVar[str] = "pc"

    def __init__(self, domain: Domain, net: Net, schedule: Schedule | None, condition_dropout: float) -> None:
        super().__init__()
        require_kind(domain, Domain, "domain")
        if not domain.bounded:
            raise DomainError(f"{domain!r} is unbounded, and noise on it never becomes uniform; use a bounded domain")
        if getattr(net, "dim", domain.dual_dim) != domain.dual_dim:
            raise ShapeError(f"net.dim={net.dim} must equal the dimension {domain.dual_dim} of {domain!r}")
        if not 0 <= condition_dropout <= 1:
            raise DomainError(f"condition_dropout must lie in [0, 1], got {condition_dropout}")
        width = extent(domain)
        self.domain, self.space, self.net = domain, domain, net
        self.schedule = self.default_schedule(width) if schedule is None else schedule
        require_kind(self.schedule, Schedule, "schedule")
        self.condition_dropout = condition_dropout
        self._half_width = 0.5 * width
        self.register_buffer("center", domain.to_chart(domain.interior_point()).float(), persistent=False)

    @staticmethod
    @abstractmethod
    def default_schedule(width: float) -> Schedule:
        """Noise levels for a domain of this ``extent``."""

    @abstractmethod
    def errors(self, f: ScaledScore, x: Tensor, sigmas: Tensor, generator: torch.Generator | None) -> Tensor:
        """The objective at deviations ``sigmas (levels, n)`` from points of the space, ``(levels, n)``.

        Args:
            f: ``scaled_score`` with its condition.
            x: Data in the space ``(n, space.dim)``.
            sigmas: Deviations, increasing in the level.
            generator: Source of noise.
        """

    def scaled_score(
        self, x: Tensor, sigma: Tensor, condition: Tensor | None = None, guidance_scale: float = 1.0
    ) -> Tensor:
        """``sigma * score``, what the network predicts, ``(n, space.dim)``.

        Args:
            x: Points of the space ``(n, space.dim)``.
            sigma: Deviation, ``()`` or ``(n,)``.
            condition: Labels ``(n,)`` or vectors ``(n, k)``.
            guidance_scale: See ``nets.guided``.
        """
        # Under autocast the network runs in half precision and geometry does not.
        with torch.autocast(x.device.type, enabled=False):
            u = (self.space.to_chart(x) - self.center.to(x.dtype)) / self._half_width
            u = self._scaled_input(u, sigma)
        value = guided(self.net, u, self.schedule.time(sigma), condition, guidance_scale)
        with torch.autocast(x.device.type, enabled=False):
            return self._from_output(x, value.to(x.dtype), sigma)

    def score(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None, guidance_scale: float = 1.0) -> Tensor:
        """``grad log p_sigma(x)``, ``(n, dim)``; arguments as in ``scaled_score``."""
        spread = sigma.unsqueeze(-1) if sigma.ndim else sigma
        return self.scaled_score(x, sigma, condition, guidance_scale) / spread

    def loss(self, x: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Mean squared error of ``sigma * score`` per coordinate, weighted by the likelihood; a scalar.

        Args:
            x: Data strictly inside the domain, ``(n, dim)``.
            condition: Class labels ``(n,)`` or vectors ``(n, k)`` if the network takes them.
            generator: Source of noise, times and dropped conditions.

        Raises:
            DomainError: If a point is not strictly inside; the message names the constraint.
            ShapeError: If ``x`` is no batch of points, or ``condition`` has not one row per point.
        """
        require_batch(x, self.domain.dim)
        self.domain.check(x)
        condition = expand_condition(self.net, condition, len(x))
        if condition is not None:
            drop = torch.rand(len(x), generator=generator, device=x.device) < self.condition_dropout
            condition = self.net.drop_condition(condition, drop)
        times = stratified(self.levels, len(x), like=x, generator=generator)
        sums = self.weighted_error(x, times, condition, generator)
        return sums.mean() / self.domain.dual_dim

    def weighted_error(
        self, x: Tensor, t: Tensor, condition: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """The objective at times ``t (levels, n)``, summed over coordinates, ``(levels, n)``.

        Weighted by ``g^2 / sigma^2`` relative to the geometric schedule with the same ends.
        """
        sigmas = self.schedule.sigma(t)
        if condition is not None:
            condition = condition.repeat(len(t), *[1] * (condition.ndim - 1))
        with validation(False):
            sums = self.errors(partial(self.scaled_score, condition=condition), self._to_space(x), sigmas, generator)
        reference = 2 * math.log(self.schedule.sigma_max / self.schedule.sigma_min)
        return sums * self.schedule.variance_rate(t) / (reference * sigmas.square())

    def sample(
        self,
        n: int,
        *,
        condition: Tensor | int | None = None,
        generator: torch.Generator | None = None,
        steps: int = 100,
        method: str | ReverseStep | Adaptive | None = None,
        grid: Grid = "rho",
        guidance_scale: float = 1.0,
        start: Tensor | None = None,
        sigma_start: float | None = None,
        batch_size: int = 65_536,
        callback: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Draw ``n`` points ``(n, dim)``, strictly inside the domain in the dtype of the network.

        Args:
            n: Number of points.
            condition: One label for all, or labels ``(n,)`` or vectors ``(n, k)``; None for unconditional.
            generator: Source of noise.
            steps: Noise levels; a step evaluates the network once (``"em"``, ``"ancestral"``, ``"euler"``) or twice
                (``"pc"``, ``"ode"``).
            method: ``"pc"``, ``"em"`` or ``"ancestral"`` (stochastic), ``"ode"`` (Heun's step of the probability flow),
                ``"euler"``, an adaptive solver such as ``"dopri5"``, or a ``ReverseStep``; if None ``default_method``.
            grid: ``"rho"`` or ``"log"``, see ``sigma_grid``.
            guidance_scale: See ``nets.guided``.
            start: Points ``(n, space.dim)`` at level ``sigma_start`` instead of pure noise at the last level: a
                partial trajectory, for instance from ``kernel.sample(x, sigma_start)``.
            sigma_start: The level of ``start``.
            batch_size: Points at a time, which bounds the memory.
            callback: Called with the number of points done after each batch, for progress.

        Raises:
            DomainError: If a parameter is out of range, or ``start`` is outside.
            ConvergenceError: If the score became infinite or NaN, or an adaptive method gave up.
        """
        options = state_options(self.net, n)
        labels = expand_condition(self.net, condition, n, guidance_scale)
        if batch_size < 1:
            raise DomainError(f"batch_size must be at least 1, got {batch_size}")
        x = self._starts(n, start, sigma_start, generator).to(**options)
        way = self.resolve(self.default_method if method is None else method)
        high = self.schedule.sigma_max if sigma_start is None else sigma_start
        sigmas = sigma_grid(high, self.schedule.sigma_min, steps, grid)
        parts = [self._from_space(x[:0])]
        for first in range(0, n, batch_size):
            rows = slice(first, first + batch_size)
            field = partial(
                self.score, condition=None if labels is None else labels[rows], guidance_scale=guidance_scale
            )
            parts.append(self._from_space(reverse(self.space, field, x[rows], sigmas, way, generator=generator)))
            if callback is not None:
                callback(min(first + batch_size, n))
        return torch.cat(parts)

    def resolve(self, method: str | ReverseStep | Adaptive) -> ReverseStep | Adaptive:
        """The method called ``method``; see ``reverse.METHODS``."""
        return resolve_step(method)

    def log_prob(
        self,
        x: Tensor,
        *,
        condition: Tensor | int | None = None,
        steps: int = 50,
        method: str = "heun",
        grid: Grid = "rho",
        divergence: str = "exact",
        guidance_scale: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Log-density ``(n,)`` of the probability flow in the measure of the domain; differentiable.

        The density is that of ``sample(method="ode")`` in the limit of many steps.

        Args:
            x: Points ``(n, dim)``; where they are not strictly inside (NaN included) the result is ``-inf``.
            condition: As in ``sample``.
            steps: Number of integration steps.
            method: A method of ``integrate``: ``"heun"``, ``"rk4"``, ``"dopri5"``, ...
            grid: As in ``sample``.
            divergence: ``"exact"`` (``dim`` products per evaluation) or ``"hutchinson"`` (one, unbiased).
            guidance_scale: See ``nets.guided``; the density is then the guided flow's own.
            generator: Source of the probes of ``"hutchinson"``.

        Raises:
            DomainError: If the flow has no density on the domain, or the volume of the domain is not known.
        """
        reason = self._why_no_density()
        if reason is not None:
            raise DomainError(f"this model has no log_prob: {reason}")
        labels = expand_condition(self.net, condition, len(x), guidance_scale)
        field = partial(self.score, condition=labels, guidance_scale=guidance_scale)
        inside, z, log_det_space = self._parts(x)
        sigmas = sigma_grid(self.schedule.sigma_max, self.schedule.sigma_min, steps, grid).flip(0)
        rate = divergence_named(divergence, z, generator)
        end, log_det = flow_log_det(self.space, field, z, sigmas, rate, method)
        return torch.where(inside, self._last_log_prob(end) + log_det + log_det_space, -torch.inf)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A mask of points inside, points of the space, and ``log |det d _to_space / dx|``, for ``log_prob``.

        The interior point stands in for those outside.
        """
        inside = self.domain.contains(x)
        x = torch.where(inside.unsqueeze(-1), x, self.domain.interior_point().to(x))
        return inside, x, torch.zeros_like(x[..., 0])

    def _last_log_prob(self, z: Tensor) -> Tensor:
        """Log-density of the law at the last level at points of the space, ``(n,)``."""
        return torch.full_like(z[..., 0], -self.domain.log_volume())

    def _why_no_density(self) -> str | None:
        """What keeps the probability flow from having a density on the domain; None if it has one."""
        return None

    def _scaled_input(self, u: Tensor, sigma: Tensor) -> Tensor:
        """What the network is given for ``u``."""
        return u

    def _from_output(self, x: Tensor, value: Tensor, sigma: Tensor) -> Tensor:
        """``sigma * score`` from what the network returned, ``(n, domain.dual_dim)``."""
        return self.space.from_tangent(value)

    def _to_space(self, x: Tensor) -> Tensor:
        return x

    def _from_space(self, z: Tensor) -> Tensor:
        return z

    def _prior(self, n: int, generator: torch.Generator | None) -> Tensor:
        """Draws of the law at the last level, points of the space."""
        return self.domain.sample_uniform(n, generator=generator)

    def _starts(
        self, n: int, start: Tensor | None, sigma_start: float | None, generator: torch.Generator | None
    ) -> Tensor:
        if (start is None) != (sigma_start is None):
            raise DomainError("a partial trajectory needs both start and sigma_start")
        if start is None:
            return self._prior(n, generator)
        self.space.check(start, "start")
        if len(start) != n or start.ndim != 2:
            raise ShapeError(f"start must have shape ({n}, {self.space.dim}), got {tuple(start.shape)}")
        return start
