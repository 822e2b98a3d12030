"""Mirror descent on a transport polytope with Sinkhorn's half steps in the place of projections."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.numerics import eager_values
from mirrorgen.transport.problem import along, check_marginals, marginal_error, positive, require_float
from mirrorgen.transport.scaling import alternate, within_range
from mirrorgen.transport.steps import StepSize, step_schedule

__all__ = ["MirrorSinkhornResult", "MirrorSinkhornStep", "mirror_sinkhorn"]

AVERAGES = ("last", "uniform", "eta")


class MirrorSinkhornResult(NamedTuple):
    """A plan, and what is needed to go on or to certify it.

    Attributes:
        plan: The last iterate or the average, ``(*batch, n_1, ..., n_k)``.
        log_plan: Logarithm of the last iterate, the dual state: ``start`` of a further run.
        potentials: One ``(*batch, n_i)`` per axis. For a linear objective the last iterate is
            ``exp((sum_i potential_i - C) S)`` with ``S`` the sum of the step sizes.
        error: Violation of the marginals by ``plan`` in the 1-norm, over the mass, ``(*batch)``; no derivatives.
    """

    plan: Tensor
    log_plan: Tensor
    potentials: tuple[Tensor, ...]
    error: Tensor


class MirrorSinkhornStep(NamedTuple):
    """What a callback sees, before the step is made.

    Attributes:
        number: From 1.
        plan: The iterate at which the gradient was taken.
        gradient: There, in the shape of the plan.
        step_size: ``(*batch)``.
    """

    number: int
    plan: Tensor
    gradient: Tensor
    step_size: Tensor


def mirror_sinkhorn(
    objective: Tensor | Callable[[Tensor], Tensor],
    *marginals: Tensor,
    steps: int = 1000,
    schedule: str | StepSize = "sqrt",
    step_size: float | Tensor | None = None,
    bound: float | Tensor | None = None,
    half_steps: int = 1,
    average: str = "last",
    start: Tensor | None = None,
    callback: Callable[[MirrorSinkhornStep], None] | None = None,
) -> MirrorSinkhornResult:
    """Minimise a convex function over plans with given marginals: one gradient and one half step at a time.

    ``G = P_t exp(-eta_t grad F(P_t))``, then ``P_{t+1}`` is ``G`` with one of its marginals set right by scaling, the
    next one at the next step. Two marginals or more. The logarithm of the plan is the state: nothing is lost where
    an entry underflows.

    For a gradient with entries in ``[0, B]`` the average with weights ``eta`` satisfies
    ``F(average) - F* <= (KL(P*, P_1) + B^2 sum eta^2 / 2) / sum eta``. Marginals of the uniform average are off by
    ``O(sqrt(delta / steps))`` (``delta``: ``log_spread``), those of the weighted one by a factor ``log steps`` more.
    The last iterate is usually better in both respects. Steps of constant size with one half step stall at a violation
    in proportion to the size; more half steps lower it.

    A linear objective (a tensor) makes this Sinkhorn's algorithm at the falling temperature ``1 / sum eta``, one half
    step at each. ``sinkhorn`` and ``exact_plan`` are much faster there; the method is for other convex functions and
    for stochastic gradients.

    Derivatives with respect to everything that ``objective`` and the marginals hold are those of the iteration,
    unrolled: memory grows with ``steps``.

    Args:
        objective: The cost ``C`` of ``F(P) = <C, P>``, ``(*batch, n_1, ..., n_k)``, or a function from a plan to
            the gradient of ``F`` or to an unbiased estimate of it, whose randomness is its own affair.
        marginals: ``(*batch, n_i)``, positive, of one mass, in the dtype of the work.
        steps: Number of gradient steps.
        schedule: ``"sqrt"``, ``"constant"``, ``"anneal"`` (see ``steps.step_schedule``), or a function from the number
            of the step, from 1, to its size.
        step_size: The schedule's constant.
        bound: ``B``, the largest entry of gradients over the polytope, ``(*batch)``; if None, of the first one.
        half_steps: Scalings per gradient step.
        average: ``"last"``, or the mean of ``P_1 .. P_steps``, ``"uniform"`` or weighted by ``"eta"``.
        start: Logarithm of ``P_1``, ``-inf`` where a plan must stay zero; the product of the marginals if None.
        callback: Called before every step.

    Raises:
        ConvergenceError: If the plan is not finite in the end, because a gradient was not, or steps were too long.
        DomainError: If a marginal is bad or an option is out of range.
        ShapeError: If shapes do not fit.

    Source: Ballu, Berthet, "Mirror Sinkhorn: Fast Online Optimization on Transport Polytopes", 2023.
    """
    if steps < 1 or half_steps < 1:
        raise DomainError(f"steps and half_steps must be at least 1, got {steps} and {half_steps}")
    if average not in AVERAGES:
        raise DomainError(f"average must be one of {', '.join(AVERAGES)}, got {average!r}")
    state = _State(objective, marginals, start)
    plan, gradient = torch.exp(state.log_plan), state.gradient(torch.exp(state.log_plan))
    if bound is None:
        # Zero where the gradient is: any step will do.
        bound = gradient.detach().abs().flatten(-len(marginals)).amax(-1).clamp_min(torch.finfo(plan.dtype).tiny)
    limit = positive(bound, "bound", plan, state.batch)
    sizes = step_schedule(schedule, step_size, steps, limit, marginals)
    total = torch.zeros_like(limit)
    weight, mean = torch.zeros_like(limit), torch.zeros_like(plan)
    for t in range(1, steps + 1):
        gradient = gradient if t == 1 else state.gradient(plan)
        eta = sizes(t)
        if callback is not None:
            callback(MirrorSinkhornStep(t, plan, gradient, eta))
        if average != "last":
            weight = weight + (eta if average == "eta" else 1.0)
            share = (eta if average == "eta" else torch.ones_like(eta)) / weight
            mean = torch.lerp(mean, plan, _spread(share, len(marginals)))
        total = total + eta
        plan = state.advance(gradient, eta, half_steps)
    chosen = plan if average == "last" else mean
    if eager_values(chosen) and not bool(torch.isfinite(chosen.sum())):
        raise ConvergenceError("the plan is not finite: a gradient was NaN or infinite, or step_size is far too large")
    potentials = tuple(p / total.unsqueeze(-1) for p in state.scalings)
    return MirrorSinkhornResult(chosen, state.log_plan, potentials, marginal_error(chosen, *marginals).detach())


def _spread(number: Tensor, axes: int) -> Tensor:
    """``(*batch)`` with ``axes`` more axes of length one."""
    return number.reshape(*number.shape, *[1] * axes)


class _State:
    """Logarithm of the plan, the logarithms of all scalings so far, and whose turn it is.

    Args:
        objective: As in ``mirror_sinkhorn``.
        marginals: As in ``mirror_sinkhorn``.
        start: As in ``mirror_sinkhorn``.
    """

    def __init__(
        self,
        objective: Tensor | Callable[[Tensor], Tensor],
        marginals: tuple[Tensor, ...],
        start: Tensor | None,
    ) -> None:
        if len(marginals) < 2:
            raise ShapeError(f"mirror_sinkhorn needs at least two marginals, got {len(marginals)}")
        for k, w in enumerate(marginals):
            require_float(w, f"marginal {k}", "(*batch, n)")
        self.axes, self.objective, self.marginals = len(marginals), objective, marginals
        check_marginals(marginals, [w.shape[-1] if w.ndim else 0 for w in marginals])
        logs = [w.log() for w in marginals]
        mass = marginals[0].sum(-1).log()
        parts = [along(w, k, self.axes) for k, w in enumerate(logs)]
        shapes = [p.shape for p in parts]
        for given, name in ((objective, "objective"), (start, "start")):
            if isinstance(given, Tensor):
                require_float(given, name, "(*batch, n_1, ..., n_k)")
                shapes.append(given.shape)
        size = self._broadcast(shapes, [w.shape[-1] for w in marginals])
        self.batch = size[: -self.axes]
        product = sum(parts[1:], parts[0]) - _spread((self.axes - 1) * mass, self.axes)
        self.log_plan = (product if start is None else start.to(product.dtype)).expand(size)
        first = [logs[0] - (self.axes - 1) * mass.unsqueeze(-1), *logs[1:]]
        parts = first if start is None else [torch.zeros_like(p) for p in first]
        self.scalings = [p.expand(*self.batch, -1) for p in parts]
        self.turn = 0

    def _broadcast(self, shapes: list[torch.Size], sizes: list[int]) -> torch.Size:
        try:
            size = torch.broadcast_shapes(*shapes)
        except RuntimeError as error:
            raise ShapeError(
                f"objective, marginals and start must broadcast, got {[tuple(s) for s in shapes]}"
            ) from error
        if list(size[-self.axes :]) != sizes:
            raise ShapeError(f"objective and start must have shape (*batch, {', '.join(map(str, sizes))})")
        return size

    def gradient(self, plan: Tensor) -> Tensor:
        if isinstance(self.objective, Tensor):
            return self.objective.to(plan.dtype)
        gradient = self.objective(plan)
        try:
            fits = torch.broadcast_shapes(gradient.shape, plan.shape) == plan.shape
        except (AttributeError, RuntimeError):
            fits = False
        if not fits or gradient.ndim < self.axes:
            got = tuple(gradient.shape) if isinstance(gradient, Tensor) else type(gradient).__name__
            raise ShapeError(
                f"objective must return a gradient of the shape of the plan {tuple(plan.shape)}, got {got}; "
                "a larger batch comes from marginals or start"
            )
        return gradient

    def advance(self, gradient: Tensor, step_size: Tensor, half_steps: int) -> Tensor:
        """One gradient step and ``half_steps`` scalings; the new plan."""
        self.log_plan = self.log_plan - _spread(step_size, self.axes) * gradient
        plan = self._scale_logs()
        if half_steps == 1:
            return plan
        if self.axes == 2 and eager_values(plan):
            absorbed = self._scale_absorbed(plan, half_steps - 1)
            if absorbed is not None:
                return absorbed
        for _ in range(half_steps - 1):
            plan = self._scale_logs()
        return plan

    def _scale_logs(self) -> Tensor:
        """Set the marginal of the axis whose turn it is right, for one exponential per entry."""
        axis, self.turn = self.turn, (self.turn + 1) % self.axes
        others = [k - self.axes for k in range(self.axes) if k != axis]
        peak = self.log_plan.detach().amax(others, keepdim=True)
        plan = torch.exp(self.log_plan - peak)
        total = plan.sum(others, keepdim=True)
        wanted = along(self.marginals[axis], axis, self.axes)
        shift = (wanted / total).log() - peak
        self.log_plan = self.log_plan + shift
        self.scalings[axis] = self.scalings[axis] + shift.reshape(self.scalings[axis].shape)
        return plan * (wanted / total)

    def _scale_absorbed(self, plan: Tensor, count: int) -> Tensor | None:
        """``count`` half steps as products with the plan, whose last scaled axis is right; None if sums underflow."""
        other, last = self.turn, 1 - self.turn
        kernel = plan if last == 0 else plan.mT
        u, v = alternate(kernel, self.marginals[last], self.marginals[other], count)
        if not within_range(u, v):
            return None
        for axis, scaling in ((last, u), (other, v)):
            shift = scaling.log()
            self.scalings[axis] = self.scalings[axis] + shift
            self.log_plan = self.log_plan + along(shift, axis, 2)
            plan = plan * along(scaling, axis, 2)
        self.turn = (other + count) % 2
        return plan
