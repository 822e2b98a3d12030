"""Effective sample sizes of Markov chains and of importance weights.

Source: Vehtari, Gelman, Simpson, Carpenter and Buerkner, "Rank-normalization, folding, and localization: an improved
R-hat for assessing convergence of MCMC", 2021; the cut of the sum: Geyer, "Practical Markov chain Monte Carlo", 1992.
"""

import math
from typing import Literal

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.metrics.chain_statistics import normal_scores, per_coordinate, quantile, split_chains
from mirrorgen.numerics import upcast

__all__ = ["effective_sample_size", "ess_of_halves", "mcse", "weight_ess"]


@torch.no_grad()
def effective_sample_size(draws: Tensor, kind: Literal["bulk", "tail", "mean"] = "bulk") -> Tensor:
    """How many independent draws estimate as well as these: ``N / (1 + 2 sum_t rho_t)`` from split chains.

    The autocorrelations ``rho_t`` of several chains are combined with the variance between them, so that chains in
    different places lower the value; their sum stops by Geyer's initial monotone sequence. Antithetic chains may
    exceed the number of draws ``N``, up to ``N log10 N``.

    Args:
        draws: ``(draws, chains)`` or ``(draws, chains, dim)``.
        kind: ``"bulk"`` of normal scores of ranks, for location; ``"tail"`` the lesser of those of the 5% and 95%
            quantiles; ``"mean"`` of the values themselves, which is what the standard error of a mean needs.

    Returns:
        A float64 scalar or ``(dim,)``; NaN for a coordinate that is constant or not finite and for fewer than four
        draws per chain. (ArviZ agrees but for constant chains, where it returns ``N``: a stuck sampler would pass.)

    Raises:
        ShapeError: If ``draws`` has another shape.
        DomainError: If ``kind`` is unknown.
    """
    if kind not in _KINDS:
        raise DomainError(f"kind is one of {', '.join(_KINDS)}; got {kind!r}")
    return per_coordinate(_KINDS[kind], draws)


@torch.no_grad()
def mcse(draws: Tensor, kind: Literal["mean", "sd"] = "mean") -> Tensor:
    """Monte Carlo standard error of the mean, ``sd / sqrt(ess)``, or of the standard deviation.

    Args:
        draws: ``(draws, chains)`` or ``(draws, chains, dim)``.
        kind: What is estimated; ``"sd"`` by the delta method on the squared deviations.

    Returns:
        A float64 scalar or ``(dim,)``; NaN where the effective sample size is.

    Raises:
        ShapeError: If ``draws`` has another shape.
        DomainError: If ``kind`` is unknown.
    """
    if kind not in ("mean", "sd"):
        raise DomainError(f"kind is mean or sd; got {kind!r}")
    return per_coordinate(_mcse_mean if kind == "mean" else _mcse_sd, draws)


@torch.no_grad()
def weight_ess(log_weights: Tensor) -> Tensor:
    """Effective sample size of importance weights, ``(sum w)^2 / sum w^2``, from 1 to ``n``.

    Args:
        log_weights: Unnormalised ``log w``, ``(n,)`` or ``(n, *batch)``; ``-inf`` is a weight of zero.

    Returns:
        ``(*batch)`` in float64; NaN if all weights are zero or one is NaN or infinite.

    Source: Kong, Liu and Wong, "Sequential imputations and Bayesian missing data problems", 1994.
    """
    log_w = upcast(log_weights)
    return torch.exp(2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0))


def _bulk(x: Tensor) -> Tensor:
    return ess_of_halves(normal_scores(split_chains(x)))


def _tail(x: Tensor) -> Tensor:
    # Where ties make one indicator constant the other decides.
    return torch.fmin(_indicator_ess(x, 0.05), _indicator_ess(x, 0.95))


def _indicator_ess(x: Tensor, probability: float) -> Tensor:
    below = (x <= quantile(x, probability)[:, None, None]).to(x.dtype)
    return ess_of_halves(split_chains(below))


def _mean(x: Tensor) -> Tensor:
    return ess_of_halves(split_chains(x))


_KINDS = {"bulk": _bulk, "tail": _tail, "mean": _mean}


def _mcse_mean(x: Tensor) -> Tensor:
    return x.flatten(1).std(-1) / _mean(x).sqrt()


def _mcse_sd(x: Tensor) -> Tensor:
    squares = (x - x.mean((1, 2), keepdim=True)).square()
    variance = squares.mean((1, 2))
    spread = (squares.square().mean((1, 2)) - variance.square()) / _mean(squares)
    return (spread / variance).sqrt() / 2


def ess_of_halves(x: Tensor) -> Tensor:
    """Effective sample sizes ``(coordinates,)`` of split chains ``(coordinates, halves, draws)``; NaN if constant."""
    n, size = x.shape[-1], x.shape[-1] * x.shape[-2]
    rho = _autocorrelation(x)
    time = _geyer_time(rho, max(1, (n - 1) // 2))
    # Antithetic chains: the variance of the estimate of a small time is large, so the gain is capped.
    return size / time.clamp_min(1 / math.log10(size))


def _autocorrelation(x: Tensor) -> Tensor:
    """``rho_t = 1 - (W - mean autocovariance of the chains at t) / var+`` at all lags, ``(coordinates, draws)``."""
    n = x.shape[-1]
    center = x.mean(-1, keepdim=True)
    length = next_fast_len(2 * n, real=True)
    spectrum = torch.view_as_real(torch.fft.rfft(x - center, length)).square_().sum(-1).mean(1)
    covariance = torch.fft.irfft(spectrum, length)[:, :n] / n
    within = covariance[:, :1] * n / (n - 1)
    total = covariance[:, :1] + center.var((1, 2), keepdim=True)[:, 0]
    rho = 1 - (within - covariance) / total
    # One, or NaN if all is constant.
    rho[:, 0] = total[:, 0] / total[:, 0]
    return rho


def _geyer_time(rho: Tensor, pairs: int) -> Tensor:
    """``-1 + 2 sum_t rho_t``, cut by the initial monotone sequence of the sums ``P_k = rho_2k + rho_2k+1``.

    The first sum that is not positive, or the last one, is left out but for its even lag if that is positive.
    """
    even = rho[:, 0 : 2 * pairs : 2]
    sums = even + rho[:, 1 : 2 * pairs : 2]
    positive = (sums > 0).long().cumprod(-1)
    positive[:, -1] = 0
    stop = positive.sum(-1, keepdim=True)
    total = (sums.cummin(-1).values * positive).sum(-1)
    rest = torch.where((even <= 0) & (sums < 0), 0.0, even).gather(1, stop).squeeze(1)
    return -1 + 2 * total + rest
