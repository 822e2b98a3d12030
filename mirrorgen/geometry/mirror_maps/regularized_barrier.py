"""The regularised barrier of Mirror Flow Matching."""

import math

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains.base import Domain
from mirrorgen.geometry.mirror_maps.slack_map import SlackMap
from mirrorgen.geometry.mirror_maps.slack_power import SlackPower

__all__ = ["RegularizedBarrier"]


class RegularizedBarrier(SlackMap):
    """``phi(x) = -weight / (1-kappa) sum_i s_i^(1-kappa) + quadratic |z|^2 / 2``, onto ``R^d`` for any set.

    ``grad phi = weight A^T s^-kappa + quadratic z`` with the slacks ``s = b - A z`` of unit rows (on a ball the one
    slack ``s = R^2 - |x - c|^2``, with ``grad phi = 2 weight s^-kappa (x - c) + quadratic x``).
    ``Hess phi >= quadratic I``, so dual distances bound primal ones. A law with positive density at a facet has
    dual tails of index ``1 / kappa``: ``kappa`` is the dial between heavy tails and mass at the boundary.

    ``kappa = 1`` is the log barrier and ``kappa = 0`` the entropic map ``grad phi = -weight A^T log s + quadratic z``,
    each with the quadratic term. The latter is the limit ``kappa -> 0`` of ``weight / kappa``, up to a constant shift
    of the dual; at fixed weight the limit is the shifted identity.

    Source: Guan, Balasubramanian and Ma, "Mirror Flow Matching with Heavy-Tailed Priors for Generative
    Modeling on Convex Domains" (2025).

    Args:
        domain: A ball or a set that has ``halfspaces``, bounded or not.
        kappa: Exponent in ``[0, 1]``.
        weight: Positive factor of the barrier.
        quadratic: Positive factor of the quadratic term.
        on_failure: ``"raise"`` a ConvergenceError, or return ``"nan"`` rows for dual points that do not converge.

    Raises:
        DomainError: If a parameter is out of range or the set is neither a ball nor described by half-spaces.
    """

    def __init__(
        self,
        domain: Domain,
        kappa: float = 0.3,
        weight: float = 1.0,
        quadratic: float = 1.0,
        on_failure: str = "raise",
    ) -> None:
        if not 0.0 < quadratic < math.inf:
            raise DomainError(
                f"quadratic must be positive and finite, got {quadratic}; LogBarrier and SlackEntropy do without it"
            )
        super().__init__(domain, SlackPower(kappa, weight), quadratic, on_failure)
        self.kappa, self.weight, self.quadratic = kappa, weight, quadratic
