"""The histories of a compiled game as tables: draws of plays and of beliefs, many at once."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mirrorgen.numerics import inverse_cdf
from mirrorgen.policy.games.rules import TERMINAL, NodeRecord

__all__ = ["Histories"]


class Histories(nn.Module):
    """Histories, numbered level by level; made by ``ExtensiveGame``.

    Buffers: ``row`` (histories): the infoset, one past the last if no player moves; ``child`` (histories, moves), a
    history itself where there is no such move; ``chance`` (histories, moves): probabilities of chance's moves, zero
    elsewhere; ``payoff`` (histories); ``reach`` (histories): the probability of chance's moves up to there;
    ``sequences`` (histories, 2): the players' last moves. ``order`` lists those where a player moves by infoset, which
    begin at ``starts``.
    """

    row: Tensor
    child: Tensor
    chance: Tensor
    payoff: Tensor
    reach: Tensor
    sequences: Tensor
    order: Tensor
    starts: Tensor

    def __init__(
        self, nodes: list[NodeRecord], place: dict[int, int], sequence: Callable[[tuple[int, int] | None, int], int]
    ) -> None:
        super().__init__()
        width = max(len(n.children) for n in nodes)
        child = [[*n.children, *[i] * (width - len(n.children))] for i, n in enumerate(nodes)]
        chance = [[*n.chances, *[0.0] * (width - len(n.chances))] for n in nodes]
        row = torch.tensor([place.get(n.infoset, len(place)) for n in nodes])
        self.register_buffer("row", row)
        self.register_buffer("child", torch.tensor(child))
        self.register_buffer("chance", torch.tensor(chance, dtype=torch.float64))
        self.register_buffer("payoff", torch.tensor([n.payoff for n in nodes], dtype=torch.float64))
        self.register_buffer("reach", torch.tensor([n.chance for n in nodes], dtype=torch.float64))
        pairs = [[sequence(move, player) for player, move in enumerate(n.sequences)] for n in nodes]
        self.register_buffer("sequences", torch.tensor(pairs))
        self.register_buffer("order", row.argsort(stable=True)[: int((row < len(place)).sum())])
        self.register_buffer("starts", torch.searchsorted(row[self.order], torch.arange(len(place) + 1)))
        self.depth = _depth(nodes)

    def cumulative(self, log_policy: Tensor) -> Tensor:
        """Sums of the probabilities of the moves at every history ``(histories, moves)``, of chance or the policy."""
        policy = torch.zeros(len(log_policy) + 1, self.child.shape[1], dtype=log_policy.dtype, device=log_policy.device)
        policy[:-1, : log_policy.shape[1]] = log_policy.exp()
        return (policy[self.row] + self.chance).cumsum(-1)

    def play(self, start: Tensor, log_policy: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Ends of plays from the histories ``start`` (any shape) under ``log_policy`` and chance, one draw each."""
        cumulative, node = self.cumulative(log_policy), start
        for _ in range(self.depth):
            noise = torch.rand(node.shape, generator=generator, dtype=cumulative.dtype, device=cumulative.device)
            move = inverse_cdf(cumulative[node], noise)
            node = self.child[node].gather(-1, move.unsqueeze(-1)).squeeze(-1)
        return node

    def beliefs(
        self, infosets: Tensor, owner: Tensor, plan: Tensor, num: int, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws ``(infosets, num)`` of histories given that play is at an infoset.

        Args:
            infosets: Rows of infosets.
            owner: Their owners; own moves are the same at all histories of an infoset.
            plan: Both players' plans.
            num: Draws per infoset.
            generator: Source of randomness.

        Returns:
            Histories; any of the infoset where chance and the other player never lead to it.
        """
        node = self.order
        other = self.sequences[node].gather(-1, (1 - owner[self.row[node]]).unsqueeze(-1)).squeeze(-1)
        total = torch.cat([plan.new_zeros(1), (self.reach[node] * plan[other]).cumsum(-1)])
        first, last = self.starts[infosets].unsqueeze(-1), self.starts[infosets + 1].unsqueeze(-1)
        noise = torch.rand(len(infosets), num, generator=generator, dtype=total.dtype, device=total.device)
        level = total[first] + noise * (total[last] - total[first])
        place = torch.searchsorted(total, level, right=True) - 1
        return node[torch.minimum(torch.maximum(place, first), last - 1)]


def _depth(nodes: list[NodeRecord]) -> int:
    """The largest number of moves in a play."""
    height = [0] * len(nodes)
    for i in range(len(nodes) - 1, -1, -1):
        if nodes[i].player != TERMINAL:
            height[i] = 1 + max(height[c] for c in nodes[i].children)
    return height[0]
