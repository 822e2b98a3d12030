"""Densities between zero and one with a given volume: their latents, projections, and inner products by measure."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.box_hyperplane import hyperplane_shift
from mirrorgen.geometry.domains import Box
from mirrorgen.geometry.mirror_maps import BoxEntropy

__all__ = ["DensitySpace"]

# Logits of elements that are fixed: nothing that can be told from zero or one.
_FIXED = 100.0


@dataclass(frozen=True, eq=False)
class DensitySpace:
    """Designs of one shape with ``0 < rho < 1`` and ``sum w rho = theta sum w``, through latents ``logit rho``.

    Args:
        weights: Volumes ``w`` of elements, positive, in the shape of designs.
        fraction: ``theta``.
        solid: Mask of elements fixed at one.
        void: Mask of elements fixed at zero.
        at_most: Whether the volume may be smaller.

    Raises:
        ShapeError: If masks and weights differ in shape.
        DomainError: If a weight is not positive, masks meet, or fixed elements leave no free volume.
    """

    weights: Tensor
    fraction: float
    solid: Tensor
    void: Tensor
    at_most: bool = False

    def __post_init__(self) -> None:
        for name, mask in (("solid", self.solid), ("void", self.void)):
            if mask.shape != self.weights.shape or mask.dtype != torch.bool:
                raise ShapeError(f"{name} must be a bool mask of the design's shape {tuple(self.weights.shape)}")
        if bool((self.solid & self.void).any()):
            raise DomainError("an element cannot be both solid and void")
        if not bool((self.weights > 0).all() & self.weights.isfinite().all()):
            raise DomainError("weights must be positive: they are volumes of elements")
        if not 0 < self.volume < float(self.free.sum()):
            raise DomainError(
                f"volume_fraction={self.fraction:g} cannot be kept: with the solid and void elements it must lie "
                f"strictly between {self._share(self.solid):g} and {1 - self._share(self.void):g}"
            )

    def _share(self, mask: Tensor) -> float:
        return float((self.weights * mask).sum() / self.weights.sum())

    @property
    def free(self) -> Tensor:
        """The weights, zero where a density is fixed."""
        return torch.where(self.solid | self.void, 0.0, self.weights)

    @property
    def volume(self) -> float:
        """What free elements have to share."""
        return float(self.fraction * self.weights.sum() - (self.weights * self.solid).sum())

    def latent(self, design: Tensor) -> Tensor:
        """The projected latent of a design.

        Raises:
            DomainError: If the density of a free element is not strictly inside.
        """
        fixed = self.solid | self.void
        inside = torch.where(fixed, 0.5, design)
        if not bool(((inside > 0) & (inside < 1)).all()):
            raise DomainError("the start must lie strictly between zero and one, except where elements are fixed")
        latent = _entropy(inside, "to_dual")
        return self.project(torch.where(self.solid, _FIXED, torch.where(self.void, -_FIXED, latent)))

    def design(self, latent: Tensor) -> Tensor:
        """``sigmoid`` of the latent, strictly inside."""
        return _entropy(latent, "to_primal")

    def project(self, latent: Tensor) -> Tensor:
        """The latent ``psi + c`` of the given volume: the Bregman projection in the measure of the weights.

        Latents beyond 500, in float32 beyond 80, would drift without end where bounds are active. They are cut off
        after the shift, where this moves no density by more than can be represented.
        """
        shift = hyperplane_shift(latent.flatten(), self.free.flatten(), self.volume).to(latent.dtype)
        latent = latent + torch.where(self.free > 0, shift.clamp_max(0.0) if self.at_most else shift, 0.0)
        bound = 500.0 if latent.dtype == torch.float64 else 80.0
        return latent.clamp(-bound, bound)

    def inner(self, a: Tensor, b: Tensor) -> float:
        """``sum w a b`` over free elements."""
        return float((self.free * a * b).sum())

    def divergence(self, p: Tensor, q: Tensor) -> float:
        """``sum w D(sigmoid(p), sigmoid(q))`` over free elements, with the divergence of the Fermi-Dirac entropy."""
        # Symmetric under x -> 1 - x: the second point is taken from the bound next to it, where it has its digits.
        sign = torch.where(q > 0, -1.0, 1.0)
        return float((self.free * _entropy(self.design(sign * p), "divergence", self.design(sign * q))).sum())


def _entropy(x: Tensor, name: str, *more: Tensor) -> Tensor:
    """A method of the Fermi-Dirac entropy, element by element."""
    mirror_map = BoxEntropy(Box(0.0, 1.0, dim=1)).to(x.device)
    found: Any = getattr(mirror_map, name)(*(t.unsqueeze(-1) for t in (x, *more)))
    return found.squeeze(-1) if found.ndim > x.ndim else found
