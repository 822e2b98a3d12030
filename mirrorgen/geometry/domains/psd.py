"""The cone of positive definite matrices."""

import math

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError
from mirrorgen.geometry.detached import derivatives_wanted, detached_solve
from mirrorgen.geometry.domains.base import Domain, margin, require_dim
from mirrorgen.geometry.spectral import EXP, eigh
from mirrorgen.numerics import upcast

__all__ = ["PSD"]


class PSD(Domain):
    """Symmetric positive definite ``n x n`` matrices as vectors of length ``dim = n (n + 1) / 2``.

    A point holds the diagonal, then the entries above it times ``sqrt(2)``, row by row, so that dot products of
    vectors are traces of products of matrices. ``pack`` and ``unpack`` convert. Slacks are the eigenvalues.

    Args:
        n: Size of the matrices.

    Raises:
        DomainError: If ``n < 1``.
    """

    bounded = False
    _index: Tensor
    _upper: Tensor

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = require_dim(n, 1, "PSD", "n")
        self.dim = n * (n + 1) // 2
        upper = torch.triu_indices(n, n, 1)
        index = torch.diag(torch.arange(n))
        index[upper[0], upper[1]] = index[upper[1], upper[0]] = torch.arange(n, self.dim)
        self.register_buffer("_index", index, persistent=False)
        self.register_buffer("_upper", upper, persistent=False)

    def extra_repr(self) -> str:
        return f"n={self.n}"

    def unpack(self, x: Tensor) -> Tensor:
        """Vectors ``(..., dim)`` to symmetric matrices ``(..., n, n)``."""
        one = torch.ones((), dtype=x.dtype, device=x.device)
        return x[..., self._index] * torch.where(self._index < self.n, one, math.sqrt(0.5) * one)

    def pack(self, X: Tensor) -> Tensor:
        """Matrices ``(..., n, n)``, of which the symmetric part counts, to vectors ``(..., dim)``."""
        rows, columns = self._upper
        off_diagonal = (X[..., rows, columns] + X[..., columns, rows]) * math.sqrt(0.5)
        return torch.cat([torch.diagonal(X, dim1=-2, dim2=-1), off_diagonal], -1)

    def slack(self, x: Tensor) -> Tensor:
        """Eigenvalues in ascending order, computed in float64; NaN for points that are not finite."""
        finite = torch.isfinite(x).all(-1, keepdim=True)
        values = torch.linalg.eigvalsh(self.unpack(upcast(torch.where(finite, x, 0))))
        return torch.where(finite, values, torch.nan).to(x.dtype)

    def constraint_name(self, index: int) -> str:
        return f"eigenvalue[{index}] > 0"

    def interior_point(self) -> Tensor:
        """The identity matrix."""
        return (torch.arange(self.dim, device=self._index.device) < self.n).to(torch.float64)

    def _raised(self, x: Tensor, floor: Tensor | float) -> Tensor:
        """``x`` with eigenvalues raised to ``floor (..., 1)``, in float64."""
        values, vectors = torch.linalg.eigh(self.unpack(upcast(x)))
        values = torch.maximum(values, torch.as_tensor(floor, dtype=values.dtype, device=x.device))
        return self.pack(vectors * values.unsqueeze(-2) @ vectors.mT)

    def project(self, x: Tensor) -> Tensor:
        """Negative eigenvalues become zero."""
        outside = self.slack(x)[..., :1] < 0
        # Points inside keep their gradient: that of an eigendecomposition is not finite at equal eigenvalues.
        ladder = torch.arange(self.dim, dtype=x.dtype, device=x.device)
        return torch.where(outside, self._raised(torch.where(outside, x, ladder), 0.0).to(x.dtype), x)

    def pull_inside(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvalues are raised to a few units in the last place of the norm, enough for a Cholesky factor.

        The shift counts as a constant for derivatives.
        """
        finite = torch.isfinite(x).all(-1, keepdim=True)
        point = torch.where(finite, x, 0).detach()
        tiny = torch.finfo(x.dtype).tiny
        # Squares of the entries may overflow or underflow where the norm does not.
        size = point.abs().amax(-1, keepdim=True).clamp_min(tiny)
        gap = margin(x, size * torch.linalg.vector_norm(point / size, dim=-1, keepdim=True)).clamp_min(tiny)
        moved = finite & (self.slack(point)[..., :1] < gap)
        shift = self._raised(point, 2 * upcast(gap)) - upcast(point)
        return torch.where(moved, (upcast(x) + shift).to(x.dtype), x), moved.squeeze(-1)

    def reflect(self, x: Tensor, step: Tensor) -> Tensor:
        """As ``Domain.reflect``.

        Along ``X + t S`` the smallest eigenvalue is concave in ``t``, so Newton from the far end finds its last
        zero from above; with the null vector ``v`` there, ``S`` becomes ``S - 2 (v . S v) v v^T``. The cone is
        unbounded, so paths turn finitely often; a path that starts on the boundary, nearly tangent to it at
        angle ``a``, rolls along it in about ``1 / a`` turns. The path is not differentiated.

        Raises:
            ConvergenceError: If a path turns more than 100,000 times.
        """
        joint = torch.stack(torch.broadcast_tensors(upcast(x), upcast(step)), -2)
        end = detached_solve(lambda rows: _cone_billiard(self.unpack(rows)), joint)
        return self.pull_inside(self.pack(end).to(x.dtype))[0]

    def _no_flux(self, x: Tensor, v: Tensor, scale: Tensor | float) -> Tensor:
        """``U_ij = tanh((l_i + l_j) / (2 scale)) V_ij`` in the eigenbasis of ``X``, with eigenvalues ``l``.

        Eigenvalues are distances to the wall. What would make the null space of a point on it indefinite to first
        order vanishes there, and nothing else: ``V_ij`` keeps ``tanh(l_j / (2 scale))`` of itself where only ``l_i`` is
        zero. It is a smooth function of ``X`` at repeated eigenvalues too, the solution of
        ``U + E U E = V - E V E`` with ``E = exp(-X / scale)``; that equation is replayed on the solution for
        derivatives, which are exact to second order. Costs an eigendecomposition, O(n^3), in float64, and O(n^4)
        more where derivatives are wanted.
        """
        width = scale.unsqueeze(-1) if isinstance(scale, Tensor) else scale
        X, V = self.unpack(upcast(x)) / width, self.unpack(upcast(v))
        values, Q = eigh(X.detach())
        sums = values.unsqueeze(-1) + values.unsqueeze(-2)
        U = _entrywise(torch.tanh(0.5 * sums), Q, V)
        if derivatives_wanted(x, v):
            E, weights = EXP(-X), torch.sigmoid(sums)
            right = V - E @ V @ E
            for _ in range(2):
                U = U + _entrywise(weights, Q, right - U - E @ U @ E)
        return self.pack(U)


def _entrywise(weights: Tensor, Q: Tensor, M: Tensor) -> Tensor:
    """``M`` with its entries in the basis ``Q`` multiplied by ``weights``."""
    return Q @ (weights * (Q.mT @ M @ Q)) @ Q.mT


def _cone_billiard(joint: Tensor, max_bounces: int = 100_000) -> Tensor:
    """End points ``(..., n, n)`` of the paths from ``joint[..., 0, :, :]`` along ``joint[..., 1, :, :]``."""
    shape = joint[..., 0, :, :].shape
    X, S = joint.reshape(-1, *joint.shape[-3:]).unbind(1)
    end = torch.where(torch.isfinite(X + S).all(-1).all(-1)[:, None, None], X, torch.nan)
    rows = torch.isfinite(end).all(-1).all(-1).nonzero().squeeze(-1)
    X, S = X[rows], S[rows]
    for _ in range(max_bounces):
        X, S, arrived = _fly(X, S)
        end[rows] = X
        rows, X, S = rows[~arrived], X[~arrived], S[~arrived]
        if len(rows) == 0:
            return end.reshape(shape)
    left = float(torch.linalg.matrix_norm(S).max())
    raise ConvergenceError(
        f"{len(rows)} billiard paths in the cone are not at their end after {max_bounces} bounces (length {left:.3g} "
        "left): their steps are nearly tangent to its boundary; take shorter steps",
        left,
    )


def _fly(X: Tensor, S: Tensor, iterations: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    """Fly to the end or to the boundary and reflect there: new points, what is left of the steps, who arrived."""
    t, size = X.new_ones(len(X), 1, 1), torch.linalg.matrix_norm(S, keepdim=True)
    values, vectors = torch.linalg.eigh(X + S)
    arrived = values[:, :1, None] >= 0
    for _ in range(iterations):
        value, v = values[:, :1, None], vectors[:, :, :1]
        slope = v.mT @ S @ v
        change = torch.where(arrived | (slope >= 0), 0, value / slope)
        rounding = 1e-15 * torch.maximum(values.abs().amax(-1)[:, None, None], size)
        if bool(((value.abs() <= rounding) | (change.abs() <= 1e-15 * t)).all()):
            break
        t = (t - change).clamp_min(0)
        values, vectors = torch.linalg.eigh(X + t * S)
    kick = torch.where(arrived, 0, -2 * slope.clamp_max(0)) * (v @ v.mT)
    # Points that rounding left outside, or corners where several eigenvalues vanish, would stall the next flight.
    lift = torch.where(arrived, 0, (4 * rounding - values.unsqueeze(-2)).clamp_min(0))
    return X + t * S + (vectors * lift) @ vectors.mT, (1 - t) * (S + kick), arrived.flatten()
