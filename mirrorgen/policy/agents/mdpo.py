"""Mirror descent policy optimisation on rollouts, and its siblings that differ in the penalty."""

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.policy.agents.actor_critic import ProximalActorCritic
from mirrorgen.policy.agents.laws import ActionLaw, Kind, check_kind, divergence
from mirrorgen.policy.agents.rollouts import Rollouts
from mirrorgen.policy.drifts import DiscoveredDrift, Drift, check_drift, surrogate

__all__ = ["MDPO", "DriftPO"]


class MDPO(ProximalActorCritic):
    """``max E[A(s, a)] - D(pi, pi_old) / t`` under ``pi`` by inner gradient steps; ``D`` new first, in closed form.

    The first step from ``pi_old`` is that of the policy gradient, because the divergence is flat there: it takes
    several for the step to be one of mirror descent.

    Args:
        policy: As in ``ProximalActorCritic``, like all arguments but these.
        env: Environment.
        step_size: ``t``, number or function of the remaining share of training; small steps freeze the policy.
            The default falls from 1 to .1.
        q: Tsallis index of the divergence; 1 for the Kullback-Leibler divergence.
        divergence: ``"bregman"`` or ``"relative"``, see ``laws.divergence``; they differ for ``q != 1``.
        options: Of ``ProximalActorCritic``.

    Raises:
        DomainError: See there; and if a step size at the beginning is not positive, or the divergence does not fit.

    Sources: Tomar, Shani, Efroni, Ghavamzadeh, "Mirror Descent Policy Optimization", 2022; values: Schulman et al.,
    "High-Dimensional Continuous Control Using Generalized Advantage Estimation", 2016.
    """

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        step_size: float | Schedule | None = None,
        q: float = 1.0,
        divergence: Kind = "bregman",
        **options: Any,
    ) -> None:
        self.step_size = LinearSchedule(1.0, 0.1, 1.0) if step_size is None else step_size
        self.q, self.divergence = q, divergence
        super().__init__(policy, env, **options)

    @staticmethod
    def paper_settings() -> dict[str, Any]:
        """The published solver: ten steps on the whole batch of 2048, ``t`` from 1 to 0, values clipped.

        Its ``t`` is held above .01, where the penalty has frozen the policy already.
        """
        annealed = LinearSchedule(1.0, 0.01, 1.0)
        return {"full_batch": True, "n_epochs": 10, "n_steps": 2048, "batch_size": 128, "step_size": annealed,
                "clip_range_vf": LinearSchedule(0.2, 0.0, 1.0)}  # fmt: skip

    def _check(self) -> None:
        super()._check()
        check_kind(self.q, self.divergence, continuous=isinstance(self.action_space, spaces.Box))
        for share in (1.0, 0.0):
            if not FloatSchedule(self.step_size)(share) > 0:
                raise DomainError("step_size must be positive until the end of training: let it fall to .01, not to 0")

    def policy_loss(self, new: ActionLaw, log_ratio: Tensor, rows: Rollouts) -> Tensor:
        step_size = FloatSchedule(self.step_size)(self._current_progress_remaining)
        moved = divergence(new, rows.law, self.q, self.divergence)
        return moved.mean() / step_size - (log_ratio.exp() * rows.advantages).mean()


class DriftPO(ProximalActorCritic):
    """``max E[ratio A - f(ratio, A)]`` with any drift ``f`` of ``policy.drifts``, a learned one among them.

    Args:
        policy: As in ``ProximalActorCritic``, like all arguments but this.
        env: Environment.
        drift: ``f(log_ratio, advantage)``; the discovered one by default; ``ClipDrift()`` for PPO.
        options: Of ``ProximalActorCritic``.

    Raises:
        DomainError: See there; and if ``drift`` is negative somewhere, or not flat at ratio one.

    Sources: Kuba, Schroeder de Witt, Foerster, "Mirror Learning: A Unifying Framework of Policy Optimisation", 2022;
    Lu et al., "Discovered Policy Optimisation", 2022.
    """

    def __init__(self, policy: Any, env: Any, *, drift: Drift | None = None, **options: Any) -> None:
        self.drift = DiscoveredDrift() if drift is None else drift
        super().__init__(policy, env, **options)

    def _check(self) -> None:
        super()._check()
        check_drift(self.drift)

    def policy_loss(self, new: ActionLaw, log_ratio: Tensor, rows: Rollouts) -> Tensor:
        return -surrogate(log_ratio, rows.advantages, self.drift)
