"""Images with a watermark: marking, detecting, and back to bytes."""

import math

import torch
from torch import Tensor

from mirrorgen.data.base import SPLITS, TensorDataModule
from mirrorgen.data.images import BYTES
from mirrorgen.data.loader import Transform
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains import Box, Slabs
from mirrorgen.numerics import upcast

__all__ = [
    "BYTE_TOLERANCE",
    "Watermarked",
    "acceptance_probability",
    "embed",
    "from_bytes",
    "sign_p_value",
    "to_bytes",
]

BYTE_TOLERANCE = 6 / (BYTES * 3**0.5)
"""Six standard deviations of what rounding pixels to bytes adds to a coefficient, in units of ``[-1, 1]``."""

_ROUNDS = 50


def embed(x: Tensor, slabs: Slabs, noise: float = 0.1, generator: torch.Generator | None = None) -> Tensor:
    """Images moved into the slabs, the nearest ones with noise.

    A coefficient outside its slab is drawn uniformly from the layer along the nearest wall that is ``noise`` times as
    thick as the slab is wide; coefficients inside, and everything orthogonal to the tokens, stay as they are. With
    ``noise`` tending to zero it is the Euclidean projection, which would leave marked images on the walls.

    Args:
        x: Images ``(..., dim)`` with values in ``[-1, 1]``; marked ones may leave this range by a little.
        slabs: The set.
        noise: In ``(0, 1]``.
        generator: Source of the noise.

    Returns:
        Images ``(..., dim)``, strictly inside ``slabs`` in the dtype of ``x``.

    Raises:
        DomainError: If ``noise`` is out of range.
    """
    if not 0 < noise <= 1:
        raise DomainError(f"noise is the thickness of a layer relative to the slab, in (0, 1]; got {noise}")
    c = slabs.coefficients(x)
    low, high = (upcast(bound) for bound in (slabs.low, slabs.high))
    depth = noise * (high - low) * torch.rand(c.shape, generator=generator, dtype=c.dtype, device=c.device)
    wanted = torch.where(c <= low, low + depth, torch.where(c >= high, high - depth, c))
    return slabs.pull_inside((upcast(x) + slabs.combine(wanted - c)).to(x.dtype))[0]


def sign_p_value(x: Tensor, slabs: Slabs) -> Tensor:
    """Exact p-values ``(...)`` of "this image was made without the key", in float64, for slabs on one side of zero.

    Over keys the signs of the coefficients of any such image are independent and fair, so the number of tokens on the
    side of their slab is binomial; the p-value is the probability of at least as many as were found,
    ``2^-m sum_{j >= k} (m choose j)``. It survives changes that push some coefficients out of their slabs, which
    ``slabs.contains`` does not, and is at least ``2^-m``. Of several keys the smallest value times their number counts.

    Args:
        x: Images ``(..., dim)``.
        slabs: A ``Watermark`` with the key, or other slabs whose tokens are uniformly distributed.

    Raises:
        DomainError: If a slab contains zero, where no such test exists.
    """
    side = torch.where(slabs.low >= 0, 1.0, torch.where(slabs.high <= 0, -1.0, 0.0))
    if not bool(side.all()):
        j = int((side == 0).nonzero()[0])
        raise DomainError(
            f"slab {j} contains zero ({slabs.low[j]:g} to {slabs.high[j]:g}): signs say nothing about it; choose "
            "bounds on one side of zero, or ask slabs.contains"
        )
    agreeing = (slabs.coefficients(x) * side > 0).sum(-1)
    return _binomial_tail(len(side)).to(x.device)[agreeing]


def _binomial_tail(m: int) -> Tensor:
    """``P(B >= k)`` for ``k = 0 .. m`` and ``B`` binomial with ``m`` fair draws, ``(m + 1,)``, from the small end."""
    j = torch.arange(m + 1, dtype=torch.float64)
    log_mass = math.lgamma(m + 1) - torch.lgamma(j + 1) - torch.lgamma(m - j + 1) - m * math.log(2)
    return log_mass.exp().flip(0).cumsum(0).flip(0).clamp_max(1.0)


def acceptance_probability(rms: Tensor | float, slabs: Slabs, atol: float = 0.0) -> Tensor:
    """The probability over keys that an image made without the key lies in the slabs, ``(...)`` in float64.

    ``prod_j [Phi((high_j + atol) / r) - Phi((low_j - atol) / r)]`` with the root mean square ``r`` of the pixels: the
    coefficients are the first ones of a uniformly random vector of length ``r sqrt(dim)``, nearly independent normal
    numbers for ``dim`` much larger than the number of tokens. For slabs on one side of zero ``2^-m`` is a bound that
    holds exactly and for every image.

    Args:
        rms: Root mean squares ``(...)``, positive.
        slabs: The set; only its bounds count.
        atol: Tolerance of the detector.
    """
    r = torch.as_tensor(rms, dtype=torch.float64, device=slabs.low.device).unsqueeze(-1)
    low, high = (slabs.low - atol) / r, (slabs.high + atol) / r
    # On the side where normal tails are small, for digits far out.
    flip = low > 0
    upper, lower = torch.where(flip, -low, high), torch.where(flip, -high, low)
    return (torch.special.ndtr(upper) - torch.special.ndtr(lower)).prod(-1)


def from_bytes(pixels: Tensor) -> Tensor:
    """The middle ``(2 k + 1) / 256 - 1`` of what a byte stands for, float32."""
    if pixels.dtype != torch.uint8:
        raise ShapeError(f"pixels must be bytes (uint8), got {pixels.dtype}")
    return (2 * pixels.float() + 1) / BYTES - 1


def to_bytes(x: Tensor, slabs: Slabs | None = None, inset: float = BYTE_TOLERANCE) -> Tensor:
    """Bytes ``(..., dim)`` of images with values about ``[-1, 1]``, clamped.

    Clamping and rounding move coefficients, and a mark may be lost. With ``slabs``, alternating projections between the
    range of pixels and the slabs shrunk by ``inset`` come first, after which rounding rarely reaches a wall; where an
    image still is not marked, as when the two sets do not meet, nothing more is done: check the result.

    Args:
        x: Images ``(..., dim)``.
        slabs: The mark to keep, or None for clamping and rounding alone.
        inset: Distance from the walls that rounding may use up, smaller than half the width of every slab.

    Raises:
        DomainError: If nothing is left of a slab.
    """
    wide = upcast(x)
    if slabs is not None:
        if not bool((slabs.high - slabs.low > 2 * inset).all()):
            raise DomainError(f"inset={inset:g} leaves nothing of a slab; make it smaller than half of its width")
        shrunk = Slabs(slabs.tokens, slabs.low + inset, slabs.high - inset)
        # Half a level: the middles of the first and the last byte.
        end = 1 - 1 / BYTES
        for _ in range(_ROUNDS):
            wide = shrunk.project(wide.clamp(-end, end))
    return ((wide + 1) * (BYTES / 2)).floor().clamp(0, BYTES - 1).to(torch.uint8)


class Watermarked(TensorDataModule):
    """Images of another data module with a watermark; every batch is marked afresh, with new noise (``embed``).

    The other module's points lie in a box with the same bounds for every pixel, which becomes ``[-1, 1]``. The marked
    ones lie in the slabs, and leave this range by a little where pixels were at its ends: the range is no constraint
    of the model. Labels are passed on.

    Args:
        data: Where the images come from; its own batch sizes do not count.
        watermark: The slabs, one coordinate per pixel.
        noise: See ``embed``.
        batch_size: See ``TensorDataModule``.
        batches_per_epoch: See ``TensorDataModule``.
        eval_batch_size: See ``TensorDataModule``.
        seed: Seed of the order, of the other module's transform and of the noise; the split is the other module's.

    Raises:
        DomainError: If ``noise`` is out of range or the images are not in such a box.
        ShapeError: If images and tokens have different lengths.
    """

    def __init__(
        self,
        data: TensorDataModule,
        watermark: Slabs,
        noise: float = 0.1,
        batch_size: int = 64,
        batches_per_epoch: int | None = None,
        eval_batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, batches_per_epoch, eval_batch_size, seed)
        if not 0 < noise <= 1:
            raise DomainError(f"noise is the thickness of a layer relative to the slab, in (0, 1]; got {noise}")
        box = data.domain
        if not isinstance(box, Box) or bool((box.low != box.low[0]).any() or (box.high != box.high[0]).any()):
            raise DomainError(f"images lie in a Box with the same bounds for every pixel; these lie in {box!r}")
        if box.dim != watermark.dim:
            raise ShapeError(f"the images have {box.dim} values, but the tokens of the watermark {watermark.dim}")
        self.data, self.watermark, self.noise = data, watermark, noise

    @property
    def domain(self) -> Slabs:
        return self.watermark

    @property
    def transform(self) -> Transform:
        return self.mark

    def mark(self, stored: Tensor, generator: torch.Generator) -> Tensor:
        """Marked images ``(n, dim)`` from what the other module stores."""
        return embed(self.unmarked(stored, generator), self.watermark, self.noise, generator)

    def unmarked(self, stored: Tensor, generator: torch.Generator) -> Tensor:
        """The images before they are marked, with values in ``[-1, 1]``."""
        own = self.data.transform
        x = stored if own is None else own(stored, generator)
        box = self.data.domain
        assert isinstance(box, Box)
        low, width = box.low[0].to(x), (box.high - box.low)[0].to(x)
        return 2 * (x - low) / width - 1

    def build(self) -> dict[str, tuple[Tensor, ...]]:
        return {name: self.data.split(name) for name in SPLITS}
