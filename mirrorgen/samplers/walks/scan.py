"""Directions for coordinate-wise walks, packed into blocks that move at once."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.geometry.domains import Domain, Simplex, TransportPolytope

__all__ = ["Block", "Scan", "exchange_directions", "make_scan"]

# Speeds below this share of the largest are rounding.
_ZERO = 1e-12
# Blocks that move a smaller share of the slacks leave the others where they are.
_FEW = 0.3


@dataclass(frozen=True, eq=False)
class Block:
    """Directions no two of which move the same slack: given the rest, their chords are independent.

    Attributes:
        first: Number of the first direction.
        size: Number of directions ``q``.
        rows: Where the table of slacks has those that the block moves, ``(q * p,)``, followed by the others if
            ``reorders``; None if the table starts with them.
        speed: ``(q, p, 1)``, zero for rows of padding.
        reorders: Whether the table is rearranged so that it starts with the slacks that the block moves. For blocks
            that move most slacks one gather is cheaper than reading and writing them where they are.
    """

    first: int
    size: int
    rows: Tensor | None
    speed: Tensor
    reorders: bool

    def take(self, table: Tensor) -> tuple[Tensor, Tensor]:
        """The table ``(rows, chains)``, rearranged, and the slacks ``(q, p, chains)`` that the block moves."""
        if self.reorders and self.rows is not None:
            table = table.index_select(0, self.rows)
        count = self.speed.shape[0] * self.speed.shape[1]
        part = table[:count] if self.reorders or self.rows is None else table.index_select(0, self.rows)
        return table, part.unflatten(0, (self.size, -1))

    def move(self, table: Tensor, part: Tensor, t: Tensor) -> Tensor:
        """The table after steps ``t (q, chains)``. In place: a step owns its table, copies would cost more."""
        part.addcmul_(t.unsqueeze(1), self.speed.to(t), value=-1).clamp_min_(torch.finfo(t.dtype).tiny)
        if not self.reorders and self.rows is not None:
            table.index_copy_(0, self.rows, part.flatten(0, 1))
        return table


@dataclass(frozen=True, eq=False)
class Scan:
    """An order of directions and its blocks.

    Attributes:
        order: Numbers of the directions as passed, ``(n,)``.
        directions: ``(n, k)`` in that order.
        blocks: Which ones move at once.
        padding: Rows to append to the slacks for blocks whose directions move different numbers of them.
        layout: Which slack is where in the table after a sweep.
    """

    order: Tensor
    directions: Tensor
    blocks: tuple[Block, ...]
    padding: int
    layout: tuple[int, ...]

    def recover(self, rows: Tensor) -> Tensor:
        """``R`` with ``w = (1 - table)^T R`` for the table after a sweep, if ``rows (m, k)`` span, ``(rows, k)``."""
        inverse = torch.linalg.pinv(rows).mT
        return torch.cat([inverse, inverse.new_zeros(self.padding, rows.shape[1])])[list(self.layout)]

    def table(self, slack: Tensor) -> Tensor:
        """A fresh table for a sweep from slacks ``(m, chains)``."""
        return torch.cat([slack, slack.new_ones(self.padding, slack.shape[1])])


def make_scan(directions: Tensor, rows: Tensor, coupling: Tensor | None = None) -> Scan:
    """Pack ``directions (n, k)`` of the set ``{rows @ w < 1}`` greedily into blocks.

    Args:
        directions: One per row.
        rows: ``(m, k)``.
        coupling: Bool ``(n, n)``, pairs that may not share a block for another reason.
    """
    speed = directions @ rows.mT
    moves = speed.abs() > _ZERO * speed.abs().amax(-1, keepdim=True)
    shared = moves.double()
    conflict = (shared @ shared.mT > 0) if coupling is None else (shared @ shared.mT > 0) | coupling
    groups = _color(conflict)
    order = torch.tensor([i for group in groups for i in group], device=rows.device)
    counts = [[int(moves[i].sum()) for i in group] for group in groups]
    padding = max(len(c) * max(c) - sum(c) for c in counts)
    blocks, first, layout = [], 0, list(range(len(rows) + padding))
    for group in groups:
        block, layout = _block(first, group, speed, moves, layout)
        blocks.append(block)
        first += len(group)
    return Scan(order, directions[order], tuple(blocks), padding, tuple(layout))


def _color(conflict: Tensor) -> list[list[int]]:
    """Directions in order, each into the first block with which it has no conflict."""
    groups: list[list[int]] = []
    blocked: list[Tensor] = []
    for i in range(len(conflict)):
        g = next((g for g, taken in enumerate(blocked) if not bool(taken[i])), len(groups))
        if g == len(groups):
            groups.append([])
            blocked.append(torch.zeros_like(conflict[0]))
        groups[g].append(i)
        blocked[g] = blocked[g] | conflict[i]
    return groups


def _block(first: int, group: list[int], speed: Tensor, moves: Tensor, layout: list[int]) -> tuple[Block, list[int]]:
    """A block, given which slack is where in the table, and where they are after it."""
    q, m = len(group), speed.shape[1]
    p = int(moves[group].sum(1).amax())
    spare = iter(range(m, len(layout)))
    wanted, values = [], speed.new_zeros(q, p, 1)
    for j, i in enumerate(group):
        hit = moves[i].nonzero().flatten().tolist()
        wanted += hit + [next(spare) for _ in range(p - len(hit))]
        values[j, : len(hit), 0] = speed[i, hit]
    place = {row: position for position, row in enumerate(layout)}
    if wanted == layout[: len(wanted)]:
        return Block(first, q, None, values, True), layout
    if len(wanted) < _FEW * len(layout):
        return Block(first, q, torch.tensor([place[row] for row in wanted]).to(speed.device), values, False), layout
    chosen = set(wanted)
    layout = wanted + [row for row in layout if row not in chosen]
    return Block(first, q, torch.tensor([place[row] for row in layout]).to(speed.device), values, True), layout


def exchange_directions(domain: Domain) -> Tensor | None:
    """Directions in the chart ``(n, dual_dim)`` along which few coordinates change, for sets with equalities.

    On a simplex ``e_i - e_j``: two coordinates trade. On a transport polytope ``e_ij + e_kl - e_il - e_kj``: four
    entries trade, all sums stay. Ordered as tournaments, so that ``make_scan`` finds full blocks. None for other sets.
    """
    if isinstance(domain, Simplex):
        moves = torch.zeros(domain.dim * (domain.dim - 1) // 2, domain.dim, dtype=torch.float64)
        for n, (i, j) in enumerate(_tournament(domain.dim)):
            moves[n, i], moves[n, j] = 1.0, -1.0
    elif isinstance(domain, TransportPolytope):
        p, q = len(domain.r), len(domain.c)
        pairs = list(itertools.product(_tournament(p), _tournament(q)))
        swap = torch.zeros(len(pairs), p, q, dtype=torch.float64)
        for n, ((i, k), (j, h)) in enumerate(pairs):
            swap[n, i, j] = swap[n, k, h] = 1.0
            swap[n, i, h] = swap[n, k, j] = -1.0
        moves = swap.flatten(1)
    else:
        return None
    origin = domain.interior_point()
    return domain.to_chart(origin + moves.to(origin)) - domain.to_chart(origin)


def _tournament(n: int) -> list[tuple[int, int]]:
    """All pairs of ``n`` players, round by round; in a round nobody plays twice (the circle method)."""
    players = list(range(n + n % 2))
    pairs = []
    for _ in range(len(players) - 1):
        half = len(players) // 2
        for i, j in zip(players[:half], players[: half - 1 : -1], strict=True):
            if max(i, j) < n:
                pairs.append((i, j))
        players = [players[0], players[-1], *players[1:-1]]
    return pairs
