"""The heat kernel of a domain, where one is known."""

from mirrorgen.diffusion.heat_kernel.base import HeatKernel
from mirrorgen.geometry.domains import Domain

__all__ = ["default_kernel"]


def default_kernel(domain: Domain) -> HeatKernel | None:
    """The Neumann heat kernel of ``domain``, or None if this package knows none."""
    return None
