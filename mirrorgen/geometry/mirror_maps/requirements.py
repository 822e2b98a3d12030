"""Checks of constructor arguments that several mirror maps share."""

import math

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains.base import Domain

__all__ = ["require_domain", "require_positive"]


def require_domain(domain: Domain, *kinds: type, name: str) -> None:
    """Raise ``DomainError`` unless ``domain`` is of one of ``kinds``."""
    if not isinstance(domain, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise DomainError(f"{name} lives on {wanted}, got {domain!r}; mirror_maps.default(domain) picks a map for it")


def require_positive(value: float, *, name: str) -> float:
    """``value`` as a float; ``DomainError`` unless it is finite and positive."""
    if not (math.isfinite(value) and value > 0):
        raise DomainError(f"{name} must be a positive number, got {value!r}")
    return float(value)
