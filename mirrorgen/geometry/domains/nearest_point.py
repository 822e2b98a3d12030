"""Euclidean projection onto ``{A z <= b}``, batched and exact."""

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError

__all__ = ["active_sets", "nearest_point"]

_DEPENDENT = 1e-14


def nearest_point(x: Tensor, A: Tensor, b: Tensor, active: Tensor) -> Tensor:
    """Projection of ``x (..., k)`` onto the flat of the active faces, ``x - N^T (N N^T)^-1 (N x - c)``.

    Differentiable in ``x``, ``A`` and ``b``; exact derivatives of the projection wherever it has them.

    Args:
        x: Points.
        A: Unit rows ``(m, k)``.
        b: Right-hand sides ``(m,)``.
        active: Indices ``(..., k)`` of independent active rows, ``m`` for an unused place.
    """
    normals, level = _gather(A, b, active)
    gram = _factored_gram(normals, active == len(b))
    for _ in range(3):  # the first pass solves, the others refine what an ill-conditioned Gram matrix lost
        gap = normals @ x.unsqueeze(-1) - level.unsqueeze(-1)
        x = x - (normals.mT @ torch.linalg.lu_solve(*gram, gap)).squeeze(-1)
    return x


def active_sets(x: Tensor, A: Tensor, b: Tensor) -> Tensor:
    """Independent faces that hold the projection of each point, by the dual active-set method.

    Starts from the point itself and adds violated faces one at a time, most violated first, dropping a face
    when its multiplier reaches zero, so that the iterate is always the projection onto the faces held
    (Goldfarb and Idnani, "A numerically stable dual method for solving strictly convex quadratic programs",
    1983). Every point of the batch takes one step per round; points that are done leave the batch.

    Args:
        x: Points ``(..., k)``, float64, detached.
        A: Unit rows ``(m, k)`` of a set with an interior.
        b: Right-hand sides ``(m,)``.

    Returns:
        Indices ``(..., k)`` as for ``nearest_point``, in the dtype of ``x``.

    Raises:
        ConvergenceError: If the bound on rounds is reached; the residual is the largest violation left.
    """
    flat = x.reshape(-1, x.shape[-1])
    m, k = A.shape
    done = torch.full((len(flat), k), float(m), dtype=x.dtype, device=x.device)
    rows = torch.arange(len(flat), device=x.device)
    state = _State(flat, m, k)
    for _ in range(50 + 20 * (m + k)):
        finished = state.select(A, b)
        done[rows[finished]] = state.held[finished].to(x.dtype)
        rows = rows[~finished]
        if len(rows) == 0:
            return done.reshape(x.shape)
        state.keep(~finished)
        state.step(A, b)
    worst = float((state.point @ A.mT - b).max())
    raise ConvergenceError(
        f"projection of {len(rows)} points did not finish; the set may be too thin for float64", worst
    )


class _State:
    """The dual active-set iterates of a batch: points, faces held with multipliers, and the face being added."""

    def __init__(self, x: Tensor, m: int, k: int) -> None:
        self.point = x
        self.reach = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        self.held = torch.full((len(x), k), m, dtype=torch.long, device=x.device)
        self.weight = torch.zeros_like(x)
        self.entering = torch.full((len(x),), -1, dtype=torch.long, device=x.device)
        self.entering_weight = torch.zeros_like(x[:, 0])
        self.stuck = self.entering_weight > 0
        self.used = 0

    def keep(self, rows: Tensor) -> None:
        """Restrict the batch to the given rows."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[rows])

    def select(self, A: Tensor, b: Tensor) -> Tensor:
        """Choose the most violated face where none is being added; returns the mask of finished points."""
        tolerance = 32 * torch.finfo(b.dtype).eps * (b.abs() + self.reach)
        excess = self.point @ A.mT - b
        excess = torch.where(excess > tolerance, excess, 0.0)
        held = torch.zeros_like(excess[:, :1], dtype=torch.bool).expand(-1, len(b) + 1).scatter(-1, self.held, True)
        worst, face = torch.where(held[:, :-1], 0.0, excess).max(-1)
        fresh = self.entering < 0
        self.entering = torch.where(fresh, face, self.entering)
        self.entering_weight = torch.where(fresh, 0.0, self.entering_weight)
        return (fresh & (worst <= 0)) | self.stuck

    def step(self, A: Tensor, b: Tensor) -> None:
        """Move towards the face being added until it is reached or a held face has to leave."""
        normal = A[self.entering]
        # Places fill from the left; one more than were ever used in the batch is enough.
        held, weight = self.held[:, : self.used + 1], self.weight[:, : self.used + 1]
        normals, _ = _gather(A, b, held)
        unused = held == len(b)
        rates, direction = _split(normals, unused, normal)
        square = direction.square().sum(-1)
        free = square > _DEPENDENT
        excess = (normal * self.point).sum(-1) - b[self.entering]
        full = torch.where(free, excess / square, torch.inf)
        ratio = torch.where(~unused & (rates > 1e-13), weight / rates, torch.inf)
        partial, leaving = ratio.min(-1)
        length = torch.minimum(full, partial)
        # Only rounding can leave neither: the set has an interior, so its faces do not contradict each other.
        self.stuck = ~torch.isfinite(length)
        length = torch.where(self.stuck, 0.0, length).clamp_min(0.0)
        self.point = self.point - torch.where(free, length, 0.0).unsqueeze(-1) * direction
        self.weight[:, : self.used + 1] = (weight - length.unsqueeze(-1) * rates).clamp_min(0.0)
        self.entering_weight = self.entering_weight + length
        self._exchange((full <= partial) & ~self.stuck, torch.where(unused, 1, 0).argmax(-1), leaving, len(b))

    def _exchange(self, joins: Tensor, vacant: Tensor, leaving: Tensor, none: int) -> None:
        place = torch.where(joins, vacant, leaving).unsqueeze(-1)
        face = torch.where(joins, self.entering, none).unsqueeze(-1)
        weight = torch.where(joins, self.entering_weight, 0.0).unsqueeze(-1)
        changes = ~self.stuck.unsqueeze(-1)
        self.held = torch.where(changes, self.held.scatter(-1, place, face), self.held)
        self.weight = torch.where(changes, self.weight.scatter(-1, place, weight), self.weight)
        self.entering = torch.where(joins, -1, self.entering)
        self.used = max(self.used, int(torch.where(joins, vacant + 1, 0).amax()))


def _split(normals: Tensor, unused: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of ``normal`` on the held normals, and what is orthogonal to them."""
    gram = _factored_gram(normals, unused)
    rates, rest = torch.zeros_like(unused, dtype=normal.dtype), normal
    for _ in range(2):  # solve and refine
        change = torch.linalg.lu_solve(*gram, normals @ rest.unsqueeze(-1))
        rates, rest = rates + change.squeeze(-1), rest - (normals.mT @ change).squeeze(-1)
    return rates, rest


def _gather(A: Tensor, b: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([A, torch.zeros_like(A[:1])])[index], torch.cat([b, torch.zeros_like(b[:1])])[index]


def _factored_gram(normals: Tensor, unused: Tensor) -> tuple[Tensor, Tensor]:
    """LU factors of the Gram matrix of the held normals, with ones on the diagonal for unused places."""
    gram = normals @ normals.mT + torch.diag_embed(unused.to(normals.dtype))
    factors = torch.linalg.lu_factor_ex(gram)
    return factors[0], factors[1]
