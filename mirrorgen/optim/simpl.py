"""SiMPL: mirror descent on densities with a volume constraint, for topology optimisation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.optim.backtracking import Criterion, allowance, backtrack, barzilai_borwein, check_criterion
from mirrorgen.optim.density_space import DensitySpace

__all__ = ["SiMPL", "SiMPLResult", "SiMPLStep"]

Objective = Callable[[Tensor], tuple[float | Tensor, Tensor]]
Reason = Literal["objective", "stationarity", "steps", "no_descent", "callback"]


@dataclass(frozen=True)
class SiMPLStep:
    """An accepted design, as callbacks see it.

    Attributes:
        number: From 0, the start.
        design: Densities.
        latent: Their logits.
        value: ``F``.
        evaluations: How often ``F`` was evaluated so far, rejected steps included.
        step_size: Of the step that led here, or the first guess at the start.
        stationarity: ``sqrt(sum w D(rho_e, rho)) / e`` with ``rho_e`` the end of a step of size ``e = 1e-3``: zero
            where the conditions of Karush, Kuhn and Tucker hold (or where densities are within ``e`` of zero or one).
    """

    number: int
    design: Tensor
    latent: Tensor
    value: float
    evaluations: int
    step_size: float
    stationarity: float


@dataclass
class SiMPLResult:
    """The last design, the course of the run by accepted designs, the start first, and why it ended.

    Attributes:
        design: Densities, strictly inside, of the given volume.
        latent: Their logits.
        values: ``F``, non-increasing.
        evaluations: How often ``F`` had been evaluated.
        step_sizes: As in ``SiMPLStep``.
        stationarities: As in ``SiMPLStep``.
        reason: ``"objective"`` or ``"stationarity"`` (a tolerance was met), ``"steps"`` (their bound),
            ``"no_descent"`` (no step decreases ``F``: it is at its minimum up to rounding, or the gradient is wrong) or
            ``"callback"`` (it returned True).
    """

    design: Tensor
    latent: Tensor
    values: list[float] = field(default_factory=list)
    evaluations: list[int] = field(default_factory=list)
    step_sizes: list[float] = field(default_factory=list)
    stationarities: list[float] = field(default_factory=list)
    reason: Reason = "steps"

    @property
    def value(self) -> float:
        """``F`` of the design."""
        return self.values[-1]

    @property
    def converged(self) -> bool:
        """Whether a tolerance was met."""
        return self.reason in ("objective", "stationarity")


@dataclass(frozen=True, eq=False)
class SiMPL:
    """``min F(rho)`` over ``0 < rho < 1`` with ``sum w rho = theta sum w``; ``F`` need not be convex.

    ``psi+ = psi - a G + c`` on logits ``psi`` of the densities, with ``c`` such that the volume is kept, and
    ``G = dF/drho / w`` the gradient in the inner product ``sum w u v``, so that steps do not depend on the mesh. The
    first guess of ``a`` is ``|<dpsi, drho>| / |<dG, drho>|`` (Barzilai and Borwein's, generalised), halved until

    - ``"armijo"``: ``F(rho+) <= F(rho) + 1e-4 <G, rho+ - rho>``, or
    - ``"bregman"``: ``F(rho+) <= F(rho) + <G, rho+ - rho> + D(rho+, rho) / a``.

    Every design is strictly inside and has its volume to rounding, and no step increases ``F``.

    Args:
        volume_fraction: ``theta``.
        weights: ``w``, volumes of elements in the shape of designs; ones if None.
        solid: Mask of elements fixed at one.
        void: Mask of elements fixed at zero.
        at_most: Whether the volume may be smaller than that.
        criterion: See above.
        step_size: The first ``a``.
        max_halvings: Bound on halvings in one step, far from where rounding would hide that a gradient is wrong.

    Raises:
        DomainError: If a setting is out of range.

    Source: Keith, Kim, Lazarov, Surowiec, "Analysis of the SiMPL Method for Density-Based Topology Optimization", 2024.
    """

    volume_fraction: float
    weights: Tensor | None = None
    solid: Tensor | None = None
    void: Tensor | None = None
    at_most: bool = False
    criterion: Criterion = "armijo"
    step_size: float = 1.0
    max_halvings: int = 30

    def __post_init__(self) -> None:
        check_criterion(self.criterion)
        if not (self.step_size > 0 and self.max_halvings > 0):
            raise DomainError("step_size and max_halvings must be positive")

    def space(self, start: Tensor) -> DensitySpace:
        """The set that designs of the shape of ``start`` live in."""
        weights = torch.ones_like(start) if self.weights is None else self.weights.to(start)
        if weights.shape != start.shape:
            raise ShapeError(f"weights must have the design's shape {tuple(start.shape)}, got {tuple(weights.shape)}")
        nothing = torch.zeros_like(start, dtype=torch.bool)
        solid, void = (nothing if mask is None else mask.to(start.device) for mask in (self.solid, self.void))
        return DensitySpace(weights, self.volume_fraction, solid, void, self.at_most)

    @torch.no_grad()
    def minimize(
        self,
        objective: Objective,
        start: Tensor,
        *,
        steps: int = 200,
        objective_tolerance: float = 1e-5,
        stationarity_tolerance: float = 0.0,
        callback: Callable[[SiMPLStep], bool | None] | None = None,
    ) -> SiMPLResult:
        """Descend from a design.

        Args:
            objective: ``rho -> (F, dF/drho)``, the derivative by the densities themselves, in their shape.
            start: Densities of any shape, strictly inside; projected if they have another volume.
            steps: Bound on accepted steps.
            objective_tolerance: Ends the run once ``F`` decreases by less than this, relative to its size.
            stationarity_tolerance: Ends it once the measure of ``SiMPLStep`` is at most this.
            callback: Called with the start and every accepted design; ends the run by returning True.

        Raises:
            ShapeError: If weights, masks or gradients have another shape than the start.
            DomainError: If the start is outside, the volume cannot be kept, or the start has no finite value.
            ConvergenceError: If the first step decreases ``F`` at no size: the gradient is wrong.
        """
        if steps < 0:
            raise DomainError(f"steps must be at least 0, got {steps}")
        space = self.space(start)
        result = SiMPLResult(start, start)
        for step in self._run(objective, space, space.latent(start)):
            result.design, result.latent = step.design, step.latent
            result.values.append(step.value)
            result.evaluations.append(step.evaluations)
            result.step_sizes.append(step.step_size)
            result.stationarities.append(step.stationarity)
            if callback is not None and callback(step):
                result.reason = "callback"
            elif step.stationarity <= stationarity_tolerance:
                result.reason = "stationarity"
            elif step.number and result.values[-2] - step.value <= objective_tolerance * abs(step.value):
                result.reason = "objective"
            elif step.number < steps:
                continue
            return result
        result.reason = "no_descent"
        return result

    def _run(self, objective: Objective, space: DensitySpace, latent: Tensor) -> Iterator[SiMPLStep]:
        """Accepted designs, without end unless ``F`` can be decreased no more."""
        here, last, size, number = _Point(objective, space, latent), None, self.step_size, 0
        if not torch.isfinite(torch.tensor(here.value)):
            raise DomainError(f"the objective is {here.value} at the start")
        evaluations = 1
        while True:
            yield SiMPLStep(number, here.design, here.latent, here.value, evaluations, size, here.stationarity())
            tried: list[_Point] = []
            guess = size if last is None else _guess(here, last, size)
            try:
                attempt = partial(self._attempt, objective, here, tried)
                size, _ = backtrack(attempt, here.value, guess, self.max_halvings)
            except ConvergenceError:
                if number == 0:
                    raise
                return
            evaluations, number = evaluations + len(tried), number + 1
            here, last = tried[-1], here

    def _attempt(self, objective: Objective, here: "_Point", tried: list["_Point"], size: float) -> tuple[float, float]:
        """The value of a step, which is remembered, and what it may add to the present one."""
        new = _Point(objective, here.space, here.stepped(size))
        tried.append(new)
        slope = here.space.inner(here.gradient, new.design - here.design)
        return new.value, allowance(self.criterion, slope, lambda: here.space.divergence(new.latent, here.latent), size)


class _Point:
    """A latent with its design, value and gradient."""

    def __init__(self, objective: Objective, space: DensitySpace, latent: Tensor) -> None:
        self.space, self.latent, self.design = space, latent, space.design(latent)
        value, gradient = objective(self.design)
        if gradient.shape != latent.shape:
            raise ShapeError(
                f"objective must return a gradient of the design's shape {tuple(latent.shape)}, "
                f"got {tuple(gradient.shape)}"
            )
        self.value = float(value)
        # Of fixed elements it means nothing.
        self.gradient = torch.where(space.free > 0, gradient.detach().to(latent) / space.weights, 0.0)

    def stepped(self, size: float) -> Tensor:
        """The latent after a step."""
        return self.space.project(self.latent - size * self.gradient)

    def stationarity(self, size: float = 1e-3) -> float:
        return self.space.divergence(self.stepped(size), self.latent) ** 0.5 / size


def _guess(here: _Point, last: _Point, size: float) -> float:
    moved = here.design - last.design
    return barzilai_borwein(
        here.space.inner(here.latent - last.latent, moved),
        here.space.inner(here.gradient - last.gradient, moved),
        size,
    )
