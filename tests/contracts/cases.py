"""The one list of instances per abstract class; a new component adds one line here."""

from collections.abc import Callable

import torch
from torch import Tensor

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M

DOMAINS: dict[str, Callable[[], D.Domain]] = {
    "box": lambda: D.Box([-1.0, 0.0, 2.0], [1.0, 0.5, 7.0]),
    "unit_box": lambda: D.Box(0.0, 1.0, dim=4),
    "ball": lambda: D.Ball(3, radius=2.5, center=[1.0, -2.0, 0.5]),
    "unit_ball": lambda: D.Ball(2),
    "simplex": lambda: D.Simplex(4),
    "triangle": lambda: D.Simplex(3),
    "polytope": lambda: D.Polytope([[1.0, 2.0], [-3.0, 0.5], [0.2, -1.0], [-1.0, -1.0]], [2.0, 1.5, 0.8, 1.2]),
    "polyhedron": lambda: D.Polytope([[-1.0, 0.2, 0.0], [0.1, -1.0, 0.3]], [0.5, 1.0]),
    "polytope_with_equality": lambda: D.Polytope(
        [[-1.0, 0.0, 0.0, 0.0], [0.0, -2.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.5], [1.0, 1.0, 0.0, -1.0]],
        [0.0, 0.0, 0.5, 1.0], [[1.0, 2.0, 1.0, 1.0]], [1.5]),
}

MAPS: dict[str, Callable[[], M.MirrorMap]] = {
    "simplex_entropy_ilr": lambda: M.SimplexEntropy(D.Simplex(4)),
    "simplex_entropy_alr": lambda: M.SimplexEntropy(D.Simplex(3), chart="alr"),
    "hellinger_ball": lambda: M.HellingerBall(D.Ball(3, radius=2.5, center=[1.0, -2.0, 0.5])),
    "hellinger_interval": lambda: M.HellingerBall(D.Ball(1)),
    "ball_log_barrier": lambda: M.BallLogBarrier(D.Ball(3, radius=2.5, center=[1.0, -2.0, 0.5])),
    "box_entropy": lambda: M.BoxEntropy(D.Box([-1.0, 0.0, 2.0], [1.0, 0.5, 7.0])),
}


def interior_points(domain: D.Domain, n: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Spread interior points of any domain: long billiard paths from its interior point."""
    generator = torch.Generator().manual_seed(seed)
    start = domain.interior_point().to(dtype).expand(n, -1)
    step = domain.from_chart(torch.randn(n, domain.dual_dim, generator=generator, dtype=dtype))
    step = step - domain.from_chart(torch.zeros(n, domain.dual_dim, dtype=dtype))
    return domain.reflect(start, 2.0 * step)


def near_faces(domain: D.Domain, n: int, gap: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """Points whose smallest slack is about ``gap``, along random rays from the interior point (bounded side only)."""
    x = interior_points(domain, n, dtype, seed=7)
    center = domain.interior_point().to(dtype)
    low, high = torch.zeros(n, 1, dtype=dtype), torch.full((n, 1), 1e3, dtype=dtype)
    for _ in range(80):
        mid = 0.5 * (low + high)
        ok = domain.slack(center + mid * (x - center)).amin(-1, keepdim=True) > gap
        low, high = torch.where(ok, mid, low), torch.where(ok, high, mid)
    return center + torch.where(low > 900, torch.ones_like(low), low) * (x - center)
