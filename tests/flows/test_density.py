"""The density of a flow integrates to one over its domain, by quadrature that knows nothing of the mirror map."""

import math

import pytest
import torch

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.flows import MirrorFlow
from mirrorgen.nets import MLP

F64 = torch.float64
SQUARE = [[-1.0, 0.0], [2.0, 0.0], [2.0, 1.0], [-1.0, 1.0]]
TRIANGLE = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
PENTAGON = [[-1.0, -0.5], [0.8, -1.0], [1.6, 0.3], [0.2, 1.5], [-1.2, 0.9]]


def unit_rule(n=36, reach=16.0):
    """Nodes and weights on (0, 1), graded towards both ends: the trapezoidal rule after ``r = sigmoid(w)``."""
    w = torch.linspace(-reach, reach, n, dtype=F64)
    r = torch.sigmoid(w)
    return r, r * torch.sigmoid(-w) * (w[1] - w[0])


def polygon_rule(vertices):
    """Triangles from the centroid to the edges of a convex polygon, each ``c + r (a + s (b - a) - c)``."""
    corners = torch.tensor(vertices, dtype=F64)
    center = corners.mean(0)
    r, s = (t.flatten() for t in torch.meshgrid(unit_rule()[0], unit_rule()[0], indexing="ij"))
    weight = torch.outer(unit_rule()[1], unit_rule()[1]).flatten() * r
    points, weights = [], []
    for a, b in zip(corners, corners.roll(-1, 0), strict=True):
        u, v = a - center, b - center
        points.append(center + r[:, None] * (u + s[:, None] * (v - u)))
        weights.append(weight * (u[0] * v[1] - u[1] * v[0]).abs())
    return torch.cat(points), torch.cat(weights)


def disc_rule(radius, center):
    angle = torch.arange(48, dtype=F64) * (2 * math.pi / 48)
    r, weight = unit_rule(60)
    points = radius * r[:, None, None] * torch.stack([angle.cos(), angle.sin()], -1)
    weights = (radius**2 * r * weight)[:, None] * torch.full((48,), 2 * math.pi / 48, dtype=F64)
    return points.reshape(-1, 2) + torch.tensor(center, dtype=F64), weights.flatten()


def polygon_domain(vertices):
    corners = torch.tensor(vertices, dtype=F64)
    edge = corners.roll(-1, 0) - corners
    normal = torch.stack([edge[:, 1], -edge[:, 0]], -1)
    return D.Polytope(normal, (normal * corners).sum(-1))


def simplex_rule():
    """Densities on the simplex are with respect to its first two coordinates."""
    points, weights = polygon_rule(TRIANGLE)
    return torch.cat([points, 1 - points.sum(-1, keepdim=True)], -1), weights


CASES = {
    "box": (lambda: M.BoxEntropy(D.Box([-1.0, 0.0], [2.0, 1.0])), lambda: polygon_rule(SQUARE)),
    "simplex_ilr": (lambda: M.SimplexEntropy(D.Simplex(3)), simplex_rule),
    "simplex_alr": (lambda: M.SimplexEntropy(D.Simplex(3), chart="alr"), simplex_rule),
    "ball": (lambda: M.default(D.Ball(2, 1.5, [0.5, -1.0])), lambda: disc_rule(1.5, [0.5, -1.0])),
    "hellinger": (lambda: M.HellingerBall(D.Ball(2, 1.5, [0.5, -1.0])), lambda: disc_rule(1.5, [0.5, -1.0])),
    "polytope": (lambda: M.SlackEntropy(polygon_domain(PENTAGON)), lambda: polygon_rule(PENTAGON)),
    "polytope_barrier": (lambda: M.RegularizedBarrier(polygon_domain(PENTAGON)), lambda: polygon_rule(PENTAGON)),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_density_integrates_to_one(case):
    mirror_map, rule = (make() for make in CASES[case])
    torch.manual_seed(1)
    flow = MirrorFlow(mirror_map, MLP(dim=2, hidden=(24, 24))).double()
    flow.fit_dual_transform(
        mirror_map.domain.sample_uniform(2000, generator=torch.Generator().manual_seed(2), dtype=F64)
    )
    points, weights = rule
    inside = mirror_map.domain.contains(points)
    with torch.no_grad():
        log_prob = flow.log_prob(points[inside], steps=10, method="rk4")
    assert abs(float((weights[inside] * log_prob.exp()).sum()) - 1) < 1e-4
    # The flow is not its prior: the divergence along the path matters by far more than the tolerance.
    with torch.no_grad():
        u = flow.encode(points[inside])
        naive = (
            flow.prior.log_prob(u)
            + flow.mirror_map.log_det_jacobian(points[inside])
            - flow.dual_transform.scale.log().sum()
        )
    assert (naive - log_prob).abs().max() > 0.1
