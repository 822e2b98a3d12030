"""Projections onto permutahedra, by pooling adjacent violators; spectra of risk measures."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.validation import should_check

__all__ = ["cvar_spectrum", "esrm_spectrum", "extremile_spectrum", "permutahedron_projection"]

Geometry = Literal["euclidean", "kl"]


def permutahedron_projection(z: Tensor, sigma: Tensor, geometry: Geometry = "euclidean") -> Tensor:
    """The point of ``conv{permutations of sigma}`` nearest to ``z``, or in relative entropy to ``exp(z)``.

    With ``z`` sorted and ``v`` non-decreasing, ``"euclidean"``: ``q = z - v``, ``v`` the isotonic regression of
    ``z - sigma``, means over blocks. ``"kl"``: ``argmin sum q log q - q z - q``, ``q = exp(z - v)``, over a block
    ``v = logsumexp(z) - log sum(sigma)``. All rows pool all their violating neighbours at once, which takes a sort and
    ``O(n)`` operations a sweep, about ``log n`` sweeps on data without special order and ``n`` at worst. Derivatives
    with respect to ``z`` and ``sigma`` are exact wherever the projection is differentiable.

    Args:
        z: ``(*batch, n)``.
        sigma: Non-decreasing ``(n,)``, or any shape that broadcasts; positive sums over the largest entries for
            ``"kl"``, no negative entries.
        geometry: Whose projection.

    Returns:
        Points ``(*batch, n)`` in the order of ``z``.

    Raises:
        ShapeError: If the last axes differ.
        DomainError: If ``sigma`` falls, has negative entries where entropy needs none, or ``geometry`` is unknown.

    Sources: Lim, Wright, "Efficient Bregman Projections onto the Permutahedron and Related Polytopes", 2016; Blondel,
    Teboul, Berthet, Djolonga, "Fast Differentiable Sorting and Ranking", 2020.
    """
    if geometry not in ("euclidean", "kl"):
        raise DomainError(f"geometry must be 'euclidean' or 'kl', got {geometry!r}")
    if z.shape[-1:] != sigma.shape[-1:]:
        raise ShapeError(f"z and sigma must have the same last axis, got {tuple(z.shape)} and {tuple(sigma.shape)}")
    if should_check(sigma) and bool((sigma.diff(dim=-1) < 0).any()):
        raise DomainError("sigma must not fall; sort it")
    if geometry == "kl" and should_check(sigma) and not bool(((sigma >= 0).all(-1) & (sigma[..., -1] > 0)).all()):
        raise DomainError("for the entropic projection sigma must have no negative entries, and a positive one")
    ordered, order = z.sort(-1)
    sigma = sigma.to(z.dtype).expand_as(z)
    pooled = _means if geometry == "euclidean" else _log_ratios
    with torch.no_grad():
        blocks = _pool(ordered, sigma, pooled)
    shifted = ordered - pooled(ordered, sigma, blocks)
    # The inverse permutation, without assignment in place.
    return (shifted if geometry == "euclidean" else shifted.exp()).gather(-1, order.argsort(-1))


def _pool(z: Tensor, sigma: Tensor, pooled: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Numbers ``(*batch, n)`` of the blocks that entries end in.

    Neighbours are pooled wherever the left block's value is above the right one's. The result does not depend on the
    order, and a falling run of blocks stays falling while it is pooled from the left, so all of it is pooled at
    once. Ties are pooled too, which changes no value.
    """
    starts = torch.ones_like(z, dtype=torch.bool)
    while True:
        blocks = starts.cumsum(-1) - 1
        value = pooled(z, sigma, blocks)
        falls = starts[..., 1:] & (value[..., 1:] <= value[..., :-1])
        if not bool(falls.any()):
            return blocks
        starts = torch.cat([starts[..., :1], starts[..., 1:] & ~falls], -1)


def _sums(values: Tensor, blocks: Tensor) -> Tensor:
    """Sums over blocks, one for every block number, ``(*batch, n)``."""
    return torch.zeros_like(values).scatter_add(-1, blocks, values)


def _means(z: Tensor, sigma: Tensor, blocks: Tensor) -> Tensor:
    """The mean of ``z - sigma`` over the block of every entry."""
    means = _sums(z - sigma, blocks) / _sums(torch.ones_like(z), blocks).clamp_min(1.0)
    return means.gather(-1, blocks)


def _log_ratios(z: Tensor, sigma: Tensor, blocks: Tensor) -> Tensor:
    """``logsumexp(z) - log sum(sigma)`` over the block of every entry; plus infinity where sigma is zero."""
    peak = torch.full_like(z, -torch.inf).scatter_reduce(-1, blocks, z.detach(), "amax").gather(-1, blocks)
    masses = _sums(torch.exp(z - peak), blocks).gather(-1, blocks)
    return peak + masses.log() - _sums(sigma, blocks).gather(-1, blocks).log()


def _grid(n: int) -> Tensor:
    if n < 1:
        raise DomainError(f"a spectrum needs at least one sample, got {n}")
    return torch.arange(n + 1, dtype=torch.float64) / n


def cvar_spectrum(n: int, level: float) -> Tensor:
    """Weights ``(n,)`` of the mean of the worst ``1 - level`` of ``n`` sorted losses (superquantile, CVaR).

    Raises:
        DomainError: If ``level`` is not in ``[0, 1)`` or ``n`` not positive.
    """
    if not 0 <= level < 1:
        raise DomainError(f"level must lie in [0, 1), got {level}")
    # The share of the k-th part of [0, 1] that lies above the level: entries that are equal are so to the last bit.
    return (n * (_grid(n)[1:] - level)).clamp(0, 1) / (n * (1 - level))


def extremile_spectrum(n: int, order: float) -> Tensor:
    """``(k / n)^r - ((k - 1) / n)^r``: the mean of the worst of ``r`` draws, for whole ``r``.

    Raises:
        DomainError: If ``order`` is below one (losses would weigh less the larger they are) or ``n`` not positive.
    """
    if not order >= 1:
        raise DomainError(f"order must be at least one, got {order}")
    # Rounding must not make a spectrum fall, as it could for orders near one.
    return (_grid(n) ** order).diff().cummax(0).values


def esrm_spectrum(n: int, aversion: float) -> Tensor:
    """``(e^(r k / n) - e^(r (k - 1) / n)) / (e^r - 1)``: the exponential spectral risk measure.

    Raises:
        DomainError: If ``aversion`` or ``n`` is not positive.
    """
    if not aversion > 0:
        raise DomainError(f"aversion must be positive, got {aversion}")
    # The difference as a factor, and divided by e^r throughout: nothing cancels or overflows.
    return torch.exp(aversion * (_grid(n)[1:] - 1)) * (math.expm1(-aversion / n) / math.expm1(-aversion))
