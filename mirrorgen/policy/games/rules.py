"""What the rules of a two-player zero-sum game must answer about a state, and the walk over all of its histories."""

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from math import isclose, isfinite
from typing import Protocol

from mirrorgen.errors import DomainError

__all__ = ["CHANCE", "TERMINAL", "GameState", "InfosetRecord", "NodeRecord", "explore"]

CHANCE = -1
TERMINAL = -2


class GameState(Protocol):
    """One history of a game. States are not changed in place: ``child`` makes a new one."""

    @property
    def player(self) -> int:
        """Who moves: 0, 1, ``CHANCE`` or ``TERMINAL``."""

    @property
    def actions(self) -> Sequence[Hashable]:
        """Legal actions, or outcomes of chance; the same at all states of one infoset."""

    @property
    def chances(self) -> Sequence[float]:
        """Probabilities of ``actions``; asked for where chance moves only."""

    @property
    def infoset(self) -> Hashable:
        """All that the player who moves has seen; asked for where a player moves only."""

    @property
    def payoff(self) -> float:
        """What player 1 pays to player 0; asked for at the end only."""

    def child(self, action: Hashable) -> "GameState":
        """The state after ``action``."""


@dataclass
class InfosetRecord:
    """An infoset: its name, owner, legal actions, the owner's last (infoset, action) before it, and own depth."""

    key: Hashable
    player: int
    actions: tuple[Hashable, ...]
    parent: tuple[int, int] | None
    depth: int


@dataclass
class NodeRecord:
    """A history: who moves, where it leads, the probability of chance's moves and both players' last moves."""

    player: int
    chance: float
    sequences: tuple[tuple[int, int] | None, tuple[int, int] | None]
    infoset: int = -1
    payoff: float = 0.0
    children: list[int] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)


def explore(root: GameState, max_nodes: int = 1_000_000) -> tuple[list[NodeRecord], list[InfosetRecord]]:
    """All histories, breadth first, and all infosets in order of appearance.

    Args:
        root: The state before the first move.
        max_nodes: Bound on the number of histories.

    Raises:
        DomainError: If the game is larger than ``max_nodes``, a payoff is not finite, chances are no probabilities,
            states of one infoset differ in player or actions, or a player forgets an own move (imperfect recall).
    """
    nodes: list[NodeRecord] = []
    infosets: list[InfosetRecord] = []
    index: dict[tuple[int, Hashable], int] = {}
    queue: deque[tuple[GameState, NodeRecord]] = deque([(root, NodeRecord(root.player, 1.0, (None, None)))])
    while queue:
        state, node = queue.popleft()
        nodes.append(node)
        if len(nodes) + len(queue) > max_nodes:
            raise DomainError(f"the game has more than {max_nodes} histories; raise max_nodes or take a smaller game")
        if node.player == TERMINAL:
            node.payoff = _finite(state.payoff)
            continue
        actions = tuple(state.actions)
        if node.player == CHANCE:
            moves = [(a, p) for a, p in zip(actions, _probabilities(state), strict=True) if p > 0]
            node.chances = [p for _, p in moves]
        else:
            node.infoset = _infoset(state, node, actions, index, infosets)
            moves = [(a, 1.0) for a in actions]
        for i, (action, p) in enumerate(moves):
            node.children.append(len(nodes) + len(queue))
            child = state.child(action)
            queue.append((child, NodeRecord(child.player, node.chance * p, _after(node, i))))
    return nodes, infosets


def _after(node: NodeRecord, action: int) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """Both players' last moves after ``action``."""
    first, second = node.sequences
    move = (node.infoset, action)
    return (move if node.player == 0 else first, move if node.player == 1 else second)


def _infoset(
    state: GameState,
    node: NodeRecord,
    actions: tuple[Hashable, ...],
    index: dict[tuple[int, Hashable], int],
    infosets: list[InfosetRecord],
) -> int:
    """The number of the state's infoset, a new one if it is seen for the first time."""
    if node.player not in (0, 1):
        raise DomainError(f"players are 0 and 1, CHANCE or TERMINAL, got {node.player}; only two may play")
    if not actions:
        raise DomainError(f"no legal action at {state.infoset!r}; such a state must have the player TERMINAL")
    key, parent = (node.player, state.infoset), node.sequences[node.player]
    if key not in index:
        index[key] = len(infosets)
        depth = 0 if parent is None else infosets[parent[0]].depth + 1
        infosets.append(InfosetRecord(state.infoset, node.player, actions, parent, depth))
    known = infosets[index[key]]
    if known.actions != actions:
        raise DomainError(f"legal actions differ within the infoset {key[1]!r}: {known.actions} and {actions}")
    if known.parent != parent:
        raise DomainError(f"player {node.player} forgets own moves at {key[1]!r}; put all own moves in the infoset")
    return index[key]


def _probabilities(state: GameState) -> Sequence[float]:
    chances = state.chances
    if not (all(p >= 0 for p in chances) and isclose(sum(chances), 1.0, abs_tol=1e-9)):
        raise DomainError(f"chances must be at least 0 and sum to 1, got {list(chances)}")
    return chances


def _finite(payoff: float) -> float:
    if not isfinite(payoff):
        raise DomainError(f"payoffs must be finite, got {payoff}")
    return float(payoff)
