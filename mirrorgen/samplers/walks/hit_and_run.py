"""Hit-and-run."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Domain
from mirrorgen.samplers.base import Info, Kernel, Noise, NoiseShape, check_log_density, unadjusted
from mirrorgen.samplers.density import LogDensity
from mirrorgen.samplers.walks.chord import chord, slice_on_chord
from mirrorgen.samplers.walks.frame import Frame, Rounding, WalkState, is_uniform, make_frame, require_bounded

__all__ = ["HitAndRun"]


@dataclass(frozen=True, eq=False)
class HitAndRun(Kernel):
    """Moves along chords in uniformly random directions of the rounded set.

    For the uniform law the next point is uniform on the chord; for other densities a slice-sampling move on it. Both
    are exactly reversible and free of step sizes. One step makes ``moves`` moves; slacks are updated along the way and
    computed afresh at the start of a step, so that they do not drift.

    A move of the uniform walk costs one ``(m, k)`` product and 7 passes over ``m`` slacks; of the others, ``tries``
    log-densities as well.

    Args:
        log_density: Unnormalised log-density, points ``(chains, dim)`` to values ``(chains,)``; None or a ``Uniform``
            target for the uniform law.
        body: A bounded set that half-spaces describe.
        moves: Moves per step.
        rounding: See ``Rounding``; thin sets need it, the ellipsoid of the log barrier does for most.
        tries: Points tried per move for densities that are not uniform.

    Raises:
        DomainError: If the set is unbounded or has no half-spaces, or a count is not positive.

    Source: Smith, "Efficient Monte Carlo procedures for generating points uniformly distributed over bounded regions",
    1984; slices: Neal, "Slice sampling", 2003.
    """

    log_density: LogDensity | None
    body: Domain
    moves: int = 10
    rounding: Rounding = "barrier"
    tries: int = 8
    frame: Frame = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_bounded(self.body, "HitAndRun")
        if self.moves < 1 or self.tries < 1:
            raise DomainError(f"HitAndRun needs moves >= 1 and tries >= 1, got {self.moves} and {self.tries}")
        object.__setattr__(self, "frame", make_frame(self.body, self.rounding))

    @property
    def domain(self) -> Domain:
        """The body."""
        return self.body

    @property
    def noise_shape(self) -> NoiseShape:
        return NoiseShape(self.moves * self.body.dual_dim, self.moves * self._uniforms)

    @property
    def _uniforms(self) -> int:
        return 1 if is_uniform(self.log_density) else 1 + self.tries

    def init(self, x: Tensor) -> WalkState:
        self.check_start(x)
        value = torch.zeros_like(x[:, 0]) if self.log_density is None else self.log_density(x)
        check_log_density(value, len(x))
        return WalkState(x, self.frame.enter(x), value)

    def step(self, state: WalkState, noise: Noise) -> tuple[WalkState, Info]:
        directions = noise.normal.chunk(self.moves, 1)
        uniforms = noise.uniform.chunk(self.moves, 1)
        if is_uniform(self.log_density):
            return self._uniform_step(state, directions, uniforms)
        infos = []
        for direction, uniform in zip(directions, uniforms, strict=True):
            state, info = self._slice_move(state, direction, uniform)
            infos.append(info)
        acceptance = torch.stack([info.acceptance for info in infos]).mean(0)
        moved, broken = (torch.stack([info[i] for info in infos]).any(0) for i in (1, 2))
        return state, Info(acceptance, moved, broken)

    def _uniform_step(
        self, state: WalkState, directions: tuple[Tensor, ...], uniforms: tuple[Tensor, ...]
    ) -> tuple[WalkState, Info]:
        w, rows, tiny = state.w, self.frame.rows.to(state.w), torch.finfo(state.w.dtype).tiny
        slack = self.frame.slack(w)
        for direction, uniform in zip(directions, uniforms, strict=True):
            speed = rows @ direction.mT
            t = torch.lerp(*chord(slack, speed), uniform[:, 0])
            slack = torch.addcmul(slack, t, speed, value=-1).clamp_min(tiny)
            w = torch.addcmul(w, t.unsqueeze(-1), direction)
        return WalkState(self.frame.leave(w), w, state.log_density), unadjusted(torch.isfinite(w[:, 0]))

    def _slice_move(self, state: WalkState, direction: Tensor, uniform: Tensor) -> tuple[WalkState, Info]:
        log_density = self.log_density
        assert log_density is not None
        low, high = chord(self.frame.slack(state.w), self.frame.rows.to(state.w) @ direction.mT)

        def evaluate(t: Tensor) -> tuple[Tensor, Tensor]:
            x = self.frame.leave(torch.addcmul(state.w, t.unsqueeze(-1), direction))
            return x, log_density(x)

        draw = slice_on_chord(evaluate, state.x, state.log_density, low, high, uniform)
        w = torch.addcmul(state.w, draw.t.unsqueeze(-1), direction)
        return WalkState(draw.point, w, draw.value), Info(draw.accepted.to(w.dtype), draw.accepted, draw.nonfinite)
