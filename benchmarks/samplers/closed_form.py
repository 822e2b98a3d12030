"""Laws on simplices and boxes in the coordinates of the entropic maps, as plain arrays for code written by hand.

Isometric log-ratios ``u = V y`` of a Dirichlet law: ``log p(y) = sum a log softmax(u)``. Logits of a box under a normal
or uniform law: ``log p(y) = -(x - mu)^T P (x - mu) / 2 + sum log s(y) + log s(-y)``, ``x = low + width s(y)``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.samplers.problems import Problem
from mirrorgen.geometry.simplex_chart import from_helmert
from mirrorgen.targets import Dirichlet, TruncatedNormal


@dataclass(frozen=True)
class SimplexLaw:
    """``basis (K, K-1)`` is Helmert's ``V``, ``concentration (K,)`` is ``a``."""

    basis: Tensor
    concentration: Tensor


@dataclass(frozen=True)
class BoxLaw:
    """``location`` and ``precision`` are None for the uniform law."""

    low: Tensor
    width: Tensor
    location: Tensor | None
    precision: Tensor | None


def dual_law(problem: Problem, dtype: torch.dtype) -> SimplexLaw | BoxLaw:
    """The arrays of a problem that is ``closed``."""
    target = problem.target
    if isinstance(target, Dirichlet):
        eye = torch.eye(target.domain.dual_dim, dtype=torch.float64)
        return SimplexLaw(from_helmert(eye).mT.contiguous().to(dtype), target.concentration.to(dtype))
    low, width = target.domain.low.to(dtype), (target.domain.high - target.domain.low).to(dtype)
    if isinstance(target, TruncatedNormal):
        return BoxLaw(low, width, target.location.to(dtype), target.precision.to(dtype))
    return BoxLaw(low, width, None, None)
