"""Mirror descent without step sizes."""

from typing import Any, Literal

import torch
from torch import Tensor

from mirrorgen.betting import Bets, bet
from mirrorgen.errors import DomainError
from mirrorgen.geometry.mirror_maps import MirrorMap
from mirrorgen.optim.dual_state import Closure
from mirrorgen.optim.mirror_descent import _Averaging
from mirrorgen.optim.online.parameter_free import ParameterFree, ParameterFreeState

__all__ = ["ParameterFreeDescent"]


class ParameterFreeDescent(_Averaging):
    """``y = y_0 + offset``: how far a dual point goes from its start is bet, not tuned.

    - ``"coin"``: every coordinate bets on the sign of its next gradient, see ``betting.bet``. Nothing to set.
    - ``"radial"``: every point ``(*batch, dim)`` has the offset that ``online.ParameterFree`` plays, with its regret
      bound against every comparator. Needs a bound on the norm of gradients; clip them.

    Bounds are about ``Quadratic``, where offsets are those of parameters, and about averages. With other maps the same
    bets are placed on dual points, which nothing but experience speaks for.

    Args:
        params: Parameters ``(*batch, domain.dim)``, strictly inside, or groups of them with rules of their own.
        mirror_map: Map of the groups that have none of their own.
        rule: See above.
        gradient_bound: For ``"radial"``: of the norm of a row's gradient.
        scale: For ``"radial"``: the distance at which offsets begin to grow, in units of dual points.
        average: ``"uniform"`` for ``averages()``.
        maximize: Ascend.

    Raises:
        DomainError: If a setting is out of range, a parameter outside its domain, or a gradient longer than its bound.
        ShapeError: If a parameter's last axis is not the domain's.

    Sources: Orabona, Tommasi, "Training Deep Networks without Learning Rates Through Coin Betting", 2017; Jacobsen,
    Cutkosky, "Parameter-free Mirror Descent", 2022.
    """

    def __init__(
        self,
        params: Any,
        mirror_map: MirrorMap | None = None,
        *,
        rule: Literal["coin", "radial"] = "coin",
        gradient_bound: float = 1.0,
        scale: float = 1.0,
        average: Literal["none", "uniform"] = "none",
        maximize: bool = False,
    ) -> None:
        own = {"rule": rule, "gradient_bound": gradient_bound, "scale": scale}
        super().__init__(params, 1.0, mirror_map, average=average, maximize=maximize, **own)
        for group in self.param_groups:
            if group["rule"] not in ("coin", "radial"):
                raise DomainError(f"rule must be 'coin' or 'radial', got {group['rule']!r}")
            _learner(group)

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        """One step; the closure, if any, computes loss and gradients first."""
        loss = self._evaluate(closure)
        for group, p, state in self._active():
            self._average(group, p, p)
            y = state["dual"]
            start = state.setdefault("start", y.clone())
            rule = _coin if group["rule"] == "coin" else _radial
            self._move(group, p, start + rule(group, state, y - start, self._gradient(group, p)))
        return loss

    @torch.no_grad()
    def resync(self) -> None:
        """As in the base class; what was set by hand is the new start, and betting begins anew."""
        super().resync()
        for _, p in self._parameters():
            for name in ("start", "bets", "total", "squares"):
                self.state[p].pop(name, None)


def _coin(group: dict[str, Any], state: dict[str, Any], offset: Tensor, gradient: Tensor) -> Tensor:
    """The next offset; memory is one tensor ``(4, *shape)``."""
    bets = state.get("bets", torch.zeros(4, *offset.shape, dtype=offset.dtype, device=offset.device))
    found, after = bet(offset, -gradient, Bets(*bets))
    state["bets"] = torch.stack(after)
    return found


def _radial(group: dict[str, Any], state: dict[str, Any], offset: Tensor, gradient: Tensor) -> Tensor:
    """The next offset; memory is that of ``ParameterFree`` for Lipschitz losses."""
    learner = _learner(group)
    now = learner.init(torch.zeros_like(offset))
    if "total" in state:
        now = ParameterFreeState(state["total"], state["squares"], now.growths)
    after = learner.update(now, gradient)
    state["total"], state["squares"] = after.y, after.squares
    return learner.predict(after)


def _learner(group: dict[str, Any]) -> ParameterFree:
    return ParameterFree(float(group["gradient_bound"]), float(group["scale"]))
