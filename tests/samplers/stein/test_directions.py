"""Particle directions against literal double sums, autograd and Stein's identity."""

import math

import pytest
import torch

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.samplers.stein import IMQ, MSVGD, RBF, SVGD, SVMD
from mirrorgen.samplers.stein.direction import centered, stein_direction
from mirrorgen.samplers.stein.repulsion import mirror_repulsion, repulsion

POLYTOPE = torch.tensor([[1.0, 1.0, 0.2], [-1.0, 0.3, 0.0], [0.0, -1.0, 0.5], [0.1, 0.0, -1.0], [0.3, 0.2, 1.0]])
MAPS = {
    "quadratic": lambda: M.Quadratic(D.Euclidean(3), [[2.0, 0.3, 0.0], [0.3, 1.0, 0.1], [0.0, 0.1, 0.7]]),
    "quadratic_diagonal": lambda: M.Quadratic(D.Euclidean(3), [2.0, 0.3, 1.0]),
    "orthant": lambda: M.NegEntropy(D.Orthant(3)),
    "box": lambda: M.BoxEntropy(D.Box([-1.0, 0.0, 2.0], [1.0, 3.0, 7.0])),
    "simplex_ilr": lambda: M.SimplexEntropy(D.Simplex(4)),
    "simplex_alr": lambda: M.SimplexEntropy(D.Simplex(4), chart="alr"),
    "ball": lambda: M.HellingerBall(D.Ball(3)),
    "polytope": lambda: M.SlackEntropy(D.Polytope(POLYTOPE, torch.ones(5))),
    "simplex_log_barrier": lambda: M.LogBarrier(D.Simplex(4)),
    "product": lambda: M.ProductMap(M.SimplexEntropy(D.Simplex(3)), M.NegEntropy(D.Orthant(2))),
    "psd": lambda: M.VonNeumann(D.PSD(2)),
}


@pytest.fixture(params=sorted(MAPS))
def mirror_map(request):
    return MAPS[request.param]()


def points(mirror_map, sets=2, n=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sets, n, mirror_map.domain.dual_dim, generator=generator, dtype=torch.float64).to(dtype)


def log_kernel(name, squared, h):
    return -0.5 * torch.log1p(squared / h) if name == "imq" else -squared / h


KERNELS = {"imq": IMQ(0.8), "rbf": RBF(0.8)}


def literal(name, h, z, scores, inverse):
    """The sum of Shi et al., term by term, with autograd for the gradient of the kernel."""
    n = len(z)

    def k(a, b):
        return log_kernel(name, (a - b).square().sum(), h).exp()

    rows = []
    for m in range(n):
        total = torch.zeros_like(scores[0])
        for i in range(n):
            slope = torch.func.grad(k)(z[i], z[m]) if i != m else torch.zeros_like(z[0])
            total = total + k(z[i], z[m]) * scores[i] + inverse[i] @ slope
        rows.append(total / n)
    return torch.stack(rows)


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_direction_is_the_double_sum(mirror_map, name):
    y = points(mirror_map)
    local = mirror_map.local(y)
    scores = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    z = mirror_map.coordinates(local.x)
    ours = stein_direction(
        centered(z), scores, KERNELS[name], mirror_repulsion(mirror_map, local, centered(z)), block=1
    )
    inverse = torch.linalg.inv(mirror_map.hessian(local.x).dense())
    for s in range(len(y)):
        expected = literal(name, 0.8, z[s], scores[s], inverse[s])
        torch.testing.assert_close(ours[s], expected, rtol=1e-8, atol=1e-9)


def test_structure_is_used():
    # The structured sums agree with the dense one; and no dense inverse is formed on simplices, boxes and products.
    from mirrorgen.samplers.stein.repulsion import DenseRepulsion

    for name in ("orthant", "box", "simplex_ilr", "simplex_alr", "ball", "product"):
        mirror_map = MAPS[name]()
        local = mirror_map.local(points(mirror_map))
        z = centered(mirror_map.coordinates(local.x))
        ours = mirror_repulsion(mirror_map, local, z)
        assert not isinstance(ours, DenseRepulsion)
        assert not any(isinstance(b, DenseRepulsion) for b in getattr(ours, "blocks", []))
        generic = repulsion(z, local.hessian)
        weights = torch.rand(2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        products = z @ z.mT
        everyone = slice(0, 6)
        torch.testing.assert_close(
            ours.rows(everyone, weights, products), generic.rows(everyone, weights, products), rtol=1e-9, atol=1e-10
        )


def gaussian(x):
    return -0.5 * (x - 0.1).square().sum(-1)


def dirichlet_like(x):
    return (0.7 * x.log()).sum(-1)


def step_once(kernel, x):
    state = kernel.init(x)
    return kernel._direction(state, torch.func.grad(lambda p: kernel.log_density(p).sum())(state.x))


def dual_law(mirror_map, log_density):
    return lambda y: log_density(mirror_map.to_primal(y)) - mirror_map.log_det_jacobian_dual(y)


@pytest.mark.parametrize("chart", ["ilr", "alr"])
def test_dual_kernel_is_svgd_on_the_dual_law(chart):
    mirror_map = M.SimplexEntropy(D.Simplex(4), chart=chart)
    x = mirror_map.to_primal(points(mirror_map, 1, 7)[0])
    kernel = MSVGD(dirichlet_like, mirror_map, space="dual")
    plain = SVGD(dual_law(mirror_map, dirichlet_like), D.Euclidean(3))
    torch.testing.assert_close(step_once(kernel, x), step_once(plain, mirror_map.to_dual(x)), rtol=1e-9, atol=1e-10)


def test_mirrored_descent_on_all_of_space_is_svgd():
    x = points(MAPS["quadratic"](), 1, 9)[0]
    mirrored, plain = MSVGD(gaussian, M.Quadratic(D.Euclidean(3))), SVGD(gaussian, D.Euclidean(3))
    torch.testing.assert_close(step_once(mirrored, x), step_once(plain, x), rtol=1e-12, atol=1e-12)


def test_one_particle(mirror_map):
    # MSVGD follows the score of the dual law; SVMD follows H times it, times 1 + jitter.
    y = points(mirror_map, 1, 1)[0]
    x = mirror_map.to_primal(y)
    score = torch.func.grad(lambda w: dual_law(mirror_map, gaussian)(w).sum())(y)
    torch.testing.assert_close(step_once(MSVGD(gaussian, mirror_map), x), score, rtol=1e-6, atol=1e-7)
    expected = mirror_map.hessian(x).mv(score) * (1 + 1e-5)
    torch.testing.assert_close(step_once(SVMD(gaussian, mirror_map), x), expected, rtol=1e-6, atol=1e-7)


def svmd_double_sum(z, scores, hessian, h, jitter, kept):
    """The publication's matrix kernel written out: eigenpairs, Nystrom gradients, double sums over eigenvectors."""
    n, d = z.shape
    squared = torch.cdist(z, z).square()
    gram = (1 + squared / h).rsqrt() + jitter * torch.eye(n, dtype=z.dtype)
    values, vectors = (t.flip(-1)[..., :kept] for t in torch.linalg.eigh(gram))
    lam, u = values / n, math.sqrt(n) * vectors

    def nystrom(point, j):
        return math.sqrt(n) / values[j] * ((1 + (point - z).square().sum(-1) / h).rsqrt() * vectors[:, j]).sum()

    gamma = torch.einsum("pi,pj,pab->ijab", u, u, hessian) / n
    inner = torch.zeros(kept, d, dtype=z.dtype)
    for j in range(kept):
        for i in range(n):
            slope = torch.func.grad(nystrom)(z[i], j)
            inner[j] += (u[i, j] * scores[i] + torch.linalg.solve(hessian[i], slope)) / n
    root = lam.sqrt()
    return torch.einsum("i,j,mi,ijab,jb->ma", root, root, u, gamma, inner)


@pytest.mark.parametrize(("truncation", "dtype", "tolerance"), [
    (1.0, torch.float64, 1e-7), (0.9, torch.float64, 1e-7), (0.9, torch.float32, 2e-3),
])  # fmt: skip
@pytest.mark.parametrize("name", ["simplex_alr", "simplex_ilr", "box", "polytope"])
def test_svmd_is_the_double_sum(name, truncation, dtype, tolerance):
    mirror_map, n = MAPS[name](), 8
    y = points(mirror_map, 1, n)[0]
    x = mirror_map.to_primal(y)
    jitter = 1e-3
    kernel = SVMD(gaussian, mirror_map, kernel=IMQ(0.5), truncation=truncation, jitter=jitter)
    ours = step_once(kernel, x.to(dtype)).double()
    scores = torch.func.grad(lambda w: dual_law(mirror_map, gaussian)(w).sum())(y)
    z = mirror_map.coordinates(x)
    gram = (1 + torch.cdist(z, z).square() / 0.5).rsqrt() + jitter * torch.eye(n, dtype=torch.float64)
    share = torch.linalg.eigvalsh(gram).flip(-1).cumsum(-1) / gram.trace()
    kept = min(int((share < truncation).sum()) + 1, n)
    assert (kept < n) == (truncation < 1)
    expected = svmd_double_sum(z, scores, mirror_map.hessian(x).dense(), 0.5, jitter, kept)
    assert (ours - expected).abs().max() < tolerance * expected.abs().max()


def test_steins_identity():
    # E_p [k(x, m) s(x) + H^-1 grad_x k(x, m)] = 0, here for a Dirichlet law with infinite density at the boundary.
    target = torch.distributions.Dirichlet(torch.tensor([0.5, 0.8, 3.0], dtype=torch.float64))
    torch.manual_seed(0)
    x = target.sample((200_000,))
    for chart in ("ilr", "alr"):
        mirror_map = M.SimplexEntropy(D.Simplex(3), chart=chart)
        local = mirror_map.local(mirror_map.to_dual(x))
        scores = local.mirrored_score((target.concentration - 1) / x)
        z, at = mirror_map.coordinates(x), mirror_map.coordinates(torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64))
        k = (1 + (z - at).square().sum(-1) / 0.1).rsqrt().unsqueeze(-1)
        slope = -(z - at) / 0.1 * k**3
        terms = k * scores + local.hessian.solve(slope)
        standard_scores = terms.mean(0) / (terms.std(0) / len(x) ** 0.5)
        assert standard_scores.abs().max() < 4.5
        # Without the second term the identity fails by far.
        wrong = k * scores
        assert (wrong.mean(0) / (wrong.std(0) / len(x) ** 0.5)).abs().max() > 10


@pytest.mark.parametrize("name", ["simplex_ilr", "simplex_alr", "box", "ball"])
def test_float32_keeps_its_digits_far_from_the_origin(name):
    # Particles in a cluster a hundredth wide: centring keeps the relative accuracy of their distances.
    mirror_map = MAPS[name]()
    y = 0.5 + 0.01 * points(mirror_map, 1, 40)
    scores = points(mirror_map, 1, 40, seed=3)
    results = []
    for dtype in (torch.float64, torch.float32):
        local = mirror_map.local(y.to(dtype))
        z = centered(mirror_map.coordinates(local.x))
        results.append(stein_direction(z, scores.to(dtype), IMQ(), mirror_repulsion(mirror_map, local, z)).double())
    # Coordinates near one carry 1e-7, a hundred thousandth of their spread.
    assert (results[0] - results[1]).abs().max() < 1e-3 * results[0].abs().max()


def test_blocks_do_not_change_results():
    mirror_map = MAPS["simplex_ilr"]()
    local = mirror_map.local(points(mirror_map, 1, 301))
    z, scores = centered(mirror_map.coordinates(local.x)), points(mirror_map, 1, 301, seed=5)
    one, many = (stein_direction(z, scores, IMQ(), mirror_repulsion(mirror_map, local, z), block=b) for b in (10**6, 1))
    torch.testing.assert_close(one, many, rtol=1e-12, atol=1e-13)
