"""Two-player zero-sum games on tensors, and the methods that solve them by proximal steps."""

from mirrorgen.policy.games.dice import LiarsDice, liars_dice
from mirrorgen.policy.games.extensive import ExtensiveGame, compile_game
from mirrorgen.policy.games.learners import (
    Game,
    Learner,
    MagneticMirrorDescent,
    MirrorProx,
    OptimisticMirrorDescent,
    State,
    run,
)
from mirrorgen.policy.games.poker import Poker, kuhn_poker, leduc_poker
from mirrorgen.policy.games.rules import CHANCE, TERMINAL, GameState

__all__ = [
    "CHANCE",
    "TERMINAL",
    "ExtensiveGame",
    "Game",
    "GameState",
    "Learner",
    "LiarsDice",
    "MagneticMirrorDescent",
    "MirrorProx",
    "OptimisticMirrorDescent",
    "Poker",
    "State",
    "compile_game",
    "kuhn_poker",
    "leduc_poker",
    "liars_dice",
    "run",
]
