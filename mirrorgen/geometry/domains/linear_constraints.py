"""Rows of linear inequalities and equalities: scaling, and the orthonormal chart of the equalities."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains.base import as_buffer

__all__ = ["affine_chart", "as_rows", "chart_rows", "unit_rows"]

_ONE_ULPS = 8 * torch.finfo(torch.float64).eps
_FLAT = 1e-12


def as_rows(matrix: Tensor | list, vector: Tensor | list, names: tuple[str, str]) -> tuple[Tensor, Tensor]:
    """``matrix (m, dim)`` and ``vector (m,)`` in float64, attached to the graph of what was passed.

    Raises:
        ShapeError: If the shapes do not belong together.
        DomainError: If an entry is NaN or infinite.
    """
    rows = as_buffer(matrix)
    values = torch.atleast_1d(as_buffer(vector)).to(rows.device)
    if rows.ndim != 2 or rows.shape[1] == 0 or values.shape != rows.shape[:1]:
        raise ShapeError(
            f"{names[0]} must have shape (m, dim) and {names[1]} shape (m,), "
            f"got {tuple(rows.shape)} and {tuple(values.shape)}"
        )
    finite = torch.isfinite(rows.detach()).all(-1) & torch.isfinite(values.detach())
    if not bool(finite.all()):
        i = int((~finite).nonzero()[0])
        raise DomainError(f"row {i} of {names[0]}, {names[1]} is not finite; drop rows that constrain nothing")
    return rows, values


def unit_rows(rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Divide nonzero rows by their length; a row already of unit length up to rounding keeps its digits.

    Returns:
        Rows and values without the zero rows, and the indices ``(k,)`` of the rows kept.
    """
    peak = rows.detach().abs().amax(-1)
    kept = peak.nonzero().flatten()
    rows, values, peak = rows[kept], values[kept], peak[kept]
    # Scaled by the largest entry first: squares of very small or large entries leave the float range.
    length = peak * torch.linalg.vector_norm(rows / peak.unsqueeze(-1), dim=-1)
    # Where the length is one up to rounding, dividing by exactly one makes the operation idempotent; the
    # quotient of the length by itself keeps its derivative.
    near_one = (length.detach() - 1).abs() <= _ONE_ULPS
    length = torch.where(near_one, length / length.detach(), length)
    return rows / length.unsqueeze(-1), values / length, kept


def affine_chart(rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal chart ``x = offset + basis z`` of ``{x : rows x = values}``.

    Args:
        rows: Unit rows ``(e, dim)``, at least one; redundant ones are allowed.
        values: Right-hand sides ``(e,)``.

    Returns:
        ``basis (dim, k)`` with orthonormal columns and ``offset (dim,)``, the solution of least norm.

    Raises:
        DomainError: If the equalities contradict each other or leave a single point.
    """
    dim = rows.shape[1]
    u, s, vh = torch.linalg.svd(rows, full_matrices=True)
    rank = int((s > s.max() * max(rows.shape) * 1e-14).sum())
    offset = vh[:rank].mT @ ((u.mT @ values)[:rank] / s[:rank])
    residual = (rows @ offset - values).abs()
    if bool(residual.max() > 1e-9 * values.abs().max()):
        i = int(residual.argmax())
        raise DomainError(
            f"the equalities contradict each other: row {i} of A_eq, b_eq is off by {float(residual[i]):.3g} "
            f"(unit rows) at the least-squares solution; {len(values)} rows have rank {rank}, "
            "remove or correct the contradicting ones"
        )
    if rank == dim:
        raise DomainError(
            f"the equalities leave a single point: their rank is {rank} in {dim} dimensions; "
            "keep fewer independent rows of A_eq, b_eq"
        )
    return vh[rank:].mT.contiguous(), offset


def chart_rows(rows: Tensor, values: Tensor, basis: Tensor, offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Inequalities in the chart, unit rows; rows that the equalities make constant are left out.

    Returns:
        Rows ``(m', k)``, values ``(m',)`` and the indices of the rows kept.

    Raises:
        DomainError: If a row is constant on the affine hull and violated there.
    """
    flat = rows @ basis
    rest = values - rows @ offset
    constant = torch.linalg.vector_norm(flat.detach(), dim=-1) <= _FLAT
    rounding = _FLAT * (values.abs() + (rows.abs() @ offset.abs())).detach()
    bad = (constant & (rest.detach() <= rounding)).nonzero().flatten()
    if len(bad):
        i = int(bad[0])
        raise DomainError(
            f"empty interior: on the equalities the inequality {i} is constant and reads 0 < {float(rest[i]):.3g}; "
            "relax or remove it"
        )
    kept = (~constant).nonzero().flatten()
    flat, rest, _ = unit_rows(flat[kept], rest[kept])
    return flat, rest, kept
