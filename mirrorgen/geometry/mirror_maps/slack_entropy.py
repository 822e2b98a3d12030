"""The entropic map of a bounded polyhedral set."""

from mirrorgen.geometry.domains.base import Domain
from mirrorgen.geometry.mirror_maps.requirements import require_domain
from mirrorgen.geometry.mirror_maps.slack_map import SlackMap
from mirrorgen.geometry.mirror_maps.slack_power import SlackPower

__all__ = ["SlackEntropy"]


class SlackEntropy(SlackMap):
    """``phi(x) = sum_i s_i log s_i - s_i`` with the slacks ``s = b - A z`` of unit rows: ``grad phi = -A^T log s``.

    The entropic map of a polytope: exponential dual tails, so every dual moment is finite. On a box it is
    ``BoxEntropy`` up to a constant, on a simplex the scaled ``SimplexEntropy``. Redundant and repeated rows are
    allowed and change the map.

    Args:
        domain: A bounded set that has ``halfspaces``.
        on_failure: ``"raise"`` a ConvergenceError, or return ``"nan"`` rows for dual points that do not converge.

    Raises:
        DomainError: If the set is unbounded or not described by half-spaces.
    """

    def __init__(self, domain: Domain, on_failure: str = "raise") -> None:
        require_domain(domain, Domain, name="SlackEntropy")
        domain.halfspaces()
        super().__init__(domain, SlackPower(0.0, 1.0), 0.0, on_failure)
