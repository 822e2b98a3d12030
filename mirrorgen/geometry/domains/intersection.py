"""Intersections of sets that half-spaces describe."""

import torch
from torch import Tensor, nn

from mirrorgen.errors import ShapeError
from mirrorgen.geometry.domains.base import Domain
from mirrorgen.geometry.domains.polytope import Polytope

__all__ = ["Intersection"]


class Intersection(Polytope):
    """The points that lie in every one of several half-space-described sets, as a polytope.

    Sets with equalities (a simplex, a polytope in a plane) contribute them.

    Args:
        *domains: Sets with ``halfspaces`` in the same number of coordinates.

    Raises:
        ShapeError: If there is no set or the dimensions differ.
        DomainError: If a set is not described by half-spaces, or the intersection has an empty interior.
    """

    def __init__(self, *domains: Domain) -> None:
        super(Polytope, self).__init__()
        dims = {domain.dim for domain in domains}
        if len(dims) != 1:
            raise ShapeError(f"Intersection needs sets in one space, got dimensions {sorted(dims)}")
        parts = [_ambient_rows(domain) for domain in domains]
        A, b, A_eq, b_eq = (torch.cat([part[i] for part in parts]) for i in range(4))
        some = len(b_eq) > 0
        self._build(A, b, A_eq if some else None, b_eq if some else None)
        self.domains = nn.ModuleList(domains)


def _ambient_rows(domain: Domain) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inequalities and equalities of a set in the coordinates that users hold."""
    A, b = domain.halfspaces()
    device = b.device
    origin = domain.from_chart(torch.zeros(domain.dual_dim, dtype=torch.float64, device=device))
    if domain.dual_dim == domain.dim:
        return A, b, A.new_zeros(0, domain.dim), b.new_zeros(0)
    if isinstance(domain, Polytope) and domain.A_eq is not None and domain.b_eq is not None:
        return domain.A, domain.b, domain.A_eq, domain.b_eq
    # Any other chart is read off its images of zero and the unit vectors.
    axes = domain.from_chart(torch.eye(domain.dual_dim, dtype=torch.float64, device=device)) - origin
    across = torch.linalg.svd(axes, full_matrices=True)[2][domain.dual_dim :]
    rows = A @ axes
    return rows, b + rows @ origin, across, across @ origin
