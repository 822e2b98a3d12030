"""What the dual of a data set looks like far out, and whether samples can represent it."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from mirrorgen.geometry.dual_coordinates import DualCoordinates
from mirrorgen.geometry.mirror_maps import RegularizedBarrier
from mirrorgen.metrics import boundary_exponent, hill_estimator
from mirrorgen.seeding import counter_generator

if TYPE_CHECKING:
    from mirrorgen.flows.mirror_flow import MirrorFlow

__all__ = ["TailReport", "pinned_share", "tail_report", "usable_kappa", "warn_if_pinned"]

KAPPAS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 0.9)


class TailReport(NamedTuple):
    """Diagnostics of a flow's dual.

    Attributes:
        norms: Norms of the dual data ``(n,)``, for a histogram.
        tail_index: Hill's index of ``norms``: moments of that order and above do not exist.
        boundary_exponent: ``beta`` in ``P(slack < s) ~ s^beta`` of the data; 1 for a positive density at a facet. For a
            barrier ``s^-kappa`` theory has ``tail_index = beta / kappa``.
        pinned: Share of prior noise whose image loses its distance to the boundary in the dtype of the data.
        kappa: The smallest ``kappa`` of a grid without pinned points if there are some, else None; None too if no
            ``kappa`` of the grid is enough, or the map is no ``RegularizedBarrier``.
    """

    norms: Tensor
    tail_index: float
    boundary_exponent: float
    pinned: float
    kappa: float | None


def tail_report(flow: MirrorFlow, x: Tensor, *, share: float = 0.02) -> TailReport:
    """Diagnose a flow whose dual transform has been fitted.

    Args:
        flow: The flow.
        x: Data strictly inside, ``(n, dim)``, in the dtype that samples are to have.
        share: Share of the data that counts as tail.
    """
    k = max(1, min(int(share * len(x)), len(x) - 1))
    norms = flow._to_dual(x).norm(dim=-1)
    pinned = pinned_share(flow, x.dtype)
    return TailReport(
        norms,
        float(hill_estimator(norms, k)),
        float(boundary_exponent(flow.domain, x, k)),
        pinned,
        usable_kappa(flow, x) if pinned else None,
    )


@torch.no_grad()
def pinned_share(flow: MirrorFlow, dtype: torch.dtype, n: int = 1000) -> float:
    """Share of prior noise whose image loses its distance to the boundary in ``dtype``, from ``n`` draws.

    A slack ``s`` has a dual of size ``s^-kappa``: where ``kappa`` is small, dual points of moderate size have slacks
    below the rounding error of ``x``, and points that differ in the dual are one and the same in the domain. A point
    counts if rounding it changes a slack by half or more; next to a bound at zero that hardly ever happens.
    """
    domain, device = flow.domain, flow.domain.interior_point().device
    draw: dict[str, Any] = {"generator": counter_generator(23, device=device), "dtype": torch.float64}
    x = flow.mirror_map.to_primal(flow._dual(flow.prior.sample(n, flow.dim, device=device, **draw)))
    exact = domain.slack(x)
    rounded = domain.slack(domain.pull_inside(x.to(dtype))[0]).double()
    return float(((rounded - exact).abs() > 0.5 * exact).any(-1).double().mean())


def usable_kappa(flow: MirrorFlow, x: Tensor) -> float | None:
    """The smallest larger ``kappa`` of a grid for which no noise is pinned after the transform is fitted anew."""
    old = flow.mirror_map
    if not isinstance(old, RegularizedBarrier):
        return None
    for kappa in (k for k in KAPPAS if k > old.kappa):
        other = RegularizedBarrier(old.domain, kappa, old.weight, old.quadratic, "nan")
        trial = type(flow)(other, flow.net, flow.prior, None, copy.deepcopy(flow.dual_transform))
        DualCoordinates.fit_dual_transform(trial, x)
        if pinned_share(trial, x.dtype) == 0:
            return kappa
    return None


def warn_if_pinned(flow: MirrorFlow, x: Tensor) -> None:
    """Warn, with the ``kappa`` that would do, if a hundredth of the noise or more is pinned in the dtype of ``x``."""
    share = pinned_share(flow, x.dtype)
    if share < 0.01:
        return
    kappa = usable_kappa(flow, x)
    advice = "use a lighter prior or float64 data" if kappa is None else f"kappa={kappa:g} would not"
    warnings.warn(
        f"{share:.0%} of the prior noise lands within rounding of the boundary in {x.dtype} under this mirror map, "
        f"where different dual points are one point; {advice}",
        stacklevel=3,
    )
