"""Reflected diffusion: a generative model whose noise bounces off the walls of its domain.

Data ``x`` diffuse inside the domain as reflected Brownian motion until they are uniform; a network learns the scores
``grad log p_sigma`` of the laws on the way, and samples run the motion backwards from uniform points. Every state is
strictly inside. The score that the network parametrises has no normal component at the walls, as the exact one has,
so that the probability flow stays inside too and has a density.

Source: Lou, Ermon, "Reflected Diffusion Models", 2023; on polytopes: Fishman, Klarner, De Bortoli, Mathieu, Hutchinson,
"Diffusion Models for Constrained Domains", 2023.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mirrorgen.diffusion.heat_kernel import default_kernel
from mirrorgen.diffusion.objectives import Denoising, Implicit, Objective
from mirrorgen.diffusion.reverse import flow_log_det, reverse
from mirrorgen.diffusion.schedules import GeometricSchedule, Grid, Schedule, extent, sigma_grid
from mirrorgen.diffusion.steps import ReverseStep
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.validation import require_batch, require_kind, validation
from mirrorgen.integrate import Adaptive, divergence_named
from mirrorgen.nets import Net, expand_condition, guided, state_options

__all__ = ["ReflectedDiffusion"]


class ReflectedDiffusion(nn.Module):
    """Score-based generative model on a bounded convex domain.

    ``score(x, sigma) = no_flux(net(u, t)) / sigma`` with ``u`` the chart coordinates of ``x``, centred and scaled to
    about ``[-1, 1]``, ``t`` the time of ``sigma`` in the schedule, and ``no_flux`` the removal of components normal to
    near walls (``Domain.no_flux``).

    Args:
        domain: A bounded domain.
        net: Network ``net(u, t, condition)`` on ``domain.dual_dim`` coordinates.
        schedule: Noise levels; if None, geometric from 0.01 to 1.5 times the ``extent`` of the domain.
        objective: ``"auto"`` for denoising score matching where ``default_kernel`` knows the heat kernel and implicit
            score matching elsewhere; ``"denoising"``, ``"implicit"``, or an ``Objective``.
        condition_dropout: Probability of forgetting the condition in training, which guidance needs.
        no_flux: Whether the score is made tangent at the walls. Without it the probability flow leaves the domain, its
            "likelihood" is none, and implicit score matching is wrong: for comparison only.

    Raises:
        DomainError: If the domain is unbounded or a part is of the wrong kind.
        ShapeError: If the dimension of the network is not that of the domain's affine hull.
    """

    center: Tensor

    def __init__(
        self,
        domain: Domain,
        net: Net,
        schedule: Schedule | None = None,
        objective: Objective | str = "auto",
        condition_dropout: float = 0.1,
        no_flux: bool = True,
    ) -> None:
        super().__init__()
        require_kind(domain, Domain, "domain")
        if not domain.bounded:
            raise DomainError(f"{domain!r} is unbounded, and noise on it never becomes uniform; use a bounded domain")
        if getattr(net, "dim", domain.dual_dim) != domain.dual_dim:
            raise ShapeError(f"net.dim={net.dim} must equal the dimension {domain.dual_dim} of {domain!r}")
        if not 0 <= condition_dropout <= 1:
            raise DomainError(f"condition_dropout must lie in [0, 1], got {condition_dropout}")
        width = extent(domain)
        self.domain, self.net = domain, net
        self.schedule = GeometricSchedule(0.01 * width, 1.5 * width) if schedule is None else schedule
        require_kind(self.schedule, Schedule, "schedule")
        self.objective, self.condition_dropout, self.no_flux = objective, condition_dropout, no_flux
        self._objective = _objective(objective, domain)
        self._half_width = 0.5 * width
        self.register_buffer("center", domain.to_chart(domain.interior_point()).float(), persistent=False)

    def scaled_score(
        self, x: Tensor, sigma: Tensor, condition: Tensor | None = None, guidance_scale: float = 1.0
    ) -> Tensor:
        """``sigma * score``, what the network predicts, ``(n, dim)``.

        Args:
            x: Points ``(n, dim)``.
            sigma: Deviation, ``()`` or ``(n,)``.
            condition: Labels ``(n,)`` or vectors ``(n, k)``.
            guidance_scale: See ``nets.guided``; guided scores have no normal component at the walls either.
        """
        with torch.autocast(x.device.type, enabled=False):
            u = (self.domain.to_chart(x) - self.center.to(x.dtype)) / self._half_width
        value = guided(self.net, u, self.schedule.time(sigma), condition, guidance_scale)
        # Under autocast the network runs in half precision and geometry does not.
        with torch.autocast(x.device.type, enabled=False):
            vector = self.domain.from_tangent(value.to(x.dtype))
            return self.domain.no_flux(x, vector, sigma) if self.no_flux else vector

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
        sums = self.weighted_error(x, self._levels(x, generator), condition, generator)
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
            sums = self._objective.loss(
                self.domain, partial(self.scaled_score, condition=condition), x, sigmas, generator
            )
        reference = 2 * math.log(self.schedule.sigma_max / self.schedule.sigma_min)
        return sums * self.schedule.variance_rate(t) / (reference * sigmas.square())

    def sample(
        self,
        n: int,
        *,
        condition: Tensor | int | None = None,
        generator: torch.Generator | None = None,
        steps: int = 100,
        method: str | ReverseStep | Adaptive = "pc",
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
                ``"euler"``, an adaptive solver such as ``"dopri5"``, or a ``ReverseStep``.
            grid: ``"rho"`` or ``"log"``, see ``sigma_grid``.
            guidance_scale: See ``nets.guided``.
            start: Points ``(n, dim)`` at level ``sigma_start`` instead of uniform ones at the last level: a partial
                trajectory, for instance from ``kernel.sample(x, sigma_start)``.
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
        high = self.schedule.sigma_max if sigma_start is None else sigma_start
        sigmas = sigma_grid(high, self.schedule.sigma_min, steps, grid)
        parts = [x[:0]]
        for first in range(0, n, batch_size):
            rows = slice(first, first + batch_size)
            field = partial(
                self.score, condition=None if labels is None else labels[rows], guidance_scale=guidance_scale
            )
            parts.append(reverse(self.domain, field, x[rows], sigmas, method, generator=generator))
            if callback is not None:
                callback(min(first + batch_size, n))
        return torch.cat(parts)

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

        The density is that of ``sample(method="ode")`` in the limit of many steps. It is a density because the score
        has no normal component at the walls.

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
            DomainError: If the model has no ``no_flux``, or the volume of the domain is not known.
        """
        self._require_no_flux("log_prob")
        inside = self.domain.contains(x)
        x = torch.where(inside.unsqueeze(-1), x, self.domain.interior_point().to(x))
        labels = expand_condition(self.net, condition, len(x), guidance_scale)
        field = partial(self.score, condition=labels, guidance_scale=guidance_scale)
        sigmas = sigma_grid(self.schedule.sigma_max, self.schedule.sigma_min, steps, grid).flip(0)
        rate = divergence_named(divergence, x, generator)
        log_det = flow_log_det(self.domain, field, x, sigmas, rate, method)[1]
        return torch.where(inside, log_det - self.domain.log_volume(), -torch.inf)

    @torch.no_grad()
    def log_prob_bound(
        self,
        x: Tensor,
        *,
        condition: Tensor | int | None = None,
        draws: int = 16,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """An unbiased estimate of a lower bound on the log-likelihood ``(n,)`` of the reverse motion, in nats.

        ``-log p(x) <= (1/2) int g^2 E |score - grad log k|^2 dt + H(k_min) + KL(k_max || uniform)``: the loss weighted
        by ``g^2``, the entropy of the kernel at ``sigma_min`` (the last step adds its noise; leaving it out is an error
        of ``d log sigma_min``), and what is left of the data at ``sigma_max``. All three are averages over ``draws``.

        Args:
            x: Points ``(n, dim)`` strictly inside.
            condition: As in ``sample``.
            draws: Noise levels per point.
            generator: Source of noise.

        Raises:
            DomainError: If the heat kernel of the domain is not known, or a point is outside.

        Source: the bound of Song, Durkan, Murray, Ermon, "Maximum Likelihood Training of Score-Based Diffusion
        Models", 2021, for reflected motions.
        """
        if not isinstance(self._objective, Denoising):
            raise DomainError(f"the bound needs the heat kernel of {self.domain!r}, which is not known; use log_prob")
        self.domain.check(x)
        labels = expand_condition(self.net, condition, len(x))
        t = stratified(draws, len(x), like=x, generator=generator)
        kernel = self._objective.kernel
        scale = math.log(self.schedule.sigma_max / self.schedule.sigma_min)
        error = torch.stack([self.weighted_error(x, row.unsqueeze(0), labels, generator)[0] for row in t]).mean(0)
        many = x.expand(draws, *x.shape)
        first, last = (
            kernel.log_prob(kernel.sample(many, sigma, generator=generator), many, sigma).mean(0)
            for sigma in (self.schedule.sigma_min, self.schedule.sigma_max)
        )
        return -(scale * error - first + last + self.domain.log_volume())

    def _levels(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Times ``(levels, n)`` in ``[0, 1]``, increasing in the level."""
        return stratified(self._objective.levels, len(x), like=x, generator=generator)

    def _starts(
        self, n: int, start: Tensor | None, sigma_start: float | None, generator: torch.Generator | None
    ) -> Tensor:
        if (start is None) != (sigma_start is None):
            raise DomainError("a partial trajectory needs both start and sigma_start")
        if start is None:
            return self.domain.sample_uniform(n, generator=generator)
        self.domain.check(start, "start")
        if len(start) != n or start.ndim != 2:
            raise ShapeError(f"start must have shape ({n}, {self.domain.dim}), got {tuple(start.shape)}")
        return start

    def _require_no_flux(self, what: str) -> None:
        if not self.no_flux:
            raise DomainError(f"{what} needs no_flux=True: otherwise the flow leaves the domain and has no density")


def stratified(levels: int, n: int, *, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Uniform times ``(levels, n)``, one in each of ``levels`` equal parts of ``[0, 1]``, increasing in the level.

    Within a level the ``n`` times are equidistant up to a common shift and a random order, which takes most of the
    variance that the times contribute out of a mean over the batch.

    Source: Kingma, Salimans, Poole, Ho, "Variational Diffusion Models", 2021.
    """
    options: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
    shift = torch.rand(levels, 1, generator=generator, **options)
    order = torch.rand(levels, n, generator=generator, **options).argsort(-1)
    within = torch.remainder(order / n + shift, 1.0)
    return (within + torch.arange(levels, **options).unsqueeze(-1)) / levels


def _objective(objective: Objective | str, domain: Domain) -> Objective:
    if isinstance(objective, Objective):
        return objective
    if objective not in ("auto", "denoising", "implicit"):
        raise DomainError(f"objective is 'auto', 'denoising', 'implicit' or an Objective, got {objective!r:.60}")
    kernel = None if objective == "implicit" else default_kernel(domain)
    if objective == "denoising" and kernel is None:
        raise DomainError(f"the heat kernel of {domain!r} is not known; use objective='implicit'")
    return Implicit() if kernel is None else Denoising(kernel)
