"""The heat kernel of a domain, where one is known."""

from mirrorgen.diffusion.heat_kernel.ball import BallHeatKernel
from mirrorgen.diffusion.heat_kernel.base import HeatKernel
from mirrorgen.diffusion.heat_kernel.box import BoxHeatKernel
from mirrorgen.diffusion.heat_kernel.ordered import OrderedSimplexHeatKernel
from mirrorgen.diffusion.heat_kernel.product import ProductHeatKernel
from mirrorgen.diffusion.heat_kernel.triangle import EquilateralHeatKernel, RightIsoscelesHeatKernel
from mirrorgen.diffusion.heat_kernel.unbounded import EuclideanHeatKernel, HalfspaceHeatKernel, OrthantHeatKernel
from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Ball, Box, Domain, Euclidean, Halfspace, Orthant, Polytope, Product, Simplex

__all__ = ["default_kernel"]

_BY_CLASS: tuple[tuple[type[Domain], type[HeatKernel]], ...] = (
    (Box, BoxHeatKernel),
    (Ball, BallHeatKernel),
    (Orthant, OrthantHeatKernel),
    (Halfspace, HalfspaceHeatKernel),
    (Euclidean, EuclideanHeatKernel),
)
_BY_SHAPE: tuple[type[HeatKernel], ...] = (
    EquilateralHeatKernel,
    RightIsoscelesHeatKernel,
    OrderedSimplexHeatKernel,
)


def default_kernel(domain: Domain) -> HeatKernel | None:
    """The Neumann heat kernel of ``domain``, or None if this package knows none that holds for every ``sigma``."""
    for kind, kernel in _BY_CLASS:
        if isinstance(domain, kind):
            return kernel(domain)
    if isinstance(domain, Product):
        kernels = [default_kernel(block) for block in domain.blocks]
        known = [kernel for kernel in kernels if kernel is not None]
        return ProductHeatKernel(domain, known) if len(known) == len(kernels) else None
    if isinstance(domain, Simplex | Polytope):
        for kernel in _BY_SHAPE:
            # Whether a polytope is of a known shape only its kernel can tell.
            try:
                return kernel(domain)
            except DomainError:
                continue
    return None
