"""Mirror descent, dual averaging and mirror prox as optimisers of torch."""

from typing import Any, Literal

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.bregman import ProximalFunction, prox_dual
from mirrorgen.geometry.mirror_maps import MirrorMap
from mirrorgen.optim.dual_state import Closure, DualOptimizer

__all__ = ["DualAveraging", "MirrorDescent", "MirrorProx"]

Average = Literal["none", "uniform", "weighted"]


class _Averaging(DualOptimizer):
    """Running means of the points that bounds speak of."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        mirror_map: MirrorMap | None = None,
        *,
        average: Average = "uniform",
        maximize: bool = False,
        **settings: Any,
    ) -> None:
        if average not in ("none", "uniform", "weighted"):
            raise DomainError(f"average must be 'none', 'uniform' or 'weighted', got {average!r}")
        known = {"lr": lr, "mirror_map": mirror_map, "average": average, "maximize": maximize}
        super().__init__(params, known | settings)

    @torch.no_grad()
    def _average(self, group: dict[str, Any], p: Tensor, point: Tensor) -> None:
        """Take ``point`` into the mean, with weight one or with that of the step size."""
        if group["average"] == "none":
            return
        state, weight = self.state[p], 1.0 if group["average"] == "uniform" else float(group["lr"])
        total = state.get("average_weight", 0.0) + weight
        if "average" not in state:
            state["average"] = point.detach().clone()
        state["average"].lerp_(point, weight / total)
        state["average_weight"] = total

    def averages(self) -> list[Tensor]:
        """Means of all parameters, in their order; the parameter itself where none was taken."""
        return [self.state[p].get("average", p.detach()) for _, p in self._parameters()]


class MirrorDescent(_Averaging):
    """``y+ = y - lr g``, ``x = grad phi*(y)``: ``argmin <g, x> + D(x, x_k) / lr``.

    With ``SimplexEntropy`` this is exponentiated gradient descent, with ``Quadratic`` gradient descent.

    Args:
        params: Parameters ``(*batch, domain.dim)``, strictly inside, or groups of them.
        lr: Step size; learning-rate schedulers of torch change it. ``1 / L`` for functions that are ``L``-smooth
            relative to the map.
        mirror_map: Map of the groups that have none of their own.
        momentum: Of a running sum of gradients in the dual, ``m = momentum m + g``.
        optimistic: Step along ``2 g_k - g_(k-1)``, a guess of the next gradient: smooth games converge.
        prox: A function ``h`` with a left proximity operator in closed form (see ``prox_dual``): the step is then
            ``argmin <g, x> + h(x) + D(x, x_k) / lr``. ``Indicator(set)`` projects.
        average: ``"uniform"`` or ``"weighted"`` by the step size, for ``averages()``.
        maximize: Ascend.

    Raises:
        DomainError: If a setting is out of range or a parameter outside its domain.
        ShapeError: If a parameter's last axis is not the domain's.

    Sources: Nemirovski, Yudin, "Problem Complexity and Method Efficiency in Optimization", 1983; Beck, Teboulle,
    "Mirror Descent and Nonlinear Projected Subgradient Methods for Convex Optimization", 2003; optimism: Rakhlin,
    Sridharan, "Online Learning with Predictable Sequences", 2013.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        mirror_map: MirrorMap | None = None,
        *,
        momentum: float = 0.0,
        optimistic: bool = False,
        prox: ProximalFunction | None = None,
        average: Average = "none",
        maximize: bool = False,
    ) -> None:
        if not 0 <= momentum < 1:
            raise DomainError(f"momentum must lie in [0, 1), got {momentum}")
        own = {"momentum": momentum, "optimistic": optimistic, "prox": prox}
        super().__init__(params, lr, mirror_map, average=average, maximize=maximize, **own)

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        """One step; the closure, if any, computes loss and gradients first."""
        loss = self._evaluate(closure)
        for group, p, state in self._active():
            self._average(group, p, p)
            direction = gradient = self._gradient(group, p)
            if group["optimistic"]:
                direction = 2 * gradient - state.get("previous", gradient)
                state["previous"] = gradient.clone()
            if group["momentum"]:
                state["momentum"] = direction = direction + group["momentum"] * state.get("momentum", 0.0)
            y = state["dual"] - group["lr"] * direction
            if group["prox"] is not None:
                y = prox_dual(group["mirror_map"], group["prox"], y, float(group["lr"]))
            self._move(group, p, y)
        return loss


class DualAveraging(_Averaging):
    """``y_k = y_0 - lr_k (g_1 + ... + g_k)``: mirror descent that weighs all gradients alike.

    Args:
        params: Parameters, or groups of them.
        lr: Step size, of all gradients so far; falls like ``1 / sqrt(k)`` for Lipschitz functions.
        mirror_map: Map of the groups that have none of their own.
        average: As in ``MirrorDescent``.
        maximize: Ascend.

    Raises:
        DomainError: As ``MirrorDescent``.

    Source: Nesterov, "Primal-Dual Subgradient Methods for Convex Problems", 2009.
    """

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        """One step; the closure, if any, computes loss and gradients first."""
        loss = self._evaluate(closure)
        for group, p, state in self._active():
            self._average(group, p, p)
            state.setdefault("start", state["dual"].clone())
            state["total"] = state.get("total", 0.0) + self._gradient(group, p)
            self._move(group, p, state["start"] - group["lr"] * state["total"])
        return loss


class MirrorProx(_Averaging):
    """``w = grad phi*(y - lr g(x))``, ``y+ = y - lr g(w)``: two gradients a step, gap ``O(1 / k)``.

    The gap is that of a smooth convex-concave game at the average of the half steps ``w``. For ``min_x max_z`` put
    ``z`` into a group with ``maximize=True``.

    Args:
        params: Parameters, or groups of them.
        lr: Step size; at most strong convexity over smoothness.
        mirror_map: Map of the groups that have none of their own.
        average: As in ``MirrorDescent``.
        maximize: Ascend.

    Raises:
        DomainError: As ``MirrorDescent``; and if ``step`` gets no closure.

    Source: Nemirovski, "Prox-Method with Rate of Convergence O(1/t) for Variational Inequalities with Lipschitz
    Continuous Monotone Operators and Smooth Convex-Concave Saddle Point Problems", 2004.
    """

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        """One step; the closure clears gradients, computes the loss and calls ``backward``, twice."""
        if closure is None:
            raise DomainError("MirrorProx evaluates gradients at two points: pass step a closure that computes them")
        loss = self._evaluate(closure)
        anchors = [(group, p, state["dual"]) for group, p, state in self._active()]
        for group, p, y in anchors:
            self._move(group, p, y - group["lr"] * self._gradient(group, p))
        self._evaluate(closure)
        for group, p, y in anchors:
            self._average(group, p, p)
            self._move(group, p, y - group["lr"] * self._gradient(group, p))
        return loss
