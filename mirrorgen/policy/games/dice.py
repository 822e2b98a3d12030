"""Liar's dice for two players with one die each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mirrorgen.errors import DomainError
from mirrorgen.policy.games.extensive import ExtensiveGame, compile_game
from mirrorgen.policy.games.rules import CHANCE, TERMINAL

__all__ = ["LiarsDice", "liars_dice"]

LIAR = "liar"


@dataclass(frozen=True)
class LiarsDice:
    """A state of liar's dice; with the default arguments of the play so far, the one before the dice are rolled.

    Bid ``k`` says: at least ``k // sides + 1`` dice show the face ``k % sides``. The last face counts as every face.
    Bids rise; instead of bidding, a player may call the last bid a lie, and wins one chip if it is one, else loses one.

    Args:
        sides: Faces of a die.
        dice: Faces rolled so far.
        bids: Bids so far.
        called: Whether the last bid was called a lie.
    """

    sides: int = 4
    dice: tuple[int, ...] = ()
    bids: tuple[int, ...] = ()
    called: bool = False

    def __post_init__(self) -> None:
        if self.sides < 1:
            raise DomainError(f"a die needs at least one side, got {self.sides}")

    @property
    def player(self) -> int:
        if len(self.dice) < 2:
            return CHANCE
        return TERMINAL if self.called else len(self.bids) % 2

    @property
    def actions(self) -> Sequence[int | str]:
        if self.player == CHANCE:
            return range(self.sides)
        higher = range(self.bids[-1] + 1 if self.bids else 0, 2 * self.sides)
        return (*higher, LIAR) if self.bids else tuple(higher)

    @property
    def chances(self) -> Sequence[float]:
        return [1 / self.sides] * self.sides

    @property
    def infoset(self) -> str:
        return f"{self.dice[self.player]}:{','.join(map(str, self.bids))}"

    @property
    def payoff(self) -> float:
        count, face = divmod(self.bids[-1], self.sides)
        true = sum(d in (face, self.sides - 1) for d in self.dice) > count
        bidder = (len(self.bids) - 1) % 2
        return 1.0 if true == (bidder == 0) else -1.0

    def child(self, action: object) -> "LiarsDice":
        if self.player == CHANCE:
            return replace(self, dice=(*self.dice, action))  # type: ignore[arg-type]
        if action == LIAR:
            return replace(self, called=True)
        return replace(self, bids=(*self.bids, action))  # type: ignore[arg-type]


def liars_dice(sides: int = 4) -> ExtensiveGame:
    """Liar's dice with one die per player: ``sides 4^sides`` infosets."""
    return compile_game(LiarsDice(sides))
