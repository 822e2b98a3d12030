"""Optimisers of torch whose state is the dual point: parameters are derived from it, strictly inside."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.mirror_maps import MirrorMap

__all__ = ["DualOptimizer"]

Closure = Callable[[], Any]
# What a checkpoint leaves out, because it is code and not numbers: the optimiser that loads it has its own.
_OBJECTS = ("mirror_map", "prox", "foreach")


class DualOptimizer(Optimizer):
    """What the optimisers of this room share; ``state[p]["dual"]`` is authoritative and ``p`` is ``grad phi*`` of it.

    A parameter close to a wall has lost in rounding what its dual point still holds: ``sigmoid(17)`` is one in float32.
    Whoever changes parameters by hand calls ``resync``. State dictionaries hold tensors and numbers only.

    Args:
        params: Parameters ``(*batch, domain.dim)``, or groups of them with settings of their own, ``mirror_map`` among
            them.
        defaults: Settings of groups that do not have them.

    Raises:
        DomainError: If a group has no mirror map, or a parameter is outside its domain.
        ShapeError: If a parameter's last axis is not the domain's.
    """

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        lr = defaults.get("lr", 1.0)
        if not float(lr) > 0:
            raise DomainError(f"lr must be positive, got {lr}")
        super().__init__(params, defaults)
        for group, p in self._parameters():
            mirror_map = group["mirror_map"]
            if not isinstance(mirror_map, MirrorMap):
                raise DomainError(f"a group of parameters needs a mirror_map, got {mirror_map!r}")
            if p.shape[-1:] != (mirror_map.domain.dim,):
                raise ShapeError(
                    f"a parameter of shape {tuple(p.shape)} is no batch of points of {mirror_map.domain!r}: its last "
                    f"axis must be {mirror_map.domain.dim}"
                )
            mirror_map.domain.check(p.detach(), "a parameter")

    def _parameters(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        """All parameters with their groups."""
        for group in self.param_groups:
            for p in group["params"]:
                yield group, p

    def _active(self) -> Iterator[tuple[dict[str, Any], Tensor, dict[str, Any]]]:
        """Those that have a gradient, with their state, which begins at the present point."""
        for group, p in self._parameters():
            if p.grad is not None:
                state = self.state[p]
                if "dual" not in state:
                    state["dual"] = group["mirror_map"].to_dual(p.detach())
                yield group, p, state

    def _gradient(self, group: dict[str, Any], p: Tensor) -> Tensor:
        """The gradient in the coordinates that pair with dual points, to be descended along."""
        return self._pulled(group, self._dense(p))

    @staticmethod
    def _dense(p: Tensor) -> Tensor:
        """The gradient, checked."""
        if p.grad is None or p.grad.is_sparse:
            raise DomainError("gradients must be dense: a dual point is moved as a whole")
        return p.grad

    @staticmethod
    def _pulled(group: dict[str, Any], gradient: Tensor) -> Tensor:
        gradient = group["mirror_map"].pull_back(gradient)
        return -gradient if group.get("maximize") else gradient

    @torch.no_grad()
    def _move(self, group: dict[str, Any], p: Tensor, y: Tensor) -> None:
        """Make ``y`` the dual point, and the parameter its image."""
        self.state[p]["dual"] = y
        p.copy_(group["mirror_map"].to_primal(y))

    @torch.no_grad()
    def resync(self) -> None:
        """Take dual points from the parameters, after these were changed by hand; what was remembered besides stays."""
        for group, p in self._parameters():
            if "dual" in self.state[p]:
                self.state[p]["dual"] = group["mirror_map"].to_dual(p.detach())

    def duals(self) -> list[Tensor]:
        """Dual points of all parameters, in their order."""
        return [
            self.state[p]["dual"] if "dual" in self.state[p] else group["mirror_map"].to_dual(p.detach())
            for group, p in self._parameters()
        ]

    @staticmethod
    def _evaluate(closure: Closure | None) -> Any:
        if closure is None:
            return None
        with torch.enable_grad():
            return closure()

    def state_dict(self) -> dict[str, Any]:
        """As in torch, without mirror maps and other objects."""
        found = super().state_dict()
        for group in found["param_groups"]:
            for name in _OBJECTS:
                group.pop(name, None)
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in torch; groups keep their mirror maps. Parameters are loaded apart, by their module."""
        groups = [
            {**{n: mine[n] for n in _OBJECTS if n in mine}, **theirs}
            for mine, theirs in zip(self.param_groups, state_dict["param_groups"], strict=True)
        ]
        super().load_state_dict({**state_dict, "param_groups": groups})
