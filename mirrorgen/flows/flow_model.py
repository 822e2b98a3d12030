"""What the flows share: coordinates, a path from noise to data, the regression of its velocity, and the way back."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.flows.couplings import Coupling, Independent
from mirrorgen.flows.paths import PathSample, linear_path
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.validation import require_batch, require_kind
from mirrorgen.integrate import integrate
from mirrorgen.nets import Net, expand_condition, guided, state_options

__all__ = ["FlowModel"]


class FlowModel(nn.Module, ABC):
    """A generative model on a convex domain, trained by flow matching in coordinates ``u = encode(x)``.

    ``loss(x) = E | v(u_t, t) - du_t/dt |^2`` along paths from noise at time 0 to ``u_1 = encode(x)`` at time 1. A
    subclass says what the coordinates are (``encode``, ``decode``), where noise comes from (``_draw``), and, if paths
    are not straight or steps not free, what replaces them (``_path``, ``_transport``).

    Args:
        net: Velocity ``net(u, t, condition)`` on the coordinates.
        dim: Number of coordinates.
        coupling: Pairing of noise and data within a batch; independent if None.
        condition_dropout: Probability of forgetting the condition in training, which guidance needs.

    Attributes:
        domain: Where data and samples live.
        default_method: Integration method when none is named.

    Raises:
        ShapeError: If the network's dimension is not ``dim``.
        DomainError: If a part is of the wrong kind or the probability is out of range.
    """

    domain: Domain
    default_method: ClassVar[str] = "midpoint"

    def __init__(self, net: Net, dim: int, coupling: Coupling | None = None, condition_dropout: float = 0.1) -> None:
        super().__init__()
        if getattr(net, "dim", dim) != dim:
            raise ShapeError(f"net.dim={net.dim} must equal the number of coordinates {dim}")
        if not 0 <= condition_dropout <= 1:
            raise DomainError(f"condition_dropout must lie in [0, 1], got {condition_dropout}")
        self.net, self.dim = net, dim
        self.coupling = Independent() if coupling is None else coupling
        require_kind(self.coupling, Coupling, "coupling")
        self.condition_dropout = condition_dropout

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Coordinates ``(n, dim)`` of points strictly inside the domain, in the dtype of ``x``."""

    @abstractmethod
    def decode(self, u: Tensor) -> Tensor:
        """Points of the domain, strictly inside in the dtype of ``u``."""

    @abstractmethod
    def _draw(self, n: int, generator: torch.Generator | None, **options: Any) -> Tensor:
        """Noise ``(n, dim)`` of the ``dtype`` and on the ``device`` in ``options``."""

    def loss(self, x: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Mean squared error of the velocity over a batch, per coordinate; a scalar.

        Args:
            x: Data strictly inside the domain, ``(n, domain.dim)``.
            condition: Class labels ``(n,)`` or vectors ``(n, k)`` if the network takes them.
            generator: Source of noise, times and dropped conditions.

        Raises:
            DomainError: If a point is not strictly inside; the message names the constraint.
            ShapeError: If ``x`` is no batch of points, or ``condition`` has not one row per point.
        """
        require_batch(x, self.domain.dim)
        device, condition = x.device, expand_condition(self.net, condition, len(x))
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            u_1 = self.encode(x.float() if x.dtype in (torch.bfloat16, torch.float16) else x)
            draw: dict[str, Any] = {"dtype": u_1.dtype, "device": device}
            u_0 = self._draw(len(u_1), generator, **draw)
            path = self._path(
                self.coupling(u_0, u_1, condition, generator), u_1, torch.rand(len(u_1), generator=generator, **draw)
            )
            if condition is not None:
                forget = torch.rand(len(u_1), generator=generator, device=device) < self.condition_dropout
                condition = self.net.drop_condition(condition, forget)
        velocity = self.velocity(path.x_t, path.t, condition)
        return (velocity.to(path.dx_t.dtype) - path.dx_t).square().mean()

    def velocity(self, u: Tensor, t: Tensor, condition: Tensor | None = None, guidance_scale: float = 1.0) -> Tensor:
        """Velocity ``v(u, t)``, guided unless ``guidance_scale`` is 1 (see ``nets.guided``)."""
        return guided(self.net, u, t, condition, guidance_scale)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        condition: Tensor | int | None = None,
        generator: torch.Generator | None = None,
        steps: int = 50,
        method: str | None = None,
        t_end: float = 1.0,
        guidance_scale: float = 1.0,
        batch_size: int = 65_536,
        callback: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Draw ``n`` points ``(n, domain.dim)``, strictly inside the domain in the dtype of the network.

        Args:
            n: Number of points.
            condition: One label for all, or labels ``(n,)`` or vectors ``(n, k)``; None for unconditional.
            generator: Source of the prior noise.
            steps: Number of integration steps.
            method: ``"euler"``, ``"midpoint"``, ``"heun"``, ``"rk4"`` or an adaptive method such as ``"dopri5"``; if
                None ``default_method``.
            t_end: Stop here instead of at 1, before the field turns stiff.
            guidance_scale: See ``velocity``.
            batch_size: Points integrated at a time, which bounds the memory.
            callback: Called with the number of points done after each batch, for progress.

        Raises:
            DomainError: If a parameter is out of range.
            ConvergenceError: If the integration diverged or an adaptive method gave up.
        """
        u_0 = self._noise(n, generator)
        labels = expand_condition(self.net, condition, n, guidance_scale)
        if not 0 < t_end <= 1:
            raise DomainError(f"t_end must lie in (0, 1], got {t_end}")
        if batch_size < 1:
            raise DomainError(f"batch_size must be at least 1, got {batch_size}")
        parts = []
        for start in range(0, n, batch_size):
            rows = slice(start, start + batch_size)
            field = partial(self._field, condition=None if labels is None else labels[rows], scale=guidance_scale)
            u = self._transport(field, u_0[rows], t_end, steps, self.default_method if method is None else method)
            parts.append(self.decode(u))
            if callback is not None:
                callback(min(start + batch_size, n))
        return torch.cat(parts) if parts else self.domain.interior_point().to(u_0).expand(0, -1)

    def _path(self, u_0: Tensor, u_1: Tensor, t: Tensor) -> PathSample:
        return linear_path(u_0, u_1, t)

    def _transport(self, field: Callable, u: Tensor, t_end: float, steps: int, method: str) -> Tensor:
        return integrate(field, u, 0.0, t_end, steps=steps, method=method)

    def _noise(self, n: int, generator: torch.Generator | None) -> Tensor:
        return self._draw(n, generator, **state_options(self.net, n))

    def _field(self, t: Tensor, u: Tensor, condition: Tensor | None, scale: float) -> Tensor:
        return self.velocity(u, t, condition, scale)
