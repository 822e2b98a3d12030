"""Transport of densities along an ordinary differential equation."""

from collections.abc import Callable

import torch
from torch import Tensor

from mirrorgen.integrate.divergence import Divergence, divergence_exact
from mirrorgen.integrate.fixed import VectorField
from mirrorgen.integrate.loop import Method, integrate

__all__ = ["integrate_with_logdet"]


def integrate_with_logdet(
    f: VectorField,
    y: Tensor,
    t_0: float | Tensor = 0.0,
    t_1: float | Tensor = 1.0,
    *,
    steps: int = 50,
    method: str | Method = "midpoint",
    t_grid: Tensor | None = None,
    divergence: Divergence = divergence_exact,
    callback: Callable[[int, Tensor, Tensor], None] | None = None,
    on_failure: str = "raise",
) -> tuple[Tensor, Tensor]:
    """Solve ``dy/dt = f(t, y)`` together with ``d logdet / dt = div f``, the log-determinant of the flow map.

    Densities follow by the change of variables ``log p_1(y_1) = log p_0(y_0) - logdet``; integrating
    backwards from ``y_1`` gives minus the forward value. Source: Chen, Rubanova, Bettencourt and Duvenaud,
    "Neural Ordinary Differential Equations" (2018), theorem 1.

    Args:
        f: Vector field, independent across the batch.
        y: State at ``t_0``, ``(*batch, dim)``.
        t_0: Start.
        t_1: End.
        steps: As in ``integrate``.
        method: As in ``integrate``; the log-determinant is one more coordinate of the state.
        t_grid: As in ``integrate``.
        divergence: ``divergence_exact``, or ``functools.partial(divergence_hutchinson, noise=noise)``.
        callback: As in ``integrate``; it sees the joint state ``(*batch, dim + 1)``.
        on_failure: As in ``integrate``.

    Returns:
        The state at ``t_1``, ``(*batch, dim)``, and ``log |det dy_1 / dy_0|``, ``(*batch)``.
    """

    def joint(t: Tensor, state: Tensor) -> Tensor:
        velocity, rate = divergence(lambda point: f(t, point), state[..., :-1])
        return torch.cat([velocity, rate[..., None]], dim=-1)

    state = torch.cat([y, torch.zeros_like(y[..., :1])], dim=-1)
    state = integrate(
        joint,
        state,
        t_0,
        t_1,
        steps=steps,
        method=method,
        t_grid=t_grid,
        callback=callback,
        on_failure=on_failure,
    )
    return state[..., :-1], state[..., -1]
