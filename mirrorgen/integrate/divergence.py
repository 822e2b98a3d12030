"""The divergence ``sum_i d f_i / d y_i`` of a batched vector field, exact or estimated.

Both act on a field that treats the samples of a batch independently (no batch normalisation): one
Jacobian product with the same direction in every row then serves the whole batch.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from mirrorgen.errors import DomainError, ShapeError

__all__ = ["Divergence", "divergence_exact", "divergence_hutchinson", "divergence_named", "rademacher"]

Divergence = Callable[[Callable[[Tensor], Tensor], Tensor], tuple[Tensor, Tensor]]
"""``(f, y) -> (f(y), divergence of f at y)``."""

_Probe = Callable[[Tensor], tuple[Tensor, Tensor]]


def divergence_exact(
    f: Callable[[Tensor], Tensor],
    y: Tensor,
    *,
    mode: str = "forward",
    chunk_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The field and its exact divergence, from ``dim`` Jacobian products run as one batch.

    Args:
        f: Field ``(*batch, dim) -> (*batch, dim)``, one sample at a time in effect.
        y: Points ``(*batch, dim)``.
        mode: ``"forward"`` (Jacobian-vector products) or ``"reverse"``, for fields whose operations lack
            forward-mode derivatives.
        chunk_size: Number of directions at a time; None for all. Bounds the memory.

    Returns:
        ``f(y)`` of shape ``(*batch, dim)`` and the divergence ``(*batch)``; both differentiable.

    Raises:
        DomainError: If ``mode`` is unknown.
        ShapeError: If the field changes the shape.
    """
    if mode not in ("forward", "reverse"):
        raise DomainError(f"mode is 'forward' or 'reverse'; got {mode!r}")
    basis = torch.eye(y.shape[-1], dtype=y.dtype, device=y.device)
    probe = _forward_probe(f, y) if mode == "forward" else _reverse_probe(f, y)
    batched = vmap(probe)
    divergence = torch.zeros_like(y[..., 0])
    for directions in basis.split(chunk_size or len(basis)):
        # The values are one tensor seen once per direction, not copies.
        values, diagonal = batched(directions)
        divergence = divergence + diagonal.sum(0)
    return values[0], divergence


def divergence_hutchinson(f: Callable[[Tensor], Tensor], y: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The field and the unbiased estimate ``e^T (df/dy) e`` of its divergence, averaged over probes ``e``.

    Source: Hutchinson, "A Stochastic Estimator of the Trace of the Influence Matrix" (1990); Grathwohl et
    al., "FFJORD: Free-Form Continuous Dynamics for Scalable Reversible Generative Models" (2019), who keep
    the noise fixed along a trajectory, as ``functools.partial(divergence_hutchinson, noise=...)`` does.

    Args:
        f: As in ``divergence_exact``.
        y: Points ``(*batch, dim)``.
        noise: Probes of zero mean and unit covariance, ``(*batch, dim)`` or ``(probes, *batch, dim)``, see
            ``rademacher``.

    Returns:
        ``f(y)`` and the estimate ``(*batch)``; both differentiable.

    Raises:
        ShapeError: If the noise does not fit the points or the field changes the shape.
    """
    if noise.shape != y.shape and noise.shape[1:] != y.shape:
        raise ShapeError(
            f"noise has shape {tuple(y.shape)}, with or without a leading axis of probes; got {tuple(noise.shape)}"
        )

    probe = _forward_probe(f, y)
    if noise.shape == y.shape:
        return probe(noise)
    values, estimates = vmap(probe)(noise)
    return values[0], estimates.mean(0)


def divergence_named(name: str, like: Tensor, generator: torch.Generator | None = None) -> Divergence:
    """``divergence_exact``, or ``divergence_hutchinson`` with one probe per sample that it keeps.

    Args:
        name: ``"exact"`` or ``"hutchinson"``.
        like: Points whose shape the probes take.
        generator: Source of the probes.

    Raises:
        DomainError: If the name is unknown.
    """
    if name == "exact":
        return divergence_exact
    if name == "hutchinson":
        return partial(divergence_hutchinson, noise=rademacher(like, generator=generator))
    raise DomainError(f"unknown divergence {name!r}; choose 'exact' or 'hutchinson'")


def rademacher(like: Tensor, *, probes: int | None = None, generator: torch.Generator | None = None) -> Tensor:
    """Independent fair signs, the probes of least variance for ``divergence_hutchinson``.

    Args:
        like: Points whose shape, dtype and device the noise takes.
        probes: Length of a leading axis of probes; None for no such axis.
        generator: Source of randomness on the device of ``like``.

    Returns:
        A tensor of -1 and 1, shape of ``like`` or ``(probes, *like.shape)``.
    """
    shape = like.shape if probes is None else (probes, *like.shape)
    bits = torch.randint(0, 2, shape, generator=generator, device=like.device)
    return (2 * bits - 1).to(like.dtype)


def _forward_probe(f: Callable[[Tensor], Tensor], y: Tensor) -> _Probe:
    """``e -> (f(y), e^T J e)`` by one Jacobian-vector product."""
    # A view of a joint state and its tangent would differ in layout, which the compiler refuses.
    y = y.contiguous()

    def probe(direction: Tensor) -> tuple[Tensor, Tensor]:
        value, product = jvp(f, (y,), (direction.expand_as(y),))[:2]
        _check_shape(value, y)
        return value, (product * direction).sum(-1)

    return probe


def _reverse_probe(f: Callable[[Tensor], Tensor], y: Tensor) -> _Probe:
    """``e -> (f(y), e^T J e)`` by one vector-Jacobian product; the field is evaluated once."""
    value, pullback = vjp(f, y)[:2]
    _check_shape(value, y)

    def probe(direction: Tensor) -> tuple[Tensor, Tensor]:
        return value, (pullback(direction.expand_as(y))[0] * direction).sum(-1)

    return probe


def _check_shape(value: Tensor, y: Tensor) -> None:
    if value.shape != y.shape:
        raise ShapeError(f"the field returned shape {tuple(value.shape)} for points of shape {tuple(y.shape)}")
