"""Slabs whose normals are drawn from a key."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains.slabs import Slabs
from mirrorgen.seeding import counter_generator

__all__ = ["Watermark"]


class Watermark(Slabs):
    """Slabs with ``length`` orthonormal tokens that a secret key determines: the set of the images that carry a mark.

    The tokens are the first rows of a uniformly distributed (Haar) orthogonal matrix, drawn from
    ``(key, dim, length)``. Hence, for an image ``x`` chosen without knowledge of the key, the coefficients are those of
    a uniformly random direction, with independent and fair signs. Slabs on one side of zero, like the defaults, are met
    by *any* such image with a probability of at most ``2^-length`` over keys. Slabs around zero have no such guarantee:
    an image of small norm meets them under every key.

    The specification holds the key, not the tokens; saved weights hold the tokens. Whoever knows the key can mark and
    unmark images. A key is a seed, not a cryptographic secret.

    Args:
        dim: Values of an image.
        length: Number of tokens, at most ``dim``.
        key: Integer.
        low: Lower bounds on the coefficients, a number or ``(length,)``.
        high: Upper bounds.

    Raises:
        DomainError: If ``dim`` or ``length`` do not fit or a slab is empty.
    """

    def __init__(
        self,
        dim: int,
        length: int = 32,
        key: int = 0,
        low: Tensor | float | list = 0.05,
        high: Tensor | float | list = 1.0,
    ) -> None:
        if not 1 <= length <= dim:
            raise DomainError(f"a watermark needs 1 <= length <= dim, got length={length} and dim={dim}")
        super().__init__(_tokens(dim, length, key), low, high)
        self.length, self.key = length, key

    def extra_repr(self) -> str:
        # Not the key: representations end up in logs and messages.
        return f"dim={self.dim}, length={self.length}"

    @property
    def one_sided(self) -> bool:
        """Whether no slab contains zero, so that ``2^-length`` bounds the false positives."""
        return bool(((self.low >= 0) | (self.high <= 0)).all())


def _tokens(dim: int, length: int, key: int) -> Tensor:
    generator = counter_generator(key, dim, length)
    normal = torch.randn(dim, length, generator=generator, dtype=torch.float64)
    basis, triangle = torch.linalg.qr(normal)
    # With a positive diagonal of R the factor is uniform; libraries choose its signs otherwise.
    return (basis * torch.where(torch.diagonal(triangle) < 0, -1.0, 1.0)).mT.contiguous()
