"""Agents that learn with networks: rollouts, buffers and saving of Stable-Baselines3, losses of this package."""

try:
    import stable_baselines3
except ImportError as error:
    from mirrorgen.errors import MissingExtraError

    raise MissingExtraError.for_extra("stable-baselines3", "rl") from error

from mirrorgen.policy.agents.magnetic import MMD
from mirrorgen.policy.agents.masking import MaskedActorCriticPolicy
from mirrorgen.policy.agents.mdpo import MDPO, DriftPO
from mirrorgen.policy.agents.munchausen_dqn import MVIQ
from mirrorgen.policy.agents.self_play import SelfPlay, SelfPlayEnv
from mirrorgen.policy.agents.soft_mdpo import SoftMDPO
from mirrorgen.policy.agents.staq import StaQ
from mirrorgen.policy.agents.vector_env import GymnasiumVecEnv

__all__ = [
    "MDPO", "MMD", "MVIQ", "DriftPO", "GymnasiumVecEnv", "MaskedActorCriticPolicy", "SelfPlay", "SelfPlayEnv",
    "SoftMDPO", "StaQ",
]  # fmt: skip
