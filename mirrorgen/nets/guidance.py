"""What models ask of their network before they sample: conditions, guidance, dtype and device."""

import math
from typing import Any

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.nets.base import Net

__all__ = ["expand_condition", "guided", "state_options"]


def guided(net: Net, x: Tensor, t: Tensor, condition: Tensor | None, guidance_scale: float = 1.0) -> Tensor:
    """``net(x, t, none) + scale (net(x, t, condition) - net(x, t, none))`` in one evaluation of a doubled batch.

    A scale of 1 is the plain conditional output, a larger one trades diversity for fidelity to the condition
    (scale ``1 + w`` is guidance weight ``w`` of Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022).
    """
    if condition is None or guidance_scale == 1.0:
        return net(x, t, condition)
    everywhere = torch.ones(len(condition), dtype=torch.bool, device=x.device)
    both = torch.cat([condition, net.drop_condition(condition, everywhere)])
    times = torch.cat([t, t]) if isinstance(t, Tensor) and t.ndim else t
    wanted, free = net(torch.cat([x, x]), times, both).chunk(2)
    return free + guidance_scale * (wanted - free)


def expand_condition(net: Net, condition: Tensor | int | None, n: int, guidance_scale: float = 1.0) -> Tensor | None:
    """``condition`` with one row per sample, on the device of the network.

    Args:
        net: The network that takes it.
        condition: One label for all, labels ``(n,)`` or vectors ``(n, k)``; None for none.
        n: Number of samples.
        guidance_scale: Checked here too: guidance needs a condition.

    Raises:
        DomainError: If ``guidance_scale`` is not finite, or not 1 without a condition.
        ShapeError: If ``condition`` has not one row per sample.
    """
    if not math.isfinite(guidance_scale) or (condition is None and guidance_scale != 1.0):
        raise DomainError(f"guidance_scale={guidance_scale} must be finite, and needs a condition unless it is 1")
    if condition is None:
        return None
    try:
        labels = torch.as_tensor(condition, device=next(net.parameters()).device)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"condition must be numbers, one row per sample, got {condition!r:.60}") from error
    labels = labels.expand(n) if labels.ndim == 0 else labels
    if len(labels) != n:
        raise ShapeError(f"condition must be one label or have one row per sample, got {tuple(labels.shape)} for n={n}")
    return labels


def state_options(net: Net, n: int) -> dict[str, Any]:
    """``dtype`` and ``device`` of the states of ``n`` samples that run through ``net``: at least float32.

    A network in half precision is given states in its own, and states keep theirs.

    Raises:
        DomainError: If ``n`` is no number of samples.
    """
    if not isinstance(n, int) or n < 0:
        raise DomainError(f"the number of samples must be an integer of at least 0, got {n!r}")
    weight = next(net.parameters())
    return {"dtype": torch.promote_types(weight.dtype, torch.float32), "device": weight.device}
