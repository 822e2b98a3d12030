"""Damping of the components of vectors that are normal to nearby walls: the shared part of ``Domain.no_flux``."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.validation import should_check

__all__ = ["damp_normals", "scale_column"]

# tanh(64) is 1 and 1 - tanh(64) = 5e-56 is a normal number in float64; farther faces count as this far.
_FAR = 64.0


def scale_column(scale: Tensor | float, x: Tensor, v: Tensor) -> Tensor | float:
    """The scale of ``Domain.no_flux`` in the shape in which it meets coordinates: a number, or ``(*batch, 1)``.

    Raises:
        DomainError: If a scale is not positive and finite (values are read in eager mode only).
        ShapeError: If it is a tensor whose shape does not broadcast to the batch of ``x`` and ``v``.
    """
    if not isinstance(scale, Tensor):
        if not 0 < scale < math.inf:
            raise DomainError(f"no_flux needs 0 < scale < inf, a length in the units of x; got {scale!r}")
        return float(scale)
    if should_check(scale) and not bool(((scale > 0) & torch.isfinite(scale)).all()):
        worst = f"between {float(scale.min()):g} and {float(scale.max()):g}"
        raise DomainError(f"no_flux needs 0 < scale < inf, a length in the units of x; got values {worst}")
    batch = torch.broadcast_shapes(x.shape[:-1], v.shape[:-1])
    fits = len(scale.shape) <= len(batch)
    for have, want in zip(reversed(scale.shape), reversed(batch), strict=False):
        fits = fits and have in (1, want)
    if not fits:
        raise ShapeError(
            f"scale must be a number or have the batch shape {tuple(batch)} of the points, without an axis for "
            f"coordinates; got {tuple(scale.shape)}"
        )
    return scale.to(v).unsqueeze(-1)


def damp_normals(z: Tensor, v: Tensor, A: Tensor, b: Tensor, scale: Tensor | float) -> Tensor:
    """``argmin_u |u - v|^2 + sum_i (1 / f_i - 1) (a_i . u)^2`` with ``f_i = tanh((b_i - a_i . z) / scale)``.

    With ``g = 1 - f`` and ``B = diag(g)^(1/2) A`` the minimiser is ``v - B^T s``, ``(diag(f) + B B^T) s = B v``:
    nothing in it overflows at a face. ``s`` comes from three steps of iterative refinement with a factorised
    neighbour of that matrix, of which the first is detached and two are replayed, so that derivatives are exact
    to second order and do not pass through the factorisation. Distances below zero count as zero.

    Costs one Cholesky factor and three solves per point, with ``m`` faces in ``k`` dimensions
    ``O(n^3 + m k n)``, ``n = min(m, k)``.

    Args:
        z: Points ``(..., k)``.
        v: Vectors ``(..., k)``.
        A: Unit normals ``(m, k)``.
        b: Offsets ``(m,)``.
        scale: A number or ``(..., 1)``.

    Returns:
        The damped vectors ``(..., k)``.
    """
    t = torch.clamp((b - z @ A.mT) / scale, 0.0, _FAR)
    f = torch.tanh(t)
    # sqrt(1 - tanh t), whose derivative is finite where it underflows.
    root = math.sqrt(2.0) * torch.exp(0.5 * torch.nn.functional.logsigmoid(-2.0 * t))
    solve = _neighbour(f.detach(), root.detach(), A.detach())
    s = solve(root * (v @ A.mT)).detach()
    for _ in range(2):
        u = v - (root * s) @ A
        s = s + solve(root * (u @ A.mT) - f * s)
    return v - (root * s) @ A


def _neighbour(f: Tensor, root: Tensor, A: Tensor) -> Callable[[Tensor], Tensor]:
    """``r -> (diag(f + shift) + B B^T)^-1 r`` with ``B = diag(root) A``, by a factor of the smaller size.

    The shift makes the factorisation safe where more faces than dimensions meet. One step of refinement leaves an
    error of ``shift / sigma^2``, ``sigma`` the smallest singular value of the normals of the faces at hand, plus
    the rounding error ``eps / shift`` of Woodbury's form; the power of eps keeps both near 1e-6 in float64.
    """
    m, k = A.shape
    soft = f + torch.finfo(A.dtype).eps ** 0.625
    if m <= k:
        gram = root.unsqueeze(-1) * (A @ A.mT) * root.unsqueeze(-2)
        factor = torch.linalg.cholesky_ex(gram + torch.diag_embed(soft))[0]
        return lambda r: _cholesky_solve(factor, r)
    # One product with the m outer squares of the normals: no matrix of size m k per point.
    squares = (A.unsqueeze(-1) * A.unsqueeze(-2)).flatten(1)
    inner = ((root.square() / soft) @ squares).unflatten(-1, (k, k))
    factor = torch.linalg.cholesky_ex(inner + torch.eye(k, dtype=A.dtype, device=A.device))[0]

    def woodbury(r: Tensor) -> Tensor:
        return (r - root * (_cholesky_solve(factor, (root * r / soft) @ A) @ A.mT)) / soft

    return woodbury


def _cholesky_solve(factor: Tensor, r: Tensor) -> Tensor:
    return torch.cholesky_solve(r.unsqueeze(-1), factor).squeeze(-1)
