"""Agents that learn with networks: Stable-Baselines3's rollouts, buffers, saving and callbacks, losses of this package."""

try:
    import stable_baselines3
except ImportError as error:
    from mirrorgen.errors import MissingExtraError

    raise MissingExtraError.for_extra("stable-baselines3", "rl") from error

from mirrorgen.policy.agents.magnetic import MMD
from mirrorgen.policy.agents.masking import MaskedActorCriticPolicy
from mirrorgen.policy.agents.mdpo import MDPO, DriftPO
from mirrorgen.policy.agents.self_play import SelfPlay, SelfPlayEnv
from mirrorgen.policy.agents.soft_mdpo import SoftMDPO
from mirrorgen.policy.agents.vector_env import GymnasiumVecEnv

__all__ = [
    "MDPO", "MMD", "DriftPO", "GymnasiumVecEnv", "MaskedActorCriticPolicy", "SelfPlay", "SelfPlayEnv", "SoftMDPO",
]  # fmt: skip
