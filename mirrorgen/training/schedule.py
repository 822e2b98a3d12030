"""Learning-rate factors as functions of the optimiser step."""

import math
from typing import Literal

from mirrorgen.errors import DomainError

__all__ = ["Schedule", "learning_rate_factor"]

Schedule = Literal["constant", "cosine", "step"]


def learning_rate_factor(
    step: int, *, schedule: Schedule, warmup_steps: int, total_steps: int, decay: float, decay_every: int
) -> float:
    """What the learning rate is multiplied by at optimiser step ``step``, counted from 0.

    Linear warm-up ``(step + 1) / warmup_steps``, then: constant 1; half a cosine from 1 to 0 at ``total_steps``; or
    ``decay ** floor(step / decay_every)``.

    Raises:
        DomainError: If the cosine has no end.
    """
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if schedule == "step":
        return warmup * decay ** (step // decay_every)
    if schedule == "cosine":
        if total_steps < 1:
            raise DomainError("schedule='cosine' needs trainer.max_steps: it ends there")
        # A run that ends within its warm-up never gets to the cosine.
        progress = max(0, step - warmup_steps) / max(1, total_steps - warmup_steps)
        return warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return warmup
