"""Mean-field games: policy mirror ascent against the crowd that the policy itself makes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.geometry.divergences import tsallis_bregman
from mirrorgen.policy.proximal import proximal_step
from mirrorgen.policy.tabular.mdp import TabularMDP
from mirrorgen.policy.tabular.mirror_descent import policy_mirror_descent

__all__ = ["CrowdGame", "mean_field_mirror_ascent"]


@dataclass(frozen=True, eq=False)
class CrowdGame:
    """Reward ``r(s, a) - crowding m(s)``, ``m`` the share of players in state ``s``, with a stationary population.

    Args:
        transitions: ``(states, actions, states)``; every policy must leave one stationary law.
        rewards: ``(states, actions)``.
        discount: In ``[0, 1)``.
        crowding: Cost of a full state; not negative, which makes the game monotone.

    Raises:
        ShapeError: If shapes do not fit.
        DomainError: If a number is out of range.
    """

    transitions: Tensor
    rewards: Tensor
    discount: float = 0.8
    crowding: float = 1.0

    def __post_init__(self) -> None:
        if self.crowding < 0:
            raise DomainError(f"crowding must not be negative, got {self.crowding}")
        if self.rewards.ndim != 2:
            raise ShapeError(
                f"a crowd game has no batch; rewards are (states, actions), got {tuple(self.rewards.shape)}"
            )
        self.against(torch.zeros(self.rewards.shape[0], dtype=self.rewards.dtype))

    def against(self, population: Tensor) -> TabularMDP:
        """The decision process of one player in a population ``(states,)``."""
        return TabularMDP(self.transitions, self.rewards - self.crowding * population.unsqueeze(-1), self.discount)

    def population(self, log_policy: Tensor) -> Tensor:
        """The stationary law of a policy ``(states,)``.

        Raises:
            ConvergenceError: If it is not unique.
        """
        P = torch.einsum("sa,sat->st", log_policy.exp(), self.transitions)
        states = len(P)
        # Balance with its last equation replaced by that of the total.
        system = (torch.eye(states, dtype=P.dtype) - P).mT.clone()
        system[-1] = 1.0
        total = torch.zeros(states, dtype=P.dtype)
        total[-1] = 1.0
        law, info = torch.linalg.solve_ex(system, total)
        if int(info) or not bool(torch.isfinite(law).all()) or float(law.min()) < -1e-9:
            raise ConvergenceError("the policy has no unique stationary law; let transitions mix", float("nan"))
        return law.clamp_min(0.0)

    def exploitability(self, log_policy: Tensor, entropy_weight: float = 0.0, q: float = 1.0) -> Tensor:
        """What one player gains by the best reply to the crowd of ``log_policy``, with the bonus counted, a scalar."""
        mdp = self.against(self.population(log_policy))
        if entropy_weight:
            # Soft policy iteration converges quadratically.
            best = policy_mirror_descent(mdp, 25, torch.inf, entropy_weight=entropy_weight, q=q).values[-1]
        else:
            best = mdp.optimal_values
        penalty = entropy_weight * tsallis_bregman(log_policy, mdp.uniform_policy(), q).unsqueeze(-1)
        own = mdp.state_values(log_policy, mdp.rewards - penalty if entropy_weight else None)
        return (best - own).clamp_min(0.0).amax()


def mean_field_mirror_ascent(
    game: CrowdGame, iterations: int, step_size: float, *, entropy_weight: float = 0.0, q: float = 1.0
) -> tuple[Tensor, Tensor]:
    """``pi_(k+1) = argmax eta <pi, q_k> - D_q(pi, pi_k) - eta tau D_q(pi, uniform)``.

    Values of actions ``q_k`` are exact, against the crowd of ``pi_k``. Contracts to the regularised equilibrium
    for small ``eta`` and enough regularisation; too long steps circle, which the returned gaps show: compare the last
    with the first.

    Args:
        game: The game.
        iterations: Number of steps, from the uniform policy.
        step_size: ``eta``.
        entropy_weight: ``tau``.
        q: Tsallis index of the potential; 2 is the published choice.

    Returns:
        The last log-policy, and regularised exploitabilities of all policies ``(iterations + 1,)``.

    Source: Yardim, Cayci, Geist, He, "Policy Mirror Ascent for Efficient and Independent Learning in Mean Field Games",
    2023.
    """
    logs = game.against(torch.zeros_like(game.rewards[:, 0])).uniform_policy()
    uniform, gaps = logs, []
    for k in range(iterations + 1):
        gaps.append(game.exploitability(logs, entropy_weight, q))
        if k < iterations:
            mdp = game.against(game.population(logs))
            penalty = entropy_weight * tsallis_bregman(logs, uniform, q).unsqueeze(-1) if entropy_weight else 0.0
            actions = mdp.action_values(mdp.state_values(logs, mdp.rewards - penalty))
            logs = proximal_step(logs, actions, step_size=step_size, magnet_weight=entropy_weight, q=q)
    return logs, torch.stack(gaps)
