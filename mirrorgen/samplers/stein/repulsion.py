"""Sums ``R_m = sum_l w_ml H_l^-1 (z_m - z_l)`` of all particles as matrix products, without ``n x n x d`` numbers.

With ``a_l = H_l^-1 z_l`` the sum is ``[sum_l w_ml H_l^-1] z_m - (w a)_m``; what is left is to average inverse Hessians,
which their structure makes cheap. Leading axes count independent sets. Rows come in blocks, so that weights of a block
of ``c`` particles, ``(sets, c, n)``, are the largest tensors.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from mirrorgen.geometry.hessian import (
    BlockHessian,
    DiagonalHessian,
    HessianOperator,
    RankOneHessian,
    TangentDiagonalHessian,
)
from mirrorgen.geometry.mirror_maps import MirrorMap, SimplexEntropy
from mirrorgen.geometry.mirror_maps.local import LocalGeometry
from mirrorgen.geometry.mirror_maps.slack_hessian import UpcastHessian
from mirrorgen.geometry.simplex_chart import from_helmert, to_helmert

__all__ = ["Repulsion", "UniformRepulsion", "mirror_repulsion", "repulsion"]


class Repulsion(ABC):
    """The sums for particles ``z (sets, n, d)``, centred for accuracy (only differences matter)."""

    @abstractmethod
    def rows(self, rows: slice, weights: Tensor, products: Tensor) -> Tensor:
        """``R`` of the particles ``rows``, ``(sets, c, d)``.

        Args:
            rows: Which ``c`` particles.
            weights: ``w (sets, c, n)``.
            products: Their inner products ``z_m . z_l (sets, c, n)``.
        """


class UniformRepulsion(Repulsion):
    """``H = I``: Stein variational gradient descent in the space of ``z``; 2 n^2 d operations."""

    def __init__(self, z: Tensor) -> None:
        self.z = z

    def rows(self, rows: slice, weights: Tensor, products: Tensor) -> Tensor:
        return weights.sum(-1, keepdim=True) * self.z[..., rows, :] - weights @ self.z


class DiagonalRepulsion(Repulsion):
    """``H^-1 = diag(r)``, ``r (sets, n, d)``: one product, 4 n^2 d operations."""

    def __init__(self, z: Tensor, r: Tensor, a: Tensor | None = None) -> None:
        self.z, self.both = z, torch.cat([r, r * z if a is None else a], -1)

    def rows(self, rows: slice, weights: Tensor, products: Tensor) -> Tensor:
        mean, attraction = (weights @ self.both).chunk(2, -1)
        return mean * self.z[..., rows, :] - attraction


class RankOneRepulsion(DiagonalRepulsion):
    """``H^-1 = diag(r) - g u u^T``, with ``u (sets, n, d)`` and ``g (sets, n)``: 8 n^2 d operations."""

    def __init__(self, z: Tensor, r: Tensor, u: Tensor, g: Tensor) -> None:
        self.u, self.weighted = u, g.unsqueeze(-1) * u
        super().__init__(z, r, r * z - (u * z).sum(-1, keepdim=True) * self.weighted)

    def rows(self, rows: slice, weights: Tensor, products: Tensor) -> Tensor:
        along = self.z[..., rows, :] @ self.u.mT
        return super().rows(rows, weights, products) - (weights * along) @ self.weighted


class EntropicRepulsion(DiagonalRepulsion):
    """``H^-1 = diag(x) - x x^T`` with ``x = z + center``: ``z_m . x_l`` is known, 6 n^2 d operations."""

    def __init__(self, z: Tensor, x: Tensor) -> None:
        self.x, self.center = x, (x - z)[..., :1, :]
        super().__init__(z, x, x * (z - (x * z).sum(-1, keepdim=True)))

    def rows(self, rows: slice, weights: Tensor, products: Tensor) -> Tensor:
        z = self.z[..., rows, :]
        mean, attraction = (weights @ self.both).chunk(2, -1)
        offset = (z * self.center).sum(-1, keepdim=True)
        return mean * (z - offset) - attraction - (weights * products) @ self.x


class DenseRepulsion(Repulsion):
    """Any ``H``: averages dense inverses ``(sets, n, d, d)``, 2 n^2 d^2 operations and n d^2 numbers."""

    def __init__(self, z: Tensor, inverse: Tensor) -> None:
        self.z, self.inverse = z, inverse.flatten(-2)
        self.a = (inverse @ z.unsqueeze(-1)).squeeze(-1)

    def rows(self, rows: slice, weights: Tensor, products: Tensor) -> Tensor:
        d = self.z.shape[-1]
        mean = (weights @ self.inverse).unflatten(-1, (d, d))
        return (mean @ self.z[..., rows, :].unsqueeze(-1)).squeeze(-1) - weights @ self.a


class TangentRepulsion(Repulsion):
    """A sum in the ``K`` coordinates of a simplex, for particles in its isometric chart."""

    def __init__(self, inner: Repulsion) -> None:
        self.inner = inner

    def rows(self, rows: slice, weights: Tensor, products: Tensor) -> Tensor:
        # The chart is an isometry: inner products are the same.
        return to_helmert(self.inner.rows(rows, weights, products))


class BlockRepulsion(Repulsion):
    """Independent blocks of coordinates under common weights."""

    def __init__(self, z: Tensor, blocks: Sequence[HessianOperator], sizes: Sequence[int]) -> None:
        self.parts = z.split(list(sizes), -1)
        self.blocks = [repulsion(part, block) for part, block in zip(self.parts, blocks, strict=True)]

    def rows(self, rows: slice, weights: Tensor, products: Tensor) -> Tensor:
        pairs = zip(self.blocks, self.parts, strict=True)
        return torch.cat([b.rows(rows, weights, z[..., rows, :] @ z.mT) for b, z in pairs], -1)


def dense_inverse(hessian: HessianOperator, z: Tensor) -> Tensor:
    """``H^-1 (..., d, d)`` column by column, which keeps the accuracy of the operator's own solve."""
    columns = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    return torch.stack([hessian.solve(e.expand_as(z)) for e in columns], -1)


def repulsion(z: Tensor, hessian: HessianOperator) -> Repulsion:
    """The cheapest form for centred particles ``z (sets, n, d)`` and Hessians of batch shape ``(sets, n)``."""
    if isinstance(hessian, UpcastHessian) and not isinstance(hessian.operator, DiagonalHessian | RankOneHessian):
        return DenseRepulsion(z, dense_inverse(hessian, z))
    if isinstance(hessian, UpcastHessian):
        hessian = hessian.operator
    if isinstance(hessian, DiagonalHessian):
        return DiagonalRepulsion(z, hessian.diagonal.reciprocal().to(z))
    if isinstance(hessian, RankOneHessian):
        r = hessian.diagonal.reciprocal()
        u = r * hessian.vector
        g = hessian.weight / (1 + hessian.weight * (u * hessian.vector).sum(-1))
        return RankOneRepulsion(z, r.to(z), u.to(z), g.to(z))
    if isinstance(hessian, TangentDiagonalHessian):
        r = hessian.diagonal.reciprocal()
        return TangentRepulsion(RankOneRepulsion(from_helmert(z), r, r, r.sum(-1).reciprocal()))
    if isinstance(hessian, BlockHessian):
        return BlockRepulsion(z, hessian.blocks, hessian.sizes)
    return DenseRepulsion(z, dense_inverse(hessian, z))


def mirror_repulsion(mirror_map: MirrorMap, local: LocalGeometry, z: Tensor) -> Repulsion:
    """``repulsion`` under the Hessian of a map at ``local``; entropic simplices need no quotients."""
    if isinstance(mirror_map, SimplexEntropy):
        if mirror_map.chart == "alr":
            return EntropicRepulsion(z, local.x[..., :-1])
        return TangentRepulsion(EntropicRepulsion(from_helmert(z), local.x))
    return repulsion(z, local.hessian)
