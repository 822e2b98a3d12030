"""Tail index of a sample of norms, and its counterpart at a boundary."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains import Domain
from mirrorgen.numerics import upcast

__all__ = ["boundary_exponent", "hill_estimator"]


@torch.no_grad()
def hill_estimator(norms: Tensor, k: int) -> Tensor:
    """Estimate ``alpha`` in ``P(|Y| > r) ~ r^-alpha`` from the ``k`` largest of ``n`` values.

    ``1 / alpha = mean_{i <= k} log(r_(i) / r_(k+1))`` with ``r_(1) >= r_(2) >= ...``; the standard error is
    about ``alpha / sqrt(k)``. Moments of order ``alpha`` and above do not exist. For light tails the value
    grows with ``n / k`` instead of settling. Source: Hill, "A Simple General Approach to Inference About the
    Tail of a Distribution" (1975).

    Args:
        norms: Positive values ``(n,)``, such as norms of dual points.
        k: Number of upper order statistics, ``1 <= k < n``.

    Returns:
        A scalar tensor in float64.

    Raises:
        ShapeError: If ``norms`` is no vector.
        DomainError: If ``k`` is out of range or the largest values are not positive and finite.
    """
    if norms.ndim != 1:
        raise ShapeError(f"norms is a vector; got shape {tuple(norms.shape)}. Take .norm(dim=-1) first")
    if not 1 <= k < len(norms):
        raise DomainError(f"k lies in 1..{len(norms) - 1}, one less than the number of values; got {k}")
    if not bool(torch.isfinite(norms).all()):
        raise DomainError("norms has entries that are not finite; remove them and report their number")
    top = upcast(norms).topk(k + 1).values
    if not float(top[-1]) > 0:
        raise DomainError(f"the {k + 1} largest norms must be positive; choose a smaller k")
    return 1 / (top[:-1] / top[-1]).log().mean()


def boundary_exponent(domain: Domain, x: Tensor, k: int) -> Tensor:
    """Estimate ``beta`` in ``P(slack < s) ~ s^beta`` from the ``k`` points with the smallest slacks.

    1 for a density that is positive at a facet, ``1 + gamma`` for one that vanishes like ``s^gamma``. It is Hill's
    estimator of the reciprocal slack, with its standard error ``beta / sqrt(k)`` and its errors.

    Args:
        domain: A set with inequalities.
        x: Points strictly inside, ``(n, dim)``.
        k: Number of points that count.
    """
    domain.check(x)
    if domain.slack(x).shape[-1] == 0:
        raise DomainError(f"{domain!r} has no boundary, and no law has mass near it")
    return hill_estimator(1 / upcast(domain.slack(upcast(x)).amin(-1)), k)
