"""Frames for truncated normal laws."""

from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.numerics import upcast
from mirrorgen.samplers.walks.frame import Frame, make_frame
from mirrorgen.targets import TruncatedNormal

__all__ = ["GaussianFrame", "make_gaussian_frame"]


class GaussianFrame(NamedTuple):
    """A normal law in the coordinates of a frame, ``p(w) ~ exp(-(w - mean)^T precision (w - mean) / 2)``.

    Attributes:
        frame: The coordinates.
        mean: ``(k,)``, outside the set as often as not.
        precision: ``(k, k)``; the identity if whitened.
    """

    frame: Frame
    mean: Tensor
    precision: Tensor


def make_gaussian_frame(target: TruncatedNormal, whiten: bool) -> GaussianFrame:
    """Coordinates of the affine hull of the domain, whitened or along the axes of the chart.

    On sets with equalities the law is that of the target restricted to the affine hull.

    Raises:
        DomainError: If ``target`` is no ``TruncatedNormal``, or its domain has no half-spaces.
    """
    if not isinstance(target, TruncatedNormal):
        raise DomainError(
            f"exact normal conditionals need a targets.TruncatedNormal, got {type(target).__name__}; for other "
            "densities use HitAndRun, CoordinateHitAndRun or MirroredHMC"
        )
    plain = make_frame(target.domain, None)
    mean, precision = _law(target, plain)
    if not whiten:
        return GaussianFrame(plain, mean, precision)
    # Precision = L L^T; in w = L^T z it is the identity, and the factor of the frame is L^-T.
    inverse = torch.linalg.cholesky(precision).mT
    factor = torch.linalg.inv(inverse)
    return GaussianFrame(make_frame(target.domain, factor), inverse @ mean, torch.eye(len(mean)).to(mean))


def _law(target: TruncatedNormal, frame: Frame) -> tuple[Tensor, Tensor]:
    """Mean and precision in the coordinates of ``frame``."""
    precision = upcast(target.precision).to(frame.matrix)
    weighted = frame.matrix * precision if precision.ndim == 1 else frame.matrix @ precision
    inner = weighted @ frame.matrix.mT
    inner = 0.5 * (inner + inner.mT)
    force = weighted @ (target.location.to(frame.origin) - frame.origin)
    return torch.linalg.solve(inner, force), inner
