"""Counterfactual regret minimisation, the usual peer of mirror descent in games."""

from dataclasses import dataclass

import torch

from mirrorgen.policy.games.extensive import ExtensiveGame
from mirrorgen.policy.games.learners import State

__all__ = ["RegretMatchingPlus"]


@dataclass(frozen=True)
class RegretMatchingPlus:
    """CFR+: play in proportion to the positive part of summed regrets, which are cut at zero; players take turns.

    ``State.previous`` holds the regrets. Averages give the ``t``-th policy the weight ``t``.

    Source: Tammelin, "Solving Large Imperfect Information Games Using CFR+", 2014.
    """

    def step(self, game: ExtensiveGame, state: State) -> State:
        logs, uniform = state.log_policy, game.uniform()
        regret = torch.zeros_like(logs) if state.previous is None else state.previous
        for player in (0, 1):
            q, _ = game.counterfactual_values(logs)
            gain = q - (logs.exp() * q).sum(-1, keepdim=True)
            mine = (game.owner == player).unsqueeze(-1) & game.mask
            regret = torch.where(mine, (regret + gain).clamp_min(0.0), regret)
            total = regret.sum(-1, keepdim=True)
            logs = torch.where(mine, torch.where(total > 0, (regret / total).log(), uniform), logs)
        step = state.step + 1
        return State(logs, state.magnet, played=state.log_policy, previous=regret, step=step, weight=float(step))
