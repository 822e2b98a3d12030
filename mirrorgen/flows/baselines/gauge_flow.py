"""Gauge flow matching: reflected flow matching in the unit ball behind a bounded set."""

from typing import Literal

from torch import Tensor

from mirrorgen.flows.baselines.reflected_flow import ReflectedFlow
from mirrorgen.flows.couplings import Coupling
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.gauge import GaugeMap
from mirrorgen.nets import Net

__all__ = ["GaugeFlow"]


class GaugeFlow(ReflectedFlow):
    """Flow matching in the unit ball, which ``geometry.gauge.GaugeMap`` carries onto the domain.

    Noise is uniform in the ball; samples are reflected, or projected, at the sphere and mapped at the end. Distances
    are distorted by a bounded factor, but the map has kinks along rays, which the velocity inherits.

    There is no ``log_prob``, for the reason given in ``ReflectedFlow``.

    Args:
        domain: A bounded set of half-spaces, a ball, or a product of such.
        net: Velocity ``net(u, t, condition)`` on ``domain.dual_dim`` coordinates of the ball.
        boundary: ``"reflect"`` or ``"project"``.
        coupling: Pairing of noise and data within a batch; independent if None.
        condition_dropout: Probability of forgetting the condition in training, which guidance needs.

    Raises:
        DomainError: If the domain is unbounded or of another kind.
        ShapeError: If the network's dimension is not ``domain.dual_dim``.

    Source: Li, Liang, Chen, "Gauge Flow Matching for Efficient Constrained Generative Modeling over General Convex
    Set", 2025.
    """

    def __init__(
        self,
        domain: Domain,
        net: Net,
        boundary: Literal["reflect", "project"] = "reflect",
        coupling: Coupling | None = None,
        condition_dropout: float = 0.1,
    ) -> None:
        body = GaugeMap(domain)
        super().__init__(body.ball, net, None, boundary, coupling, condition_dropout)
        self.domain, self.body = domain, body

    def encode(self, x: Tensor) -> Tensor:
        """Points of the unit ball, scaled."""
        return self._to_unit(self.body.to_ball(x))

    def decode(self, u: Tensor) -> Tensor:
        """Points of the domain, strictly inside in the dtype of ``u``."""
        return self.body.from_ball(super().decode(u))
