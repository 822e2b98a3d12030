"""Coordinate hit-and-run."""

from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains import Box, Domain
from mirrorgen.numerics import upcast
from mirrorgen.samplers.base import Info, Kernel, Noise, NoiseShape, check_log_density, unadjusted
from mirrorgen.samplers.density import LogDensity
from mirrorgen.samplers.walks.chord import chord, slice_on_chord
from mirrorgen.samplers.walks.frame import Frame, Rounding, WalkState, is_uniform, make_frame, require_bounded
from mirrorgen.samplers.walks.scan import Scan, exchange_directions, make_scan

__all__ = ["CoordinateHitAndRun"]


@dataclass(frozen=True, eq=False)
class CoordinateHitAndRun(Kernel):
    """Redraws one coordinate after the other from its law given the others; a step is one sweep through all.

    The directions are, in this order of preference, those given; exchanges between few coordinates on simplices and
    transport polytopes (``exchange_directions``); the coordinates of a box; the axes of the rounded set. For the
    uniform law, directions that share no constraint move at once: a box is redrawn in one go, the n^2 (n-1)^2 / 4
    exchanges of Birkhoff's polytope in (n-1)^2 blocks (n even). For other densities directions move one by one, each
    with a slice-sampling move. Every draw is exact, the law invariant; a fixed order of directions is not reversible.

    A block with ``e`` moved slacks costs about 8 passes over ``e`` numbers; a sweep, one ``(m, k)`` product besides.

    Args:
        log_density: Unnormalised log-density, points ``(chains, dim)`` to values ``(chains,)``; None or a ``Uniform``
            target for the uniform law.
        body: A bounded set that half-spaces describe.
        directions: In the chart, ``(n, dual_dim)``, spanning it.
        rounding: See ``Rounding``; only for precision where directions are given or preferred, else for mixing too.
        tries: Points tried per direction for densities that are not uniform.

    Raises:
        DomainError: If the set is unbounded or has no half-spaces, the directions do not span, or a count is not
            positive.
        ShapeError: If directions have the wrong length.

    Source: Smith, "Efficient Monte Carlo procedures for generating points uniformly distributed over bounded regions",
    1984; rounded coordinates: Haraldsdottir et al., "CHRR: coordinate hit-and-run with rounding", 2017; exchanges as in
    Diaconis and Sturmfels, "Algebraic algorithms for sampling from conditional distributions", 1998.
    """

    log_density: LogDensity | None
    body: Domain
    directions: Tensor | None = None
    rounding: Rounding = "barrier"
    tries: int = 8
    frame: Frame = field(init=False, repr=False)
    scan: Scan = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_bounded(self.body, "CoordinateHitAndRun")
        if self.tries < 1:
            raise DomainError(f"CoordinateHitAndRun needs tries >= 1, got {self.tries}")
        frame = make_frame(self.body, self.rounding)
        directions = self._preferred(frame)
        coupling = None
        if not is_uniform(self.log_density):
            coupling = torch.ones(len(directions), len(directions), dtype=torch.bool)
        object.__setattr__(self, "frame", frame)
        object.__setattr__(self, "scan", make_scan(directions, frame.rows, coupling))

    def _preferred(self, frame: Frame) -> Tensor:
        k = self.body.dual_dim
        eye = torch.eye(k, dtype=frame.rows.dtype, device=frame.rows.device)
        given = exchange_directions(self.body) if self.directions is None else upcast(self.directions)
        if given is None and isinstance(self.body, Box):
            given = eye
        if given is None:
            return eye
        if given.ndim != 2 or given.shape[1] != k:
            raise ShapeError(f"directions must have shape (n, {k}), got {tuple(given.shape)}")
        if int(torch.linalg.matrix_rank(given)) < k:
            raise DomainError(f"directions must span all {k} dimensions of {self.body!r}, or the walk never mixes")
        return given @ frame.inverse

    @property
    def domain(self) -> Domain:
        """The body."""
        return self.body

    @property
    def noise_shape(self) -> NoiseShape:
        n = len(self.scan.directions)
        return NoiseShape(uniform=n if is_uniform(self.log_density) else n * (1 + self.tries))

    def init(self, x: Tensor) -> WalkState:
        self.check_start(x)
        value = torch.zeros_like(x[:, 0]) if self.log_density is None else self.log_density(x)
        check_log_density(value, len(x))
        return WalkState(x, self.frame.enter(x), value)

    def step(self, state: WalkState, noise: Noise) -> tuple[WalkState, Info]:
        if is_uniform(self.log_density):
            return self._uniform_sweep(state, noise.uniform.mT.contiguous())
        return self._slice_sweep(state, noise.uniform)

    @cached_property
    def _recover(self) -> Tensor:
        return self.scan.recover(self.frame.rows)

    def _uniform_sweep(self, state: WalkState, uniform: Tensor) -> tuple[WalkState, Info]:
        table = self.scan.table(self.frame.slack(state.w))
        for block in self.scan.blocks:
            table, part = block.take(table)
            t = torch.lerp(*chord(part, block.speed.to(part), 1), uniform[block.first : block.first + block.size])
            table = block.move(table, part, t)
        w = (1 - table).mT @ self._recover.to(state.w)
        return WalkState(self.frame.leave(w), w, state.log_density), unadjusted(torch.isfinite(w[:, 0]))

    def _slice_sweep(self, state: WalkState, uniform: Tensor) -> tuple[WalkState, Info]:
        table = self.scan.table(self.frame.slack(state.w))
        hits, broken = [], torch.zeros_like(uniform[:, 0], dtype=torch.bool)
        pieces = uniform.chunk(len(self.scan.blocks), 1)
        for block, direction, u in zip(self.scan.blocks, self.scan.directions.to(state.w), pieces, strict=True):
            table, part = block.take(table)
            low, high = chord(part, block.speed.to(part), 1)
            evaluate = partial(self._along, state.w, direction)
            draw = slice_on_chord(evaluate, state.x, state.log_density, low[0], high[0], u)
            table = block.move(table, part, draw.t.unsqueeze(0))
            state = WalkState(draw.point, torch.addcmul(state.w, draw.t.unsqueeze(-1), direction), draw.value)
            hits.append(draw.accepted)
            broken = broken | draw.nonfinite
        accepted = torch.stack(hits)
        return state, Info(accepted.to(state.w.dtype).mean(0), accepted.any(0), broken)

    def _along(self, w: Tensor, direction: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        assert self.log_density is not None
        x = self.frame.leave(torch.addcmul(w, t.unsqueeze(-1), direction))
        return x, self.log_density(x)
