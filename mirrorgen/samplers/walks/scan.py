"""Directions for coordinate-wise walks, packed into blocks that move at once."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.geometry.domains import Domain, Simplex, TransportPolytope

__all__ = ["Block", "Scan", "exchange_directions", "make_scan"]

# Speeds below this share of the largest are rounding.
_ZERO = 1e-12


@dataclass(frozen=True, eq=False)
class Block:
    """Directions no two of which move the same slack: given the rest, their chords are independent.

    Attributes:
        first: Number of the first direction.
        size: Number of directions ``q``.
        rows: Slacks that they move ``(q * p,)``, padded with the number of slacks; None if ``q = 1`` and all move.
        speed: ``(q, p, 1)``, zero for padding.
    """

    first: int
    size: int
    rows: Tensor | None
    speed: Tensor


@dataclass(frozen=True, eq=False)
class Scan:
    """An order of directions and its blocks.

    Attributes:
        order: Numbers of the directions as passed, ``(n,)``.
        directions: ``(n, k)`` in that order.
        blocks: Which ones move at once.
    """

    order: Tensor
    directions: Tensor
    blocks: tuple[Block, ...]


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
    blocks, first = [], 0
    for group in groups:
        blocks.append(_block(first, group, speed, moves))
        first += len(group)
    return Scan(order, directions[order], tuple(blocks))


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


def _block(first: int, group: list[int], speed: Tensor, moves: Tensor) -> Block:
    q, m = len(group), speed.shape[1]
    if q == 1 and bool(moves[group[0]].all()):
        return Block(first, 1, None, speed[group[0]].reshape(1, m, 1))
    p = int(moves[group].sum(1).amax())
    rows, values = torch.full((q, p), m, device=speed.device), speed.new_zeros(q, p)
    for j, i in enumerate(group):
        hit = moves[i].nonzero().flatten()
        rows[j, : len(hit)], values[j, : len(hit)] = hit, speed[i, hit]
    return Block(first, q, rows.flatten(), values.unsqueeze(-1))


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
