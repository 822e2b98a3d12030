"""Where chains start."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.validation import validation
from mirrorgen.samplers.base import choose
from mirrorgen.samplers.density import DualPoint, LogDensity, MirroredDensity, check_values
from mirrorgen.samplers.scale import initial_scale

__all__ = ["starting_points"]

_ASCENT_STEPS = 80


def starting_points(
    log_density: LogDensity,
    mirror_map: MirrorMap,
    n: int,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """``n`` points ``(n, dim)`` with finite log-density, spread over the domain as far as the density allows.

    Normal in the dual around the centre of the domain, with the covariance of points all over it. Points where the
    density is not finite are drawn again, half of the time nearer and nearer to the centre. Those where the dual law
    is negligible then climb until it is not: left alone, chains would turn that height into speed and fly into the
    tails. Points that are well placed stay where they were drawn.

    Args:
        log_density: As for ``mirrorgen.sample``.
        mirror_map: The map whose dual is meant.
        n: Number of points.
        dtype: Their dtype; the default dtype if None.
        device: Where they are.
        generator: Source of randomness.

    Raises:
        DomainError: If no points with finite log-density are found.
        ShapeError: If ``log_density`` returns the wrong shape.
    """
    dtype = dtype or torch.get_default_dtype()
    scale = initial_scale(mirror_map).to(device=device, dtype=dtype)
    center = mirror_map.to_dual(mirror_map.domain.interior_point().to(device=device, dtype=dtype)).expand(n, -1)
    source = generator.device if generator is not None else center.device
    radius, y = torch.ones(n, 1).to(center), center
    missing = torch.ones(n, dtype=torch.bool, device=y.device)
    for attempt in range(60):
        noise = torch.randn(y.shape, generator=generator, dtype=dtype, device=source).to(y.device)
        y = torch.where(missing.unsqueeze(-1), center + radius * noise @ scale.mT, y)
        values = check_values(log_density(mirror_map.to_primal(y)), n)
        missing = ~torch.isfinite(values)
        if not bool(missing.any()):
            return _settled(MirroredDensity(log_density, mirror_map), y)
        # Shrinking alone would never find a density that is zero at the centre.
        nearer = 0.7 * radius if attempt % 2 else radius
        radius = torch.where(missing.unsqueeze(-1), nearer, radius)
    raise DomainError(
        f"log_density is not finite around the centre of {mirror_map.domain!r}; pass initial= points where it is"
    )


def _settled(density: MirroredDensity, y: Tensor) -> Tensor:
    """Points after their dual points ``y`` have climbed to where the dual law is not negligible."""
    with torch.no_grad(), validation(False):
        start = density.at(y)
        top = _climbed(density, start, torch.full_like(start.log_mirrored, torch.inf)).log_mirrored.max()
        # Draws of a d-dimensional law lie about d / 2 below the mode.
        x = _climbed(density, start, (top - 10 - 2 * y.shape[-1]).expand(len(y))).x
    return density.mirror_map.domain.pull_inside(x)[0]


def _climbed(density: MirroredDensity, point: DualPoint, level: Tensor) -> DualPoint:
    """Steps along the gradient, of a length that grows with success, until ``log_mirrored`` reaches ``level (n,)``."""
    length = torch.full_like(level, 0.5)
    for _ in range(_ASCENT_STEPS):
        active = (point.log_mirrored < level) & (length > 1e-9)
        if not bool(active.any()):
            break
        slope = torch.linalg.vector_norm(point.gradient, dim=-1, keepdim=True)
        y = point.y + length.unsqueeze(-1) * point.gradient / slope.clamp_min(torch.finfo(slope.dtype).tiny)
        tried = density.at(y, point.start)
        better = active & (tried.log_mirrored > point.log_mirrored) & torch.isfinite(tried.gradient).all(-1)
        point = choose(better, tried, point)
        length = torch.where(better, (1.6 * length).clamp_max(10.0), 0.4 * length)
    return point
