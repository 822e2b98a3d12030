"""The Neumann heat kernel of the unit ball for small deviations: the image in the wall, corrected for its curvature."""

import functools
import math

import numpy as np
import torch
from torch import Tensor

from mirrorgen.geometry.domains.base import ExactBuffers

__all__ = ["CurvatureExpansion"]

# Nodes for integrals of t^q e^(-s t - t^2 / 2) from 0 to _REACH; what is beyond is below rounding.
_NODES, _REACH = 40, 13.0
# Product of depths in units of sigma from which on the image weighs less than e^-40.
_DEEP = 20.0


class CurvatureExpansion(ExactBuffers):
    """Ratio of the kernel of the unit ball of ``R^d`` to the free one, ``phi = N(x; x_0, sigma^2 I)``.

    With ``a = (1 - r) / sigma`` and ``b = (1 - r_0) / sigma`` the depths in units of ``sigma``, ``u`` the cosine of the
    angle between ``x`` and ``x_0``, and ``w = 2 (1 - u) / sigma^2``::

        p / phi = 1 + e^(-2 a b u) (1 + sum_(n >= 1) sigma^n R_n)
        R_n = sum c_kjq w^k (a b)^j I_q(a + b),    I_q(s) = int_0^inf t^q e^(-s t - t^2 / 2) dt
        R_1 = (d - 1) ((1 + a b) I_0 - I_2 / 2) + w (I_2 / 2 - a b I_0)

    The leading term is the image of a half-space. Each order has finitely many terms, ``k <= n`` and ``2 j + q < 3 n``,
    which the heat equation and the condition at the wall determine; they are solved for at construction. The
    expansion is asymptotic: for pairs whose distance is a few ``sigma``, the error is of order ``sigma^(order + 1)``.

    Args:
        dim: ``d``, at least 2.
        order: Last power of ``sigma``, at least 1.

    Source: the idea of expanding in the curvature of the wall is McKean and Singer's, "Curvature and the eigenvalues
    of the Laplacian", 1967, who have the first order for ``x = x_0``; this form is the package's.
    """

    node: Tensor
    table: Tensor
    powers: Tensor

    def __init__(self, dim: int, order: int) -> None:
        super().__init__()
        self.dim, self.order = dim, order
        for name, value in _tables(dim, order).items():
            self.register_buffer(name, torch.from_numpy(value).clone(), persistent=False)

    def forward(self, r: Tensor, r_0: Tensor, u: Tensor, w: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``log(p / phi)``, its derivative in ``r`` and its derivative in ``u``, each ``(*batch)``.

        Args:
            r: Distances from the centre, float64 ``(*batch)``.
            r_0: The same of the starting points.
            u: Cosines of the angles.
            w: ``2 (1 - u) / sigma^2``, which the caller knows without cancellation.
            sigma: Deviations, ``(*batch)`` or one number.
        """
        a, b = (1 - r) / sigma, (1 - r_0) / sigma
        product = a * b
        value, in_s, in_product, in_w = self._sums(sigma.expand_as(w), w, product, a + b)
        # The path by way of the wall is longer than the straight one by at least what makes e^(-2 a b).
        weight = torch.where(product < _DEEP, torch.exp(-2 * product * u.clamp_min(0)), 0.0)
        image = weight * value
        # The kernel is not below the free one; where the truncated sum is, the image is negligible.
        ratio = 1 + image.clamp_min(0)
        share = torch.where(image > 0, weight / ratio, 0.0)
        in_a = in_s + b * in_product - 2 * b * u * value
        in_u = -2 * in_w / sigma.square() - 2 * product * value
        return torch.log(ratio), -share * in_a / sigma, share * in_u

    def _sums(self, e: Tensor, w: Tensor, product: Tensor, s: Tensor) -> tuple[Tensor, ...]:
        """``1 + sum e^n R_n`` and its derivatives in ``s``, in ``a b`` and in ``w``."""
        n, k, j = self.powers
        tops = (self.order, self.order, 3 * self.order // 2)
        in_e, in_w, in_product = (_powers(v, top) for v, top in zip((e, w, product), tops, strict=True))
        decay = torch.exp(-s.unsqueeze(-1) * self.node)
        base = in_e[..., n] * in_w[..., k]
        waves = (base * in_product[..., j]) @ self.table
        by_product = (base * j * in_product[..., (j - 1).clamp_min(0)]) @ self.table
        by_w = (in_e[..., n] * in_product[..., j] * k * in_w[..., (k - 1).clamp_min(0)]) @ self.table
        sums = ((part * decay).sum(-1) for part in (waves, -self.node * waves, by_product, by_w))
        value, *slopes = sums
        return 1 + value, *slopes


def _powers(v: Tensor, top: int) -> Tensor:
    """``1, v, .., v^top`` along a new last axis."""
    powers = [torch.ones_like(v)]
    for _ in range(top):
        powers.append(powers[-1] * v)
    return torch.stack(powers, -1)


@functools.lru_cache(maxsize=16)
def _tables(dim: int, order: int) -> dict[str, np.ndarray]:
    """Nodes ``t``, exponents ``(n, k, j)`` and, for each of them, the factor of ``e^(-s t)`` at every node."""
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    node, weight = 0.5 * _REACH * (node + 1), 0.5 * _REACH * weight
    weight = weight * np.exp(-0.5 * node**2)
    rows: dict[tuple[int, int, int], np.ndarray] = {}
    for n, terms in enumerate(_solve(dim, order), 1):
        for (k, j, q), c in terms.items():
            rows[n, k, j] = rows.get((n, k, j), 0.0) + c * weight * node**q
    return {"node": node, "powers": np.array(list(rows)).T.copy(), "table": np.stack(list(rows.values()))}


# The equations. In x = a, y = b and e = sigma, a correction f = p / phi - 1 satisfies, from the heat equation,
#
#   (e d_e - x d_x - y d_y - 2 w d_w) f / 2 = (d_xx - e (d - 1) / (1 - e x) d_x) f / 2
#       + ((4 w - e^2 w^2) d_ww + (d - 1) (2 - e^2 w) d_w) f / (2 (1 - e x)^2)
#       - (x - y - e (1 - e y) w / 2) d_x f - (1 - e y) / (1 - e x) (2 w - e^2 w^2 / 2) d_w f
#
# and at the wall, x = 0, d_x f = -(1 + f) (y + e (1 - e y) w / 2). With f = e^(-2 x y) sum_n e^n F_n every order is a
# linear equation for F_n. Its solutions are P + Q M with polynomials P and Q in w, x, y and M = I_0(x + y), which
# satisfies M' = (x + y) M - 1. A field is an array (2, K, I, I) of the coefficients of w^k x^i y^j in P and in Q.

_W, _X, _Y = 1, 2, 3


def _solve(dim: int, order: int) -> list[dict[tuple[int, int, int], float]]:
    """The coefficients ``c_kjq`` of ``R_1 .. R_order``."""
    shape = (2, order + 3, 3 * order + 3, 3 * order + 3)
    one = np.zeros(shape)
    one[0, 0, 0, 0] = 1.0
    integrals = _integrals(one, 3 * order)
    inner, fields, result = [one], [one], []
    for n in range(1, order + 1):
        # e^(-2 a b u) = e^(-2 a b) e^(e^2 w a b): what the lower orders contribute to this one.
        known = sum((_times(inner[n - 2 * m], m, m, m, 1 / math.factorial(m)) for m in range(1, n // 2 + 1)), 0 * one)
        bulk, wall = _residual([*fields, known], n, dim)
        keys = [
            (k, j, q)
            for k in range(n + 1)
            for j in range((3 * n - 1) // 2 + 1)
            for q in range((n + 1) % 2, 3 * n - 2 * j, 2)
        ]
        basis = [_times(integrals[q], k, j, j) for k, j, q in keys]
        columns = [np.concatenate([_bulk(f, n, 0, dim).ravel(), _wall(f).ravel()]) for f in basis]
        rows, target = np.stack(columns, -1), -np.concatenate([bulk.ravel(), wall.ravel()])
        # Equations and unknowns of very different size; scaled, the least-squares problem is well conditioned.
        scale = np.abs(rows).max(1)
        used = scale > 0
        rows, target = rows[used] / scale[used, None], target[used] / scale[used]
        length = np.linalg.norm(rows, axis=0)
        c = np.linalg.lstsq(rows / length, target, rcond=None)[0] / length
        inner.append(sum((v * f for v, f in zip(c, basis, strict=True)), 0 * one))
        fields.append(known + inner[-1])
        result.append(dict(zip(keys, c.tolist(), strict=True)))
    return result


def _residual(fields: list[np.ndarray], n: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Order ``n`` of the equations inside and at the wall, from ``F_0 .. F_n``."""
    one = fields[0]
    bulk = sum((_bulk(fields[n - m], n - m, m, dim) for m in range(n + 1)), 0 * one)
    wall = _wall(fields[n])
    for m, j, factor in ((1, 0, 0.5), (2, 1, -0.5)):
        if n >= m:
            lower = fields[n - m] + (one if n == m else 0)
            wall = wall + _times(lower, 1, 0, j, factor)[:, :, 0]
    return bulk, wall


def _bulk(f: np.ndarray, n: int, m: int, dim: int) -> np.ndarray:
    """Coefficient of ``e^m`` of right minus left hand side, with ``e^n e^(-2 x y) f`` in it."""
    g = _slope(f, _X) - _times(f, 0, 0, 1, 2)
    h = _slope(f, _W)
    h_w, c = _slope(h, _W), dim - 1
    out = _times(h_w, 1, m, 0, 2 * m + 2) + _times(h, 0, m, 0, c * (m + 1)) - _times(h, 1, m, 0, 2)
    if m == 0:
        back = _slope(f, _Y) - _times(f, 0, 1, 0, 2)
        out += 0.5 * (_slope(g, _X) - _times(g, 0, 0, 1, 2) + _times(back, 0, 0, 1) - _times(g, 0, 1) - n * f)
        out += _times(g, 0, 0, 1) + _times(h, 1)
    if m >= 1:
        out += _times(h, 1, m - 1, 1, 2) - _times(g, 0, m - 1, 0, 0.5 * c)
    if m == 1:
        out += _times(g, 1, 0, 0, 0.5)
    if m == 2:
        out -= _times(g, 1, 0, 1, 0.5)
    if m >= 2:
        out += 0.5 * (_times(h, 2, m - 2) - (m - 1) * (_times(h_w, 2, m - 2) + c * _times(h, 1, m - 2)))
    if m >= 3:
        out -= _times(h, 2, m - 3, 1, 0.5)
    return out


def _wall(f: np.ndarray) -> np.ndarray:
    """``d_x f - y f`` at ``x = 0``: the condition there, without lower orders."""
    return (_slope(f, _X) - _times(f, 0, 0, 1))[:, :, 0]


def _integrals(one: np.ndarray, count: int) -> list[np.ndarray]:
    """``I_0 .. I_(count - 1)`` as fields: ``I_1 = 1 - s I_0`` and ``I_(q+1) = q I_(q-1) - s I_q``, ``s = x + y``."""
    fields = [one[::-1].copy()]
    for q in range(count - 1):
        last = fields[-1]
        before = one if q == 0 else q * fields[-2]
        fields.append(before - _times(last, 0, 1) - _times(last, 0, 0, 1))
    return fields


def _times(f: np.ndarray, k: int = 0, i: int = 0, j: int = 0, factor: float = 1.0) -> np.ndarray:
    """``factor w^k x^i y^j f``."""
    out = np.zeros_like(f)
    size, rows, columns = f.shape[1:]
    out[:, k:, i:, j:] = factor * f[:, : size - k, : rows - i, : columns - j]
    return out


def _slope(f: np.ndarray, axis: int) -> np.ndarray:
    """Derivative in ``w``, ``x`` or ``y``."""
    powers = np.moveaxis(f, axis, -1)
    out = np.zeros_like(powers)
    out[..., :-1] = powers[..., 1:] * np.arange(1, f.shape[axis])
    out = np.moveaxis(out, -1, axis)
    if axis != _W:
        out[0] -= f[1]
        out[1] += (_times(f, 0, 1) + _times(f, 0, 0, 1))[1]
    return out
