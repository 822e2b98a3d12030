"""Magnetic mirror descent on plans, with the dilated entropy as mirror map and regulariser.

The dilated entropy of a plan is ``psi = sum over infosets I of plan(before I) sum_a pi(a|I) log pi(a|I)``, and its
Bregman divergence weights the Kullback-Leibler divergences at infosets in the same way. A proximal step is therefore
one of every infoset's, along values that contain those of the steps below.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.numerics import xlogy
from mirrorgen.policy.games.extensive import ExtensiveGame
from mirrorgen.policy.games.learners import State
from mirrorgen.policy.proximal import proximal_step

__all__ = ["DilatedMirrorDescent", "dilated_entropy", "dilated_gap"]


@dataclass(frozen=True)
class DilatedMirrorDescent:
    """``z+ = argmax eta <z, g> - eta alpha psi(z) - B_psi(z, z_k)`` for each player's plan ``z``.

    The last iterate converges linearly to the saddle point of the game with ``alpha psi`` added, the quantal response
    equilibrium of the reduced normal form. Unit weights of infosets bias it: it is no approximation of an equilibrium
    unless ``alpha`` is small.

    Args:
        magnet_weight: ``alpha``, one number or one per game of a batch.
        step_size: ``eta``, likewise; ``alpha / L^2`` if None, ``L`` the largest absolute entry of the payoff matrix.

    Source: Sokota et al., "A Unified Approach to Reinforcement Learning, Quantal Response Equilibria, and Two-Player
    Zero-Sum Games", 2023.
    """

    magnet_weight: float | Tensor
    step_size: float | Tensor | None = None

    def step(self, game: ExtensiveGame, state: State) -> State:
        alpha = torch.as_tensor(self.magnet_weight, dtype=torch.float64)
        default = alpha / game.payoff_bound**2
        eta = default if self.step_size is None else torch.as_tensor(self.step_size, dtype=torch.float64)
        if not bool((eta > 0).all() & (alpha >= 0).all()):
            raise DomainError("step_size must be positive (give one if magnet_weight is 0), magnet_weight at least 0")
        alpha, eta = (v.unsqueeze(-1) if v.ndim else v for v in (alpha, eta))
        prior = state.log_policy / _column(eta)
        temperature = _column(alpha) + 1 / _column(eta)
        gradient, _ = game.gradients(game.plan(state.log_policy))
        _, q = game.induction(gradient, lambda level, q: _peak(prior[..., level, :] + q, temperature))
        new = proximal_step(state.log_policy, q, step_size=eta, magnet_weight=alpha, mask=game.mask)
        return State(new, state.magnet, played=state.log_policy, step=state.step + 1)


def dilated_entropy(game: ExtensiveGame, log_policy: Tensor) -> Tensor:
    """``psi`` of both players' plans together ``(*batch)``: at most 0, and 0 for pure policies."""
    policy = log_policy.exp()
    before = game.plan(log_policy).index_select(-1, game.parent)
    return (before * xlogy(policy, policy).sum(-1)).sum(-1)


def dilated_gap(game: ExtensiveGame, log_policy: Tensor, magnet_weight: float | Tensor) -> Tensor:
    """``max_x' [u(x', y) - alpha psi(x')] + alpha psi(x) + max_y' [-u(x, y') - alpha psi(y')] + alpha psi(y)``.

    Zero at the saddle point of the regularised game only.

    Args:
        game: The game.
        log_policy: ``(*batch, infosets, actions)``.
        magnet_weight: ``alpha > 0``, one number or ``(*batch)``.

    Raises:
        DomainError: If ``magnet_weight`` is not positive; ``game.exploitability`` is the gap without regulariser.
    """
    alpha = torch.as_tensor(magnet_weight, dtype=log_policy.dtype)
    if not bool((alpha > 0).all()):
        raise DomainError("magnet_weight must be positive; without regulariser use game.exploitability")
    gradient, _ = game.gradients(game.plan(log_policy))
    temperature = alpha[..., None, None]
    best, _ = game.induction(
        gradient, lambda level, q: _peak(q.masked_fill(~game.mask[level], -torch.inf), temperature)
    )
    return best.sum(-1) + alpha * dilated_entropy(game, log_policy)


def _peak(values: Tensor, temperature: Tensor) -> Tensor:
    """``max_pi <pi, values> - temperature <pi, log pi>``: what a proximal step attains at each infoset."""
    return temperature.squeeze(-1) * torch.logsumexp(values / temperature, -1)


def _column(value: Tensor) -> Tensor:
    """With an axis for actions, next to the one for infosets."""
    return value.unsqueeze(-1) if value.ndim else value.reshape(1, 1)
