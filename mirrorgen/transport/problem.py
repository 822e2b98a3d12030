"""Transport problems at the door: shapes that broadcast, finite costs, positive marginals of one total mass."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.validation import should_check
from mirrorgen.numerics import upcast

__all__ = [
    "Problem",
    "centered",
    "check_marginals",
    "check_on_failure",
    "equal_mass",
    "marginal_error",
    "positive",
    "transport_problem",
]

# Relative difference of the masses of two marginals that rounding explains, as for the domain TransportPolytope.
_MASS = {torch.float64: 1e-9, torch.float32: 1e-5}


class Problem(NamedTuple):
    """A batch of transport problems in the precision of the solvers, marginals rescaled to one mass.

    Attributes:
        cost: ``C``, ``(*batch, n, m)``.
        mu: Row sums ``(*batch, n)``.
        nu: Column sums ``(*batch, m)``.
    """

    cost: Tensor
    mu: Tensor
    nu: Tensor


def require_float(x: object, name: str, shape: str) -> None:
    """Raise ``ShapeError`` unless ``x`` is a float32 or float64 tensor."""
    if not isinstance(x, Tensor) or x.dtype not in _MASS:
        kind = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise ShapeError(f"{name} must be a float32 or float64 tensor of shape {shape}, got {kind}")


def check_marginals(marginals: Sequence[Tensor], sizes: Sequence[int]) -> None:
    """Raise unless every marginal is positive, as long as its axis of the plan, and all have one mass.

    Raises:
        DomainError: If an entry is not positive and finite, or masses differ by more than rounding.
        ShapeError: If a marginal has the wrong length or kind.
    """
    for k, (weights, size) in enumerate(zip(marginals, sizes, strict=True)):
        require_float(weights, f"marginal {k}", f"(*batch, {size})")
        if weights.ndim < 1 or weights.shape[-1] != size:
            raise ShapeError(f"marginal {k} must have shape (*batch, {size}), got {tuple(weights.shape)}")
    if not should_check(*marginals):
        return
    for k, weights in enumerate(marginals):
        if not bool((torch.isfinite(weights) & (weights > 0)).all()):
            raise DomainError(
                f"marginal {k} must be positive and finite everywhere; drop the rows or columns without mass"
            )
    _check_masses([w.detach().double().sum(-1) for w in marginals], max(_MASS[w.dtype] for w in marginals))


def _check_masses(masses: Sequence[Tensor], allowed: float) -> None:
    for k, mass in enumerate(masses[1:], 1):
        try:
            first, other = torch.broadcast_tensors(masses[0], mass)
        except RuntimeError as error:
            shapes = f"{tuple(masses[0].shape)} and {tuple(mass.shape)}"
            raise ShapeError(f"marginals 0 and {k} must have batches that broadcast, got {shapes}") from error
        far = (other - first).abs() > allowed * first
        if bool(far.any()):
            one, two = float(first[far][0]), float(other[far][0])
            raise DomainError(
                f"marginals 0 and {k} must have the same total mass, got {one:.9g} and {two:.9g}; rescale"
            )


def equal_mass(marginals: Sequence[Tensor]) -> list[Tensor]:
    """Marginals in the precision of the solvers, rescaled to the mass of the first."""
    first, *others = (upcast(w) for w in marginals)
    return [first, *(w * (first.sum(-1, keepdim=True) / w.sum(-1, keepdim=True)) for w in others)]


def positive(value: float | Tensor, name: str, like: Tensor, batch: torch.Size) -> Tensor:
    """``value`` as a tensor ``batch`` in the dtype of ``like``.

    Raises:
        DomainError: If it is not positive and finite.
        ShapeError: If it does not broadcast to one number per problem.
    """
    number = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if should_check(number) and not bool((torch.isfinite(number) & (number > 0)).all()):
        raise DomainError(f"{name} must be positive and finite, got {value!r:.60}")
    try:
        return number.expand(batch)
    except RuntimeError as error:
        raise ShapeError(f"{name} must be one number or {tuple(batch)}, got {tuple(number.shape)}") from error


def transport_problem(cost: Tensor, mu: Tensor | None, nu: Tensor | None) -> Problem:
    """The checked problem; marginals that are None are uniform with mass one.

    Raises:
        DomainError: If a cost is not finite, or a marginal is bad (``check_marginals``).
        ShapeError: If shapes do not broadcast.
    """
    require_float(cost, "cost", "(*batch, n, m)")
    if cost.ndim < 2 or 0 in cost.shape:
        raise ShapeError(f"cost must have shape (*batch, n, m) without empty axes, got {tuple(cost.shape)}")
    n, m = cost.shape[-2:]
    mu, nu = (cost.new_full((k,), 1 / k) if w is None else w for w, k in ((mu, n), (nu, m)))
    check_marginals((mu, nu), (n, m))
    # The sum is one pass over the memory; it can overflow where all entries are finite.
    if should_check(cost) and not (bool(torch.isfinite(cost.sum())) or bool(torch.isfinite(cost).all())):
        raise DomainError("cost must be finite; give forbidden pairs a large finite cost")
    try:
        batch = torch.broadcast_shapes(cost.shape[:-2], mu.shape[:-1], nu.shape[:-1])
    except RuntimeError as error:
        shapes = ", ".join(str(tuple(t.shape)) for t in (cost, mu, nu))
        raise ShapeError(f"cost, mu and nu must have batches that broadcast, got {shapes}") from error
    mu, nu = equal_mass((mu, nu))
    return Problem(upcast(cost).expand(*batch, n, m), mu.expand(*batch, n), nu.expand(*batch, m))


def centered(f: Tensor, g: Tensor, nu: Tensor) -> tuple[Tensor, Tensor]:
    """Potentials with ``<nu, g> = 0``: one constant is free, taken from ``g`` and given to ``f``."""
    shift = (nu * g).sum(-1, keepdim=True) / nu.sum(-1, keepdim=True)
    return f + shift, g - shift


def check_on_failure(on_failure: str) -> None:
    """Raise ``DomainError`` unless ``on_failure`` is a known choice."""
    if on_failure not in ("raise", "nan", "keep"):
        raise DomainError(f"on_failure must be 'raise', 'nan' or 'keep', got {on_failure!r}")


def along(weights: Tensor, axis: int, axes: int) -> Tensor:
    """``(*batch, n)`` as ``(*batch, 1, .., n, .., 1)``, with ``n`` at place ``axis`` of the last ``axes``."""
    return weights.reshape(*weights.shape[:-1], *[1] * axis, -1, *[1] * (axes - axis - 1))


def marginals_of(plan: Tensor, axes: int = 2) -> list[Tensor]:
    """Sums of a plan over all but one of its last ``axes`` axes, each ``(*batch, n_i)``."""
    if axes == 1:
        return [plan]
    return [plan.sum([a for a in range(-axes, 0) if a != kept]) for kept in range(-axes, 0)]


def marginal_error(plan: Tensor, *marginals: Tensor) -> Tensor:
    """``sum_k |plan's k-th marginal - given one|_1`` over the total mass, ``(*batch)``.

    Args:
        plan: ``(*batch, n_1, ..., n_k)``.
        marginals: One ``(*batch, n_i)`` per axis of the plan.
    """
    sums = marginals_of(plan, len(marginals))
    gaps = [(have - want).abs().sum(-1) for have, want in zip(sums, marginals, strict=True)]
    return torch.stack(torch.broadcast_tensors(*gaps)).sum(0) / marginals[0].sum(-1)
