"""Magnetic mirror descent on plans of poker games against the same method in OpenSpiel, step for step."""

import time
from dataclasses import dataclass
from typing import Any

import torch

from mirrorgen.policy.games import DilatedMirrorDescent, ExtensiveGame, dilated_gap, from_openspiel
from mirrorgen.policy.games.learners import State

TITLE = "Magnetic mirror descent with dilated entropy: OpenSpiel's Python implementation and ours, the same game"
NOTES = (
    "seconds: processor time per step, both in this process on one core; ratio: OpenSpiel's over ours",
    "difference: largest of all action probabilities after any of the steps compared; gap: regularised, after them",
)
REQUIRES = ("pyspiel",)
FORMATS = {"seconds": ".3e", "ratio": ".4g", "difference": ".1e", "gap": ".6e", "their_gap": ".6e"}


@dataclass(frozen=True)
class Row:
    """One game."""

    game: str
    infosets: int
    steps: int
    contender: str
    seconds: float
    ratio: float
    difference: float | None
    gap: float


def table(game: ExtensiveGame, policy: Any) -> torch.Tensor:
    """OpenSpiel's behavioural policy in our order of infosets and actions."""
    found = torch.zeros(game.mask.shape, dtype=torch.float64)
    for row, (key, labels) in enumerate(zip(game.keys, game.labels, strict=True)):
        values = policy.policy_for_key(key)
        for column, action in enumerate(labels):
            found[row, column] = float(values[action])
    return found


def case(name: str, steps: int, timed: int) -> list[Row]:
    """``steps`` compared, then ``timed`` more of ours for the clock."""
    import pyspiel
    from open_spiel.python.algorithms.mmd_dilated import MMDDilatedEnt

    game, alpha = from_openspiel(name), 0.1
    theirs = MMDDilatedEnt(pyspiel.load_game(name), alpha)
    ours, state = DilatedMirrorDescent(alpha), State(*[game.uniform()] * 3)
    difference, spent = 0.0, 0.0
    for _ in range(steps):
        begin = time.process_time()
        theirs.update_sequences()
        spent += time.process_time() - begin
        state = ours.step(game, state)
        difference = max(difference, float((state.log_policy.exp() - table(game, theirs.get_policies())).abs().max()))
    gap = float(dilated_gap(game, state.log_policy, alpha))
    their_gap = float(theirs.get_gap())
    begin = time.process_time()
    for _ in range(timed):
        state = ours.step(game, state)
    mine = (time.process_time() - begin) / timed
    size = len(game.keys)
    return [
        Row(name, size, steps, "OpenSpiel", spent / steps, spent / steps / mine, None, their_gap),
        Row(name, size, steps, "ours", mine, 1.0, difference, gap),
    ]


def run(quick: bool = False) -> list[Row]:
    """Kuhn and Leduc."""
    rows = case("kuhn_poker", 3 if quick else 200, 10 if quick else 2000)
    return rows + case("leduc_poker", 2 if quick else 30, 5 if quick else 500)
