"""Products of domains."""

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains.base import Domain

__all__ = ["Product"]


class Product(Domain):
    """``domains[0] x domains[1] x ...`` on concatenated coordinates.

    Everything is blockwise, the billiard included: the normal of a face of one factor has no component in the
    others, so a reflection there leaves their velocities alone and keeps the speed of its own factor. Each
    factor therefore runs its own billiard along its part of the step, independently of the others.

    Args:
        domains: The factors, at least one.

    Raises:
        DomainError: If there is no factor or one is no domain.
    """

    def __init__(self, *domains: Domain) -> None:
        super().__init__()
        strangers = [type(d).__name__ for d in domains if not isinstance(d, Domain)]
        if strangers or not domains:
            raise DomainError(f"Product needs at least one domain and only domains, got {strangers or 'none'}")
        self.domains = nn.ModuleList(domains)
        self.dim = sum(d.dim for d in domains)
        self.bounded = all(d.bounded for d in domains)
        self.chart_log_volume = sum(d.chart_log_volume for d in domains)

    def __repr__(self) -> str:
        return f"Product({', '.join(map(repr, self.blocks))})"

    @property
    def dual_dim(self) -> int:
        return sum(d.dual_dim for d in self.blocks)

    @property
    def blocks(self) -> list[Domain]:
        """The factors as a typed list."""
        return [d for d in self.domains if isinstance(d, Domain)]

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """The factors' parts of points ``(..., dim)``."""
        return x.split([d.dim for d in self.blocks], -1)

    def split_dual(self, y: Tensor) -> tuple[Tensor, ...]:
        """The factors' parts of chart or dual points ``(..., dual_dim)``."""
        return y.split([d.dual_dim for d in self.blocks], -1)

    def slack(self, x: Tensor) -> Tensor:
        return torch.cat([d.slack(p) for d, p in zip(self.blocks, self.split(x), strict=True)], -1)

    def constraint_name(self, index: int) -> str:
        for i, domain in enumerate(self.blocks):
            columns = domain.slack(domain.interior_point()).shape[-1]
            if index < columns:
                return f"block {i}: {domain.constraint_name(index)}"
            index -= columns
        raise IndexError(f"{self!r} has fewer constraints than {index + 1}")

    def equality_residual(self, x: Tensor) -> Tensor | None:
        parts = [d.equality_residual(p) for d, p in zip(self.blocks, self.split(x), strict=True)]
        residuals = [r for r in parts if r is not None]
        return torch.stack(residuals).amax(0) if residuals else None

    def interior_point(self) -> Tensor:
        return torch.cat([d.interior_point() for d in self.blocks])

    def project(self, x: Tensor) -> Tensor:
        return torch.cat([d.project(p) for d, p in zip(self.blocks, self.split(x), strict=True)], -1)

    def reflect(self, x: Tensor, step: Tensor) -> Tensor:
        pairs = zip(self.split(x), self.split(step), strict=True)
        return torch.cat([d.reflect(p, s) for d, (p, s) in zip(self.blocks, pairs, strict=True)], -1)

    def pull_inside(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pulled = [d.pull_inside(p) for d, p in zip(self.blocks, self.split(x), strict=True)]
        return torch.cat([p for p, _ in pulled], -1), torch.stack([moved for _, moved in pulled]).any(0)

    def _no_flux(self, x: Tensor, v: Tensor, scale: Tensor | float) -> Tensor:
        """Factor by factor.

        Raises:
            DomainError: If a factor has no such form.
        """
        pairs = zip(self.split(x), self.split(v), strict=True)
        return torch.cat([d._no_flux(p, u, scale) for d, (p, u) in zip(self.blocks, pairs, strict=True)], -1)

    def sample_uniform(
        self, n: int, *, generator: torch.Generator | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        if not self.bounded:
            return super().sample_uniform(n, generator=generator, dtype=dtype)
        return torch.cat([d.sample_uniform(n, generator=generator, dtype=dtype) for d in self.blocks], -1)

    def to_chart(self, x: Tensor) -> Tensor:
        return torch.cat([d.to_chart(p) for d, p in zip(self.blocks, self.split(x), strict=True)], -1)

    def from_chart(self, z: Tensor) -> Tensor:
        return torch.cat([d.from_chart(p) for d, p in zip(self.blocks, self.split_dual(z), strict=True)], -1)

    def to_tangent(self, v: Tensor) -> Tensor:
        return torch.cat([d.to_tangent(p) for d, p in zip(self.blocks, self.split(v), strict=True)], -1)

    def from_tangent(self, z: Tensor) -> Tensor:
        return torch.cat([d.from_tangent(p) for d, p in zip(self.blocks, self.split_dual(z), strict=True)], -1)

    def log_volume(self) -> float:
        """The sum over the factors."""
        return sum(d.log_volume() for d in self.blocks)

    def halfspaces(self) -> tuple[Tensor, Tensor]:
        parts = [d.halfspaces() for d in self.blocks]
        return torch.block_diag(*(A for A, _ in parts)), torch.cat([b for _, b in parts])
