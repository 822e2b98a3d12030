"""Flow matching on the simplex through the sphere: the geometry of Fisher and Rao."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mirrorgen.flows.baselines.confined import confined_integrate
from mirrorgen.flows.couplings import Coupling
from mirrorgen.flows.flow_model import FlowModel
from mirrorgen.flows.paths import PathSample
from mirrorgen.geometry.domains import Simplex
from mirrorgen.geometry.validation import require_kind
from mirrorgen.nets import Net
from mirrorgen.numerics import upcast

__all__ = ["SphereFlow"]


class SphereFlow(FlowModel):
    """Flow matching along great circles of the positive orthant of the sphere, ``u = sqrt(x)`` for ``x`` in a simplex.

    With ``theta`` the angle between ``u_0`` and ``u_1``,
    ``u_t = (sin((1-t) theta) u_0 + sin(t theta) u_1) / sin(theta)``. Velocities are tangent to the sphere. Noise is
    uniform on the simplex. A step ends at its point scaled to unit length, with the signs of coordinates that crossed
    zero turned back.

    There is no ``log_prob``, for the reason given in ``ReflectedFlow``.

    Args:
        domain: A simplex.
        net: Velocity ``net(u, t, condition)`` on all ``domain.dim`` coordinates; its tangent part counts.
        coupling: Pairing of noise and data within a batch; independent if None.
        condition_dropout: Probability of forgetting the condition in training, which guidance needs.

    Raises:
        DomainError: If the domain is no simplex.
        ShapeError: If the network's dimension is not ``domain.dim``.

    Source: Davis, Kessler, Petrache, Ceylan, Bronstein, Bose, "Fisher Flow Matching for Generative Modeling over
    Discrete Data", 2024; Cheng, Li, Peng, Liu, "Categorical Flow Matching on Statistical Manifolds", 2024.
    """

    def __init__(
        self, domain: Simplex, net: Net, coupling: Coupling | None = None, condition_dropout: float = 0.1
    ) -> None:
        require_kind(domain, Simplex, "domain")
        super().__init__(net, domain.dim, coupling, condition_dropout)
        self.domain = domain

    def encode(self, x: Tensor) -> Tensor:
        """Points of the sphere, ``sqrt(x)``."""
        self.domain.check(x)
        return upcast(x).sqrt().to(x.dtype)

    def decode(self, u: Tensor) -> Tensor:
        """Points of the simplex, ``u^2``, strictly inside in the dtype of ``u``."""
        x = upcast(u).square()
        return self.domain.pull_inside((x / x.sum(-1, keepdim=True)).to(u.dtype))[0]

    def velocity(self, u: Tensor, t: Tensor, condition: Tensor | None = None, guidance_scale: float = 1.0) -> Tensor:
        """Velocity along the sphere, guided unless ``guidance_scale`` is 1 (see ``nets.guided``)."""
        free = super().velocity(u, t, condition, guidance_scale)
        return free - (free * u).sum(-1, keepdim=True) * u

    def _draw(self, n: int, generator: torch.Generator | None, **options: Any) -> Tensor:
        return self.encode(
            self.domain.sample_uniform(n, generator=generator, dtype=options["dtype"]).to(options["device"])
        )

    def _path(self, u_0: Tensor, u_1: Tensor, t: Tensor) -> PathSample:
        start, end, time = upcast(u_0), upcast(u_1), upcast(t).unsqueeze(-1)
        # The angle from the chord keeps its digits where the ends are near, which arccos does not.
        chord = torch.linalg.vector_norm(end - start, dim=-1, keepdim=True)
        angle = 2 * torch.asin((0.5 * chord).clamp(max=1.0))
        u_t = _arc((1 - time), angle) * start + _arc(time, angle) * end
        du_t = _rate(time, angle) * end - _rate(1 - time, angle) * start
        return PathSample(u_0, u_1, t, u_t.to(u_0.dtype), du_t.to(u_0.dtype))

    def _transport(self, field: Callable, u: Tensor, t_end: float, steps: int, method: str) -> Tensor:
        return confined_integrate(field, u, t_end, steps, method, _onto_orthant)


def _arc(t: Tensor, angle: Tensor) -> Tensor:
    """``sin(t angle) / sin(angle)``, which is ``t`` at no angle."""
    small = angle < 1e-8
    return torch.where(small, t, torch.sin(t * angle) / torch.where(small, 1.0, torch.sin(angle)))


def _rate(t: Tensor, angle: Tensor) -> Tensor:
    """The derivative of ``_arc`` in ``t``."""
    small = angle < 1e-8
    return torch.where(small, 1.0, angle * torch.cos(t * angle) / torch.where(small, 1.0, torch.sin(angle)))


def _onto_orthant(u: Tensor, step: Tensor) -> Tensor:
    moved = (u + step).abs()
    return moved / torch.linalg.vector_norm(moved, dim=-1, keepdim=True)
