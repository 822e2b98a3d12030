"""Hamiltonian Monte Carlo in the dual."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.samplers.base import Info, Kernel, Noise, NoiseShape, check_log_density, choose, metropolis
from mirrorgen.samplers.density import DualPoint, LogDensity, MirroredDensity

__all__ = ["MirroredHMC", "apply_scale", "require_full_dual"]


def require_full_dual(mirror_map: MirrorMap, kernel: str) -> None:
    """Raise ``DomainError`` unless every dual vector is the image of a point."""
    if not mirror_map.dual_is_full:
        raise DomainError(
            f"{kernel} moves freely in the dual, and {type(mirror_map).__name__} has points for some dual vectors "
            f"only ({mirror_map.dual_requirement()}); use mirror_maps.default(domain)"
        )


def apply_scale(scale: Tensor | None, v: Tensor, transpose: bool = False) -> Tensor:
    """``S v`` or ``S^T v`` of a scale: None (identity), a diagonal ``(d,)`` or a matrix ``(d, d)``."""
    if scale is None:
        return v
    scale = scale.to(v)
    if scale.ndim == 1:
        return scale * v
    return v @ (scale if transpose else scale.mT)


@dataclass(frozen=True, eq=False)
class MirroredHMC(Kernel):
    """Hamiltonian Monte Carlo on the law of the dual point ``y = grad phi(x)``.

    Leapfrog steps of ``U(y) = -log_density(x) + log det H(x)`` in the coordinates ``w = S^-1 y``, then a Metropolis
    test: ``p <- p + (eps/2) S^T grad``, ``y <- y + eps S p``, ``p <- p + (eps/2) S^T grad``. Explicit, exactly
    reversible, and every point of a path is inside. The step size of each chain and iteration is jittered by
    ``step_size (1 + jitter (2u - 1))``, which keeps paths off the periods of near-Gaussian laws.

    One step costs ``num_steps`` gradients; for maps in closed form everything else is O(d) per leapfrog step.

    Args:
        log_density: Unnormalised log-density, points ``(chains, dim)`` to values ``(chains,)``; differentiable, or
            with a ``score`` attribute.
        mirror_map: A map with full dual space; entropic maps give light dual tails, which the method needs.
        step_size: Leapfrog step ``eps``, positive.
        num_steps: Leapfrog steps per proposal.
        jitter: Relative width of the jitter, in ``[0, 1)``.
        scale: ``S``, about a square root of the covariance of ``y``: ``(dual_dim,)`` or ``(dual_dim, dual_dim)``.

    Raises:
        DomainError: If the dual domain of the map is not the whole space.

    Source: Duane, Kennedy, Pendleton, Roweth, "Hybrid Monte Carlo", 1987; Neal, "MCMC using Hamiltonian dynamics",
    2011; the dual law: Hsieh, Kavis, Rolland, Cevher, "Mirrored Langevin dynamics", 2018.
    """

    log_density: LogDensity
    mirror_map: MirrorMap
    step_size: float | Tensor = 0.1
    num_steps: int = 8
    jitter: float = 0.2
    scale: Tensor | None = None

    target_acceptance: ClassVar[float | None] = 0.8

    def __post_init__(self) -> None:
        require_full_dual(self.mirror_map, "MirroredHMC")
        if self.num_steps < 1 or not 0 <= self.jitter < 1:
            raise DomainError(
                f"MirroredHMC needs num_steps >= 1 and 0 <= jitter < 1, got {self.num_steps} and {self.jitter}"
            )

    @property
    def domain(self) -> Domain:
        """The domain of the map."""
        return self.mirror_map.domain

    @property
    def noise_shape(self) -> NoiseShape:
        return NoiseShape(normal=self.domain.dual_dim, uniform=2)

    def init(self, x: Tensor) -> DualPoint:
        self.check_start(x)
        state = self._mirrored.at(self.mirror_map.to_dual(x))
        check_log_density(state.log_density, len(x))
        return state

    @property
    def _mirrored(self) -> MirroredDensity:
        return MirroredDensity(self.log_density, self.mirror_map)

    def step(self, state: DualPoint, noise: Noise) -> tuple[DualPoint, Info]:
        mirrored = self._mirrored
        eps = self.step_size * (1 + self.jitter * (2 * noise.uniform[:, 1:] - 1))
        y, start, momentum = state.y, state.start, noise.normal
        momentum = momentum + 0.5 * eps * apply_scale(self.scale, state.gradient, transpose=True)
        for _ in range(self.num_steps - 1):
            y = y + eps * apply_scale(self.scale, momentum)
            gradient, start = mirrored.score_at(y, start)
            momentum = momentum + eps * apply_scale(self.scale, gradient, transpose=True)
        end = mirrored.at(y + eps * apply_scale(self.scale, momentum), start)
        momentum = momentum + 0.5 * eps * apply_scale(self.scale, end.gradient, transpose=True)
        kinetic = 0.5 * (noise.normal.square() - momentum.square()).sum(-1)
        info = metropolis(end.log_mirrored - state.log_mirrored + kinetic, noise.uniform[:, 0])
        return choose(info.accepted, end, state), info
