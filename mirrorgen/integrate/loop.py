"""The one loop over time steps, and the one table of method names."""

from collections.abc import Callable

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.integrate.adaptive import ADAPTIVE_METHODS, Adaptive
from mirrorgen.integrate.fixed import RK4, Euler, FixedStep, Heun, Midpoint, VectorField
from mirrorgen.numerics import check_finite

__all__ = ["METHODS", "Method", "integrate", "resolve_method"]

Method = FixedStep | Adaptive

METHODS: dict[str, Method] = {
    "euler": Euler(),
    "midpoint": Midpoint(),
    "heun": Heun(),
    "rk4": RK4(),
    **{name: Adaptive(name) for name in ADAPTIVE_METHODS},
}
"""Methods by the name that configurations use: fixed steps first, then torchdiffeq's adaptive ones."""


def resolve_method(method: str | Method) -> Method:
    """Return the method called ``method``, or ``method`` itself if it is one already.

    Raises:
        DomainError: If the name is unknown; the message lists the candidates.
    """
    if not isinstance(method, str):
        return method
    if method not in METHODS:
        raise DomainError(f"unknown integration method {method!r}; choose one of {', '.join(METHODS)}")
    return METHODS[method]


def integrate(
    f: VectorField,
    y: Tensor,
    t_0: float | Tensor = 0.0,
    t_1: float | Tensor = 1.0,
    *,
    steps: int = 50,
    method: str | Method = "midpoint",
    t_grid: Tensor | None = None,
    trajectory: bool = False,
    callback: Callable[[int, Tensor, Tensor], None] | None = None,
    on_failure: str = "raise",
) -> Tensor:
    """Solve ``dy/dt = f(t, y)`` from ``t_0`` to ``t_1``, forwards or backwards in time.

    With a fixed-step method the loop compiles, vmaps and differentiates. Times have the dtype of ``y``.

    Args:
        f: Vector field ``f(t, y)`` with a scalar tensor ``t``.
        y: State at ``t_0``, shape ``(*batch, dim)``, floating point; it is not mutated.
        t_0: Start.
        t_1: End; smaller than ``t_0`` to integrate backwards.
        steps: Number of equal steps. Adaptive methods choose their own and only report at these times.
        method: A name from ``METHODS`` or a method object, such as ``Adaptive("dopri5", rtol=1e-7)``.
        t_grid: Increasing or decreasing times ``(steps + 1,)`` that replace ``t_0, t_1, steps``.
        trajectory: Whether to return the states at all times of the grid.
        callback: Called as ``callback(k, t, y)`` after step ``k = 1, 2, ...``; for progress and recording.
        on_failure: ``"raise"``, or ``"nan"`` to return samples that diverged as they are.

    Returns:
        The state at the end, shape of ``y``; with ``trajectory=True`` all, ``(steps + 1, *batch, dim)``.

    Raises:
        ShapeError: If ``y`` is not floating point or the grid is no vector of at least two times.
        DomainError: If the method's name, ``steps`` or ``on_failure`` is not allowed.
        ConvergenceError: If the state became non-finite, or an adaptive method gave up.
    """
    method = resolve_method(method)
    if on_failure not in ("raise", "nan"):
        raise DomainError(f"on_failure is 'raise' or 'nan'; got {on_failure!r}")
    grid = _grid(y, t_0, t_1, steps) if t_grid is None else _check_grid(y, t_grid)
    if isinstance(method, Adaptive):
        times = grid if trajectory or callback is not None else grid[[0, -1]]
        states = list(method.solve(f, y, times).unbind(0))
        for k in range(1, len(states)):
            if callback is not None:
                callback(k, times[k], states[k])
    else:
        states = _march(method, f, y, grid.unbind(0), trajectory, callback)
    if on_failure == "raise" and not check_finite(states[-1]):
        _raise_nonfinite(states[-1], method)
    return torch.stack(states) if trajectory else states[-1]


def _march(
    method: FixedStep,
    f: VectorField,
    y: Tensor,
    times: tuple[Tensor, ...],
    trajectory: bool,
    callback: Callable[[int, Tensor, Tensor], None] | None,
) -> list[Tensor]:
    """The states at ``times``, or only the last one in a list."""
    states = [y]
    for k in range(1, len(times)):
        y = method.step(f, times[k - 1], times[k] - times[k - 1], y)
        states = [*states, y] if trajectory else [y]
        if callback is not None:
            callback(k, times[k], y)
    return states


def _grid(y: Tensor, t_0: float | Tensor, t_1: float | Tensor, steps: int) -> Tensor:
    if not isinstance(steps, int) or steps < 1:
        raise DomainError(f"the number of steps is an integer of at least 1; got steps={steps!r}")
    _check_state(y)
    start, end = (torch.as_tensor(t, dtype=y.dtype, device=y.device) for t in (t_0, t_1))
    if start.ndim or end.ndim:
        raise ShapeError("t_0 and t_1 are single numbers; use one call per time span")
    unit = torch.linspace(0, 1, steps + 1, dtype=y.dtype, device=y.device)
    # Both ends are hit exactly, and gradients reach t_0 and t_1.
    return start * (1 - unit) + end * unit


def _check_grid(y: Tensor, t_grid: Tensor) -> Tensor:
    _check_state(y)
    if t_grid.ndim != 1 or t_grid.shape[0] < 2:
        raise ShapeError(f"t_grid is a vector of at least two times; got shape {tuple(t_grid.shape)}")
    return t_grid.to(dtype=y.dtype, device=y.device)


def _check_state(y: Tensor) -> None:
    if not y.is_floating_point():
        raise ShapeError(f"the state must be floating point; got {y.dtype}")


def _raise_nonfinite(y: Tensor, method: Method) -> None:
    bad = int((~torch.isfinite(y.reshape(-1, y.shape[-1] if y.ndim else 1)).all(-1)).sum())
    total = y.numel() // (y.shape[-1] if y.ndim else 1)
    raise ConvergenceError(
        f"{bad} of {total} samples are not finite after integration with {method}: the vector field returned "
        "NaN or infinity, or the steps are too long for it. Take more steps, stop before the time where "
        "the field is singular, check the inputs for NaN, or pass on_failure='nan' to keep the other samples",
        residual=float("inf"),
    )
