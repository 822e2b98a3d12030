"""Learning from preferences: games and their equilibria, algorithms on log-policies, losses for networks."""

from mirrorgen.policy.preference.algorithms import (
    Learner,
    MirrorDescent,
    NashMD,
    NashMirrorProx,
    OptimisticMirrorDescent,
    State,
    run,
)
from mirrorgen.policy.preference.games import PreferenceGame, random_game, sample_actions, tournament_game
from mirrorgen.policy.preference.group import asymre_loss, clip_mask, group_baseline, group_reinforce_loss
from mirrorgen.policy.preference.language import CharacterPolicy, sample_answers, sequence_log_prob
from mirrorgen.policy.preference.losses import (
    dno_loss,
    inpo_loss,
    ipo_loss,
    nash_md_loss,
    onpo_loss,
    opmd_loss,
    rebel_loss,
    squared_preference_loss,
)
from mirrorgen.policy.preference.tuning import OBJECTIVES, PreferenceTuning

__all__ = [
    "CharacterPolicy",
    "Learner",
    "MirrorDescent",
    "NashMD",
    "NashMirrorProx",
    "OptimisticMirrorDescent",
    "OBJECTIVES",
    "PreferenceGame",
    "PreferenceTuning",
    "State",
    "asymre_loss",
    "clip_mask",
    "dno_loss",
    "group_baseline",
    "group_reinforce_loss",
    "inpo_loss",
    "ipo_loss",
    "nash_md_loss",
    "onpo_loss",
    "opmd_loss",
    "random_game",
    "rebel_loss",
    "run",
    "sample_actions",
    "sample_answers",
    "sequence_log_prob",
    "squared_preference_loss",
    "tournament_game",
]
