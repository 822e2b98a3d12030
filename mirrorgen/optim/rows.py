"""Many small parameters as rows of one tensor, so that one call of a map serves them all."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from mirrorgen.geometry.mirror_maps import MirrorMap, Quadratic, SeparableMap

__all__ = ["Rows", "is_coordinatewise"]


def is_coordinatewise(mirror_map: MirrorMap) -> bool:
    """Whether the map acts on each coordinate alone."""
    if isinstance(mirror_map, Quadratic):
        return mirror_map.matrix is None or mirror_map.matrix.ndim == 1
    return isinstance(mirror_map, SeparableMap)


class Rows:
    """Memory of parameters ``(*batch, dim)`` of one map, dtype and device: tensors ``(rows, dim)`` and views of them.

    The views are what the states of the parameters hold; writing to a tensor here writes to all of them.

    Args:
        params: The parameters.
        states: Their states, with the same names in each.
        names: Of the entries of states to hold, all of the shape of the dual points; ``"dual"`` among them.
        dim: Length of the last axis.
    """

    def __init__(self, params: list[Tensor], states: list[dict[str, Any]], names: Iterable[str], dim: int) -> None:
        self.params, self.states, self.dim = params, states, dim
        self.flat: dict[str, Tensor] = {}
        self.views: dict[str, list[Tensor]] = {}
        for name in names:
            self._hold(name, self.joined([state[name] for state in states]))
        points = torch.empty_like(self.flat["dual"])
        self.points, self.point_views = points, self._split(points)

    def hold(self, params: list[Tensor]) -> bool:
        """Whether these are the parameters, and nobody has replaced an entry of their states since."""
        same = len(params) == len(self.params) and all(a is b for a, b in zip(params, self.params, strict=True))
        return same and all(
            state.get(name) is view
            for name, views in self.views.items()
            for state, view in zip(self.states, views, strict=True)
        )

    def joined(self, tensors: list[Tensor]) -> Tensor:
        """Tensors of the parameters' shapes as rows ``(rows, dim)``."""
        if all(t.shape[1:] == tensors[0].shape[1:] for t in tensors):
            return torch.cat(tensors).reshape(-1, self.dim)
        return torch.cat([t.reshape(-1, self.dim) for t in tensors])

    def write(self, memory: dict[str, Tensor], points: Tensor) -> None:
        """Take over memory ``(rows, dim)`` by name, and points into the parameters."""
        for name, value in memory.items():
            if name in self.flat:
                self.flat[name].copy_(value)
            else:
                self._hold(name, value)
        self.points.copy_(points)
        torch._foreach_copy_(self.params, self.point_views)

    def _hold(self, name: str, value: Tensor) -> None:
        self.flat[name], self.views[name] = value, self._split(value)
        for state, view in zip(self.states, self.views[name], strict=True):
            state[name] = view

    def _split(self, flat: Tensor) -> list[Tensor]:
        parts = flat.reshape(-1).split([p.numel() for p in self.params])
        return [part.view(p.shape) for part, p in zip(parts, self.params, strict=True)]
