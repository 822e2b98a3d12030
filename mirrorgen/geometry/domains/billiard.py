"""Specular paths in sets that are described face by face."""

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError
from mirrorgen.geometry.detached import detached_solve
from mirrorgen.numerics import upcast

__all__ = ["billiard"]

# Most bounces between two checks: slacks are updated incrementally and recomputed from the position there.
_ROUND = 32
# Above this many faces a table of all inner products of normals costs more than it saves.
_TABLE = 2048


def billiard(z: Tensor, step: Tensor, A: Tensor, b: Tensor, *, max_bounces: int = 400_000) -> Tensor:
    """End point of the billiard path from ``z`` along ``step`` in ``{A z < b}``, exact for any length.

    The point flies at unit speed to the nearest face, ``t_i = (b - A z)_i / (A u)_i``, its heading is
    reflected, ``u <- u - 2 (a_i . u) a_i``, and so on until the path has length ``|step|``. At a corner the
    faces are taken one after the other. A path in a polyhedron is made of isometries, so rounding does not
    grow exponentially: the error stays below about eps times length times number of bounces. Rows that have
    arrived drop out of the loop. The path is not differentiated; it vmaps, but the loop reads values and does
    not compile.

    Args:
        z: Interior points ``(..., d)``.
        step: Displacements ``(..., d)``, broadcast against ``z``; infinite or NaN ones give NaN.
        A: Unit outward normals ``(m, d)``; redundant rows are allowed.
        b: Offsets ``(m,)``.
        max_bounces: Bound on the bounces of one path.

    Returns:
        End points ``(..., d)`` in float64, in the closure up to rounding.

    Raises:
        ConvergenceError: If a path needs more than ``max_bounces``; the residual is the length left.
    """
    A, b = upcast(A).detach(), upcast(b).detach()
    joint = torch.cat(torch.broadcast_tensors(upcast(z), upcast(step)), -1)
    return detached_solve(lambda rows: _all_paths(rows, A, b, max_bounces), joint)


def _all_paths(joint: Tensor, A: Tensor, b: Tensor, max_bounces: int) -> Tensor:
    start, path = joint.chunk(2, -1)
    if len(A) == 0:
        return start + path
    position, path = (v.reshape(-1, v.shape[-1]) for v in (start, path))
    length = torch.linalg.vector_norm(path, dim=-1, keepdim=True)
    end = torch.where(torch.isfinite(length), position, torch.nan)
    rows = ((length > 0) & torch.isfinite(length)).squeeze(-1).nonzero().squeeze(-1)
    state = (position[rows], (path / length)[rows], length[rows])
    table = A @ A.mT if len(A) <= _TABLE else None
    done, bounces = 0, 1
    while len(rows) > 0 and done < max_bounces:
        # Short rounds first: most paths of most callers end before their first or second bounce.
        state = _follow(*state, A, b, table, bounces)
        done += bounces
        bounces = min(2 * bounces, _ROUND, max_bounces - done)
        end[rows] = state[0]
        moving = (state[2] > 0).squeeze(-1)
        rows = rows[moving]
        state = (state[0][moving], state[1][moving], state[2][moving])
    if len(rows) == 0:
        return end.reshape(start.shape)
    left = float(state[2].max())
    raise ConvergenceError(
        f"{len(rows)} billiard paths are not at their end after {max_bounces} bounces (length {left:.3g} "
        "left); take shorter steps, the set is thin compared with them",
        left,
    )


def _follow(
    position: Tensor, heading: Tensor, remaining: Tensor, A: Tensor, b: Tensor, table: Tensor | None, bounces: int
) -> tuple[Tensor, Tensor, Tensor]:
    """At most ``bounces`` bounces of every row; rows that arrive stay where they are."""
    heading = heading / torch.linalg.vector_norm(heading, dim=-1, keepdim=True)
    # A floor far below rounding instead of zero: a face being left has a negative speed and never counts,
    # one being touched is hit at once, and no division by zero arises.
    floor = torch.finfo(A.dtype).tiny
    slack = (b - position @ A.mT).clamp_min(floor)
    speed = heading @ A.mT
    for _ in range(bounces):
        rate, face = (speed / slack).max(-1, keepdim=True)
        arrives = rate * remaining <= 1
        travel = torch.where(arrives, remaining, 1 / rate)
        position = torch.addcmul(position, travel, heading)
        slack = torch.addcmul(slack, travel, speed, value=-1).clamp_min_(floor)
        remaining = (remaining - travel).clamp_min_(0)
        kick = torch.where(arrives, 0, -2 * speed.gather(-1, face))
        normal = A[face.squeeze(-1)]
        heading = torch.addcmul(heading, kick, normal)
        speed = torch.addcmul(speed, kick, normal @ A.mT if table is None else table[face.squeeze(-1)])
    return position, heading, remaining
