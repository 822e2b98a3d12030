"""Reflected diffusion: a generative model whose noise bounces off the walls of its domain.

Data ``x`` diffuse inside the domain as reflected Brownian motion until they are uniform; a network learns the scores
``grad log p_sigma`` of the laws on the way, and samples run the motion backwards from uniform points. Every state is
strictly inside. The score that the network parametrises has no normal component at the walls, as the exact one has,
so that the probability flow stays inside too and has a density.

Source: Lou, Ermon, "Reflected Diffusion Models", 2023; on polytopes: Fishman, Klarner, De Bortoli, Mathieu, Hutchinson,
"Diffusion Models for Constrained Domains", 2023.
"""

import math

import torch
from torch import Tensor

from mirrorgen.diffusion.heat_kernel import default_kernel
from mirrorgen.diffusion.objectives import Denoising, Implicit, Objective, ScaledScore
from mirrorgen.diffusion.schedules import GeometricSchedule, Schedule, stratified
from mirrorgen.diffusion.score_model import ScoreModel
from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Domain
from mirrorgen.nets import Net, expand_condition

__all__ = ["ReflectedDiffusion"]


class ReflectedDiffusion(ScoreModel):
    """Score-based generative model on a bounded convex domain.

    ``score(x, sigma) = no_flux(net(u, t)) / sigma`` with ``u`` the chart coordinates of ``x``, centred and scaled to
    about ``[-1, 1]``, ``t`` the time of ``sigma`` in the schedule, and ``no_flux`` the removal of components normal to
    near walls (``Domain.no_flux``).

    Args:
        domain: A bounded domain.
        net: Network ``net(u, t, condition)`` on ``domain.dual_dim`` coordinates.
        schedule: Noise levels; if None, geometric from 0.01 to 1.5 times the ``extent`` of the domain.
        objective: ``"auto"`` for denoising score matching where ``default_kernel`` knows the heat kernel and implicit
            score matching elsewhere; ``"denoising"``, ``"unfolded"`` (``Denoising()``), ``"implicit"``, or an
            ``Objective``.
        condition_dropout: Probability of forgetting the condition in training, which guidance needs.
        no_flux: Whether the score is made tangent at the walls. Without it the probability flow leaves the domain, its
            "likelihood" is none, and implicit score matching is wrong: for comparison only.

    Raises:
        DomainError: If the domain is unbounded or a part is of the wrong kind.
        ShapeError: If the dimension of the network is not that of the domain's affine hull.
    """

    def __init__(
        self,
        domain: Domain,
        net: Net,
        schedule: Schedule | None = None,
        objective: Objective | str = "auto",
        condition_dropout: float = 0.1,
        no_flux: bool = True,
    ) -> None:
        super().__init__(domain, net, schedule, condition_dropout)
        self.objective, self.no_flux = objective, no_flux
        self._objective = _objective(objective, domain)
        self.levels = self._objective.levels

    @staticmethod
    def default_schedule(width: float) -> Schedule:
        return GeometricSchedule(0.01 * width, 1.5 * width)

    def errors(self, f: ScaledScore, x: Tensor, sigmas: Tensor, generator: torch.Generator | None) -> Tensor:
        return self._objective.loss(self.domain, f, x, sigmas, generator)

    def _from_output(self, x: Tensor, value: Tensor, sigma: Tensor) -> Tensor:
        vector = self.domain.from_tangent(value)
        return self.domain.no_flux(x, vector, sigma) if self.no_flux else vector

    def _why_no_density(self) -> str | None:
        return None if self.no_flux else "it needs no_flux=True: otherwise the flow leaves the domain"

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
        kernel = getattr(self._objective, "kernel", None)
        if kernel is None:
            raise DomainError(f"the bound needs the heat kernel of {self.domain!r}, which is not known; use log_prob")
        self.domain.check(x)
        labels = expand_condition(self.net, condition, len(x))
        t = stratified(draws, len(x), like=x, generator=generator)
        scale = math.log(self.schedule.sigma_max / self.schedule.sigma_min)
        error = torch.stack([self.weighted_error(x, row.unsqueeze(0), labels, generator)[0] for row in t]).mean(0)
        many = x.expand(draws, *x.shape)
        first, last = (
            kernel.log_prob(kernel.sample(many, sigma, generator=generator), many, sigma).mean(0)
            for sigma in (self.schedule.sigma_min, self.schedule.sigma_max)
        )
        return -(scale * error - first + last + self.domain.log_volume())


def _objective(objective: Objective | str, domain: Domain) -> Objective:
    if isinstance(objective, Objective):
        return objective
    if objective == "implicit":
        return Implicit()
    if objective == "unfolded":
        return Denoising()
    if objective not in ("auto", "denoising"):
        raise DomainError(
            f"objective is 'auto', 'denoising', 'unfolded', 'implicit' or an Objective, got {objective!r:.60}"
        )
    kernel = default_kernel(domain)
    if objective == "denoising" and kernel is None:
        raise DomainError(f"the heat kernel of {domain!r} is not known; use objective='implicit'")
    return Implicit() if kernel is None else Denoising(kernel)
