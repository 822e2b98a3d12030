"""Games of OpenSpiel as compiled games."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from mirrorgen.errors import DomainError, MissingExtraError
from mirrorgen.policy.games.extensive import ExtensiveGame, compile_game
from mirrorgen.policy.games.rules import CHANCE, TERMINAL

__all__ = ["from_openspiel"]


@dataclass(frozen=True)
class _SpielState:
    """One ``pyspiel.State`` as rules."""

    state: Any

    @property
    def player(self) -> int:
        if self.state.is_terminal():
            return TERMINAL
        return CHANCE if self.state.is_chance_node() else int(self.state.current_player())

    @property
    def actions(self) -> Sequence[int]:
        return [a for a, _ in self._outcomes] if self.state.is_chance_node() else self.state.legal_actions()

    @property
    def chances(self) -> Sequence[float]:
        return [p for _, p in self._outcomes]

    @property
    def infoset(self) -> str:
        return self.state.information_state_string(self.state.current_player())

    @property
    def payoff(self) -> float:
        return self.state.returns()[0]

    @property
    def _outcomes(self) -> Sequence[tuple[int, float]]:
        return self.state.chance_outcomes()

    def child(self, action: object) -> "_SpielState":
        return _SpielState(self.state.child(action))


def from_openspiel(game: Any, *, max_nodes: int = 1_000_000) -> ExtensiveGame:
    """Compile a game of OpenSpiel: two players, zero sum, moves in turn, chance with known probabilities.

    Keys of infosets are OpenSpiel's ``information_state_string``, labels its numbers of actions.

    Args:
        game: A ``pyspiel.Game``, or a name such as ``"leduc_poker"`` or ``"liars_dice(dice_sides=4)"``.
        max_nodes: Bound on the number of histories.

    Raises:
        MissingExtraError: If ``game`` is a name and ``pyspiel`` is not installed.
        DomainError: If the game is of another kind, or has more than ``max_nodes`` histories.

    Source: Lanctot et al., "OpenSpiel: A Framework for Reinforcement Learning in Games", 2019.
    """
    if isinstance(game, str):
        try:
            pyspiel = import_module("pyspiel")
        except ImportError as error:
            raise MissingExtraError("pyspiel is not installed; run: pip install open_spiel") from error
        game = pyspiel.load_game(game)
    kind = game.get_type()
    if game.num_players() != 2 or kind.utility.name != "ZERO_SUM":
        raise DomainError(f"{kind.short_name} is no two-player zero-sum game; only such games have one value")
    if kind.dynamics.name != "SEQUENTIAL":
        raise DomainError(f"players of {kind.short_name} move at once; pass pyspiel.convert_to_turn_based(game)")
    if kind.chance_mode.name == "SAMPLED_STOCHASTIC":
        raise DomainError(f"{kind.short_name} does not tell the probabilities of chance; take an explicit version")
    return compile_game(_SpielState(game.new_initial_state()), max_nodes=max_nodes)
