"""Two-player zero-sum games in extensive form, compiled into index tensors: no loop over histories or infosets.

Infosets of both players lie in one table, ordered by the number of own moves before them: a level is a slice. A
sequence is an infoset with one of its actions; the first two are the players' empty ones. A behavioural policy is
``(*batch, infosets, actions)``, a plan is ``(*batch, sequences)``: the probability that the owner plays all own moves
up to there. Payoffs are a bilinear form of the two plans, and values come back level by level.

Source: von Stengel, "Efficient Computation of Behavior Strategies", 1996.
"""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.policy.games.histories import Histories
from mirrorgen.policy.games.rules import GameState, InfosetRecord, NodeRecord, explore

__all__ = ["ExtensiveGame", "compile_game"]


class ExtensiveGame(nn.Module):
    """A compiled game; make one with ``compile_game`` or one of the games at hand.

    Buffers: ``mask`` (infosets, actions), ``owner`` (infosets), ``parent`` (infosets): the owner's sequence before;
    ``target, source, weight`` (entries): gradient of every sequence from the other player's plan, then the
    counterfactual reach of every infoset. ``levels`` are slices of infosets, ``keys`` and ``labels`` their names and
    those of their actions, ``payoff_bound`` the largest absolute entry of the payoff matrix between sequences,
    ``histories`` the tree that draws of plays need.
    """

    mask: Tensor
    owner: Tensor
    parent: Tensor
    target: Tensor
    source: Tensor
    weight: Tensor

    def __init__(self, nodes: list[NodeRecord], infosets: list[InfosetRecord]) -> None:
        super().__init__()
        if not infosets:
            raise DomainError("no player moves in this game; there is nothing to optimise")
        order = sorted(range(len(infosets)), key=lambda i: (infosets[i].depth, infosets[i].player))
        place = {old: new for new, old in enumerate(order)}
        ordered = [infosets[i] for i in order]
        width = max(len(i.actions) for i in ordered)
        self.keys: list[Hashable] = [i.key for i in ordered]
        self.labels = [i.actions for i in ordered]
        self._index = {(i.player, i.key): n for n, i in enumerate(ordered)}
        self.levels = _levels([i.depth for i in ordered])

        def sequence(move: tuple[int, int] | None, player: int) -> int:
            return player if move is None else 2 + place[move[0]] * width + move[1]

        counts = torch.tensor([len(i.actions) for i in ordered])
        self.register_buffer("mask", torch.arange(width) < counts.unsqueeze(-1))
        self.register_buffer("owner", torch.tensor([i.player for i in ordered]))
        self.register_buffer("parent", torch.tensor([sequence(i.parent, i.player) for i in ordered]))
        self.histories = Histories(nodes, place, sequence)
        payoffs, reach = _entries(nodes, place, sequence, 2 + len(ordered) * width)
        self.payoff_bound = max((abs(w) for w in payoffs.values()), default=0.0)
        entries = {**payoffs, **reach}
        target, source = torch.tensor(list(entries)).unbind(-1)
        self.register_buffer("target", target)
        self.register_buffer("source", source)
        self.register_buffer("weight", torch.tensor(list(entries.values()), dtype=torch.float64))

    @property
    def num_infosets(self) -> int:
        """Infosets of both players."""
        return self.mask.shape[0]

    @property
    def num_sequences(self) -> int:
        """Entries of a plan: two empty sequences, then all actions of all infosets, also those not allowed."""
        return 2 + self.mask.numel()

    def index(self, player: int, key: Hashable) -> int:
        """The row of the infoset that the rules call ``key``.

        Raises:
            DomainError: If there is none.
        """
        if (player, key) not in self._index:
            raise DomainError(f"player {player} has no infoset {key!r}; keys lists the names")
        return self._index[player, key]

    def uniform(self, *batch: int) -> Tensor:
        """The uniform policy's log-probabilities ``(*batch, infosets, actions)``."""
        logs = torch.where(self.mask, 0.0, -torch.inf).to(self.weight).log_softmax(-1)
        return logs.expand(*batch, *logs.shape)

    def plan(self, log_policy: Tensor) -> Tensor:
        """The plans ``(*batch, sequences)`` of both players: products of own probabilities along own moves.

        Raises:
            ShapeError: If ``log_policy`` is not ``(*batch, infosets, actions)`` in the dtype of ``weight``, float64.
        """
        if log_policy.dtype != self.weight.dtype:
            raise ShapeError(f"policies of this game are {self.weight.dtype}, got {log_policy.dtype}; convert them")
        if log_policy.shape[-2:] != self.mask.shape:
            raise ShapeError(f"a policy is (*batch, {', '.join(map(str, self.mask.shape))}), got {log_policy.shape}")
        policy = log_policy.exp()
        plan = policy.new_ones(*policy.shape[:-2], 2)
        for level in self.levels:
            before = plan.index_select(-1, self.parent[level]).unsqueeze(-1)
            plan = torch.cat([plan, (before * policy[..., level, :]).flatten(-2)], -1)
        return plan

    def policy(self, plan: Tensor) -> Tensor:
        """The log-policy of ``plan``, normalised; uniform where the plan does not reach an infoset."""
        moves = plan[..., 2:].unflatten(-1, self.mask.shape)
        reached = moves.sum(-1, keepdim=True) > 0
        return torch.where(reached, moves.log(), self.uniform()).log_softmax(-1)

    def gradients(self, plan: Tensor) -> tuple[Tensor, Tensor]:
        """What the owner of every sequence earns at its ends, and the counterfactual reach of every infoset.

        Args:
            plan: Both plans.

        Returns:
            ``(*batch, sequences)``: the partial derivative of the owner's payoff with respect to the own plan; and
            ``(*batch, infosets)``: the probability that chance and the other player lead there.
        """
        total = plan.new_zeros(*plan.shape[:-1], self.num_sequences + self.num_infosets)
        parts = plan.index_select(-1, self.source) * self.weight
        total = total.scatter_add(-1, self.target.expand_as(parts), parts)
        return total[..., : self.num_sequences], total[..., self.num_sequences :]

    def induction(self, gradient: Tensor, value: Callable[[slice, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Backward induction: ``q(I, a) = gradient + sum of value(q)(J)`` over the owner's next infosets ``J``.

        Args:
            gradient: From ``gradients``.
            value: Takes a slice of infosets and their ``q`` ``(*batch, infosets in it, actions)`` to values.

        Returns:
            Values of the game for the two players ``(*batch, 2)``, and ``q`` ``(*batch, infosets, actions)``: weighted
            with the counterfactual reach.
        """
        width = self.mask.shape[1]
        for level in reversed(self.levels):
            part = gradient[..., 2 + level.start * width : 2 + level.stop * width]
            gradient = gradient.index_add(-1, self.parent[level], value(level, part.unflatten(-1, (-1, width))))
        return gradient[..., :2], gradient[..., 2:].unflatten(-1, self.mask.shape)

    def counterfactual_values(self, log_policy: Tensor) -> tuple[Tensor, Tensor]:
        """``q`` of ``induction`` under ``log_policy`` ``(*batch, infosets, actions)``, and the counterfactual reach."""
        policy = log_policy.exp()
        # A product with ones: sums over so short an axis are slow.
        ones = policy.new_ones(policy.shape[-1])
        gradient, reach = self.gradients(self.plan(log_policy))
        return self.induction(gradient, lambda level, q: (policy[..., level, :] * q) @ ones)[1], reach

    def action_values(self, log_policy: Tensor) -> Tensor:
        """``Q(I, a)``: the owner's expected payoff after ``a``, given that play is at the infoset ``I``.

        Zero where chance and the other player never lead to the infoset.
        """
        q, reach = self.counterfactual_values(log_policy)
        reach = reach.unsqueeze(-1)
        return torch.where(reach > 0, q / reach, 0.0)

    def value(self, log_policy: Tensor) -> Tensor:
        """Player 0's expected payoff ``(*batch)``."""
        plan = self.plan(log_policy)
        mine = plan * self.gradients(plan)[0]
        return mine[..., 0] + (mine[..., 2:].unflatten(-1, self.mask.shape).sum(-1) * (self.owner == 0)).sum(-1)

    def best_response_values(self, log_policy: Tensor) -> Tensor:
        """What each player gets at most against the other one ``(*batch, 2)``."""
        gradient, _ = self.gradients(self.plan(log_policy))
        return self.induction(gradient, lambda level, q: q.masked_fill(~self.mask[level], -torch.inf).amax(-1))[0]

    def exploitability(self, log_policy: Tensor) -> Tensor:
        """Half the sum of ``best_response_values``: zero in equilibrium only."""
        return 0.5 * self.best_response_values(log_policy).sum(-1)


def compile_game(root: GameState, *, max_nodes: int = 1_000_000) -> ExtensiveGame:
    """Walk through all histories once, check the rules and make index tensors.

    Args:
        root: The state before the first move.
        max_nodes: Bound on the number of histories.

    Raises:
        DomainError: See ``explore``.
    """
    return ExtensiveGame(*explore(root, max_nodes))


def _levels(depths: list[int]) -> list[slice]:
    starts = [i for i, d in enumerate(depths) if i == 0 or d != depths[i - 1]]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(depths)], strict=True)]


def _entries(
    nodes: list[NodeRecord],
    place: dict[int, int],
    sequence: Callable[[tuple[int, int] | None, int], int],
    num_sequences: int,
) -> tuple[dict[tuple[int, int], float], dict[tuple[int, int], float]]:
    """Sparse maps of plans as ``(target, source): weight``: of payoffs to sequences, of reach to infosets."""
    payoffs: dict[tuple[int, int], float] = {}
    reach: dict[tuple[int, int], float] = {}
    for node in nodes:
        first, second = (sequence(move, player) for player, move in enumerate(node.sequences))
        if node.player >= 0:
            pair = (num_sequences + place[node.infoset], second if node.player == 0 else first)
            reach[pair] = reach.get(pair, 0.0) + node.chance
        elif node.payoff:
            for pair, sign in (((first, second), 1), ((second, first), -1)):
                payoffs[pair] = payoffs.get(pair, 0.0) + sign * node.chance * node.payoff
    return payoffs, reach
