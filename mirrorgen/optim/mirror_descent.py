"""Mirror descent, dual averaging and mirror prox as optimisers of torch."""

from typing import Any, Literal

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.bregman import ProximalFunction, prox_dual
from mirrorgen.geometry.mirror_maps import MirrorMap
from mirrorgen.optim.dual_state import Closure, DualOptimizer
from mirrorgen.optim.rows import Rows, is_coordinatewise

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
        foreach: Whether all parameters of a group take their step as rows of one tensor, for maps that act on each
            coordinate alone. Numbers are those of a loop over parameters but for the last bits of elementary
            functions; many small parameters are faster, and dual points are changed in place. None: where a group has
            several parameters and no ``prox``.

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
        foreach: bool | None = None,
    ) -> None:
        if not 0 <= momentum < 1:
            raise DomainError(f"momentum must lie in [0, 1), got {momentum}")
        own = {"momentum": momentum, "optimistic": optimistic, "prox": prox, "foreach": foreach}
        super().__init__(params, lr, mirror_map, average=average, maximize=maximize, **own)
        self._rows: dict[tuple[Any, ...], Rows] = {}
        for group in self.param_groups:
            able = is_coordinatewise(group["mirror_map"]) and group["prox"] is None
            if group["foreach"] and not able:
                raise DomainError("foreach needs a map that acts on each coordinate alone, and no prox; leave it None")
            group["foreach"] = able and (len(group["params"]) > 1 if group["foreach"] is None else group["foreach"])

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        """One step; the closure, if any, computes loss and gradients first."""
        loss = self._evaluate(closure)
        together: dict[tuple[Any, ...], tuple[dict[str, Any], list[Tensor]]] = {}
        for group, p, state in self._active():
            if group["average"] != "none":
                self._average(group, p, p)
            if group["foreach"]:
                key = id(group), p.dtype, p.device, "previous" in state, "momentum" in state
                together.setdefault(key, (group, []))[1].append(p)
            else:
                self._move(group, p, self._stepped(group, state, self._gradient(group, p)))
        for key, (group, params) in together.items():
            self._step_together(key, group, params)
        return loss

    @staticmethod
    def _stepped(group: dict[str, Any], state: dict[str, Any], gradient: Tensor) -> Tensor:
        """The next dual points; what is remembered besides goes into ``state``."""
        direction = gradient
        if group["optimistic"]:
            direction = 2 * gradient - state.get("previous", gradient)
            state["previous"] = gradient.clone()
        if group["momentum"]:
            state["momentum"] = direction = direction + group["momentum"] * state.get("momentum", 0.0)
        y = state["dual"] - group["lr"] * direction
        if group["prox"] is not None:
            return prox_dual(group["mirror_map"], group["prox"], y, float(group["lr"]))
        return y

    def _step_together(self, key: tuple[Any, ...], group: dict[str, Any], params: list[Tensor]) -> None:
        """A step of all ``params`` as rows of one tensor."""
        mirror_map, rows = group["mirror_map"], self._rows.get(key[:3])
        if rows is None or not rows.hold(params):
            states = [self.state[p] for p in params]
            names = [n for n in ("dual", "previous", "momentum") if n in states[0]]
            rows = self._rows[key[:3]] = Rows(params, states, names, mirror_map.domain.dim)
        memory = dict(rows.flat)
        gradient = self._pulled(group, rows.joined([self._dense(p) for p in params]))
        memory["dual"] = self._stepped(group, memory, gradient)
        rows.write(memory, mirror_map.to_primal(memory["dual"]))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._rows = {}


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
