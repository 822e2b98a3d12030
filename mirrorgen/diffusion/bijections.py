"""Bijections between convex domains, which carry models from one to the other: contract, identity, products."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Domain, Product
from mirrorgen.geometry.validation import require_kind
from mirrorgen.numerics import upcast

__all__ = ["Bijection", "Identity", "ProductBijection"]


class Bijection(nn.Module, ABC):
    """A differentiable bijection from the open set ``source`` onto the open set ``target``.

    Points are ``(..., source.dim)`` and ``(..., target.dim)``. Values are computed in float64, returned in the dtype of
    the points, and strictly inside in that dtype. A subclass provides ``_forward``, ``_inverse`` and ``_log_abs_det``.

    Args:
        source: Where the map starts.
        target: Where it ends.

    Raises:
        DomainError: If one is no domain, or their dimensions differ.
    """

    source: Domain
    target: Domain

    def __init__(self, source: Domain, target: Domain) -> None:
        super().__init__()
        require_kind(source, Domain, "source")
        require_kind(target, Domain, "target")
        if source.dual_dim != target.dual_dim:
            raise DomainError(
                f"a bijection keeps the dimension: {source!r} has {source.dual_dim}, {target!r} has {target.dual_dim}"
            )
        self.source, self.target = source, target

    def forward(self, x: Tensor) -> Tensor:
        """The image ``(..., target.dim)`` of points ``x (..., source.dim)``.

        Raises:
            ShapeError: If the last axis is not ``source.dim``.
            DomainError: If a point is not strictly inside ``source``.
        """
        self.source.check(x)
        return self.target.pull_inside(self._forward(upcast(x)).to(x.dtype))[0]

    def inverse(self, y: Tensor) -> Tensor:
        """The points ``(..., source.dim)`` whose images are ``y (..., target.dim)``.

        Raises:
            ShapeError: If the last axis is not ``target.dim``.
            DomainError: If a point is not strictly inside ``target``.
        """
        self.target.check(y, "y")
        return self.source.pull_inside(self._inverse(upcast(y)).to(y.dtype))[0]

    def log_abs_det(self, x: Tensor) -> Tensor:
        """``log |det d forward / dx|`` at ``x (..., source.dim)``, ``(...)``, in the measures of the two domains.

        Of a density ``p`` on ``source`` the image has ``log p(x) - log_abs_det(x)``. Errors as in ``forward``.
        """
        self.source.check(x)
        return self._log_abs_det(self._forward(upcast(x))).to(x.dtype)

    def inverse_log_abs_det(self, y: Tensor) -> Tensor:
        """``log |det d inverse / dy| = -log_abs_det(inverse(y))`` at ``y (..., target.dim)``, ``(...)``.

        From ``y`` itself, whose distances to walls ``inverse(y)`` may have rounded away. Errors as in ``inverse``.
        """
        self.target.check(y, "y")
        return -self._log_abs_det(upcast(y)).to(y.dtype)

    @abstractmethod
    def _forward(self, x: Tensor) -> Tensor:
        """``forward`` in float64, possibly on the boundary."""

    @abstractmethod
    def _inverse(self, y: Tensor) -> Tensor:
        """``inverse`` in float64, possibly on the boundary."""

    @abstractmethod
    def _log_abs_det(self, y: Tensor) -> Tensor:
        """``log_abs_det`` of ``forward`` where its value is ``y``, in float64."""


class Identity(Bijection):
    """The identity of a domain: for blocks of a ``ProductBijection`` that stay as they are.

    Args:
        domain: Source and target.
    """

    def __init__(self, domain: Domain) -> None:
        super().__init__(domain, domain)

    @property
    def domain(self) -> Domain:
        """Source and target."""
        return self.target

    def _forward(self, x: Tensor) -> Tensor:
        return x

    def _inverse(self, y: Tensor) -> Tensor:
        return y

    def _log_abs_det(self, y: Tensor) -> Tensor:
        return torch.zeros_like(y[..., 0])


class ProductBijection(Bijection):
    """Bijections side by side, from the ``Product`` of their sources onto the ``Product`` of their targets.

    Args:
        bijections: One per block; ``Identity`` for blocks that stay as they are.

    Raises:
        DomainError: If there is none, or one is no bijection.
    """

    def __init__(self, *bijections: Bijection) -> None:
        for part in bijections:
            require_kind(part, Bijection, "every argument of ProductBijection")
        super().__init__(Product(*(b.source for b in bijections)), Product(*(b.target for b in bijections)))
        self.bijections = nn.ModuleList(bijections)

    @property
    def parts(self) -> list[Bijection]:
        """The bijections as a typed list."""
        return [b for b in self.bijections if isinstance(b, Bijection)]

    def _forward(self, x: Tensor) -> Tensor:
        blocks = x.split([b.source.dim for b in self.parts], -1)
        return torch.cat([b._forward(p) for b, p in zip(self.parts, blocks, strict=True)], -1)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.cat([b._inverse(p) for b, p in self._targets(y)], -1)

    def _log_abs_det(self, y: Tensor) -> Tensor:
        return torch.stack([b._log_abs_det(p) for b, p in self._targets(y)]).sum(0)

    def _targets(self, y: Tensor) -> list[tuple[Bijection, Tensor]]:
        return list(zip(self.parts, y.split([b.target.dim for b in self.parts], -1), strict=True))
