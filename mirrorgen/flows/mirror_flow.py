"""Mirror Flow Matching: flow matching in the dual space of a mirror map.

Data ``x`` in a convex domain become dual points ``y = grad phi(x)`` in all of ``R^d``, then flow coordinates
``u = T(y)``. A network learns the velocity of the straight path from prior noise to ``u``; samples travel from
the prior to time 1 and return through ``T^-1`` and ``grad phi*``, hence lie strictly inside the domain::

    loss(x) = E | v(u_t, t) - (u_1 - u_0) |^2,   u_t = (1 - t) u_0 + t u_1,   u_1 = T(grad phi(x)),  u_0 ~ prior
    log p(x) = log p_0(u_0) - int_0^1 div v(u_t, t) dt + log |det dT/dy| + log |det D^2 phi(x)|

Source: Guan, Balasubramanian and Ma, "Mirror Flow Matching with Heavy-Tailed Priors for Generative Modeling on
Convex Domains" (2025); Lipman et al., "Flow Matching for Generative Modeling" (2023).
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.flows.couplings import Coupling
from mirrorgen.flows.dual_transform import DualTransform, RobustStandardize
from mirrorgen.flows.flow_model import FlowModel
from mirrorgen.flows.priors import Prior, StudentT
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.validation import require_kind, validation
from mirrorgen.integrate import divergence_named, integrate_with_logdet
from mirrorgen.nets import Net, expand_condition
from mirrorgen.numerics import upcast

__all__ = ["MirrorFlow"]


class MirrorFlow(FlowModel):
    """A continuous normalising flow on a convex domain, trained by flow matching in the dual.

    Args:
        mirror_map: A map whose dual is all of ``R^d`` (``dual_is_full``).
        net: Velocity ``net(u, t, condition)`` on ``mirror_map.domain.dual_dim`` coordinates.
        prior: Law of the noise; multivariate Student-t with 10 degrees of freedom if None.
        coupling: Pairing of noise and data within a batch; independent if None.
        dual_transform: ``"standardize"`` for ``RobustStandardize()``, another transform, or None for none. It is
            the identity until ``fit_dual_transform`` has seen data, and is saved with the weights.
        condition_dropout: Probability of forgetting the condition in training, which guidance needs.

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
    ) -> None:
        require_kind(mirror_map, MirrorMap, "mirror_map")
        dim = mirror_map.domain.dual_dim
        if not mirror_map.dual_is_full:
            raise DomainError(
                f"the dual of {type(mirror_map).__name__} is not all of R^{dim}, so noise would leave it; "
                "use a map with dual_is_full, such as mirror_maps.default(domain)"
            )
        super().__init__(net, dim, coupling, condition_dropout)
        if isinstance(dual_transform, str):
            if dual_transform != "standardize":
                raise DomainError(
                    f"unknown dual_transform {dual_transform!r}; use 'standardize', a DualTransform or None"
                )
            dual_transform = RobustStandardize()
        self.mirror_map = mirror_map
        self.prior = StudentT() if prior is None else prior
        self.dual_transform = dual_transform
        require_kind(self.prior, Prior, "prior")
        if dual_transform is not None:
            require_kind(dual_transform, DualTransform, "dual_transform")
            dual_transform.initialize(dim)

    @property
    def domain(self) -> Domain:  # type: ignore[override]
        """The set that holds data and samples."""
        return self.mirror_map.domain

    def fit_dual_transform(self, x: Tensor) -> None:
        """Fit the dual transform to training points ``(n, dim)``, once, before training."""
        if self.dual_transform is not None:
            self.dual_transform.fit(self._to_dual(x))

    def encode(self, x: Tensor) -> Tensor:
        """Flow coordinates ``T(grad phi(x))``, computed in double precision, in the dtype of ``x``."""
        y = self._to_dual(x)
        return (y if self.dual_transform is None else self.dual_transform(y)).to(x.dtype)

    def decode(self, u: Tensor) -> Tensor:
        """Points of the domain ``grad phi*(T^-1(u))``, strictly inside in the dtype of ``u``."""
        return self.mirror_map.to_primal(self._dual(u))

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
        domain = self.mirror_map.domain
        inside = domain.contains(x)
        x = torch.where(inside.unsqueeze(-1), x, domain.interior_point().to(x))
        y = self._to_dual(x)
        u_1 = (y if self.dual_transform is None else self.dual_transform(y)).to(x.dtype)
        labels = expand_condition(self.net, condition, len(x), guidance_scale)
        field = partial(self._field, condition=labels, scale=guidance_scale)
        rate = divergence_named(divergence, u_1, generator)
        u_0, log_det = integrate_with_logdet(field, u_1, 1.0, 0.0, steps=steps, method=method, divergence=rate)
        log_prob = self.prior.log_prob(u_0) + log_det + self._log_det_encode(y, upcast(x)).to(x.dtype)
        return torch.where(inside, log_prob, -torch.inf)

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

    def _to_dual(self, x: Tensor) -> Tensor:
        """``grad phi(x)`` in double precision, which keeps the digits that subtracting a near bound would lose."""
        self.mirror_map.domain.check(x)
        # Equalities that hold to rounding in float32 do not in float64: the check above was the one that counts.
        with validation(False):
            return self.mirror_map.to_dual(upcast(x))

    def _dual(self, u: Tensor) -> Tensor:
        return u if self.dual_transform is None else self.dual_transform.inverse(u)

    def _log_det_encode(self, y: Tensor, x: Tensor | None = None) -> Tensor:
        """``log |det d encode / d x|`` from the point where there is one, else from the dual."""
        log_det = self.mirror_map.log_det_jacobian_dual(y) if x is None else self.mirror_map.log_det_jacobian(x)
        return log_det if self.dual_transform is None else log_det + self.dual_transform.log_det(y)

    def _draw(self, n: int, generator: torch.Generator | None, **options: Any) -> Tensor:
        return self.prior.sample(n, self.dim, generator=generator, **options)
