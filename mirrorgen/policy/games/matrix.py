"""Two-player zero-sum games in normal form, many at once."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.divergences import kl
from mirrorgen.numerics import upcast
from mirrorgen.policy.games.extensive import ExtensiveGame, compile_game
from mirrorgen.policy.games.rules import TERMINAL

__all__ = ["MatrixGame"]


class MatrixGame(nn.Module):
    """Player 0 gets ``x^T A y``, player 1 its negative.

    Both strategies lie in one table ``(*batch, 2, actions)`` of log-probabilities, ``x`` first; where the players have
    different numbers of actions, ``mask`` says which are allowed.

    Args:
        payoff: ``A``, ``(*batch, actions of player 0, actions of player 1)``; kept in float64.

    Raises:
        ShapeError: If ``payoff`` has fewer than two axes or an empty one.
        DomainError: If ``payoff`` has entries that are not finite.
    """

    payoff: Tensor
    mask: Tensor

    def __init__(self, payoff: Tensor) -> None:
        super().__init__()
        if payoff.ndim < 2 or 0 in payoff.shape:
            raise ShapeError(f"payoff must be (*batch, a, b) with a, b > 0, got {tuple(payoff.shape)}")
        if not bool(torch.isfinite(payoff).all()):
            raise DomainError("payoff has entries that are NaN or infinite")
        payoff, (first, second) = upcast(payoff), payoff.shape[-2:]
        width = max(first, second)
        self.shape = (first, second)
        self.register_buffer("payoff", nn.functional.pad(payoff, (0, width - second, 0, width - first)))
        counts = torch.tensor([first, second], device=payoff.device)
        self.register_buffer("mask", torch.arange(width, device=payoff.device) < counts.unsqueeze(-1))

    @property
    def payoff_bound(self) -> float:
        """The largest absolute payoff."""
        return float(self.payoff.abs().max())

    def uniform(self, *batch: int) -> Tensor:
        """Uniform log-policies ``(*batch, 2, actions)``; one per game if no batch is given."""
        logs = torch.where(self.mask, 0.0, -torch.inf).to(self.payoff).log_softmax(-1)
        return logs.expand(*(batch or self.payoff.shape[:-2]), *logs.shape)

    def plan(self, log_policy: Tensor) -> Tensor:
        """Probabilities: mixed strategies are averaged as they are."""
        return log_policy.exp()

    def policy(self, plan: Tensor) -> Tensor:
        """Logarithms of ``plan``, normalised."""
        return plan.log().log_softmax(-1)

    def action_values(self, log_policy: Tensor) -> Tensor:
        """``(A y, -A^T x)``: the gradients of both players' payoffs ``(*batch, 2, actions)``."""
        x, y = log_policy.exp().unsqueeze(-1).unbind(-3)
        return torch.stack([(self.payoff @ y).squeeze(-1), -(self.payoff.mT @ x).squeeze(-1)], -2)

    def value(self, log_policy: Tensor) -> Tensor:
        """``x^T A y`` ``(*batch)``."""
        x, y = log_policy.exp().unbind(-2)
        return torch.einsum("...a,...ab,...b->...", x, self.payoff, y)

    def best_response_values(self, log_policy: Tensor) -> Tensor:
        """``max_a (A y)_a`` and ``max_b (-A^T x)_b``, ``(*batch, 2)``."""
        return self.action_values(log_policy).masked_fill(~self.mask, -torch.inf).amax(-1)

    def exploitability(self, log_policy: Tensor) -> Tensor:
        """Half the duality gap ``max_a (A y)_a - min_b (A^T x)_b``, as for games in extensive form."""
        return 0.5 * self.best_response_values(log_policy).sum(-1)

    def saddle_gap(self, log_policy: Tensor, magnet_weight: float | Tensor, magnet: Tensor | None = None) -> Tensor:
        """The duality gap of ``x^T A y - alpha KL(x, rho_x) + alpha KL(y, rho_y)``, zero at its saddle point only.

        That is the quantal response equilibrium ``x ~ rho_x exp(A y / alpha)`` and likewise for ``y``.

        Args:
            log_policy: ``(*batch, 2, actions)``.
            magnet_weight: ``alpha > 0``, one number or ``(*batch)``.
            magnet: ``log rho``; uniform if None.
        """
        alpha = torch.as_tensor(magnet_weight, dtype=log_policy.dtype)
        if not bool((alpha > 0).all()):
            raise DomainError("magnet_weight must be positive; without regulariser use exploitability")
        rho = self.uniform() if magnet is None else magnet
        values = self.action_values(log_policy) / alpha[..., None, None]
        best = torch.logsumexp(torch.where(self.mask, rho + values, -torch.inf), -1).sum(-1)
        return alpha * (best + kl(log_policy, rho.expand_as(log_policy)).sum(-1))

    def to_extensive(self) -> ExtensiveGame:
        """One game, without batch, as a game of two moves, the second blind: infosets ``"x"`` and ``"y"``.

        Raises:
            ShapeError: If there is a batch.
        """
        if self.payoff.ndim > 2:
            raise ShapeError(f"one game at a time can be compiled, got a batch {tuple(self.payoff.shape[:-2])}")
        first, second = self.shape
        return compile_game(_Moves(tuple(map(tuple, self.payoff[:first, :second].tolist()))))


@dataclass(frozen=True)
class _Moves:
    """Both players' moves so far."""

    table: tuple[tuple[float, ...], ...]
    moves: tuple[int, ...] = ()
    chances: tuple[float, ...] = ()

    @property
    def player(self) -> int:
        return (0, 1, TERMINAL)[len(self.moves)]

    @property
    def actions(self) -> range:
        return range(len(self.table) if self.player == 0 else len(self.table[0]))

    @property
    def infoset(self) -> str:
        return "xy"[self.player]

    @property
    def payoff(self) -> float:
        return self.table[self.moves[0]][self.moves[1]]

    def child(self, action: object) -> "_Moves":
        return replace(self, moves=(*self.moves, action))  # type: ignore[arg-type]
