"""Convex potential flows on convex domains: a mirror map whose dual image of the data follows a given law.

With ``y = grad phi(x)`` and ``v = S(T(y))``, ``T`` the dual transform and ``S`` a trained shift and scale::

    log p(x) = log p_0(v) + log |det dv/dy| + log |det D^2 phi(x)|,   loss(x) = -log p(x) / dim

Source: Huang et al., "Convex Potential Flows: Universal Probability Distributions with Optimal Transport and Convex
Optimization" (2021).
"""

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError
from mirrorgen.flows.priors import Gaussian, Prior
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.dual_coordinates import DualCoordinates
from mirrorgen.geometry.dual_transform import DualTransform
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.validation import require_batch, require_kind

__all__ = ["ConvexPotentialFlow"]


class ConvexPotentialFlow(DualCoordinates, nn.Module):
    """Trains a ``LearnedMirrorMap`` by exact maximum likelihood; a generative model of its own, without integration.

    The likelihood is what makes the map a problem with a solution: the loss of flow matching would be least for a map
    that shrinks the data to a point, which the log-determinant forbids here. Give the trained map to ``MirrorFlow``,
    whose velocity then has to carry the prior to a law that is close to it.

    Args:
        mirror_map: A map whose dual is all of ``R^d`` (``dual_is_full``), with parameters to train.
        prior: Law of ``v``; the standard normal law if None.
        dual_transform: As in ``MirrorFlow``; fitted once, before training, it gives ``S`` a start.

    Raises:
        DomainError: If the map's dual is not all of ``R^d`` or a part is of the wrong kind.
    """

    def __init__(
        self,
        mirror_map: MirrorMap,
        prior: Prior | None = None,
        dual_transform: DualTransform | str | None = "standardize",
    ) -> None:
        super().__init__()
        self.dim = self._check_map(mirror_map)
        self._set_dual(mirror_map, dual_transform)
        self.prior = Gaussian() if prior is None else prior
        require_kind(self.prior, Prior, "prior")
        self.shift = nn.Parameter(torch.zeros(self.dim))
        self.log_scale = nn.Parameter(torch.zeros(self.dim))

    @property
    def domain(self) -> Domain:  # type: ignore[override]
        """The set that holds data and samples."""
        return self.mirror_map.domain

    def log_prob(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """Log-density ``(n,)`` in the measure of the domain; ``-inf`` where ``x (n, dim)`` is not strictly inside."""
        _refuse(condition)
        inside, u, log_det = self._prepared(x)
        v = (u - self.shift.to(u)) * torch.exp(-self.log_scale.to(u))
        return torch.where(inside, self.prior.log_prob(v) + log_det - self.log_scale.to(u).sum(), -torch.inf)

    def loss(self, x: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Mean negative log-density per coordinate; a scalar.

        Args:
            x: Data strictly inside the domain, ``(n, domain.dim)``.
            condition: None; the model takes none.
            generator: Unused: nothing is random.

        Raises:
            DomainError: If a point is not strictly inside; the message names the constraint.
            ShapeError: If ``x`` is no batch of points.
        """
        require_batch(x, self.domain.dim)
        self.domain.check(x)
        return -self.log_prob(x, condition=condition).mean() / self.dim

    @torch.no_grad()
    def sample(self, n: int, *, condition: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``n`` points ``(n, domain.dim)``, strictly inside the domain in the dtype of the parameters.

        Raises:
            ConvergenceError: If the map's inverse does not converge.
        """
        _refuse(condition)
        v = self.prior.sample(n, self.dim, generator=generator, dtype=self.shift.dtype, device=self.shift.device)
        return self.decode(self.shift + torch.exp(self.log_scale) * v)


def _refuse(condition: Tensor | None) -> None:
    if condition is not None:
        raise DomainError("ConvexPotentialFlow takes no condition; use MirrorFlow with a network that does")
