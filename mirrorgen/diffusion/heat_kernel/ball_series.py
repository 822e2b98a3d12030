"""The Neumann heat kernel of the unit ball by eigenfunctions: roots, tables, evaluation."""

import functools
import math

import numpy as np
import scipy.fft
import scipy.special
import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError
from mirrorgen.geometry.domains.base import ExactBuffers
from mirrorgen.numerics import monotone_root

__all__ = ["BallSeries", "chebyshev_values", "neumann_roots"]

# Share of the density at its peak that the terms left out may have.
_LEFT_OUT = 1e-15
_DOUBLINGS = 3
# Largest error of a table, as a share of the largest value of its function.
_TABLE_ERROR = 1e-12


class BallSeries(ExactBuffers):
    """Kernel of the unit ball of ``R^d``, ``d >= 2``, by ``r = |x|``, ``r_0 = |x_0|`` and their cosine ``u``.

    With ``nu = l + d/2 - 1``, ``a = a_lk`` the roots of ``l J_nu(a) = a J_(nu+1)(a)`` and ``G_l`` the Gegenbauer
    polynomial of degree ``l`` and index ``d/2 - 1``, scaled to ``G_l(1) = 1`` (``cos(l arccos u)`` for ``d = 2``)::

        p = 1 / Vol + sum_lk m_l / |S^(d-1)| e^(-a^2 sigma^2 / 2) R_lk(r) R_lk(r_0) G_l(u)
        R_lk(r) = r^(1 - d/2) J_nu(a r) / sqrt((1 - l (l + d - 2) / a^2) J_nu(a)^2 / 2)

    where ``m_l`` counts the spherical harmonics of degree ``l``. PyTorch has no Bessel functions of general order.
    ``R_lk`` is ``r^(l mod 2)`` times an entire function of ``r^2``, whose Chebyshev coefficients in ``2 r^2 - 1`` are
    tabulated; ``G_l`` is a combination of Chebyshev polynomials with weights that are not negative. One evaluation is a
    few matrix products. What is left out is 1e-15 of the peak of the density. Terms are in the order of their roots:
    twice the deviation needs a quarter of them, and ``cuts`` holds how much each doubling leaves.

    Args:
        dim: ``d``, at least 2.
        least_sigma: Smallest deviation that will be asked for; there are about ``10 / least_sigma^2`` terms.

    Raises:
        ConvergenceError: If a table misses its function by more than 1e-12 of the largest value.

    Source: Carslaw and Jaeger, "Conduction of Heat in Solids", 1959, for the roots and norms; Gegenbauer's addition
    theorem for the sum over the harmonics of one degree.
    """

    rate: Tensor
    weight: Tensor
    degree: Tensor
    parity: Tensor
    radial: Tensor
    radial_slope: Tensor
    zonal: Tensor
    zonal_slope: Tensor

    def __init__(self, dim: int, least_sigma: float) -> None:
        super().__init__()
        self.dim, self.least_sigma = dim, least_sigma
        tables, self.cuts = _tables(dim, least_sigma)
        for name, value in tables.items():
            self.register_buffer(name, torch.from_numpy(value).clone(), persistent=False)
        self.uniform = dim / _sphere_area(dim)

    def forward(
        self, r: Tensor, r_0: Tensor, u: Tensor, sigma: Tensor, doublings: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Density, its derivative in ``r`` and its derivative in ``u``, each ``(*batch)``.

        Args:
            r: Distances from the centre, float64 ``(*batch)``.
            r_0: The same of the starting points.
            u: Cosines of the angles between them.
            sigma: Deviations, at least ``least_sigma 2^doublings``; ``(*batch)`` or one number.
            doublings: Which cut of the terms to take, an index of ``cuts``.
        """
        terms, rows, degrees = self.cuts[doublings]
        parity, degree = self.parity[:terms], self.degree[:terms]
        table, table_slope = self.radial[:rows, :terms], self.radial_slope[:rows, :terms]
        waves, waves_0 = (chebyshev_values(2 * v.square() - 1, rows) for v in (r, r_0))
        # r^(l mod 2)
        odd, odd_0 = (1 + parity * (v - 1).unsqueeze(-1) for v in (r, r_0))
        plain = waves @ table
        slope = 4 * r.unsqueeze(-1) * odd * (waves @ table_slope) + parity * plain
        decay = self.weight[:terms] * torch.exp(self.rate[:terms] * sigma.square().unsqueeze(-1))
        decay = decay * odd_0 * (waves_0 @ table)
        angles = chebyshev_values(u, degrees)
        zonal, zonal_slope = (
            (angles @ part[:degrees, :degrees])[..., degree] for part in (self.zonal, self.zonal_slope)
        )
        product = decay * odd * plain
        density = self.uniform + (product * zonal).sum(-1)
        return density, (decay * slope * zonal).sum(-1), (product * zonal_slope).sum(-1)


def chebyshev_values(t: Tensor, count: int) -> Tensor:
    """``T_0(t) .. T_(count-1)(t)``, ``(*batch, count)``, by ``T_(m+j) = 2 T_m T_j - T_(m-j)``: blocks that double."""
    block = torch.stack([torch.ones_like(t), t], -1)
    while block.shape[-1] < count:
        last = block[..., -1:]
        block = torch.cat([block, 2 * last * block[..., 1:] - block[..., :-1].flip(-1)], -1)
    return block[..., :count]


def neumann_roots(dim: int, degree: int, largest: float) -> np.ndarray:
    """Positive roots of ``l J_nu(a) = a J_(nu+1)(a)`` up to ``largest``, ascending; ``nu = l + d/2 - 1``.

    They are the zeros of the radial derivative of ``r^(1 - d/2) J_nu(a r)`` at ``r = 1``. Consecutive ones are more
    than 2 apart, and none is below ``sqrt(l (l + d - 2))``, the least value of the centrifugal term.
    """
    order = degree + 0.5 * dim - 1

    def residual(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        here, above = scipy.special.jv(order, a), scipy.special.jv(order + 1, a)
        return degree * here - a * above, (degree * order / a - a) * here + (order - degree) * above

    grid = np.arange(max(math.sqrt(degree * (degree + dim - 2)), 0.5), largest + 0.5, 0.5)
    sign = np.sign(residual(grid)[0])
    left = np.nonzero(sign[:-1] * sign[1:] < 0)[0]
    upward = torch.from_numpy(sign[left + 1])

    def rising(a: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = residual(a.numpy())
        return upward * torch.from_numpy(value), upward * torch.from_numpy(slope)

    roots = monotone_root(rising, torch.from_numpy(grid[left]), torch.from_numpy(grid[left + 1])).numpy()
    return roots[roots <= largest]


def _sphere_area(dim: int) -> float:
    """Area of the unit sphere of ``R^dim``."""
    return 2 * math.pi ** (0.5 * dim) / math.gamma(0.5 * dim)


@functools.lru_cache(maxsize=16)
def _tables(dim: int, least_sigma: float) -> tuple[dict[str, np.ndarray], list[tuple[int, int, int]]]:
    """What ``BallSeries`` keeps, one column per term, and numbers of terms, coefficients and degrees of the cuts."""
    # The tail of the sum over frequencies, whose density grows as a^(d-1), relative to the whole.
    largest = math.sqrt(2 * scipy.special.gammainccinv(0.5 * dim, _LEFT_OUT)) / least_sigma
    families: list[np.ndarray] = []
    while not families or len(families[-1]):
        families.append(neumann_roots(dim, len(families), largest))
    degree = np.repeat(np.arange(len(families)), [len(family) for family in families])
    roots = np.concatenate(families)
    order = np.argsort(roots)
    degree, roots = degree[order], roots[order]
    radial = _radial_table(dim, degree, roots)
    zonal = _zonal_table(dim, int(degree.max()) + 1)
    counts = [int(np.searchsorted(roots, largest / 2**i, "right")) for i in range(_DOUBLINGS + 1)]
    cuts = [(n, _coefficients(largest / 2**i), int(degree[:n].max()) + 1) for i, n in enumerate(counts)]
    tables = {
        "rate": -0.5 * roots**2,
        "weight": _harmonics(dim, degree) / _sphere_area(dim),
        "degree": degree,
        "parity": (degree % 2).astype(float),
        "radial": radial,
        "radial_slope": _chebyshev_slope(radial),
        "zonal": zonal,
        "zonal_slope": _chebyshev_slope(zonal),
    }
    return tables, cuts


def _harmonics(dim: int, degree: np.ndarray) -> np.ndarray:
    """Number of independent spherical harmonics of each degree."""
    l = np.maximum(degree, 1)  # noqa: E741
    return np.where(degree == 0, 1.0, (2 * l + dim - 2) / l * scipy.special.binom(l + dim - 3, l - 1))


def _radial_values(dim: int, degree: np.ndarray, roots: np.ndarray, r: np.ndarray) -> np.ndarray:
    """``R_lk(r) / r^(l mod 2)``, ``(len(r), len(roots))``, for ``r > 0``."""
    order = degree + 0.5 * dim - 1
    norm = np.abs(scipy.special.jv(order, roots)) * np.sqrt(0.5 - 0.5 * degree * (degree + dim - 2) / roots**2)
    r = r[:, None]
    return r ** (1 - 0.5 * dim - degree % 2) * scipy.special.jv(order, roots * r) / norm


def _coefficients(largest: float) -> int:
    """Number of Chebyshev coefficients for functions with frequencies up to ``largest``.

    Half the degree in ``r``: the frequency, the width of the turning region, and what the decay to rounding takes.
    """
    return math.ceil(0.5 * largest + 3 * largest ** (1 / 3) + 12)


def _radial_table(dim: int, degree: np.ndarray, roots: np.ndarray) -> np.ndarray:
    """Chebyshev coefficients in ``2 r^2 - 1`` of the functions of ``_radial_values``, checked between the nodes."""
    count = _coefficients(roots.max())
    angle = math.pi * (np.arange(count) + 0.5) / count
    values = _radial_values(dim, degree, roots, np.cos(0.5 * angle))
    table = scipy.fft.dct(values, axis=0) / count
    table[0] *= 0.5
    probe = np.linspace(0.02, 1.0, 8)
    exact = _radial_values(dim, degree, roots, probe)
    error = np.abs(np.polynomial.chebyshev.chebval(2 * probe**2 - 1, table).T - exact) / np.abs(values).max(0)
    if not error.max() < _TABLE_ERROR:
        raise ConvergenceError(
            f"the radial functions of the ball in {dim} dimensions are tabulated with an error of {error.max():.2g}; "
            "use a larger least_sigma",
            float(error.max()),
        )
    return table


def _zonal_table(dim: int, count: int) -> np.ndarray:
    """Weights of ``G_l(cos t) = sum_m weight[m, l] cos(m t)``, ``(count, count)``; they add up to one for each ``l``.

    ``C_l(cos t) = sum_j c_j c_(l-j) cos((l - 2 j) t)`` with ``c_j`` the coefficients of ``(1 - z)^(1 - d/2)``.
    """
    index = max(0.5 * dim - 1, 1e-200)
    c = np.concatenate([[1.0], np.cumprod((index + np.arange(count - 1)) / np.arange(1, count))])
    table = np.zeros((count, count))
    for l in range(count):  # noqa: E741
        np.add.at(table[:, l], np.abs(l - 2 * np.arange(l + 1)), c[: l + 1] * c[l::-1])
    return table / table.sum(0)


def _chebyshev_slope(table: np.ndarray) -> np.ndarray:
    """Coefficients of the derivatives, with a last row of zeros."""
    return np.concatenate([np.polynomial.chebyshev.chebder(table), np.zeros((1, table.shape[1]))])
