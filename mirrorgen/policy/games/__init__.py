"""Two-player zero-sum games on tensors, and the methods that solve them by proximal steps."""

from mirrorgen.policy.games.dice import LiarsDice, liars_dice
from mirrorgen.policy.games.dilated import DilatedMirrorDescent, dilated_entropy, dilated_gap
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
from mirrorgen.policy.games.matrix import MatrixGame
from mirrorgen.policy.games.openspiel import from_openspiel
from mirrorgen.policy.games.poker import Poker, kuhn_poker, leduc_poker
from mirrorgen.policy.games.regret import RegretMatchingPlus
from mirrorgen.policy.games.rules import CHANCE, TERMINAL, GameState
from mirrorgen.policy.games.search import mirror_descent_search, sampled_values

__all__ = [
    "CHANCE",
    "TERMINAL",
    "DilatedMirrorDescent",
    "ExtensiveGame",
    "Game",
    "GameState",
    "Learner",
    "LiarsDice",
    "MagneticMirrorDescent",
    "MatrixGame",
    "MirrorProx",
    "OptimisticMirrorDescent",
    "Poker",
    "RegretMatchingPlus",
    "State",
    "compile_game",
    "dilated_entropy",
    "dilated_gap",
    "from_openspiel",
    "kuhn_poker",
    "leduc_poker",
    "liars_dice",
    "mirror_descent_search",
    "run",
    "sampled_values",
]
