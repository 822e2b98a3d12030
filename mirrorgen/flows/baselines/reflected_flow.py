"""Reflected flow matching: straight paths in the domain itself, and samples that bounce off its walls."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.flows.baselines.confined import confined_integrate
from mirrorgen.flows.couplings import Coupling
from mirrorgen.flows.flow_model import FlowModel
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.extent import extent
from mirrorgen.geometry.validation import require_kind, validation
from mirrorgen.nets import Net

__all__ = ["ReflectedFlow"]


class ReflectedFlow(FlowModel):
    """Flow matching in a bounded domain itself, ``dx = v(x, t) dt + dL`` with reflection ``L`` at the walls.

    Noise and data are inside and so, by convexity, are the paths between them: the exact velocity never leaves the
    set, and reflection mends what the network and the steps get wrong. Every stage of a step is the end of an exact
    specular path, however often that meets the walls. On a ``Simplex`` with uniform noise this is linear flow matching.

    There is no ``log_prob``: where paths meet a wall the flow is not invertible.

    Args:
        domain: A bounded domain.
        net: Velocity ``net(u, t, condition)`` on ``domain.dual_dim`` coordinates, of points centred and scaled to
            about ``[-1, 1]``.
        spread: None for uniform noise, which on a general polytope is a walk per batch; else noise is the end of a
            reflected path from the centre along a normal vector of this deviation, a hundred times cheaper there.
        boundary: ``"reflect"``, or ``"project"`` onto the nearest point, whose limit of small steps is the same motion.
        coupling: Pairing of noise and data within a batch; independent if None.
        condition_dropout: Probability of forgetting the condition in training, which guidance needs.

    Attributes:
        space: Where the motion runs: the domain, unless a subclass says otherwise.

    Raises:
        DomainError: If the domain is unbounded or a parameter is out of range.
        ShapeError: If the network's dimension is not ``domain.dual_dim``.

    Source: Xie, Zhu, Yu, Yang, Cheng, Zhang, Zhang, Zhang, "Reflected Flow Matching", 2024.
    """

    center: Tensor
    space: Domain

    def __init__(
        self,
        domain: Domain,
        net: Net,
        spread: float | None = None,
        boundary: Literal["reflect", "project"] = "reflect",
        coupling: Coupling | None = None,
        condition_dropout: float = 0.1,
    ) -> None:
        require_kind(domain, Domain, "domain")
        if not domain.bounded:
            raise DomainError(f"{domain!r} is unbounded and has no uniform noise; use MirrorFlow, or bound it")
        if boundary not in ("reflect", "project"):
            raise DomainError(f"boundary is 'reflect' or 'project', got {boundary!r}")
        if spread is not None and not spread > 0:
            raise DomainError(f"spread must be positive, got {spread}")
        super().__init__(net, domain.dual_dim, coupling, condition_dropout)
        self.domain = self.space = domain
        self.spread, self.boundary = spread, boundary
        self._half_width = 0.5 * extent(domain)
        self.register_buffer("center", domain.to_chart(domain.interior_point()).float(), persistent=False)

    def encode(self, x: Tensor) -> Tensor:
        """The points themselves, in the chart, centred and scaled."""
        self.domain.check(x)
        return self._to_unit(x)

    def decode(self, u: Tensor) -> Tensor:
        """Points of the domain, strictly inside in the dtype of ``u``, which may be outside by rounding only."""
        x = self.space.from_chart(self.center.to(u.dtype) + self._half_width * u)
        return self.space.pull_inside(x)[0]

    def confine(self, x: Tensor, step: Tensor) -> Tensor:
        """The point of the space for ``x + step``: the end of the reflected path, or the projection."""
        if self.boundary == "reflect":
            return self.space.reflect(x, step)
        return self.space.pull_inside(self.space.project(x + step))[0]

    def _to_unit(self, x: Tensor) -> Tensor:
        return (self.space.to_chart(x) - self.center.to(x.dtype)) / self._half_width

    def _draw(self, n: int, generator: torch.Generator | None, **options: Any) -> Tensor:
        if self.spread is None:
            return self._to_unit(
                self.space.sample_uniform(n, generator=generator, dtype=options["dtype"]).to(options["device"])
            )
        z = self.spread * torch.randn(n, self.dim, generator=generator, **options)
        middle = self.space.pull_inside(self.space.interior_point().to(**options))[0]
        return self._to_unit(self.space.reflect(middle.expand(n, -1), self.space.from_tangent(z)))

    def _transport(self, field: Callable, u: Tensor, t_end: float, steps: int, method: str) -> Tensor:
        def slope(t: Tensor, x: Tensor) -> Tensor:
            return self.space.from_tangent(self._half_width * field(t, self._to_unit(x)))

        start = ReflectedFlow.decode(self, u)
        with validation(False):
            return self._to_unit(confined_integrate(slope, start, t_end, steps, method, self.confine))
