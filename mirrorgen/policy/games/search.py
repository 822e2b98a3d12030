"""Search at decision time: one proximal step from a blueprint at the infosets that play has come to.

A step at every infoset is an update of the whole policy: search and learning are the same operation, and what is
known about the update's convergence holds for play by search.
"""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.policy.games.extensive import ExtensiveGame
from mirrorgen.policy.proximal import proximal_step

__all__ = ["mirror_descent_search", "sampled_values"]


@torch.no_grad()
def mirror_descent_search(
    game: ExtensiveGame,
    log_policy: Tensor,
    infosets: Tensor,
    *,
    step_size: float | Tensor,
    magnet: Tensor | None = None,
    magnet_weight: float | Tensor = 0.0,
    num_particles: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """``argmax <pi, Q> - KL(pi, blueprint) / eta - alpha KL(pi, rho)`` at ``infosets``: magnetic mirror-descent search.

    Mirror-descent search without magnet.

    Args:
        game: The game.
        log_policy: The blueprint, which both players are thought to follow ``(infosets, actions)``.
        infosets: Rows of the table ``(n)``; see ``ExtensiveGame.index``.
        step_size: ``eta``, one number or ``(n)``.
        magnet: ``log rho`` of all infosets; uniform if None.
        magnet_weight: ``alpha``, one number or ``(n)``.
        num_particles: Histories drawn from the belief at each infoset, with one play of every action from each; exact
            values if None.
        generator: Source of randomness.

    Returns:
        Log-policies at ``infosets`` ``(n, actions)``.

    Source: Sokota et al., "The Update-Equivalence Framework for Decision-Time Planning", 2024.
    """
    if num_particles is None:
        values = game.action_values(log_policy)[infosets]
    else:
        values = sampled_values(game, log_policy, infosets, num_particles, generator=generator)
    return proximal_step(
        log_policy[infosets],
        values,
        step_size=step_size,
        magnet=None if magnet is None else magnet[infosets],
        magnet_weight=magnet_weight,
        mask=game.mask[infosets],
    )


@torch.no_grad()
def sampled_values(
    game: ExtensiveGame,
    log_policy: Tensor,
    infosets: Tensor,
    num_particles: int,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Unbiased estimates of ``game.action_values(log_policy)[infosets]`` by plays from histories of the belief.

    Args:
        game: The game.
        log_policy: The policy of both players.
        infosets: Rows of the table ``(n)``.
        num_particles: Histories per infoset; every action is played from each of them.
        generator: Source of randomness.

    Returns:
        ``(n, actions)``; zero for actions that are not allowed.

    Raises:
        DomainError: If ``num_particles`` is less than one.
    """
    if num_particles < 1:
        raise DomainError(f"num_particles must be at least 1, got {num_particles}")
    tree, mask = game.histories, game.mask[infosets]
    nodes = tree.beliefs(infosets, game.owner, game.plan(log_policy), num_particles, generator=generator)
    ends = tree.play(tree.child[nodes][..., : mask.shape[1]], log_policy, generator=generator)
    sign = 1 - 2 * game.owner[infosets].unsqueeze(-1)
    return torch.where(mask, sign * tree.payoff[ends].mean(1), 0.0)
