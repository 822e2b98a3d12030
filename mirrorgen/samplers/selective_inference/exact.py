"""Pivots without sampling: one quadrature over the estimate, with Gaussian orthant probabilities as weights.

``T`` has density proportional to ``N(t; M(theta), s^2) P(z + gamma t > 0)`` (see ``density``). The probability does not
depend on ``theta``: it is tabulated once on the nodes of a quadrature rule and serves all parameters and levels. It is
a log-concave function of ``t``, so that the law of ``T`` is more concentrated than ``N(., s^2)``: at a parameter with
``P(T > T_obs) >= a`` the mass further than ``s (sqrt(2 log(1/a)) + r)`` from ``T_obs`` is less than ``exp(-r^2/2)``.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.special import log_ndtr, logsumexp, ndtri_exp
from scipy.stats import qmc

from mirrorgen.samplers.selective_inference.density import SelectiveLaw
from mirrorgen.samplers.selective_inference.lasso import Array

__all__ = ["ExactPivot", "log_orthant_probability"]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(5)
_RELIABLE = 6.0
_SMALLEST_TAIL = 5e-4


def log_orthant_probability(means: Array, covariance: Array, points: int = 1024, seed: int = 0) -> Array:
    """``log P(x > 0)`` for ``x ~ N(mean, covariance)``, many means at once, accurate however small.

    Genz's separation of variables in logarithms, with the same scrambled Sobol points for all means, hence smooth
    in them; coordinates least likely to be positive come first.

    Args:
        means: ``(m, k)``.
        covariance: ``(k, k)``.
        points: Number of quasi-random points, a power of two.
        seed: Of their scrambling; two seeds show the error.

    Source: Genz, "Numerical computation of multivariate normal probabilities", 1992.
    """
    k = means.shape[1]
    order = np.argsort((means / np.sqrt(covariance.diagonal())).mean(axis=0))
    factor, means = np.linalg.cholesky(covariance[np.ix_(order, order)]), means[:, order]
    if k == 1:
        return log_ndtr(means[:, 0] / factor[0, 0])
    uniform = qmc.Sobol(k - 1, rng=np.random.default_rng(seed)).random(points)
    log_uniform = np.log(np.clip(uniform, np.finfo(float).tiny, None))
    total = np.zeros((len(means), points))
    normal = np.zeros((k, len(means), points))
    for i in range(k):
        shifted = means[:, i, None] + np.tensordot(factor[i, :i], normal[:i], 1)
        log_tail = log_ndtr(shifted / factor[i, i])
        total += log_tail
        if i < k - 1:
            # Standard normal numbers beyond -shifted / factor: minus the quantile of a share of the tail.
            normal[i] = -ndtri_exp(log_uniform[:, i] + log_tail)
    return logsumexp(total, axis=1) - np.log(points)


@dataclass(frozen=True, eq=False)
class ExactPivot:
    """The pivot of a law by quadrature; its error is that of the orthant probabilities.

    Ends of intervals move by up to 3e-4 of the width between seeds, with up to eight selected columns.

    Args:
        law: The law of the estimate.
        tail: The smallest tail probability that will be asked for.
        points: Quasi-random points per orthant probability.
        seed: Of these points.
    """

    law: SelectiveLaw
    tail: float = _SMALLEST_TAIL
    points: int = 1024
    seed: int = 0
    nodes: Array = field(init=False, repr=False)
    log_weights: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        law, s = self.law, self.law.variance**0.5
        reach = s * (np.sqrt(-2 * np.log(self.tail)) + _RELIABLE)
        # The orthant probability varies where gamma t moves a coordinate by its standard deviation.
        scale = min(s, 1 / max(np.abs(law.gamma).max(), 1 / s))
        panels = int(np.ceil(reach / scale))
        edges = np.linspace(-reach, reach, 2 * panels + 1)
        half = 0.5 * (edges[1] - edges[0])
        nodes = law.estimate + (edges[:-1, None] + half * (1 + _NODES)).ravel()
        means = law.center + np.outer(nodes, law.gamma)
        log_probability = log_orthant_probability(means, law.covariance, self.points, self.seed)
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "log_weights", log_probability + np.tile(np.log(_WEIGHTS), 2 * panels))

    def __call__(self, theta: float) -> float:
        logs = self.log_weights - 0.5 * (self.nodes - self.law.mean(theta)) ** 2 / self.law.variance
        weights = np.exp(logs - logs.max())
        below, above = (
            weights[part].sum() for part in (self.nodes <= self.law.estimate, self.nodes > self.law.estimate)
        )
        return float(below / (below + above))
