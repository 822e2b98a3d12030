"""The mirror Langevin algorithm and its Metropolis-adjusted form."""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.hessian import HessianOperator
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.samplers.base import (
    Info,
    Kernel,
    Noise,
    NoiseShape,
    check_log_density,
    choose,
    metropolis,
    unadjusted,
)
from mirrorgen.samplers.density import LogDensity
from mirrorgen.samplers.hmc import require_full_dual
from mirrorgen.samplers.langevin.proposal import factored, gaussian_log_ratio, restored, value_and_gradient

__all__ = ["MirrorLangevin", "MirrorPoint"]


class MirrorPoint(NamedTuple):
    """A point and what the next step needs of it.

    Attributes:
        y: Dual points ``(chains, dual_dim)``.
        x: ``grad phi*(y)`` ``(chains, dim)``.
        log_density: ``log_density(x)`` ``(chains,)``.
        gradient: Its gradient in the coordinates of the map ``(chains, dual_dim)``.
        log_det: ``log det H(x)`` ``(chains,)``.
        factor: Cholesky factor of ``H(x)`` ``(chains, d, d)``; None where ``H`` is structured.
        start: Where the next inverse near ``y`` starts, or None.
    """

    y: Tensor
    x: Tensor
    log_density: Tensor
    gradient: Tensor
    log_det: Tensor
    factor: Tensor | None
    start: Tensor | None


@dataclass(frozen=True, eq=False)
class MirrorLangevin(Kernel):
    """Langevin steps in the dual with the metric of the Hessian ``H`` of ``phi``.

    Proposes ``y' = y + h grad log p(x) + sqrt(2h) H(x)^(1/2) xi`` with ``x = grad phi*(y)``, a discretisation of
    ``dY = grad log p(X) dt + sqrt(2) H(X)^(1/2) dB``, not of Langevin dynamics on the dual law (see
    ``MirroredLangevin``). Invariant under affine maps of the domain if the map is, as the logarithmic barrier.

    The default is MAMLA: Metropolis' test with the ratio ``p(x') / p(x) (det H(x) / det H(x'))^(3/2)`` times that of
    the two Gaussian exponents makes the target exactly invariant. ``adjusted=False`` is MLA, the same proposals
    without the test: biased by O(h), and for entropic maps unstable at step sizes that suit the adjusted form.
    ``adjusted=False, discretization="forward"`` takes first the gradient step, then ``dY = sqrt(2) H(X)^(1/2) dB`` for
    time ``h`` in ``inner_steps`` Euler steps from there; biased as well. ``drift=False`` leaves the gradient out of
    the proposal, and only there: the Metropolised mirror random walk.

    One step costs one gradient, one inverse of ``grad phi`` and one Hessian (``inner_steps`` more inverses and Hessians
    for ``"forward"``). Noise, quadratic form and log-determinant are O(d) for diagonal, diagonal plus rank one and
    tangent-diagonal Hessians (boxes, balls, simplices); on polytopes with ``m`` rows a Hessian is O(m d^2 + d^3),
    and its factor is kept in the state.

    Args:
        log_density: Unnormalised log-density, points ``(chains, dim)`` to values ``(chains,)``.
        mirror_map: The map. Adjusted, dual vectors that no point has are rejected; unadjusted, the dual must be full.
        step_size: ``h``, positive; about ``0.25 d^(-3/2)`` for the logarithmic barrier of a simplex.
        adjusted: Whether Metropolis' test removes the bias.
        discretization: ``"euler"``, or ``"forward"`` for the unadjusted form.
        inner_steps: Euler steps of the noise of ``"forward"``.
        drift: Whether proposals use the gradient.

    Raises:
        DomainError: For options that do not go together; for an unadjusted kernel in a dual that is not full.

    Source: Zhang, Peyre, Fadili, Pereyra, "Wasserstein control of mirror Langevin Monte Carlo", 2020 (MLA); Ahn, Chewi,
    "Efficient constrained sampling via the mirror-Langevin algorithm", 2021 ("forward"); Srinivasan, Wibisono, Wilson,
    "Fast sampling from constrained spaces using the Metropolis-adjusted mirror Langevin algorithm", 2024 (MAMLA).
    """

    log_density: LogDensity
    mirror_map: MirrorMap
    step_size: float | Tensor = 0.01
    adjusted: bool = True
    discretization: Literal["euler", "forward"] = "euler"
    inner_steps: int = 10
    drift: bool = True

    target_acceptance: ClassVar[float | None] = 0.574

    def __post_init__(self) -> None:
        if self.discretization not in ("euler", "forward") or self.inner_steps < 1:
            raise DomainError(
                'MirrorLangevin needs discretization "euler" or "forward" and inner_steps >= 1, '
                f"got {self.discretization!r} and {self.inner_steps}"
            )
        if self.adjusted and self.discretization == "forward":
            raise DomainError(
                "the forward discretisation has no proposal density to adjust; pass adjusted=False for its biased "
                'form or discretization="euler"'
            )
        if not self.adjusted:
            require_full_dual(self.mirror_map, "MirrorLangevin(adjusted=False)")
            object.__setattr__(self, "target_acceptance", None)

    @property
    def domain(self) -> Domain:
        """The domain of the map."""
        return self.mirror_map.domain

    @property
    def noise_shape(self) -> NoiseShape:
        return NoiseShape(self._substeps * self.domain.dual_dim, int(self.adjusted))

    @property
    def _substeps(self) -> int:
        return self.inner_steps if self.discretization == "forward" else 1

    def init(self, x: Tensor) -> MirrorPoint:
        self.check_start(x)
        state, _ = self._at(self.mirror_map.to_dual(x), None)
        check_log_density(state.log_density, len(x))
        return state

    def _at(self, y: Tensor, start: Tensor | None) -> tuple[MirrorPoint, HessianOperator]:
        local = self.mirror_map.local(y, start)
        value, gradient = value_and_gradient(self.log_density, self.mirror_map, local.x, self.drift)
        hessian, factor = factored(local.hessian, y.dtype)
        return MirrorPoint(y, local.x, value, gradient, hessian.logdet(), factor, local.start), hessian

    def step(self, state: MirrorPoint, noise: Noise) -> tuple[MirrorPoint, Info]:
        move = self._forward(state, noise.normal) if self._substeps > 1 else self._euler(state, noise.normal)
        y = state.y + move
        inside = self.mirror_map.dual_contains(y)
        point, hessian = self._at(torch.where(inside.unsqueeze(-1), y, state.y), state.start)
        if not self.adjusted:
            info = unadjusted(inside & torch.isfinite(point.log_density) & torch.isfinite(point.gradient).all(-1))
            return choose(info.accepted, point, state), info
        back = move + self.step_size * point.gradient
        log_ratio = self._log_ratio(state, point, noise.normal, (back * hessian.solve(back)).sum(-1))
        # A dual vector without a point has density zero; one that is not finite is an overflow.
        outside = torch.where(torch.isfinite(y).all(-1), -torch.inf, torch.nan)
        info = metropolis(torch.where(inside, log_ratio, outside), noise.uniform[:, 0])
        return choose(info.accepted, point, state), info

    def _log_ratio(self, state: MirrorPoint, point: MirrorPoint, noise: Tensor, back: Tensor) -> Tensor:
        log_det_drop = state.log_det - point.log_det
        gain = point.log_density - state.log_density + log_det_drop
        return gaussian_log_ratio(gain, log_det_drop, noise, back, self.step_size)

    def _euler(self, state: MirrorPoint, normal: Tensor) -> Tensor:
        build = lambda: self.mirror_map.hessian_again(state.y, state.start)  # noqa: E731
        hessian = restored(state.factor, build, state.y.dtype)
        return self.step_size * state.gradient + (2 * self.step_size) ** 0.5 * hessian.sqrt_mv(normal)

    def _forward(self, state: MirrorPoint, normal: Tensor) -> Tensor:
        move, start = self.step_size * state.gradient, state.start
        size = (2 * self.step_size / self.inner_steps) ** 0.5
        for part in normal.chunk(self.inner_steps, -1):
            local = self.mirror_map.local(state.y + move, start)
            move, start = move + size * local.hessian.sqrt_mv(part), local.start
        return move
