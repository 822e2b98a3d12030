"""Soft logarithms of heavy margins of the dual."""

import math

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.dual_transform import RobustStandardize
from mirrorgen.metrics import hill_estimator

__all__ = ["SoftLog"]


class SoftLog(RobustStandardize):
    """Tail annealing: ``v = c sign(w) log(1 + |w|)`` of standardised coordinates ``w`` that are heavy-tailed.

    A coordinate is heavy if Hill's index of the largest ``share`` of its ``|w|`` is below ``heavy``; the others stay
    ``w``. ``c`` gives the heavy ones unit scale again, in the sense of ``RobustStandardize``. Power tails become
    exponential ones, so that a Gaussian prior does what otherwise takes a heavy-tailed one. The index of a normal
    coordinate is about 7.5 at a share of 1%, that of Student's t tends to its degrees of freedom.

    Source: the transform is that of Log-FM (Pachebat, 2026); Hill, "A Simple General
    Approach to Inference About the Tail of a Distribution" (1975).

    Args:
        tail: See ``RobustStandardize``.
        heavy: Index below which a margin counts as heavy; ``inf`` transforms every coordinate.
        share: Share of the data in the tail, in (0, 0.5).
    """

    flagged: Tensor
    stretch: Tensor

    def __init__(self, tail: float = 0.25, heavy: float = 5.0, share: float = 0.01) -> None:
        super().__init__(tail)
        if not heavy > 0:
            raise DomainError(f"heavy must be positive, got {heavy}")
        if not 0 < share < 0.5:
            raise DomainError(f"share must lie in (0, 0.5), got {share}")
        self.heavy, self.share = heavy, share

    def extra_repr(self) -> str:
        return f"tail={self.tail:g}, heavy={self.heavy:g}, share={self.share:g}"

    def initialize(self, dim: int) -> None:
        super().initialize(dim)
        if "flagged" not in self._buffers:
            self.register_buffer("flagged", torch.zeros(dim, dtype=torch.bool))
            self.register_buffer("stretch", torch.ones(dim))

    @torch.no_grad()
    def fit(self, y: Tensor) -> None:
        super().fit(y)
        w = super().forward(y.detach().double())
        k = max(1, int(self.share * len(w)))
        heavy = [len(w) > k and float(hill_estimator(c.abs(), k)) < self.heavy for c in w.mT]
        self.flagged.copy_(torch.tensor(heavy))
        after = RobustStandardize(self.tail)
        after.initialize(w.shape[-1])
        after.fit(_soft_log(w))
        self.stretch.copy_(torch.where(self.flagged, 1 / after.scale.to(self.stretch), torch.ones_like(self.stretch)))

    def forward(self, y: Tensor) -> Tensor:
        w = super().forward(y)
        return torch.where(self.flagged, self.stretch.to(w.dtype) * _soft_log(w), w)

    def inverse(self, u: Tensor) -> Tensor:
        v = u / self.stretch.to(u.dtype)
        # Beyond half the range of exponents a number stands for any larger one.
        length = v.abs().clamp(max=0.5 * math.log(torch.finfo(u.dtype).max))
        # The branch that is not taken must not have infinite gradients.
        length = torch.where(self.flagged, length, torch.zeros_like(length))
        return super().inverse(torch.where(self.flagged, torch.sign(v) * torch.expm1(length), u))

    def log_det(self, y: Tensor) -> Tensor:
        w = super().forward(y)
        rate = self.stretch.to(w.dtype).log() - torch.log1p(w.abs())
        return super().log_det(y) + torch.where(self.flagged, rate, torch.zeros_like(rate)).sum(-1)


def _soft_log(w: Tensor) -> Tensor:
    return torch.sign(w) * torch.log1p(w.abs())
