"""The natural mirror map of a domain."""

from collections.abc import Callable

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains.ball import Ball
from mirrorgen.geometry.domains.base import Domain
from mirrorgen.geometry.domains.box import Box
from mirrorgen.geometry.domains.euclidean import Euclidean
from mirrorgen.geometry.domains.halfspace import Halfspace
from mirrorgen.geometry.domains.orthant import Orthant
from mirrorgen.geometry.domains.polytope import Polytope
from mirrorgen.geometry.domains.product import Product
from mirrorgen.geometry.domains.psd import PSD
from mirrorgen.geometry.domains.simplex import Simplex
from mirrorgen.geometry.domains.slabs import Slabs
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.mirror_maps.box_entropy import BoxEntropy
from mirrorgen.geometry.mirror_maps.product_map import ProductMap
from mirrorgen.geometry.mirror_maps.quadratic import Quadratic
from mirrorgen.geometry.mirror_maps.regularized_barrier import RegularizedBarrier
from mirrorgen.geometry.mirror_maps.simplex_entropy import SimplexEntropy
from mirrorgen.geometry.mirror_maps.slack_entropy import SlackEntropy
from mirrorgen.geometry.mirror_maps.softplus_dual import SoftplusDual
from mirrorgen.geometry.mirror_maps.von_neumann import VonNeumann

__all__ = ["default"]


def _entropic(domain: Domain) -> MirrorMap:
    # Entropic at the faces, Euclidean far out: the half-space form of what SoftplusDual is to the orthant.
    return RegularizedBarrier(domain, kappa=0.0)


_NATURAL: dict[type[Domain], Callable[..., MirrorMap]] = {
    Euclidean: Quadratic,
    Box: BoxEntropy,
    Simplex: SimplexEntropy,
    Orthant: SoftplusDual,
    Ball: _entropic,
    Halfspace: _entropic,
    Polytope: lambda domain: SlackEntropy(domain) if domain.bounded else _entropic(domain),
    Slabs: lambda domain: SlackEntropy(domain) if domain.bounded else _entropic(domain),
    PSD: VonNeumann,
    Product: lambda domain: ProductMap(*(default(d) for d in domain.blocks)),
}


def default(domain: Domain) -> MirrorMap:
    """The natural map of ``domain``: full dual space, and exponential dual tails at every face.

    A law with positive density at a face has dual tails that the growth of the map decides: exponential for
    entropic maps, Student-t with ``1 / nu`` degrees of freedom where ``grad phi`` grows like ``slack^-nu``. Flows,
    Hamiltonian Monte Carlo and Stein methods need dual moments, so the choice is entropic throughout:
    ``BoxEntropy``, ``SimplexEntropy`` (ilr), ``SoftplusDual`` on the orthant, ``VonNeumann`` on matrices,
    ``SlackEntropy`` on bounded polytopes, ``RegularizedBarrier(kappa=0)`` on balls, half-spaces, slabs and
    unbounded polyhedra (where ``HellingerBall`` has infinite variance and ``BallLogBarrier`` not even a mean),
    ``Quadratic`` on Euclidean space and the ``ProductMap`` of defaults on products.

    Raises:
        DomainError: If the class of ``domain`` has no default; the message lists those that have one.
    """
    for kind in type(domain).__mro__:
        if kind in _NATURAL:
            return _NATURAL[kind](domain)
    known = ", ".join(kind.__name__ for kind in _NATURAL)
    raise DomainError(f"{type(domain).__name__} has no default mirror map; known: {known}. Pass a map of your own")
