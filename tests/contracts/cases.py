"""The one list of instances per abstract class; a new component adds one line here."""

from collections.abc import Callable

import torch
from torch import Tensor

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.nets import InputConvexMLP

DOMAINS: dict[str, Callable[[], D.Domain]] = {
    "box": lambda: D.Box([-1.0, 0.0, 2.0], [1.0, 0.5, 7.0]),
    "unit_box": lambda: D.Box(0.0, 1.0, dim=4),
    "ball": lambda: D.Ball(3, radius=2.5, center=[1.0, -2.0, 0.5]),
    "unit_ball": lambda: D.Ball(2),
    "simplex": lambda: D.Simplex(4),
    "triangle": lambda: D.Simplex(3),
    "euclidean": lambda: D.Euclidean(3),
    "orthant": lambda: D.Orthant(3),
    "halfspace": lambda: D.Halfspace([3.0, -4.0, 0.5], -2.0),
    "psd": lambda: D.PSD(3),
    "product": lambda: D.Product(D.Box([0.0, -1.0], [1.0, 3.0]), D.Simplex(3)),
    "unbounded_product": lambda: D.Product(D.Euclidean(1), D.Ball(2), D.Orthant(2)),
    "polytope": lambda: D.Polytope([[1.0, 2.0], [-3.0, 0.5], [0.2, -1.0], [-1.0, -1.0]], [2.0, 1.5, 0.8, 1.2]),
    "birkhoff": lambda: D.Birkhoff(3),
    "transport_polytope": lambda: D.TransportPolytope([0.5, 1.5], [0.4, 0.9, 0.7]),
    "intersection": lambda: D.Intersection(D.Box(0.0, 1.0, dim=3), D.Simplex(3), D.Polytope([[1.0, -1.0, 0.0]], [0.2])),
    "slabs": lambda: D.Slabs([[0.6, 0.0, 0.8, 0.0], [0.0, 1.0, 0.0, 0.0]], [-1.0, 0.2], [0.5, 2.0]),
    "rotated_box": lambda: D.Slabs([[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0], [0.0, 0.0, 1.0]], -1.0, [0.5, 2.0, 1.0]),
    "watermark": lambda: D.Watermark(5, length=3, key=1, low=0.1, high=0.9),
    "polyhedron": lambda: D.Polytope([[-1.0, 0.2, 0.0], [0.1, -1.0, 0.3]], [0.5, 1.0]),
    "polytope_with_equality": lambda: D.Polytope(
        [[-1.0, 0.0, 0.0, 0.0], [0.0, -2.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.5], [1.0, 1.0, 0.0, -1.0]],
        [0.0, 0.0, 0.5, 1.0],
        [[1.0, 2.0, 1.0, 1.0]],
        [1.5],
    ),
}

MAPS: dict[str, Callable[[], M.MirrorMap]] = {
    "quadratic": lambda: M.Quadratic(D.Euclidean(3)),
    "quadratic_diagonal": lambda: M.Quadratic(D.Euclidean(2), [0.5, 3.0]),
    "quadratic_dense": lambda: M.Quadratic(D.Euclidean(3), [[2.0, 0.3, 0.0], [0.3, 1.0, -0.2], [0.0, -0.2, 0.5]]),
    "p_norm": lambda: M.PNorm(D.Euclidean(3), p=1.5),
    "p_norm_2": lambda: M.PNorm(D.Euclidean(2), p=2.0),
    "hypentropy": lambda: M.Hypentropy(D.Euclidean(3), beta=0.3),
    "hypentropy_scales": lambda: M.Hypentropy(D.Euclidean(3), beta=[0.3, 2.0, 20.0]),
    "exponential": lambda: M.Exponential(D.Euclidean(3)),
    "neg_entropy": lambda: M.NegEntropy(D.Orthant(3)),
    "burg_entropy": lambda: M.BurgEntropy(D.Orthant(3)),
    "softplus_dual": lambda: M.SoftplusDual(D.Orthant(3)),
    "tsallis_orthant": lambda: M.TsallisEntropy(D.Orthant(3), q=0.5),
    "tsallis_orthant_negative": lambda: M.TsallisEntropy(D.Orthant(2), q=-0.7),
    "tsallis_simplex": lambda: M.TsallisEntropy(D.Simplex(4), q=0.5),
    "tsallis_simplex_near_entropy": lambda: M.TsallisEntropy(D.Simplex(3), q=0.9),
    "simplex_entropy_ilr": lambda: M.SimplexEntropy(D.Simplex(4)),
    "simplex_entropy_alr": lambda: M.SimplexEntropy(D.Simplex(3), chart="alr"),
    "hellinger_ball": lambda: M.HellingerBall(D.Ball(3, radius=2.5, center=[1.0, -2.0, 0.5])),
    "hellinger_interval": lambda: M.HellingerBall(D.Ball(1)),
    "log_det": lambda: M.LogDet(D.PSD(3)),
    "von_neumann": lambda: M.VonNeumann(D.PSD(3)),
    "product_map": lambda: M.ProductMap(
        M.BoxEntropy(D.Box(-1.0, 2.0, dim=2)), M.SimplexEntropy(D.Simplex(3), chart="alr"), M.HellingerBall(D.Ball(2))
    ),
    "ball_log_barrier": lambda: M.BallLogBarrier(D.Ball(3, radius=2.5, center=[1.0, -2.0, 0.5])),
    "box_entropy": lambda: M.BoxEntropy(D.Box([-1.0, 0.0, 2.0], [1.0, 0.5, 7.0])),
    "log_barrier_box": lambda: M.LogBarrier(D.Box([-1.0, 0.0, 2.0], [1.0, 0.5, 7.0])),
    "log_barrier_simplex": lambda: M.LogBarrier(D.Simplex(4)),
    "log_barrier_polytope": lambda: M.LogBarrier(random_polytope()),
    "log_barrier_polytope_with_equality": lambda: M.LogBarrier(DOMAINS["polytope_with_equality"]()),
    "slack_entropy_polytope": lambda: M.SlackEntropy(random_polytope()),
    "slack_entropy_simplex": lambda: M.SlackEntropy(D.Simplex(4)),
    "regularized_polytope": lambda: M.RegularizedBarrier(random_polytope()),
    "regularized_polytope_light": lambda: M.RegularizedBarrier(random_polytope(), kappa=0.05),
    "regularized_polytope_log": lambda: M.RegularizedBarrier(random_polytope(), kappa=1.0, weight=0.5, quadratic=2.0),
    "regularized_polytope_entropic": lambda: M.RegularizedBarrier(random_polytope(), kappa=0.0),
    "regularized_birkhoff": lambda: M.RegularizedBarrier(D.Birkhoff(3), kappa=0.1),
    "slack_entropy_birkhoff": lambda: M.SlackEntropy(D.Birkhoff(3)),
    "regularized_polyhedron": lambda: M.RegularizedBarrier(DOMAINS["polyhedron"](), kappa=0.5),
    "regularized_slabs": lambda: M.RegularizedBarrier(DOMAINS["slabs"](), kappa=0.1, quadratic=2.0),
    "regularized_watermark_entropic": lambda: M.RegularizedBarrier(DOMAINS["watermark"](), kappa=0.0, weight=0.2),
    "slack_entropy_rotated_box": lambda: M.SlackEntropy(DOMAINS["rotated_box"]()),
    "log_barrier_rotated_box": lambda: M.LogBarrier(DOMAINS["rotated_box"]()),
    "regularized_orthant": lambda: M.RegularizedBarrier(D.Orthant(3), kappa=0.3),
    "regularized_box": lambda: M.RegularizedBarrier(D.Box([-1.0, 0.0, 2.0], [1.0, 0.5, 7.0]), kappa=0.1),
    "regularized_ball": lambda: M.RegularizedBarrier(D.Ball(3, radius=2.5, center=[1.0, -2.0, 0.5])),
    "regularized_ball_entropic": lambda: M.RegularizedBarrier(D.Ball(2), kappa=0.0, quadratic=0.5),
    "regularized_halfspace": lambda: M.RegularizedBarrier(D.Halfspace([3.0, -4.0, 0.5], -2.0), kappa=0.5),
    "regularized_simplex": lambda: M.RegularizedBarrier(D.Simplex(4), kappa=0.3),
    "learned_polytope": lambda: learned(M.RegularizedBarrier(random_polytope(), weight=0.3, quadratic=0.2)),
    "learned_box": lambda: learned(M.BoxEntropy(D.Box([-1.0, 0.0, 2.0], [1.0, 0.5, 7.0]))),
    "learned_ball": lambda: learned(M.RegularizedBarrier(D.Ball(3, radius=2.5, center=[1.0, -2.0, 0.5]))),
    "learned_simplex": lambda: learned(M.SimplexEntropy(D.Simplex(3), chart="alr")),
}


def learned(base: M.MirrorMap) -> M.LearnedMirrorMap:
    """``base`` plus a convex function of its size."""
    return M.LearnedMirrorMap(base, InputConvexMLP(base.domain.dual_dim, hidden=(8, 8), gain=3.0, scale=0.5, seed=1))


def random_polytope() -> D.Polytope:
    """A bounded polytope of twelve facets in three dimensions."""
    normals = torch.randn(12, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    offsets = 0.5 + torch.rand(12, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    return D.Polytope(normals, offsets * normals.norm(dim=-1))


def interior_points(domain: D.Domain, n: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Spread interior points of any domain: long billiard paths from its interior point."""
    generator = torch.Generator().manual_seed(seed)
    start = domain.interior_point().to(dtype).expand(n, -1)
    step = domain.from_chart(torch.randn(n, domain.dual_dim, generator=generator, dtype=dtype))
    step = step - domain.from_chart(torch.zeros(n, domain.dual_dim, dtype=dtype))
    return domain.reflect(start, 2.0 * step)


def smallest_slack(domain: D.Domain, x: Tensor) -> Tensor:
    """The smallest slack of every point, infinite on a domain without constraints."""
    slack = domain.slack(x)
    return torch.cat([slack, torch.full_like(x[..., :1], torch.inf)], -1).amin(-1)


def near_faces(domain: D.Domain, n: int, gap: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """Points whose smallest slack is about ``gap``, along random rays from the interior point (bounded side only)."""
    x = interior_points(domain, n, dtype, seed=7)
    center = domain.interior_point().to(dtype)
    low, high = torch.zeros(n, 1, dtype=dtype), torch.full((n, 1), 1e3, dtype=dtype)
    for _ in range(80):
        mid = 0.5 * (low + high)
        ok = smallest_slack(domain, center + mid * (x - center)).unsqueeze(-1) > gap
        low, high = torch.where(ok, mid, low), torch.where(ok, high, mid)
    return center + torch.where(low > 900, torch.ones_like(low), low) * (x - center)
