"""The spread of dual points before any is drawn."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.numerics import upcast

__all__ = ["initial_scale"]


def initial_scale(mirror_map: MirrorMap) -> Tensor:
    """A square root ``S`` of about the covariance of ``y = grad phi(x)`` for ``x`` spread over the whole domain.

    ``S S^T = H B^-1 H`` at the interior point, with the Hessians ``H`` of the map and ``B`` of the log barrier of the
    half-spaces: by self-concordance the ellipsoid of ``B`` has the shape of the set, so that thin sets and other
    linear coordinates need no other settings. Without a set that bounds every direction ``S S^T = H``, right for
    ``x`` of covariance ``H^-1``. Warm-up of ``run`` replaces it by an estimate unless it is passed as ``scale``.

    Args:
        mirror_map: Any map.

    Returns:
        The ``scale (dual_dim, dual_dim)`` of ``MirroredHMC``, float64.
    """
    domain = mirror_map.domain
    center = upcast(domain.interior_point())
    with torch.no_grad():
        hessian = mirror_map.hessian(center).dense()
        try:
            rows, bounds = domain.halfspaces()
        except DomainError:
            return torch.linalg.cholesky(hessian)
        weighted = rows / (bounds - domain.to_chart(center) @ rows.mT).unsqueeze(-1)
        factor, info = torch.linalg.cholesky_ex(weighted.mT @ weighted)
        if bool(info):
            return torch.linalg.cholesky(hessian)
        return torch.linalg.solve_triangular(factor.mT, hessian, upper=True, left=False)
