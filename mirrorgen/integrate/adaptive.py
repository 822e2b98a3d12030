"""The bridge to torchdiffeq's adaptive solvers, with bounded work and readable failures."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.integrate.fixed import VectorField

__all__ = ["ADAPTIVE_METHODS", "Adaptive", "odeint_adaptive"]

ADAPTIVE_METHODS: tuple[str, ...] = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
"""Adaptive solvers that torchdiffeq offers on every version in our range."""


@dataclass(frozen=True)
class Adaptive:
    """An adaptive Runge-Kutta method of torchdiffeq, usable wherever a fixed-step method is.

    A step is accepted if the error norm, error over ``atol + rtol * max(|y_0|, |y_1|)``, is at most one.
    With ``norm="max"`` it is the root mean square over the coordinates of *each sample*, then the largest
    over the batch: every sample meets the tolerance, and a sample that needs tiny steps slows the whole batch
    down visibly (``max_evaluations`` bounds it, and the error names the sample). ``norm="mean"`` is the
    root mean square over everything: cheaper, but one sample in a batch of ``B`` may be off by ``sqrt(B)``
    times the tolerance without anyone noticing.

    Steps end exactly at the requested times: torchdiffeq otherwise steps past the end and interpolates
    back, which evaluates the field outside its time span and costs accuracy. Gradients flow through it.

    Attributes:
        method: A name from ``ADAPTIVE_METHODS``.
        rtol: Relative tolerance per step.
        atol: Absolute tolerance per step.
        max_evaluations: Bound on the evaluations of the vector field.
        norm: ``"max"`` or ``"mean"``, see above.
        first_step: First step, or None to estimate it.
    """

    method: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5
    max_evaluations: int = 10_000
    norm: str = "max"
    first_step: float | None = None

    def __post_init__(self) -> None:
        if self.method not in ADAPTIVE_METHODS:
            candidates = ", ".join(ADAPTIVE_METHODS)
            raise DomainError(f"unknown adaptive method {self.method!r}; choose one of {candidates}")
        if self.norm not in ("max", "mean"):
            raise DomainError(f"norm is 'max' (over samples) or 'mean'; got {self.norm!r}")
        if self.rtol < 0 or self.atol < 0 or self.rtol + self.atol <= 0 or self.max_evaluations < 1:
            raise DomainError(f"tolerances are non-negative, one of them and max_evaluations positive; got {self}")

    def solve(self, f: VectorField, y: Tensor, times: Tensor) -> Tensor:
        """Solve ``dy/dt = f(t, y)`` from ``times[0]`` and return the states ``(len(times), *y.shape)``.

        Raises:
            ConvergenceError: At ``max_evaluations``, at a step below the resolution of time, or at the
                first evaluation that is not finite.
            DomainError: If the times neither increase nor decrease strictly.
            ShapeError: If the field returns another shape than the state's.
        """
        from torchdiffeq import odeint

        steps = times.detach().diff()
        if not bool((steps > 0).all() | (steps < 0).all()):
            raise DomainError("an adaptive method needs strictly increasing or strictly decreasing times")
        if y.numel() == 0:
            return y.expand(len(times), *y.shape)
        watch = _Watch(f, self, times)
        options: dict[str, Any] = {"norm": watch.error_norm, "step_t": times}
        if self.first_step is not None:
            options["first_step"] = self.first_step
        try:
            return odeint(watch, y, times, rtol=self.rtol, atol=self.atol, method=self.method, options=options)
        except AssertionError as error:
            if watch.in_field:
                raise
            # torchdiffeq asserts that t + dt > t and that the state is finite.
            raise watch.failure("the step fell below the resolution of time") from error


def odeint_adaptive(
    f: VectorField,
    y: Tensor,
    t_0: float = 0.0,
    t_1: float = 1.0,
    *,
    method: str = "dopri5",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_evaluations: int = 10_000,
    norm: str = "max",
    first_step: float | None = None,
) -> Tensor:
    """Solve ``dy/dt = f(t, y)`` from ``t_0`` to ``t_1`` adaptively; the options are those of ``Adaptive``.

    Returns:
        The state at ``t_1``, the shape of ``y``.

    Raises:
        ConvergenceError: If the solver gave up; the message says where, after how many evaluations, and what
            may help.
        DomainError: If an option has a value that is not allowed.
    """
    options = Adaptive(method, rtol, atol, max_evaluations, norm, first_step)
    times = torch.tensor([t_0, t_1], dtype=y.dtype, device=y.device)
    return options.solve(f, y, times)[-1]


class _Watch:
    """The vector field, counting evaluations and remembering what a failure report needs."""

    def __init__(self, f: VectorField, options: Adaptive, times: Tensor) -> None:
        self.f, self.options = f, options
        self.start, self.end = float(times[0].detach()), float(times[-1].detach())
        self.in_field = False
        self.evaluations = 0
        self.time = self.start
        self.errors: Tensor | None = None

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        if self.evaluations >= self.options.max_evaluations:
            raise self.failure(f"the bound of {self.options.max_evaluations} evaluations is reached")
        self.evaluations += 1
        # The estimate of the first step may probe past the end, where the field need not exist; the step
        # size depends on the state, hence the detached times.
        t = t.clamp(min(self.start, self.end), max(self.start, self.end))
        self.time = float(t.detach())
        self.in_field = True
        value = self.f(t.to(y.dtype), y)
        self.in_field = False
        if value.shape != y.shape:
            raise ShapeError(
                f"the vector field returned shape {tuple(value.shape)} for a state of shape {tuple(y.shape)}"
            )
        if not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).reshape(-1, value.shape[-1]).any(-1).sum())
            raise self.failure(f"the vector field is not finite for {bad} samples")
        return value

    def error_norm(self, error: Tensor) -> Tensor:
        """The norm that torchdiffeq compares with one, see ``Adaptive``."""
        if self.options.norm == "mean" or error.ndim < 2:
            return error.square().mean().sqrt()
        self.errors = error.detach().square().mean(-1).reshape(-1)
        return error.square().mean(-1).max().sqrt()

    def failure(self, reason: str) -> ConvergenceError:
        """What happened, where, and what may help."""
        worst = "" if self.errors is None else f" Sample {int(self.errors.argmax())} needs the smallest steps."
        residual = float("nan") if self.errors is None else float(self.errors.max().sqrt())
        return ConvergenceError(
            f"{self.options.method} stopped at t={self.time:.6g} of [{self.start:.6g}, {self.end:.6g}] after "
            f"{self.evaluations} evaluations: {reason}.{worst} Loosen rtol or atol, use float64, stop before "
            "a singular end of time, raise max_evaluations, or use a fixed-step method",
            residual=residual,
        )
