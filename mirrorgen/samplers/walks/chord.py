"""Chords of polyhedra and draws along them."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["SliceDraw", "chord", "open_chord", "slice_on_chord"]


def chord(slack: Tensor, speed: Tensor, dim: int = 0) -> tuple[Tensor, Tensor]:
    """Both ends ``low < 0 < high`` of ``{t : slack - t speed > 0}`` in a bounded set, constraints along axis ``dim``.

    One division per constraint and two reductions.
    """
    rate = speed / slack
    return rate.amin(dim).reciprocal_(), rate.amax(dim).reciprocal_()


def open_chord(slack: Tensor, speed: Tensor, dim: int = 0) -> tuple[Tensor, Tensor]:
    """As ``chord`` for any set; ends are infinite where nothing is in the way."""
    low, high = chord(slack, speed, dim)
    return torch.where(low < 0, low, -torch.inf), torch.where(high > 0, high, torch.inf)


class SliceDraw(NamedTuple):
    """A draw along a chord.

    Attributes:
        t: Where, ``(chains,)``; zero where every try failed.
        accepted: Whether a try succeeded.
        nonfinite: Whether a try met a log-density that is NaN or ``+inf``; such tries fail.
        value: Log-density at ``t``.
        point: Point at ``t``.
    """

    t: Tensor
    accepted: Tensor
    nonfinite: Tensor
    value: Tensor
    point: Tensor


def slice_on_chord(
    evaluate: Callable[[Tensor], tuple[Tensor, Tensor]],
    point: Tensor,
    value: Tensor,
    low: Tensor,
    high: Tensor,
    uniform: Tensor,
) -> SliceDraw:
    """A slice-sampling move from ``t = 0`` on ``(low, high)``, by shrinkage with a fixed number of tries.

    A level ``log u`` below the current value is drawn, then points uniform on the chord; a point below the level
    becomes the new end of the chord on its side. Any sequence of failed points is as likely from the point found back
    to the start (all of them bound both), so the move is reversible for every number of tries; a chain whose tries all
    fail stays.

    Args:
        evaluate: From ``t (chains,)`` to points ``(chains, dim)`` and log-densities ``(chains,)``.
        point: Points at ``t = 0``.
        value: Log-densities at ``t = 0``.
        low: Lower ends ``(chains,)``.
        high: Upper ends ``(chains,)``.
        uniform: ``(chains, 1 + tries)``.

    Source: Neal, "Slice sampling", 2003.
    """
    level = value + torch.log(uniform[:, 0])
    t = torch.zeros_like(value)
    accepted = nonfinite = torch.zeros_like(value, dtype=torch.bool)
    for u in uniform[:, 1:].unbind(1):
        trial = torch.lerp(low, high, u)
        trial_point, trial_value = evaluate(trial)
        broken = torch.isnan(trial_value) | (trial_value == torch.inf)
        hit = (trial_value > level) & ~broken & ~accepted
        nonfinite = nonfinite | (broken & ~accepted)
        t, value = torch.where(hit, trial, t), torch.where(hit, trial_value, value)
        point = torch.where(hit.unsqueeze(-1), trial_point, point)
        low, high = torch.where(trial < 0, trial, low), torch.where(trial < 0, high, trial)
        accepted = accepted | hit
    return SliceDraw(t, accepted, nonfinite, value, point)
