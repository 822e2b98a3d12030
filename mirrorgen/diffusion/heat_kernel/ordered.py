"""The simplex of ordered coordinates: its polytope, exact motion and Neumann heat kernel."""

from itertools import combinations

import torch
from torch import Tensor

from mirrorgen.diffusion.heat_kernel.base import HeatKernel, random_step
from mirrorgen.diffusion.heat_kernel.interval import Pair, interval
from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Box, Domain, Polytope
from mirrorgen.geometry.domains.base import require_dim
from mirrorgen.numerics import upcast

__all__ = ["OrderedSimplexHeatKernel", "is_ordered_simplex", "ordered_simplex", "sorted_motion"]

# Subsets of the coordinates double with every dimension; beyond this one a pair of points takes a megabyte.
_LARGEST = 10


def ordered_simplex(dim: int) -> Polytope:
    """``{1 > x_1 > x_2 > ... > x_dim > 0}``.

    The gaps ``1 - x_1, x_1 - x_2, ..., x_dim`` are a point of the probability simplex with ``dim + 1`` coordinates.

    Raises:
        DomainError: If ``dim < 1``.
    """
    require_dim(dim, 1, "ordered_simplex")
    steps = torch.diff(torch.eye(dim + 2, dtype=torch.float64), dim=0)
    level = torch.zeros(dim + 1, dtype=torch.float64)
    level[0] = 1.0
    return Polytope(steps[:, 1:-1], level)


def is_ordered_simplex(domain: Domain) -> bool:
    """Whether a domain is the polytope of ``ordered_simplex``, its walls in any order and none of them twice."""
    if not isinstance(domain, Polytope) or domain.A_eq is not None or len(domain.A) != domain.dim + 1:
        return False
    dim, rows = domain.dim, torch.cat([domain.A, domain.b.unsqueeze(-1)], -1).detach()
    steps = torch.diff(torch.eye(dim + 2).to(rows), dim=0)[:, 1:]
    steps[:, -1] = 0.0
    steps[0, -1] = 1.0
    steps = steps / torch.linalg.vector_norm(steps[:, :-1], dim=-1, keepdim=True)
    equal = (rows.unsqueeze(1) - steps).abs().amax(-1) <= 1e-9
    return bool((equal.sum(0) == 1).all() & (equal.sum(1) == 1).all())


def sorted_motion(x_0: Tensor, step: Tensor) -> Tensor:
    """End of the reflected path from ``x_0`` along ``step`` in the ordered simplex, in closed form.

    The path in the unit cube, ``Box.reflect``, with its coordinates sorted: where two of them meet, exchanging them
    is the reflection in the wall between. Differentiable.

    Args:
        x_0: Starting points ``(*batch, dim)``.
        step: Displacements, the same shape.

    Returns:
        Points of the closure ``(*batch, dim)``.
    """
    cube = Box(0.0, 1.0, dim=x_0.shape[-1]).to(x_0.device)
    return torch.sort(cube.reflect(x_0, step), -1, descending=True).values


class OrderedSimplexHeatKernel(HeatKernel):
    """Brownian motion in ``{1 > x_1 > ... > x_d > 0}``: the permanent of a matrix of one-dimensional kernels.

    ``p(x | x_0) = sum_pi prod_i k(x_i | x_0,pi(i))`` over all permutations, with the kernel ``k`` of the unit interval:
    the law of the sorted coordinates of a motion in the unit cube. With ``P_ij`` the probability, given ``x``, that
    ``x_i`` is where the coordinate ``j`` ended, ``score_i = sum_j P_ij dlog k(x_i | x_0j) / dx_i``.

    Permanents are sums over the subsets of columns that the first rows use, ``f(S) = sum_(j in S) f(S - j) k_(|S| j)``,
    in logarithms and float64. All terms are positive, so no digit is lost; ``d 2^d`` operations.

    Args:
        domain: The polytope of ``ordered_simplex(d)``, ``d`` up to 10.

    Raises:
        DomainError: If the domain is another set, or ``d > 10``; ``unfolded_draw`` has no such bound.

    Source: S. Karlin, J. McGregor, "Coincidence probabilities", 1959, has the determinant for paths that are killed
    where they meet; reflected ones have the permanent.
    """

    domain: Polytope

    def __init__(self, domain: Polytope) -> None:
        if not is_ordered_simplex(domain):
            raise DomainError(
                f"OrderedSimplexHeatKernel needs the polytope of ordered_simplex(dim), got {domain!r}; "
                "map other simplices to it, or use unfolded_draw"
            )
        if domain.dim > _LARGEST:
            raise DomainError(
                f"the permanent takes dim * 2^dim operations, at most dim = {_LARGEST} here, got {domain.dim}; "
                "unfolded_draw gives draws with unbiased score targets in any dimension"
            )
        super().__init__(domain)
        for name, tables in _subset_tables(domain.dim).items():
            for i, table in enumerate(tables):
                self.register_buffer(f"{name}_{i}", table, persistent=False)

    def _log_prob_and_score(self, x: Tensor, x_0: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        wide = upcast(x)
        zero = torch.zeros((), dtype=wide.dtype, device=wide.device)
        points = Pair.between(zero, zero + 1, wide.unsqueeze(-1), upcast(x_0).unsqueeze(-2))
        log_k, slope = interval(points, upcast(sigma).unsqueeze(-1))
        first, last = self._layers(log_k), self._layers(log_k.flip(-2))
        log_prob = first[-1].squeeze(-1)
        score = []
        for i in range(self.domain.dim):
            others = first[i][..., self._table("before", i)] + last[-2 - i][..., self._table("after", i)]
            log_share = torch.logsumexp(others, -1) + log_k[..., i, :] - log_prob.unsqueeze(-1)
            score.append((torch.exp(log_share) * slope[..., i, :]).sum(-1))
        return log_prob.to(x.dtype), torch.stack(score, -1).to(x.dtype)

    def _layers(self, log_k: Tensor) -> list[Tensor]:
        """Log-permanents of the first ``i`` rows and every ``i`` columns, ``(*batch, C(d, i))``, for all ``i``."""
        layers = [torch.zeros_like(log_k[..., 0, :1])]
        for i in range(self.domain.dim):
            terms = layers[-1][..., self._table("rest", i)] + log_k[..., i, :][..., self._table("column", i)]
            layers.append(torch.logsumexp(terms, -1))
        return layers

    def _table(self, name: str, i: int) -> Tensor:
        return self.get_buffer(f"{name}_{i}")

    def sample(self, x_0: Tensor, sigma: Tensor | float, *, generator: torch.Generator | None = None) -> Tensor:
        """As ``HeatKernel.sample``, by sorting."""
        step = random_step(self.domain, x_0, sigma, generator=generator)
        return self.domain.pull_inside(sorted_motion(x_0, step))[0]


def _subset_tables(dim: int) -> dict[str, list[Tensor]]:
    """Indices of the recursion, one table per row ``i`` of the matrix; sets of one size are numbered in order.

    ``column`` and ``rest``, ``(C(d, i + 1), i + 1)``: the members of every set of ``i + 1`` columns, and the number of
    the set without each. ``before`` and ``after``, ``(d, C(d - 1, i))``: for every column the sets of ``i`` others,
    and the sets of what neither contains.
    """
    sets = [list(combinations(range(dim), size)) for size in range(dim + 1)]
    number = [{s: n for n, s in enumerate(layer)} for layer in sets]
    everything = frozenset(range(dim))
    tables: dict[str, list[Tensor]] = {name: [] for name in ("column", "rest", "before", "after")}
    for i in range(dim):
        tables["column"].append(torch.tensor(sets[i + 1]))
        rest = [[number[i][s[:m] + s[m + 1 :]] for m in range(i + 1)] for s in sets[i + 1]]
        tables["rest"].append(torch.tensor(rest))
        before = [[s for s in sets[i] if j not in s] for j in range(dim)]
        after = [[tuple(sorted(everything - {j, *s})) for s in row] for j, row in enumerate(before)]
        tables["before"].append(torch.tensor([[number[i][s] for s in row] for row in before]))
        tables["after"].append(torch.tensor([[number[dim - 1 - i][s] for s in row] for row in after]))
    return tables
