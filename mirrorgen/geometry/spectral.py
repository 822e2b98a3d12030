"""Exponential and logarithm of symmetric matrices, with derivatives that are finite at repeated eigenvalues.

The backward pass of ``torch.linalg.eigh`` divides by differences of eigenvalues. Here the decomposition
``M_0 = U diag(l) U^T`` is detached and the function is expanded around it in ``E = U^T (M - M_0) U``, which is
zero but carries the derivatives (Daleckii and Krein, 1965)::

    f(M) = U [ diag f(l) + f[l_i, l_j] E_ij + sum_k f[l_i, l_k, l_j] E_ik E_kj ] U^T

so that first and second derivatives are exact, under ``vmap``, ``jvp`` and double backward alike.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.geometry.detached import derivatives_wanted

__all__ = ["EXP", "LOG", "SpectralFunction", "eigh"]


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors; NaN eigenvalues, instead of an error for the whole batch, where entries are."""
    finite = torch.isfinite(matrix).all(-1).all(-1)[..., None, None]
    values, vectors = torch.linalg.eigh(torch.where(finite, matrix, 0.0))
    return torch.where(finite.squeeze(-1), values, torch.nan), vectors


@dataclass(frozen=True)
class SpectralFunction:
    """A scalar function with its divided differences, applied to symmetric matrices.

    Args:
        value: ``f`` elementwise.
        pair: ``(a, b) -> f[a, b]`` for ``a < b`` well apart.
        scale: ``m -> s``, the distance from ``m`` that the Taylor series is measured in.
        factor: ``m -> c``, which multiplies the derivatives.
        coefficients: ``a_k`` of ``f(m + s t) = f(m) + c sum_k a_k t^k``, from ``k = 1``.
    """

    value: Callable[[Tensor], Tensor]
    pair: Callable[[Tensor, Tensor], Tensor]
    scale: Callable[[Tensor], Tensor]
    factor: Callable[[Tensor], Tensor]
    coefficients: tuple[float, ...]

    def __call__(self, matrix: Tensor) -> Tensor:
        """``f(M)`` for symmetric ``M (..., n, n)``; exact up to second derivatives."""
        base = matrix.detach()
        values, vectors = eigh(base)
        core = torch.diag_embed(self.value(values))
        if derivatives_wanted(matrix):
            shift = vectors.mT @ (matrix - base) @ vectors
            first = self.differences(values)
            core = core + first * shift
            second = self._second_differences(values, first)
            core = core + torch.einsum("...ikj,...ik,...kj->...ij", second, shift, shift)
        return vectors @ core @ vectors.mT

    def differences(self, values: Tensor) -> Tensor:
        """The matrix ``f[l_i, l_j] (..., n, n)`` of ``values (..., n)``, with ``f'`` on its diagonal."""
        return self.difference(*torch.broadcast_tensors(values.unsqueeze(-1), values.unsqueeze(-2)))

    def difference(self, a: Tensor, b: Tensor) -> Tensor:
        """``f[a, b] = (f(a) - f(b)) / (a - b)`` elementwise, ``f'(a)`` where the nodes are equal."""
        low, high = torch.minimum(a, b), torch.maximum(a, b)
        near, taylor = self._near(low, high)
        gap = torch.where(near, self.scale(low), high - low)
        return torch.where(near, taylor, self.pair(low, low + gap))

    def _second_differences(self, values: Tensor, first: Tensor) -> Tensor:
        """``f[l_i, l_k, l_j] (..., n, n, n)`` from ``first``, dividing by the widest of the three gaps."""
        i, k, j = values[..., :, None, None], values[..., None, :, None], values[..., None, None, :]
        ik, kj, ij = first[..., :, :, None], first[..., None, :, :], first[..., :, None, :]
        outer, left, right = i - j, i - k, k - j
        widest = torch.maximum(outer.abs(), torch.maximum(left.abs(), right.abs()))
        near, taylor = self._near(*torch.broadcast_tensors(i, k, j), spread=widest)
        change = torch.where(outer.abs() == widest, ik - kj, torch.where(left.abs() == widest, ij - kj, ik - ij))
        gap = torch.where(outer.abs() == widest, outer, torch.where(left.abs() == widest, left, right))
        return torch.where(near, taylor, change / torch.where(near, 1.0, gap))

    def _near(self, *nodes: Tensor, spread: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Where nodes are near each other, and their divided difference there.

        From the Taylor series at their mean: the divided difference of ``t^k`` is the complete homogeneous
        symmetric polynomial of degree ``k - order``.
        """
        middle = sum(nodes[1:], nodes[0]) / len(nodes)
        scale = self.scale(middle)
        near = (nodes[1] - nodes[0] if spread is None else spread) < 0.25 * scale
        close = [torch.where(near, (p - middle) / scale, 0.0) for p in nodes]
        return near, self._series(close) * self.factor(middle) / scale ** (len(nodes) - 1)

    def _series(self, t: list[Tensor]) -> Tensor:
        order = len(t) - 1
        homogeneous = [torch.ones_like(t[0])]
        total = self.coefficients[order - 1] * homogeneous[0]
        row = [torch.ones_like(u) for u in t]
        for coefficient in self.coefficients[order:]:
            # h_m(t_1 .. t_r) = h_m(t_1 .. t_{r-1}) + t_r h_{m-1}(t_1 .. t_r)
            previous = torch.zeros_like(t[0])
            for r, u in enumerate(t):
                previous = row[r] = previous + u * row[r]
            total = total + coefficient * row[-1]
        return total


def _exp_pair(a: Tensor, b: Tensor) -> Tensor:
    return torch.exp(b) * -torch.expm1(a - b) / (b - a)


def _log_pair(a: Tensor, b: Tensor) -> Tensor:
    return torch.log1p((b - a) / a) / (b - a)


EXP = SpectralFunction(
    torch.exp,
    _exp_pair,
    torch.ones_like,
    torch.exp,
    tuple(1.0 / math.factorial(k) for k in range(1, 18)),
)
LOG = SpectralFunction(
    torch.log,
    _log_pair,
    lambda m: m,
    torch.ones_like,
    tuple((-1.0) ** (k + 1) / k for k in range(1, 24)),
)
