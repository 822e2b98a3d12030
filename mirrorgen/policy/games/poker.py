"""Small poker games: one private card each, rounds of betting with fixed raises, a public card between rounds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mirrorgen.errors import DomainError
from mirrorgen.policy.games.extensive import ExtensiveGame, compile_game
from mirrorgen.policy.games.rules import CHANCE, TERMINAL

__all__ = ["Poker", "kuhn_poker", "leduc_poker"]


@dataclass(frozen=True)
class Poker:
    """A state of a poker game; with the default arguments of the play so far, the one before the first card.

    Both players put one chip in. Every round is a series of f(old), c(heck or call), r(aise): player 0 begins, a raise
    adds ``raises[round]`` chips to what the other has paid. A card is made public between rounds. Whoever holds its
    rank wins the pot, else the higher rank; equal ranks share it. The ``i``-th card has the rank ``i // suits``.

    Args:
        ranks: Number of ranks.
        suits: Cards of each rank.
        raises: Chips of a raise, one number per round.
        max_raises: Bound on raises in a round.
        merge_suits: Whether players see ranks only. Suits mean nothing, yet they multiply infosets, and with them the
            weight of a regulariser that is a sum over infosets.
        cards: Dealt so far: of player 0, of player 1, public ones.
        bets: The moves of each round.
    """

    ranks: int
    suits: int = 1
    raises: tuple[int, ...] = (1,)
    max_raises: int = 1
    merge_suits: bool = False
    cards: tuple[int, ...] = ()
    bets: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        if self.ranks * self.suits < 1 + len(self.raises):
            raise DomainError(
                f"{len(self.raises)} rounds need at least {1 + len(self.raises)} cards, got {self.ranks * self.suits}"
            )
        if self.max_raises < 0 or not self.raises or min(self.raises) <= 0:
            raise DomainError("raises must be positive, one per round, and max_raises at least 0")

    @property
    def player(self) -> int:
        if len(self.cards) < 1 + len(self.bets):
            return CHANCE
        # A closed round that is not the last one has an empty one behind it.
        return TERMINAL if _closed(self.bets[-1]) else len(self.bets[-1]) % 2

    @property
    def actions(self) -> Sequence[int | str]:
        if self.player == CHANCE:
            return [c for c in range(self.ranks * self.suits) if c not in self.cards]
        facing = self.bets[-1].endswith("r")
        return ("f" if facing else "") + "c" + ("r" if self.bets[-1].count("r") < self.max_raises else "")

    @property
    def chances(self) -> Sequence[float]:
        left = self.ranks * self.suits - len(self.cards)
        return [1 / left] * left

    @property
    def infoset(self) -> str:
        seen = (self.cards[self.player], *self.cards[2:])
        return f"{','.join(str(self._rank(c) if self.merge_suits else c) for c in seen)}:{'/'.join(self.bets)}"

    @property
    def payoff(self) -> float:
        last = len(self.bets) - 1
        paid = 1 + sum(size * b.count("r") for size, b in zip(self.raises, self.bets, strict=False))
        if self.bets[-1].endswith("f"):
            folded = (len(self.bets[-1]) - 1) % 2
            # Whoever folds has not paid the last raise.
            return float(paid - self.raises[last]) * (1 if folded == 1 else -1)
        mine, other = (self._strength(c) for c in self.cards[:2])
        return float(paid * ((mine > other) - (mine < other)))

    def child(self, action: object) -> "Poker":
        if isinstance(action, int):
            return replace(self, cards=(*self.cards, action))
        bets = (*self.bets[:-1], self.bets[-1] + str(action))
        more = action == "c" and _closed(bets[-1]) and len(bets) < len(self.raises)
        return replace(self, bets=(*bets, "") if more else bets)

    def _rank(self, card: int) -> int:
        return card // self.suits

    def _strength(self, card: int) -> tuple[bool, int]:
        return any(self._rank(card) == self._rank(c) for c in self.cards[2:]), self._rank(card)


def _closed(line: str) -> bool:
    """Whether a round is over: by a fold, by a call, or by two checks."""
    return line.endswith("f") or (line.endswith("c") and len(line) > 1)


def kuhn_poker(cards: int = 3) -> ExtensiveGame:
    """Kuhn's poker: three cards, one raise of one chip. Its value for player 0 is -1/18.

    Source: Kuhn, "A Simplified Two-Person Poker", 1950.
    """
    return compile_game(Poker(ranks=cards))


def leduc_poker(*, merge_suits: bool = False) -> ExtensiveGame:
    """Leduc poker: three ranks in two suits, two rounds with raises of two and four chips, at most two in a round.

    Args:
        merge_suits: See ``Poker``: 288 infosets instead of 936, with the same equilibria.

    Source: Southey et al., "Bayes' Bluff: Opponent Modelling in Poker", 2005.
    """
    return compile_game(Poker(ranks=3, suits=2, raises=(2, 4), max_raises=2, merge_suits=merge_suits))
