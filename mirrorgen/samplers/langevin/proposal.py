"""What the kernels that move in the metric of a Hessian share: the matrix, its cached factor and Metropolis' ratio."""

from collections.abc import Callable

import torch
from torch import Tensor

from mirrorgen.geometry.domains import Ball, Domain, Orthant
from mirrorgen.geometry.hessian import BlockHessian, DenseHessian, HessianOperator
from mirrorgen.geometry.mirror_maps.ball_log_barrier import BallLogBarrier
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.mirror_maps.burg_entropy import BurgEntropy
from mirrorgen.geometry.mirror_maps.log_barrier import LogBarrier
from mirrorgen.geometry.mirror_maps.slack_hessian import SlackHessian, UpcastHessian
from mirrorgen.numerics import upcast
from mirrorgen.samplers.density import LogDensity, value_and_score

__all__ = ["barrier_of", "factored", "gaussian_log_ratio", "restored", "value_and_gradient"]


def gaussian_log_ratio(
    gain: Tensor, log_det_drop: Tensor, noise: Tensor, back: Tensor, step_size: float | Tensor
) -> Tensor:
    """Metropolis' log ratio of a Gaussian proposal ``w' ~ N(m(w), 2h C(w))`` whose covariance depends on the point.

    ``log p(w') - log p(w) + (log det C(w) - log det C(w')) / 2 + |xi|^2 / 2 - |w - m(w')|^2_{C(w')^-1} / (4h)``.
    In the dual, ``C = H`` and ``p`` is the law of ``y``, with a log-determinant of its own: the factor 3/2 of MAMLA.
    In the primal, ``C = G^-1`` and ``p`` is the target.

    Args:
        gain: ``log p(w') - log p(w)`` in the coordinates of the proposal, ``(chains,)``.
        log_det_drop: ``log det C(w) - log det C(w')``, ``(chains,)``.
        noise: The standard normal numbers ``xi (chains, d)`` that made the proposal.
        back: ``|w - m(w')|^2`` in the metric ``C(w')^-1``, ``(chains,)``.
        step_size: ``h``.
    """
    return gain + 0.5 * log_det_drop + 0.5 * noise.square().sum(-1) - back / (4 * step_size)


def value_and_gradient(log_density: LogDensity, mirror_map: MirrorMap, x: Tensor, drift: bool) -> tuple[Tensor, Tensor]:
    """``log_density(x)`` and its gradient in the coordinates of the map, zero for kernels without drift.

    The value is NaN where the point is: a constant density would not notice a map that has failed.
    """
    if drift:
        value, score = value_and_score(log_density, x)
        gradient = mirror_map.pull_back(score)
    else:
        value, gradient = log_density(x), x.new_zeros(len(x), mirror_map.domain.dual_dim)
    return torch.where(torch.isfinite(x).all(-1), value, torch.nan), gradient


def barrier_of(source: MirrorMap | Domain) -> MirrorMap:
    """A map as it is, and the logarithmic barrier of a domain."""
    if isinstance(source, MirrorMap):
        return source
    if isinstance(source, Ball):
        return BallLogBarrier(source)
    return BurgEntropy(source) if isinstance(source, Orthant) else LogBarrier(source)


def factored(hessian: HessianOperator, dtype: torch.dtype) -> tuple[HessianOperator, Tensor | None]:
    """A Hessian ready for use, with the Cholesky factor ``(chains, d, d)`` that its point should keep.

    Structured operators cost O(d) to set up again: they need no factor. The matrix of a proposal need not be the
    Hessian to the last bit, it only has to be the same in both directions; Cholesky's factor is good enough and
    costs a fraction of one that keeps every digit in any corner.
    """
    if not _is_dense(hessian):
        return hessian, None
    inner = hessian.operator if isinstance(hessian, UpcastHessian) else hessian
    dense = DenseHessian(upcast(inner.dense()))
    return UpcastHessian(dense, dtype), dense.factor


def restored(factor: Tensor | None, build: Callable[[], HessianOperator], dtype: torch.dtype) -> HessianOperator:
    """The Hessian of a point that kept ``factor``; by ``build`` where it kept none."""
    if factor is None:
        return build()
    return UpcastHessian(DenseHessian(factor @ factor.mT, factor), dtype)


def _is_dense(hessian: HessianOperator) -> bool:
    if isinstance(hessian, UpcastHessian):
        return _is_dense(hessian.operator)
    if isinstance(hessian, BlockHessian):
        return any(_is_dense(block) for block in hessian.blocks)
    return isinstance(hessian, DenseHessian | SlackHessian)
