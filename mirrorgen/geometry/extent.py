"""The size of a bounded set."""

import math

import torch

from mirrorgen.geometry.domains import Box, Domain
from mirrorgen.seeding import counter_generator

__all__ = ["extent"]


def extent(domain: Domain) -> float:
    """``sqrt(12)`` times the largest principal deviation of the uniform law: the width of a cube, 2 R for a ball in
    one dimension, 1.73 R in two.

    Noise of deviation 1.5 times this forgets where it started, on boxes by calculation and on others by analogy.

    Raises:
        DomainError: If the domain is unbounded.
    """
    if isinstance(domain, Box):
        return float((domain.high - domain.low).max())
    x = domain.sample_uniform(4096, generator=counter_generator(17, device=domain.interior_point().device))
    covariance = torch.atleast_2d(torch.cov(domain.to_chart(x).double().mT))
    return math.sqrt(12 * float(torch.linalg.eigvalsh(covariance)[-1]))
