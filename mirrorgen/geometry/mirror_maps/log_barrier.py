"""The logarithmic barrier of a bounded polyhedral set."""

from mirrorgen.geometry.domains.base import Domain
from mirrorgen.geometry.mirror_maps.requirements import require_domain
from mirrorgen.geometry.mirror_maps.slack_map import SlackMap
from mirrorgen.geometry.mirror_maps.slack_power import SlackPower

__all__ = ["LogBarrier"]


class LogBarrier(SlackMap):
    """``phi(x) = -sum_i log s_i`` with the slacks ``s = b - A z`` of unit rows: ``grad phi = A^T (1/s)``.

    ``Hess phi = A^T diag(s^-2) A`` is self-concordant with parameter ``m``, the number of rows. Dual tails are
    heavy: with positive density on a facet the dual point has no mean. Redundant and repeated rows are allowed
    and change the map. The divergence is Itakura and Saito's on slacks.

    Source: Y. Nesterov, A. Nemirovskii, "Interior-Point Polynomial Algorithms in Convex Programming", 1994.

    Args:
        domain: A bounded set that has ``halfspaces``; balls have ``BallLogBarrier``.
        on_failure: ``"raise"`` a ConvergenceError, or return ``"nan"`` rows for dual points that do not converge.

    Raises:
        DomainError: If the set is unbounded or not described by half-spaces.
    """

    def __init__(self, domain: Domain, on_failure: str = "raise") -> None:
        require_domain(domain, Domain, name="LogBarrier")
        domain.halfspaces()
        super().__init__(domain, SlackPower(1.0, 1.0), 0.0, on_failure)
