"""Online mirror descent whose feedback arrives late."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.mirror_maps import MirrorMap
from mirrorgen.geometry.validation import check_shape, should_check

__all__ = ["ActionScale", "BankerOMD", "BankerState", "banker_scale", "scale_free"]

ActionScale = Callable[[int, Tensor], Tensor]


class BankerState(NamedTuple):
    """State of ``BankerOMD``.

    Attributes:
        start: Dual points ``(*batch, dual_dim)`` of the start.
        y: Dual points of this round.
        scale: Its action scales ``sigma_t``, ``(*batch)``.
        waiting_y: Dual points of rounds, ``(*batch, capacity, dual_dim)``; round ``t`` has the slot ``t % capacity``.
        waiting_scale: Their action scales, ``(*batch, capacity)``; zero in slots that wait for nothing.
        waiting_round: Their numbers, ``(*batch, capacity)``; -1 in slots never used.
        balance: What the vault holds, ``(*batch)``.
        funds: Dual points of deposits times their balances, summed, ``(*batch, dual_dim)``.
        fresh: ``sum b_t``, what was not financed from the vault so far, ``(*batch)``.
        round: Number of this round, from zero.
    """

    start: Tensor
    y: Tensor
    scale: Tensor
    waiting_y: Tensor
    waiting_scale: Tensor
    waiting_round: Tensor
    balance: Tensor
    funds: Tensor
    fresh: Tensor
    round: int


@dataclass(frozen=True, eq=False)
class BankerOMD:
    """Mirror descent with delayed feedback: every round is financed by rounds whose feedback has come.

    Round ``t`` takes its action scale ``sigma_t`` (an inverse step size) out of the vault, as far as that goes, and
    ``b_t`` fresh: ``grad phi(x_t) = (b_t grad phi(x_0) + sum_s sigma_(t,s) grad phi(z_s)) / sigma_t``. When its
    gradient arrives, ``z_t`` with ``grad phi(z_t) = grad phi(x_t) - g_t / sigma_t`` is deposited with the balance
    ``sigma_t``. However late and in whatever order gradients come,

    ``sum <g_t, x_t - u> <= (sum b_t) D(u, x_0) + sum sigma_t D(x_t, z_t)``.

    The vault pays out of all deposits alike, in proportion to what each has left, so that one weighted sum of dual
    points holds all of them: memory grows with the rounds that wait, not with those played.

    Args:
        mirror_map: The geometry.
        scale: ``(t, waiting) -> sigma_t`` with ``t = 0, 1, ...`` and the numbers ``(*batch)`` of earlier rounds that
            still wait; see ``banker_scale``.
        capacity: The largest number of rounds, this one included, from one on to the arrival of its gradient.

    Raises:
        DomainError: If ``capacity`` is not positive.

    Source: Huang, Dai, Huang, "Banker Online Mirror Descent: A Universal Approach for Delayed Online Bandit Learning",
    2023.
    """

    mirror_map: MirrorMap
    scale: ActionScale
    capacity: int

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise DomainError(f"capacity must be at least one round, got {self.capacity}")

    def init(self, start: Tensor) -> BankerState:
        """The state in round zero, at points ``start (*batch, dim)`` strictly inside.

        Raises:
            ShapeError: If the last axis is not the domain's.
            DomainError: If a point is not strictly inside.
        """
        check_shape(start, self.mirror_map.domain.dim, "start")
        y = self.mirror_map.to_dual(start)
        none = torch.zeros_like(y[..., 0])
        slots = none.unsqueeze(-1).expand(*none.shape, self.capacity)
        blank = torch.zeros_like(y).unsqueeze(-2).expand(*none.shape, self.capacity, y.shape[-1])
        empty = BankerState(
            y, y, none, blank, slots, torch.full_like(slots, -1, dtype=torch.int64), none, torch.zeros_like(y), none, 0
        )
        return self._open(empty)

    def predict(self, state: BankerState) -> Tensor:
        """The points ``x_t (*batch, dim)`` of this round."""
        return self.mirror_map.to_primal(state.y)

    def update(
        self, state: BankerState, gradient: Tensor, rounds: Tensor | None = None, scale: ActionScale | None = None
    ) -> BankerState:
        """The state of the next round.

        Args:
            state: Of this round.
            gradient: What arrived, ``(*batch, m, dim)``, each at the point of its own round; or ``(*batch, dim)``, that
                of this round at once, without ``rounds``.
            rounds: Numbers ``(*batch, m)`` of the rounds that gradients belong to, this one's (``state.round``)
                included; -1 where nothing arrived.
            scale: In the place of the learner's, for the next round: what depends on losses seen so far, such as
                ``scale_free``.

        Raises:
            ShapeError: If shapes do not fit.
            DomainError: If a gradient belongs to a round that does not wait, or a round waits longer than ``capacity``.
        """
        check_shape(gradient, self.mirror_map.domain.dim, "gradient")
        if rounds is None:
            gradient, rounds = gradient.unsqueeze(-2), torch.full_like(gradient[..., :1], state.round).long()
        if rounds.shape != gradient.shape[:-1] or rounds.shape[:-1] != state.balance.shape:
            raise ShapeError(
                "gradient must be (*batch, m, dim) and rounds (*batch, m) with batch "
                f"{tuple(state.balance.shape)}, got {tuple(gradient.shape)} and {tuple(rounds.shape)}"
            )
        state = self._deposit(state, self.mirror_map.pull_back(gradient), rounds)
        return self._open(state._replace(round=state.round + 1), scale)

    def _deposit(self, state: BankerState, g: Tensor, rounds: Tensor) -> BankerState:
        """Balances and dual points of rounds whose gradients came, ``sigma z = sigma y - g``."""
        came, slots = rounds >= 0, rounds.remainder(self.capacity)
        scale = state.waiting_scale.gather(-1, slots)
        known = (state.waiting_round.gather(-1, slots) == rounds) & (scale > 0)
        # Twice the same round in one call would be paid twice.
        twice = (rounds.unsqueeze(-1) == rounds.unsqueeze(-2)).sum(-1) > 1
        if should_check(g) and bool((came & (~known | twice)).any()):
            bad = rounds[came & (~known | twice)].unique().tolist()
            raise DomainError(f"gradients of rounds {bad} came that do not wait; each round gets one, within capacity")
        paid = torch.where(came, scale, 0.0)
        y = state.waiting_y.gather(-2, slots.unsqueeze(-1).expand(*slots.shape, g.shape[-1]))
        worth = torch.where(came.unsqueeze(-1), scale.unsqueeze(-1) * y - g, 0.0).sum(-2)
        settled = torch.zeros_like(state.waiting_scale).scatter_add(-1, slots, paid)
        return state._replace(
            waiting_scale=torch.where(settled > 0, 0.0, state.waiting_scale),
            balance=state.balance + paid.sum(-1),
            funds=state.funds + worth,
        )

    def _open(self, state: BankerState, rule: ActionScale | None = None) -> BankerState:
        """Finance the round and let it wait in its slot."""
        waiting = (state.waiting_scale > 0).sum(-1)
        found = (rule or self.scale)(state.round, waiting)
        scale = torch.as_tensor(found).to(state.balance).expand_as(state.balance)
        slot = torch.arange(self.capacity, device=scale.device) == state.round % self.capacity
        if should_check(scale):
            if not bool((scale > 0).all()):
                raise DomainError(
                    f"action scales must be positive; the smallest of round {state.round} is {scale.min()}"
                )
            if bool((state.waiting_scale[..., slot] > 0).any()):
                raise DomainError(
                    f"round {state.round - self.capacity} still waits for its gradient after capacity={self.capacity} "
                    "rounds; raise capacity"
                )
        taken = torch.minimum(scale, state.balance)
        part = (taken / torch.where(state.balance > 0, state.balance, 1.0)).unsqueeze(-1)
        fresh = scale - taken
        y = (fresh.unsqueeze(-1) * state.start + part * state.funds) / scale.unsqueeze(-1)
        return state._replace(
            y=y,
            scale=scale,
            waiting_y=torch.where(slot.unsqueeze(-1), y.unsqueeze(-2), state.waiting_y),
            waiting_scale=torch.where(slot, scale.unsqueeze(-1), state.waiting_scale),
            waiting_round=torch.where(slot, state.round, state.waiting_round),
            balance=state.balance - taken,
            funds=state.funds * (1 - part),
            fresh=state.fresh + fresh,
        )


def banker_scale(width: float, gradient_bound: float = 1.0) -> ActionScale:
    """``sigma_t = G sqrt((t + 1) / (width (1 + waiting)))``: many rounds that wait make steps longer, not shorter.

    Args:
        width: Range of the potential, ``log K`` for entropy on ``K`` actions.
        gradient_bound: ``G``, of gradients in the dual norm.

    Raises:
        DomainError: If a number is not positive.
    """
    if not (width > 0 and gradient_bound > 0):
        raise DomainError("width and gradient_bound must be positive")
    return lambda t, waiting: gradient_bound * math.sqrt((t + 1) / width) / torch.sqrt(1.0 + waiting)


def scale_free(width: float, squares: Tensor) -> ActionScale:
    """``sigma_t = sqrt(squares / (width (1 + waiting)))``: the size of losses is not known but seen.

    Losses that are ``c`` times as large give the same points, but for what the first rounds start from.

    Args:
        width: Range of the potential; with ``LogBarrier`` on ``K`` actions ``K log T``.
        squares: Sums ``(*batch)`` of the squares of losses that have arrived, or of the gradients' squared local norms;
            positive.

    Raises:
        DomainError: If the width is not positive.
    """
    if not width > 0:
        raise DomainError(f"width must be positive, got {width}")
    return lambda t, waiting: torch.sqrt(squares / (width * (1.0 + waiting)))
