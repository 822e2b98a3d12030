"""The probability simplex."""

import math

import torch
from torch import Tensor

from mirrorgen.geometry.domains.base import Domain, as_buffer, margin, require_dim
from mirrorgen.geometry.domains.billiard import billiard
from mirrorgen.geometry.simplex_chart import from_helmert, to_helmert
from mirrorgen.numerics import upcast

__all__ = ["Simplex"]


class Simplex(Domain):
    """``{x : x > 0, x_1 + ... + x_K = 1}`` with ``dim = K`` coordinates and ``dual_dim = K - 1``.

    The chart is ``z = V^T x`` with the Helmert basis ``V (K, K-1)``, ``V^T V = I``, ``V^T 1 = 0``, applied in O(K).
    Densities are with respect to Lebesgue measure on the first ``K - 1`` coordinates, as in
    ``torch.distributions.Dirichlet``; ``log |det dz / d(x_1..x_{K-1})| = log(K) / 2``.

    Args:
        dim: Number of coordinates ``K``, at least 2.

    Raises:
        DomainError: If ``dim < 2``.
    """

    _center: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = require_dim(dim, 2, "Simplex")
        self.chart_log_volume = 0.5 * math.log(dim)
        self.register_buffer("_center", as_buffer(1.0 / dim).repeat(dim), persistent=False)

    @property
    def dual_dim(self) -> int:
        return self.dim - 1

    def extra_repr(self) -> str:
        return f"dim={self.dim}"

    def to_tangent(self, v: Tensor) -> Tensor:
        """``V^T v``."""
        return to_helmert(v)

    def from_tangent(self, z: Tensor) -> Tensor:
        """``V z``, which sums to zero."""
        return from_helmert(z)

    def to_chart(self, x: Tensor) -> Tensor:
        return self.to_tangent(x)

    def from_chart(self, z: Tensor) -> Tensor:
        return 1.0 / self.dim + self.from_tangent(z)

    def slack(self, x: Tensor) -> Tensor:
        return x

    def constraint_name(self, index: int) -> str:
        return f"x[{index}] > 0"

    def equality_residual(self, x: Tensor) -> Tensor:
        # Sums of far points round in proportion to their coordinates; inside the factor is one.
        size = x.abs().sum(-1).clamp_min(1.0)
        return (x.sum(-1) - 1).abs() / (4 * margin(x) * size)

    def interior_point(self) -> Tensor:
        return self._center.clone()

    def project(self, x: Tensor) -> Tensor:
        """``max(x - t, 0)`` with ``t`` from the sorted coordinates.

        J. Duchi, S. Shalev-Shwartz, Y. Singer, T. Chandra, "Efficient projections onto the l1-ball for learning
        in high dimensions", 2008.
        """
        # A common shift does not change the projection; with the maximum at zero the sums below keep their digits.
        x = x - x.amax(-1, keepdim=True)
        ordered = torch.sort(x, -1, descending=True).values
        excess = torch.cumsum(ordered, -1) - 1
        k = torch.arange(1, self.dim + 1, dtype=x.dtype, device=x.device)
        # Not finite points have no support; they give NaN.
        support = (ordered * k > excess).sum(-1, keepdim=True).clamp_min(1)
        return torch.clamp(x - excess.gather(-1, support - 1) / support, min=0)

    def reflect(self, x: Tensor, step: Tensor) -> Tensor:
        """As ``Domain.reflect``; of a step that leaves the hyperplane the component along the simplex counts.

        Raises:
            ConvergenceError: If a path has too many bounces, see ``billiard``.
        """
        end = billiard(self.to_chart(upcast(x)), self.to_tangent(upcast(step)), *self.halfspaces())
        return self.pull_inside(self.from_chart(end).to(x.dtype))[0]

    def pull_inside(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tiny = torch.finfo(x.dtype).tiny
        fine = (x >= tiny).all(-1) & (self.equality_residual(x) <= 1)
        lifted = torch.clamp(x, min=2 * tiny)
        lifted = lifted / lifted.sum(-1, keepdim=True)
        return torch.where(fine.unsqueeze(-1), x, lifted), ~fine

    def _no_flux(self, x: Tensor, v: Tensor, scale: Tensor | float) -> Tensor:
        """``u_i = w_i (v_i - m)`` with ``m = sum(w v) / sum(w)``, in O(K).

        The minimiser of ``no_flux`` over ``sum u = 0``: with ``c = K / (K - 1)`` the distances are ``sqrt(c) x_i`` and
        the normal components ``sqrt(c) u_i``, hence ``w_i = 1 / (1 + c (1 / f_i - 1)) = f_i / (c - (c - 1) f_i)``,
        and the multiplier of the constraint is the weighted mean ``m``.
        """
        c = self.dim / (self.dim - 1)
        f = torch.tanh(math.sqrt(c) * x.clamp_min(0) / scale)
        weight = f / (c - (c - 1) * f)
        mean = (weight * v).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True)
        return weight * (v - mean)

    def sample_uniform(
        self, n: int, *, generator: torch.Generator | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Normalised exponentials, the flat Dirichlet law, drawn in float64."""
        draws = upcast(torch.empty(n, self.dim, device=self._center.device)).exponential_(generator=generator)
        x = draws / draws.sum(-1, keepdim=True)
        return self.pull_inside(x.to(dtype or torch.get_default_dtype()))[0]

    def log_volume(self) -> float:
        """``-log (K - 1)!``."""
        return -math.lgamma(self.dim)

    def halfspaces(self) -> tuple[Tensor, Tensor]:
        eye = torch.eye(self.dim - 1, dtype=self._center.dtype, device=self._center.device)
        norm = math.sqrt(1 - 1 / self.dim)
        return -self.from_tangent(eye).mT / norm, self._center / norm
