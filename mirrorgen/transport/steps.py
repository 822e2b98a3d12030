"""Step sizes of Mirror Sinkhorn."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.transport.problem import positive

__all__ = ["SCHEDULES", "StepSize", "log_spread", "step_schedule"]

SCHEDULES = ("sqrt", "constant", "anneal")
StepSize = Callable[[int], float | Tensor]


def log_spread(marginals: Sequence[Tensor]) -> Tensor:
    """``delta = sum_k max |log(marginal k / mass)|``, ``(*batch)``, at least ``KL(plan, product of marginals)``."""
    return torch.stack(
        torch.broadcast_tensors(*((w / w.sum(-1, keepdim=True)).log().abs().amax(-1) for w in marginals))
    ).sum(0)


def step_schedule(
    schedule: str | StepSize,
    step_size: float | Tensor | None,
    steps: int,
    bound: Tensor,
    marginals: Sequence[Tensor],
) -> Callable[[int], Tensor]:
    """Step sizes ``(*batch)`` by the number of the step, from 1.

    - ``"sqrt"``: ``c sqrt(delta / t) / B`` with ``c = step_size``, 1 if None.
    - ``"constant"``: ``step_size``, or ``sqrt(2 delta / steps) / B``, which is best for a bound after ``steps``.
    - ``"anneal"``: ``step_size``, ``16 / B`` if None, and then each as long as all before together, so that the inverse
      temperature of a linear objective doubles.

    Args:
        schedule: A name, or the function itself.
        step_size: See above; must be None beside a function.
        steps: Number of steps to come.
        bound: ``B``, the largest entry of gradients ``(*batch)``.
        marginals: Of the problem.

    Raises:
        DomainError: If the schedule is unknown, or a step size is not positive and finite.
    """
    delta = log_spread(marginals).to(bound.dtype)
    batch = torch.broadcast_shapes(delta.shape, bound.shape)
    if callable(schedule):
        if step_size is not None:
            raise DomainError("step_size must be None beside a function for schedule; put it into the function")
        chosen = schedule
        return lambda t: positive(chosen(t), f"step size {t}", bound, batch)
    if schedule not in SCHEDULES:
        raise DomainError(f"schedule must be a function or one of {', '.join(SCHEDULES)}, got {schedule!r}")
    given = None if step_size is None else positive(step_size, "step_size", bound, batch)
    if schedule == "sqrt":
        first = delta.sqrt() / bound if given is None else given * delta.sqrt() / bound
        return lambda t: first / math.sqrt(t)
    if schedule == "constant":
        size = (2 * delta / steps).sqrt() / bound if given is None else given
        return lambda t: size
    start = (16 / bound).expand(batch) if given is None else given
    return lambda t: start * 2.0 ** max(t - 2, 0)
