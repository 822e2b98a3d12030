"""The laws that selection leaves: of the coefficients given the response, and of each estimate with them.

Stationarity of the randomised lasso reads ``w = B o + penalty u - X^T y`` with ``o = |b_E| > 0``, signs ``s`` and
``B = (X^T X_E + ridge I_E) diag(s)``. Given ``E``, ``s`` and the inactive part of ``u``, for ``w ~ N(0, tau^2 I)``,

    p(o | y) ~ exp(-|B o + v - c T|^2 / (2 tau^2)) on o > 0,

where ``T = (X_E^+ y)_j`` estimates ``theta``, ``c = Cov(X^T y, T) / Var T``, and ``v = penalty u - (X^T y - c T)`` is
independent of it. Before truncation ``(T, o)`` is jointly normal. Regress ``o`` on ``T``:

    T ~ N(M(theta), s^2),   z = o - gamma T ~ N(mu, C)  independent of T,
    C = tau^2 (B^T B)^-1,   gamma = (B^T B)^-1 B^T c,   mu = -(B^T B)^-1 B^T v,
    1 / s^2 = 1 / Var T + |Q c|^2 / tau^2,   M(theta) = s^2 (theta / Var T + c^T Q v / tau^2),

``Q`` the projection off the range of ``B``. Selection is ``z + gamma T > 0``, and ``theta`` enters through ``M`` only.
"""

from dataclasses import dataclass

import numpy as np
import torch

from mirrorgen.geometry.domains import Orthant
from mirrorgen.samplers.selective_inference.lasso import Array, LassoFit, selected_inverse
from mirrorgen.targets import TruncatedNormal

__all__ = ["SelectiveLaw", "given_response", "selective_laws"]


@dataclass(frozen=True, eq=False)
class SelectiveLaw:
    """The joint law of an estimate ``T`` and the sizes ``o`` of the selected coefficients, see the module.

    Attributes:
        estimate: ``T`` as observed, the least squares coefficient in the selected model.
        standard_error: ``sqrt(Var T)`` without selection.
        variance: ``s^2``.
        intercept: ``M(0)``.
        slope: ``M(theta) = intercept + slope theta``, in (0, 1].
        gamma: Regression of ``o`` on ``T``, ``(k,)``. The sizes are measured in units of ``units``.
        center: ``mu (k,)``.
        covariance: ``C (k, k)``, with unit diagonal.
        units: What ``o`` was divided by ``(k,)``.
    """

    estimate: float
    standard_error: float
    variance: float
    intercept: float
    slope: float
    gamma: Array
    center: Array
    covariance: Array
    units: Array

    def mean(self, theta: float) -> float:
        """``M(theta)``."""
        return self.intercept + self.slope * theta

    def density(self, theta: float) -> TruncatedNormal:
        """The law of ``o`` at a parameter: ``N(mu + gamma M, C + s^2 gamma gamma^T)`` on ``o > 0``, without ``T``."""
        covariance = self.covariance + self.variance * np.outer(self.gamma, self.gamma)
        return _on_orthant(self.center + self.gamma * self.mean(theta), covariance)

    def residual(self, o: Array, theta: float, normal: Array) -> Array:
        """Draws of ``z`` from draws ``o (m, k)`` of ``density(theta)``: ``T`` given ``o`` is normal.

        Args:
            o: Draws ``(m, k)``.
            theta: The parameter they were drawn at.
            normal: Standard normal numbers ``(m,)``.
        """
        pull = np.linalg.solve(self.covariance, self.gamma)
        variance = self.variance / (1 + self.variance * self.gamma @ pull)
        mean = self.mean(theta) + variance * (o - self.center - self.gamma * self.mean(theta)) @ pull
        return o - np.outer(mean + np.sqrt(variance) * normal, self.gamma)


def given_response(fit: LassoFit, noise_scale: float) -> TruncatedNormal:
    """The law of ``o = |b_E|`` given the response, the selected set, its signs and the inactive subgradient.

    Raises:
        DomainError: If nothing is selected.
    """
    inverse, pull = _stationarity(fit)
    shift = fit.X.T @ fit.y - fit.penalty * fit.subgradient
    return _on_orthant(inverse @ (pull.T @ shift), noise_scale**2 * inverse)


def selective_laws(fit: LassoFit, sigma: float, noise_scale: float) -> list[SelectiveLaw]:
    """One law per selected coefficient, in the order of ``fit.selected``.

    Args:
        fit: A solution; its noise was drawn from ``N(0, noise_scale^2 I)``.
        sigma: Standard deviation of the errors of ``y``.
        noise_scale: ``tau``.

    Raises:
        DomainError: If the selected columns are collinear.

    Source: Tian, Taylor, "Selective inference with a randomized response", 2018.
    """
    chosen = fit.selected
    if len(chosen) == 0:
        return []
    gram_inverse = selected_inverse(fit)
    estimates = gram_inverse @ (fit.X[:, chosen].T @ fit.y)
    inverse, b = _stationarity(fit)
    units = noise_scale * np.sqrt(inverse.diagonal())
    covariance = noise_scale**2 * inverse / np.outer(units, units)
    laws = []
    for j, t in enumerate(estimates):
        c = fit.X.T @ (fit.X[:, chosen] @ gram_inverse[:, j]) / gram_inverse[j, j]
        v = fit.penalty * fit.subgradient - (fit.X.T @ fit.y - c * t)
        gamma, back = inverse @ (b.T @ c), inverse @ (b.T @ v)
        off_c, off_v = c - b @ gamma, v - b @ back
        full = sigma**2 * gram_inverse[j, j]
        variance = 1 / (1 / full + off_c @ off_c / noise_scale**2)
        intercept = variance * (off_c @ off_v) / noise_scale**2
        slope = variance / full
        law = SelectiveLaw(t, full**0.5, variance, intercept, slope, gamma / units, -back / units, covariance, units)
        laws.append(law)
    return laws


def _stationarity(fit: LassoFit) -> tuple[Array, Array]:
    """``(B^T B)^-1`` and ``B``."""
    chosen = fit.selected
    b = fit.X.T @ fit.X[:, chosen]
    b[chosen, np.arange(len(chosen))] += fit.ridge
    b = b * fit.signs
    factor = np.linalg.inv(np.linalg.qr(b, mode="r"))
    return factor @ factor.T, b


def _on_orthant(location: Array, covariance: Array) -> TruncatedNormal:
    symmetric = 0.5 * (covariance + covariance.T)
    return TruncatedNormal(Orthant(len(location)), torch.from_numpy(location), torch.from_numpy(symmetric))
