"""Pivots from draws of any sampler on the orthant, without degenerate weights.

The published scheme draws ``o`` at one parameter and carries draws to another by the ratio of two densities of
``(T, o)``. That ratio varies exponentially, so that ends of wide intervals rest on few draws. Two steps avoid this.

*Integrate T out.* Before selection ``T ~ N(M(theta), s^2)`` and ``z ~ N(mu, C)`` are independent, and only the former
knows ``theta``. Selection ``z + gamma T > 0`` says ``L(z) < T < U(z)``. With ``h_theta(z) = P_theta(L(z) < T < U(z))``

    p_theta(z) ~ N(z; mu, C) h_theta(z),    pivot(theta) = E_theta[P_theta(T <= t | L(z) < T < U(z))],

both in closed form: the law of a truncated normal number given ``z``. The ratio of two laws of ``z`` is a ratio of
probabilities.

*Draw where the answer is.* Draws at several parameters ``theta_k`` (nodes) are pooled: relative to their mixture, the
weight of ``z`` at ``theta`` is ``h_theta(z) / sum_k n_k h_k(z) / Z_k``, with the constants ``Z_k`` that maximise the
likelihood (multistate Bennett acceptance ratio). The first node is the least squares estimate; the end whose Monte
Carlo error is largest compared with the width of its interval becomes the next, until all errors are small enough. For
any fixed nodes the pivot is exact in the limit of many draws, provided that the sampler is.

Source: Geyer, "Estimating normalizing constants and reweighting mixtures", 1994; Shirts, Chodera, "Statistically
optimal analysis of samples from multiple equilibrium states", 2008; truncation given ``z``: Lee, Sun, Sun, Taylor,
"Exact post-selection inference, with application to the lasso", 2016.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import log_ndtr, logsumexp, ndtr
from torch import Tensor

from mirrorgen.errors import ConvergenceError, ShapeError
from mirrorgen.geometry.domains import Orthant
from mirrorgen.geometry.mirror_maps import SoftplusDual
from mirrorgen.samplers.api import starting_points
from mirrorgen.samplers.hmc import MirroredHMC
from mirrorgen.samplers.run import run
from mirrorgen.samplers.selective_inference.density import SelectiveLaw
from mirrorgen.samplers.selective_inference.lasso import Array
from mirrorgen.targets import TruncatedNormal

__all__ = ["Intervals", "SampledPivot", "Sampler", "draw_intervals", "mirrored_hmc", "refine"]

Sampler = Callable[[TruncatedNormal, int, torch.Generator], Tensor]
"""``sampler(density, n, generator)``: about ``n`` draws ``(n, k)`` of a normal law on ``Orthant(k)``, any mean and
covariance, whose coordinates before truncation have standard deviations around one."""

# Probabilities of lower tails underflow beyond.
_UNDERFLOW = -35.0
_CHAINS = 256
_WARM_UP = 60
# Fewer effective draws do not tell their own error.
_TRUSTED = 200.0


def mirrored_hmc(density: TruncatedNormal, n: int, generator: torch.Generator) -> Tensor:
    """The default sampler: Hamiltonian Monte Carlo in the dual of ``SoftplusDual``, 256 chains."""
    mirror_map = SoftplusDual(Orthant(density.domain.dim))
    chains = min(_CHAINS, n)
    x = starting_points(density, mirror_map, chains, dtype=torch.float64, generator=generator)
    kernel = MirroredHMC(density, mirror_map, step_size=0.3)
    return run(kernel, x, -(-n // chains), num_warmup=_WARM_UP, generator=generator).flatten()


class Intervals(NamedTuple):
    """Draws of ``z`` at one parameter, as the interval of ``T`` that each leaves.

    Attributes:
        theta: The parameter.
        low: ``L(z) (n,)``, may be ``-inf``.
        high: ``U(z) (n,)``, may be ``inf``.
    """

    theta: float
    low: Array
    high: Array


def draw_intervals(
    law: SelectiveLaw, theta: float, sampler: Sampler, size: int, generator: torch.Generator
) -> Intervals:
    """Draw from ``law.density(theta)`` and complete the draws by ``T``.

    Raises:
        ShapeError: If the sampler returns another shape.
        DomainError: If it returns a point that is not strictly positive.
    """
    density, gamma = law.density(theta), law.gamma
    draws = sampler(density, size, generator).detach().double().cpu()
    if draws.ndim != 2 or draws.shape[1] != len(gamma) or len(draws) == 0:
        raise ShapeError(f"the sampler must return draws of shape (n, {len(gamma)}), got {tuple(draws.shape)}")
    density.domain.check(draws, "the draws of the sampler")
    normal = torch.randn(len(draws), generator=generator, dtype=torch.float64)
    z = law.residual(draws.numpy(), theta, normal.numpy())
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = -z / gamma
    low, high = np.where(gamma > 0, bound, -np.inf).max(1), np.where(gamma < 0, bound, np.inf).min(1)
    # Intervals within rounding of a point have no probability that could be divided by.
    wide = high - low > 1e-12 * law.variance**0.5
    return Intervals(theta, low[wide], high[wide])


class SampledPivot:
    """The pivot of a law from draws at some parameters.

    Args:
        law: The law of the estimate.
        batches: Draws, one batch per parameter.
    """

    def __init__(self, law: SelectiveLaw, batches: Sequence[Intervals]) -> None:
        self.law, self.batches = law, tuple(batches)
        self._low = np.concatenate([batch.low for batch in batches])
        self._high = np.concatenate([batch.high for batch in batches])
        logs = np.stack([self._log_mass(batch.theta, self._high) for batch in batches])
        self._log_mixture = _log_mixture(logs, np.array([len(batch.low) for batch in batches]))

    def _log_mass(self, theta: float, high: Array) -> Array:
        """``log P_theta(L < T < high)`` per draw, ``-inf`` where ``high <= L``."""
        mean, s = self.law.mean(theta), self.law.variance**0.5
        a, b = (self._low - mean) / s, (high - mean) / s
        # From the side where both tails are small, where differences keep their digits.
        flip = a + b > 0
        near, far = np.where(flip, -a, b), np.where(flip, -b, a)
        with np.errstate(divide="ignore", invalid="ignore"):
            if near.min() > _UNDERFLOW:
                return np.log(np.maximum(ndtr(near) - ndtr(far), 0.0))
            log_near = log_ndtr(near)
            return np.where(
                near > far, log_near + np.log(-np.expm1(np.minimum(log_ndtr(far) - log_near, 0.0))), -np.inf
            )

    def _log_weights(self, theta: float) -> tuple[Array, float]:
        """Logarithms of the weights of the draws at ``theta``, and of their sum."""
        logs = self._log_mass(theta, self._high) - self._log_mixture
        return logs, float(logsumexp(logs))

    def __call__(self, theta: float) -> float:
        below = self._log_mass(theta, np.minimum(self._high, self.law.estimate)) - self._log_mixture
        return float(np.exp(below - self._log_weights(theta)[1]).sum())

    def effective_size(self, theta: float) -> float:
        """``1 / sum w^2`` of the weights at ``theta``: how many equally weighted draws the pivot there rests on."""
        logs, total = self._log_weights(theta)
        return float(1 / np.exp(2 * (logs - total)).sum())

    def end_error(self, theta: float) -> float:
        """Monte Carlo standard error of an end at ``theta``: that of the pivot, over its slope.

        Draws count as independent, which those of Hamiltonian Monte Carlo after a path of a quarter period about are.
        """
        logs, total = self._log_weights(theta)
        below = np.exp(self._log_mass(theta, np.minimum(self._high, self.law.estimate)) - self._log_mixture - total)
        weights = np.exp(logs - total)
        error = np.linalg.norm(below - weights * below.sum())
        step = 0.02 * self.law.standard_error
        slope = (self(theta - step) - self(theta + step)) / (2 * step)
        return float(error / slope) if slope > 0 else np.inf


def refine(
    law: SelectiveLaw,
    ends: Callable[[SampledPivot], list[tuple[float, float]]],
    draw: Callable[[float, int], Intervals],
    size: int,
    tolerance: float,
    rounds: int = 30,
) -> SampledPivot:
    """A pivot whose ends are known to within a share of the width of their interval.

    Args:
        law: The law of the estimate.
        ends: Ends of intervals, each with the width of its interval, from the pivot so far.
        draw: Draws at a parameter, given how many.
        size: Draws of the first batch, at the least squares estimate; later batches have up to eight times as many.
        tolerance: Monte Carlo standard error of an end that is asked for, as a share of the width.
        rounds: Limit on further batches, each at the end that needs it most.
    """
    pivot = SampledPivot(law, [draw(law.estimate, size)])
    for _ in range(rounds):
        excess = {theta: _excess(pivot, theta, tolerance * width) for theta, width in ends(pivot)}
        worst = max(excess, key=lambda theta: excess[theta], default=law.estimate)
        if not excess or excess[worst] <= 1:
            break
        missing = int(min(pivot.effective_size(worst) * (excess[worst] ** 2 - 1), 8 * size))
        pivot = SampledPivot(law, [*pivot.batches, draw(_nearest_trusted(pivot, worst), max(missing, size))])
    return pivot


def _excess(pivot: SampledPivot, theta: float, error: float) -> float:
    """The factor by which the standard error of an end is too large, or too few draws tell it."""
    return max(pivot.end_error(theta) / error, (_TRUSTED / pivot.effective_size(theta)) ** 0.5)


def _nearest_trusted(pivot: SampledPivot, theta: float) -> float:
    """``theta``, or the parameter on the way to it from the nearest node where enough draws matter.

    Draws far beyond would overlap with none of those so far, and their weights would mean nothing.
    """
    inside = min([batch.theta for batch in pivot.batches], key=lambda node: abs(node - theta))
    share = 1.0
    while share > 1e-6 and pivot.effective_size(inside + share * (theta - inside)) < _TRUSTED:
        share *= 0.8
    return inside + share * (theta - inside)


def _log_mixture(logs: Array, counts: Array) -> Array:
    """``log sum_k n_k h_k / Z_k`` per draw, with the ``Z_k`` by Newton's method on a convex function.

    Args:
        logs: ``log h_k`` of every draw, ``(nodes, draws)``.
        counts: ``n_k``.

    Raises:
        ConvergenceError: If draws of neighbouring nodes do not overlap.
    """
    total, offset = counts.sum(), np.zeros(len(counts))
    for iteration in range(100):
        mixture = logsumexp(logs + offset[:, None], axis=0)
        log_share = logsumexp(logs - mixture, axis=1)
        share = np.exp(logs + offset[:, None] - mixture)
        error = share.sum(1) - counts
        if np.abs(error).max() < 1e-9 * total:
            return mixture
        # Constants may differ by hundreds in logarithms: first set each from the others, then solve for all.
        fixed_point = np.log(counts) - log_share
        offset = fixed_point - fixed_point[0] if iteration < 15 else offset + _newton(share, error)
    worst = float(np.abs(error).max())
    raise ConvergenceError("the draws at different parameters do not overlap; raise num_samples", worst)


def _newton(share: Array, error: Array) -> Array:
    """The step of all offsets but the first, which is free; the ridge bounds it while nodes hardly overlap."""
    hessian = np.diag(share.sum(1)) - share @ share.T
    step = np.zeros(len(error))
    step[1:] = np.linalg.solve(hessian[1:, 1:] + 1e-9 * share.size * np.eye(len(error) - 1), -error[1:])
    return np.clip(step, -3, 3)
