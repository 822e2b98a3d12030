"""The heat kernel of a domain, where one is known."""

from mirrorgen.diffusion.heat_kernel.base import HeatKernel
from mirrorgen.diffusion.heat_kernel.box import BoxHeatKernel
from mirrorgen.diffusion.heat_kernel.product import ProductHeatKernel
from mirrorgen.diffusion.heat_kernel.unbounded import EuclideanHeatKernel, HalfspaceHeatKernel, OrthantHeatKernel
from mirrorgen.geometry.domains import Box, Domain, Euclidean, Halfspace, Orthant, Product

__all__ = ["default_kernel"]


def default_kernel(domain: Domain) -> HeatKernel | None:
    """The Neumann heat kernel of ``domain``, or None if this package knows none that holds for every ``sigma``."""
    if isinstance(domain, Box):
        return BoxHeatKernel(domain)
    if isinstance(domain, Orthant):
        return OrthantHeatKernel(domain)
    if isinstance(domain, Halfspace):
        return HalfspaceHeatKernel(domain)
    if isinstance(domain, Euclidean):
        return EuclideanHeatKernel(domain)
    if isinstance(domain, Product):
        kernels = [default_kernel(block) for block in domain.blocks]
        known = [kernel for kernel in kernels if kernel is not None]
        return ProductHeatKernel(domain, known) if len(known) == len(kernels) else None
    return None
