"""Mirror descent with steps that are searched: Barzilai and Borwein's guess, then backtracking."""

from typing import Any

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError, DomainError
from mirrorgen.geometry.bregman import ProximalFunction, prox_dual
from mirrorgen.geometry.mirror_maps import MirrorMap
from mirrorgen.optim.backtracking import Criterion, allowance, backtrack, barzilai_borwein, check_criterion
from mirrorgen.optim.dual_state import Closure, DualOptimizer

__all__ = ["LineSearchMirrorDescent"]


class LineSearchMirrorDescent(DualOptimizer):
    """``y+ = y - a g`` for a smooth function that is evaluated exactly; no step size to choose.

    The first guess of a step is Barzilai and Borwein's in the geometry of the map, ``|<dy, dx>| / |<dg, dx>|``, and it
    is halved until

    - ``"armijo"``: ``F(x+) <= F(x) + 1e-4 <g, x+ - x>``,
    - ``"bregman"``: ``F(x+) <= F(x) + <g, x+ - x> + D(x+, x) / a``, which a relatively smooth function passes for
      every ``a <= 1 / L``.

    Every evaluation computes loss and gradients, and the accepted one serves the next step: a step costs one
    evaluation if the guess is good. ``evaluations`` counts them.

    Args:
        params: Parameters, or groups of them, all with one step size.
        mirror_map: Map of the groups that have none of their own.
        lr: First step size.
        criterion: See above.
        prox: An ``Indicator`` of a set to stay in, with a closed form (see ``prox_dual``).
        max_halvings: Bound on halvings in one step.

    Raises:
        DomainError: If a setting is out of range, a parameter outside, or ``step`` gets no closure.
        ConvergenceError: If no step decreases the function: the gradient is wrong, or zero up to rounding.

    Source: Keith, Kim, Lazarov, Surowiec, "Analysis of the SiMPL Method for Density-Based Topology Optimization", 2024.
    """

    def __init__(
        self,
        params: Any,
        mirror_map: MirrorMap | None = None,
        *,
        lr: float = 1.0,
        criterion: Criterion = "armijo",
        prox: ProximalFunction | None = None,
        max_halvings: int = 40,
    ) -> None:
        check_criterion(criterion)
        super().__init__(params, {"lr": lr, "mirror_map": mirror_map, "prox": prox})
        self.criterion, self.max_halvings, self.evaluations = criterion, max_halvings, 0
        self._loss: float | None = None

    def resync(self) -> None:
        """As in the base class; the next step evaluates the function anew."""
        super().resync()
        self._loss = None

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        """One accepted step; the loss before it.

        Args:
            closure: Clears gradients, computes the loss, calls ``backward``, returns the loss; several times a step.
        """
        if closure is None:
            raise DomainError("a line search evaluates the loss several times: pass step a closure that computes it")
        if self._loss is None:
            self._loss = self._value(closure)
        loss, old = self._loss, self._snapshot()

        def attempt(size: float) -> tuple[float, float]:
            for group, p, y, g, _ in old:
                self._move(group, p, self._stepped(group, y, g, size))
            return self._value(closure), self._allowed(old, size)

        try:
            size, found = backtrack(attempt, loss, self._guess(old), self.max_halvings)
        except ConvergenceError:
            for group, p, y, _, _ in old:
                self._move(group, p, y)
            self._loss = None
            raise
        self._loss = found
        for group, p, _, g, x in old:
            self.state[p]["last"] = (x, self.state[p]["dual_before"], g)
            group["lr"] = size
        return loss

    def _value(self, closure: Closure) -> float:
        self.evaluations += 1
        return float(self._evaluate(closure))

    def _snapshot(self) -> list[tuple[dict[str, Any], Tensor, Tensor, Tensor, Tensor]]:
        """Group, parameter, dual point, gradient and coordinates of all, before the step."""
        found = []
        for group, p, state in self._active():
            state["dual_before"] = state["dual"].clone()
            found.append((group, p, state["dual"], self._gradient(group, p).clone(), _coordinates(group, p)))
        return found

    def _guess(self, old: list[Any]) -> float:
        moved, curved = 0.0, 0.0
        for _, p, y, g, x in old:
            if "last" not in self.state[p]:
                return float(old[0][0]["lr"])
            x_last, y_last, g_last = self.state[p]["last"]
            moved += float(((y - y_last) * (x - x_last)).sum())
            curved += float(((g - g_last) * (x - x_last)).sum())
        return barzilai_borwein(moved, curved, float(old[0][0]["lr"]))

    def _stepped(self, group: dict[str, Any], y: Tensor, g: Tensor, size: float) -> Tensor:
        y = y - size * g
        return y if group["prox"] is None else prox_dual(group["mirror_map"], group["prox"], y, size)

    def _allowed(self, old: list[Any], size: float) -> float:
        """What the criterion adds to the old loss."""
        slope = sum(float((g * (_coordinates(group, p) - x)).sum()) for group, p, _, g, x in old)
        return allowance(
            self.criterion, slope, lambda: sum(_divergence(group, p, x) for group, p, _, _, x in old), size
        )


def _coordinates(group: dict[str, Any], p: Tensor) -> Tensor:
    return group["mirror_map"].coordinates(p.detach()).clone()


def _divergence(group: dict[str, Any], p: Tensor, x: Tensor) -> float:
    """``D`` of the parameter from the point of coordinates ``x``, over a batch."""
    return float(group["mirror_map"].divergence(p.detach(), group["mirror_map"].from_coordinates(x)).sum())
