"""Mirror Flow Matching: flow matching in the dual space of a mirror map.

Data ``x`` in a convex domain become dual points ``y = grad phi(x)`` in all of ``R^d``, then flow coordinates
``u = T(y)``. A network learns the velocity of the straight path from prior noise to ``u``; samples travel from
the prior to time 1 and return through ``T^-1`` and ``grad phi*``, hence lie strictly inside the domain::

    loss(x) = E | v(u_t, t) - (u_1 - u_0) |^2,   u_t = (1 - t) u_0 + t u_1,   u_1 = T(grad phi(x)),  u_0 ~ prior
    log p(x) = log p_0(u_0) - int_0^1 div v(u_t, t) dt + log |det dT/dy| + log |det D^2 phi(x)|

Source: Guan, Balasubramanian and Ma, "Mirror Flow Matching with Heavy-Tailed Priors for Generative Modeling on
Convex Domains" (2025); Lipman et al., "Flow Matching for Generative Modeling" (2023).
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.flows.couplings import Coupling
from mirrorgen.flows.flow_model import FlowModel
from mirrorgen.flows.priors import Prior, StudentT
from mirrorgen.flows.tails import warn_if_pinned
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.dual_coordinates import DualCoordinates
from mirrorgen.geometry.dual_transform import DualTransform
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.validation import require_kind
from mirrorgen.integrate import divergence_named, integrate_with_logdet
from mirrorgen.nets import Net, expand_condition
from mirrorgen.numerics import upcast

__all__ = ["MirrorFlow"]


class MirrorFlow(DualCoordinates, FlowModel):
    """A continuous normalising flow on a convex domain, trained by flow matching in the dual.

    Args:
        mirror_map: A map whose dual is all of ``R^d`` (``dual_is_full``).
        net: Velocity ``net(u, t, condition)`` on ``mirror_map.domain.dual_dim`` coordinates.
        prior: Law of the noise; multivariate Student-t with 10 degrees of freedom if None.
        coupling: Pairing of noise and data within a batch; independent if None.
        dual_transform: ``"standardize"`` for ``RobustStandardize()``, another transform, or None for none. It is
            the identity until ``fit_dual_transform`` has seen data, and is saved with the weights.
        condition_dropout: Probability of forgetting the condition in training, which guidance needs.
        map_weight: Weight in the loss of ``-map_log_prob`` per coordinate, which trains a ``LearnedMirrorMap`` along
            with the network; 0 leaves the map as it is. The regression of the velocity never reaches the map: it would
            shrink the data to a point.

    Raises:
        ShapeError: If the network's dimension is not the dual dimension.
        DomainError: If the map's dual is not all of ``R^d`` or a part is of the wrong kind.
    """

    def __init__(
        self,
        mirror_map: MirrorMap,
        net: Net,
        prior: Prior | None = None,
        coupling: Coupling | None = None,
        dual_transform: DualTransform | str | None = "standardize",
        condition_dropout: float = 0.1,
        map_weight: float = 0.0,
    ) -> None:
        super().__init__(net, self._check_map(mirror_map), coupling, condition_dropout)
        self._set_dual(mirror_map, dual_transform)
        self.prior = StudentT() if prior is None else prior
        require_kind(self.prior, Prior, "prior")
        if not 0 <= map_weight < math.inf:
            raise DomainError(f"map_weight must be non-negative and finite, got {map_weight}")
        self.map_weight = map_weight

    @property
    def domain(self) -> Domain:  # type: ignore[override]
        """The set that holds data and samples."""
        return self.mirror_map.domain

    def fit_dual_transform(self, x: Tensor) -> None:
        """Fit the dual transform to training points ``(n, dim)``, once, before training.

        Warns if the map is such that much of the noise lands within rounding of the boundary in the dtype of ``x``.
        """
        super().fit_dual_transform(x)
        warn_if_pinned(self, x)

    def loss(self, x: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        loss = super().loss(x, condition=condition, generator=generator)
        if self.map_weight == 0:
            return loss
        with torch.autocast(x.device.type, enabled=False):
            points = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
            return loss - self.map_weight * self.map_log_prob(points).mean().to(loss.dtype) / self.dim

    def map_log_prob(self, x: Tensor) -> Tensor:
        """``log p_0(T(grad phi(x))) + log |det dT/dy| + log |det D^2 phi(x)|``, ``(n,)``.

        The log-density of the flow if its velocity were zero: the larger it is, the less is left for the velocity.
        """
        inside, u, log_det = self._prepared(x)
        return torch.where(inside, self.prior.log_prob(u) + log_det, -torch.inf)

    def log_prob(
        self,
        x: Tensor,
        *,
        condition: Tensor | int | None = None,
        steps: int = 50,
        method: str = "midpoint",
        divergence: str = "exact",
        guidance_scale: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Log-density ``(n,)`` in the measure of the domain, by integrating back to the prior; differentiable.

        A float32 point within rounding of the boundary has lost its slack, and its density the digits that depend on
        it; ``sample_and_log_prob`` evaluates them at the dual point.

        Args:
            x: Points ``(n, dim)``; where they are not strictly inside (NaN included) the result is ``-inf``.
            condition: As in ``sample``.
            steps: Number of integration steps.
            method: As in ``sample``.
            divergence: ``"exact"`` (``dual_dim`` products per evaluation) or ``"hutchinson"`` (one, unbiased).
            guidance_scale: See ``velocity``; the density is then the guided flow's own.
            generator: Source of the probes of ``"hutchinson"``.
        """
        inside, u_1, log_det_encode = self._prepared(x)
        labels = expand_condition(self.net, condition, len(x), guidance_scale)
        field = partial(self._field, condition=labels, scale=guidance_scale)
        rate = divergence_named(divergence, u_1, generator)
        u_0, log_det = integrate_with_logdet(field, u_1, 1.0, 0.0, steps=steps, method=method, divergence=rate)
        return torch.where(inside, self.prior.log_prob(u_0) + log_det + log_det_encode, -torch.inf)

    @torch.no_grad()
    def sample_and_log_prob(
        self,
        n: int,
        *,
        condition: Tensor | int | None = None,
        generator: torch.Generator | None = None,
        steps: int = 50,
        method: str = "midpoint",
        divergence: str = "exact",
        guidance_scale: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Points ``(n, dim)`` and their log-densities ``(n,)`` from one integration; arguments as in ``sample``.

        The Jacobian of the map is evaluated at the dual point, which still knows its distance to the boundary
        where the point itself has been rounded.
        """
        u_0 = self._noise(n, generator)
        labels = expand_condition(self.net, condition, n, guidance_scale)
        field = partial(self._field, condition=labels, scale=guidance_scale)
        rate = divergence_named(divergence, u_0, generator)
        u_1, log_det = integrate_with_logdet(field, u_0, 0.0, 1.0, steps=steps, method=method, divergence=rate)
        y = self._dual(upcast(u_1))
        return self.mirror_map.to_primal(y.to(u_1.dtype)), self.prior.log_prob(u_0) - log_det + self._log_det_encode(
            y
        ).to(u_1.dtype)

    def _draw(self, n: int, generator: torch.Generator | None, **options: Any) -> Tensor:
        return self.prior.sample(n, self.dim, generator=generator, **options)
