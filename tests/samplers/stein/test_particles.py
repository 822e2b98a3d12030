"""Step rules, bandwidths, sets, and how particles fit the protocol of samplers."""

import math

import pytest
import torch

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.samplers import extend, resume, run
from mirrorgen.samplers.base import Noise
from mirrorgen.samplers.stein import (
    IMQ,
    MSVGD,
    RBF,
    SVGD,
    SVMD,
    SVNG,
    Coin,
    GradientStep,
    MatrixSVGD,
    ProjectedSVGD,
    RMSprop,
)
from mirrorgen.targets import Dirichlet, Uniform

TARGET = Dirichlet([0.5, 2.0, 3.0])
MAP = M.SimplexEntropy(TARGET.domain)
PRECISION = torch.tensor([[3.0, 1.0], [1.0, 2.0]])


def gaussian(x):
    return -0.5 * ((x @ PRECISION.to(x)) * x).sum(-1)


def curvature(x):
    """A metric that varies: its inverse has a divergence."""
    return PRECISION.to(x) + torch.diag_embed(x.square())


SPACE = D.Euclidean(2)
KERNELS = {
    "msvgd": lambda **o: MSVGD(TARGET, MAP, **o),
    "msvgd_dual": lambda **o: MSVGD(TARGET, MAP, space="dual", **o),
    "svmd": lambda **o: SVMD(TARGET, MAP, **o),
    "projected": lambda **o: ProjectedSVGD(TARGET, TARGET.domain, **o),
    "svgd": lambda **o: SVGD(gaussian, SPACE, **o),
    "matrix": lambda **o: MatrixSVGD(gaussian, SPACE, curvature, **o),
    "svng": lambda **o: SVNG(gaussian, SPACE, curvature, **o),
}
NONE = Noise(torch.empty(0, 0), torch.empty(0, 0))


def start(name, n=8, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if isinstance(KERNELS[name]().domain, D.Euclidean):
        return torch.randn(n, 2, generator=generator, dtype=torch.float64).to(dtype)
    return TARGET.sample(n, generator=generator).to(dtype)


@pytest.fixture(params=sorted(KERNELS))
def name(request):
    return request.param


@pytest.mark.parametrize("optimizer", [RMSprop(0.1), RMSprop(0.1, total_steps=20), GradientStep(0.01), Coin()])
def test_a_batch_of_sets_is_as_many_runs(name, optimizer):
    x = start(name, 12)
    together = run(KERNELS[name](optimizer=optimizer, set_size=4), x, 6).positions[-1]
    apart = [run(KERNELS[name](optimizer=optimizer), part, 6).positions[-1] for part in x.split(4)]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("optimizer", [RMSprop(0.3), Coin()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_stay_inside_in_their_own_dtype(name, dtype, optimizer):
    kernel = KERNELS[name](optimizer=optimizer)
    chain = run(kernel, start(name, 20, dtype), 60)
    assert chain.positions.dtype == dtype
    assert kernel.domain.contains(chain.flatten()).all()
    assert torch.isfinite(chain.positions).all()
    assert chain.stats["nonfinite"].sum() == 0
    assert (chain.stats["acceptance"] == 1).all()


def test_float32_follows_float64(name):
    ends = [
        run(KERNELS[name](optimizer=GradientStep(0.01)), start(name, 10, d), 20) for d in (torch.float32, torch.float64)
    ]
    torch.testing.assert_close(ends[0].positions[-1].double(), ends[1].positions[-1], rtol=0, atol=2e-4)


def test_steps_are_pure_and_resume_exactly(name):
    kernel = KERNELS[name](optimizer=RMSprop(0.1, total_steps=8))
    state = kernel.init(start(name))
    before = [None if part is None else part.clone() for part in state]
    once, again = kernel.step(state, NONE)[0], kernel.step(state, NONE)[0]
    for a, b, old, kept in zip(once, again, before, state, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)
        assert (old is None and kept is None) or torch.equal(old, kept)
    for _ in range(5):
        state, _ = kernel.step(state, NONE)
    assert int(state.iteration) == 5
    straight = run(kernel, start(name), 5).positions[-1]
    torch.testing.assert_close(state.x, straight, rtol=0, atol=0)


def test_chains_are_extended_and_resumed_exactly(name, tmp_path):
    kernel = KERNELS[name](optimizer=RMSprop(0.1, total_steps=12))
    straight = run(kernel, start(name), 9).positions
    assert torch.equal(extend(run(kernel, start(name), 5), 4).positions, straight)

    def interrupt(step, state):
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(kernel, start(name), 9, directory=tmp_path, checkpoint_every=2, callback=interrupt)
    assert torch.equal(resume(kernel, tmp_path).positions, straight)


def test_rmsprop_is_keras_formula():
    y, v = torch.tensor([[1.0, -2.0]], dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    rule, memory = RMSprop(0.1), RMSprop(0.1).init(y)
    ours = y
    for t in range(4):
        g = torch.tensor([[3.0 - t, 0.0]], dtype=torch.float64)
        v = 0.9 * v + 0.1 * g * g
        y = y + 0.1 * g / (v.sqrt() + 1e-7)
        ours, memory = rule.step(ours, g, memory, torch.tensor(t))
    torch.testing.assert_close(ours, y, rtol=1e-14, atol=0)
    first, _ = rule.step(torch.zeros(1, 1), torch.tensor([[5.0]]), torch.zeros(1, 1, 1), torch.tensor(0))
    assert float(first) == pytest.approx(0.1 / 0.1**0.5, rel=1e-5)


def test_rmsprop_survives_directions_whose_square_overflows():
    y = torch.zeros(1, 1)
    moved, memory = RMSprop(0.1).step(y, torch.full((1, 1), 1e30), torch.zeros(1, 1, 1), torch.tensor(0))
    assert float(moved) == pytest.approx(0.1 / 0.1**0.5, rel=1e-5)
    for t in range(300):
        moved, memory = RMSprop(0.1).step(y, torch.ones(1, 1), memory, torch.tensor(t))
    assert torch.isfinite(memory).all()


def test_nobody_freezes_next_to_the_boundary_in_float32():
    # Hessians of 1e20 and more, whose squares float32 does not hold.
    for mirror_map in (MAP, M.SimplexEntropy(TARGET.domain, chart="alr")):
        x = mirror_map.to_primal(20 * torch.randn(20, 2, generator=torch.Generator().manual_seed(0)))
        assert float(x.min()) < 1e-20
        chain = run(SVMD(TARGET, mirror_map, optimizer=RMSprop(0.5)), x, 20)
        assert chain.stats["nonfinite"].sum() == 0
        # RMSprop moves a coordinate by its step size and more in the first steps, and never by nothing.
        assert ((chain.dual[0] - mirror_map.to_dual(x)).abs() > 0.5).all()
        assert (chain.dual[-1] != chain.dual[-2]).all()


def test_step_sizes_fall_linearly_to_zero():
    g, y = torch.ones(1, 1), torch.zeros(1, 1)
    rule = GradientStep(0.5, total_steps=4)
    moves = [float(rule.step(y, g, rule.init(y), torch.tensor(t))[0]) for t in range(6)]
    assert moves == pytest.approx([0.5, 0.375, 0.25, 0.125, 0.0, 0.0])


def test_coin_is_the_published_recursion():
    generator = torch.Generator().manual_seed(0)
    begin = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    gradients = torch.randn(7, 3, 2, generator=generator, dtype=torch.float64)
    gradients[0, 0, 0] = 0.0
    rule = Coin()
    y, memory = begin, rule.init(begin)
    for t, g in enumerate(gradients):
        y, memory = rule.step(y, g, memory, torch.tensor(t))
    for i in range(3):
        for j in range(2):
            at, reward, first = float(begin[i, j]), 0.0, float(begin[i, j])
            for t in range(7):
                seen = gradients[: t + 1, i, j]
                reward = max(reward + (at - first) * float(seen[-1]), 0.0)
                largest = float(seen.abs().max())
                if largest > 0:
                    at = first + float(seen.sum()) / (largest * (float(seen.abs().sum()) + largest)) * (
                        largest + reward
                    )
            assert float(y[i, j]) == pytest.approx(at, rel=1e-12)


@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_bandwidth_rules(n):
    z = torch.randn(n, 3, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    squared = torch.cdist(z, z).square()
    full = IMQ("median_full").select(z[None])
    # The smallest of the largest half of all n^2 values.
    assert float(full) == pytest.approx(float(squared.flatten().sort(descending=True).values[n * n // 2 - 1]))
    pairs = squared[torch.triu(torch.ones(n, n), 1) > 0].sort().values
    assert float(RBF("median_log").select(z[None])) == pytest.approx(float(pairs[len(pairs) // 2]) / math.log(n))
    assert full.shape == (1, 1, 1)


def test_bandwidth_of_equal_and_of_many_particles():
    assert float(IMQ().select(torch.ones(1, 5, 2))) == 1
    assert float(IMQ().select(torch.ones(1, 1, 2))) == 1
    z = torch.randn(2, 90, 4, generator=torch.Generator().manual_seed(0))
    for rule in ("median_full", "median_log"):
        few = IMQ(rule, exact_up_to=30).select(z)
        scale = math.log(90) / math.log(30) if rule == "median_log" else 1.0
        torch.testing.assert_close(few * scale, IMQ(rule).select(z[:, ::3]))


def test_matrix_descent_is_descent_in_transformed_coordinates():
    # For a Gaussian and its own curvature, whitened particles follow SVGD on the standard normal law.
    x = start("matrix", 7)
    metric = lambda p: PRECISION.to(p).expand(len(p), 2, 2)  # noqa: E731
    factor = torch.linalg.cholesky(PRECISION.double())
    ours = run(MatrixSVGD(gaussian, SPACE, metric, optimizer=GradientStep(0.1)), x, 5).positions[-1]
    white = run(SVGD(lambda u: -0.5 * u.square().sum(-1), SPACE, optimizer=GradientStep(0.1)), x @ factor, 5).positions[
        -1
    ]
    torch.testing.assert_close(ours @ factor, white, rtol=1e-9, atol=1e-10)


def test_natural_gradient_of_one_particle():
    # n = 1: G^-1 (1 + jitter) G [G^-1 grad log p + div G^-1], the divergence by autograd of the inverse.
    x = start("svng", 1)
    inverse = lambda p: torch.linalg.inv(curvature(p[None])[0])  # noqa: E731
    jacobian = torch.func.jacfwd(inverse)(x[0])
    score = -x[0] @ PRECISION.double()
    expected = x[0] + 0.1 * (1 + 1e-5) * (inverse(x[0]) @ score + torch.einsum("abb->a", jacobian))
    kernel = SVNG(gaussian, SPACE, curvature, damping=0.0, optimizer=GradientStep(0.1), truncation=1.0)
    torch.testing.assert_close(run(kernel, x, 1).positions[-1][0], expected, rtol=1e-9, atol=1e-10)


def test_natural_gradient_is_svmd_where_the_metric_is_a_hessian():
    # With G = Hess phi of a quadratic map, g = S^1/2 [G (S^-1/2 Phi)] is SVMD's step; SVNG then applies G^-1.
    x = start("svng", 6)
    metric = lambda p: PRECISION.to(p).expand(len(p), 2, 2)  # noqa: E731
    mirror_map = M.Quadratic(SPACE, PRECISION)
    rule = {"optimizer": GradientStep(0.1), "truncation": 0.98}
    natural = run(SVNG(gaussian, SPACE, metric, damping=0.0, **rule), x, 4).positions[-1]
    mirrored = run(SVMD(gaussian, mirror_map, **rule), x, 4).positions[-1]
    torch.testing.assert_close(natural, mirrored, rtol=1e-8, atol=1e-9)


def test_running_means_of_the_metric():
    kernel = SVNG(gaussian, SPACE, curvature, optimizer=GradientStep(0.05), decay=0.6)
    state, seen = kernel.init(start("svng", 3)), []
    for _ in range(5):
        seen.append(curvature(state.x))
        state, _ = kernel.step(state, NONE)
    mean = torch.zeros_like(seen[0])
    for t, now in enumerate(seen, 1):
        rho = min(1 - 1 / t, 0.6)
        mean = rho * mean + (1 - rho) * now
    torch.testing.assert_close(state.metric, mean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["svgd", "matrix", "svng"])
def test_gaussian_moments(name):
    rule = Coin() if name == "svgd" else RMSprop(0.1, total_steps=400)
    x = 3 + start(name, 60)
    end = run(KERNELS[name](optimizer=rule), x, 400, thin=400).positions[-1]
    covariance = torch.linalg.inv(PRECISION.double())
    assert end.mean(0).abs().max() < 0.05
    assert ((torch.cov(end.T) - covariance).abs() < 0.15 * covariance.diagonal().max()).all()


def test_dirichlet_moments():
    # Fifty particles do better than the standard error of as many independent draws, sd / sqrt(50).
    x = MAP.to_primal(0.3 * torch.randn(50, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    for name in ("msvgd", "svmd"):
        end = run(KERNELS[name](optimizer=RMSprop(0.1, total_steps=300)), x, 300, thin=300).positions[-1]
        assert ((end.mean(0) - TARGET.mean).abs() < 0.5 * (TARGET.variance / 50).sqrt()).all()
        ratio = float(end.var(0).sum() / TARGET.variance.sum())
        assert 0.8 < ratio < 1.25


def test_uniform_law_of_a_triangle():
    # A polytope map: dense inverse Hessians, warm starts. Mean 1/3, variance 1/18, covariance -1/36.
    triangle = D.Polytope([[-1.0, 0.0], [0.0, -1.0], [1.0, 1.0]], [0.0, 0.0, 1.0])
    x = triangle.sample_uniform(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = torch.tensor([0.1, 0.1], dtype=torch.float64) + 0.2 * x
    kernel = MSVGD(Uniform(triangle), M.SlackEntropy(triangle), optimizer=RMSprop(0.1, total_steps=150))
    end = run(kernel, start, 150, thin=150).positions[-1]
    assert (end.mean(0) - 1 / 3).abs().max() < 0.02
    expected = torch.tensor([[1 / 18, -1 / 36], [-1 / 36, 1 / 18]], dtype=torch.float64)
    assert (torch.cov(end.T) - expected).abs().max() < 0.15 / 18


def test_projection_is_the_nearest_point_of_the_shrunk_set():
    x = torch.tensor([[0.1, 0.2, 0.7], [0.3, 0.1, 0.6], [0.5, 0.2, 0.3], [0.01, 0.5, 0.49]], dtype=torch.float64)
    rule, margin = GradientStep(1.0), 0.01
    free = run(SVGD(TARGET, D.Euclidean(3), optimizer=rule), x, 1).positions[-1]
    ours = run(ProjectedSVGD(TARGET, TARGET.domain, optimizer=rule, margin=margin), x, 1).positions[-1]
    # The nearest point of {sum = 1, coordinates >= margin / 3} by bisection on the shift.
    floor = margin / 3
    low, high = free.min(-1, keepdim=True).values - 1, free.max(-1, keepdim=True).values
    for _ in range(100):
        middle = (low + high) / 2
        large = (free - middle).clamp_min(floor).sum(-1, keepdim=True) > 1
        low, high = torch.where(large, middle, low), torch.where(large, high, middle)
    nearest = (free - low).clamp_min(floor)
    assert (nearest == floor).any()
    torch.testing.assert_close(ours, nearest, rtol=0, atol=1e-9)


def test_a_score_that_is_not_finite_is_counted_and_spoils_nobody():
    def broken(x):
        return torch.where(x[:, 0] > 0.5, torch.nan, 0.0) * x[:, 0] + x.log().sum(-1)

    inside = torch.tensor([[0.2, 0.3, 0.5], [0.3, 0.4, 0.3], [0.1, 0.6, 0.3]], dtype=torch.float64)
    kernel = MSVGD(broken, MAP)
    state = kernel.init(inside)
    bad = torch.cat([inside[:2], torch.tensor([[0.7, 0.1, 0.2]], dtype=torch.float64)])
    state, info = kernel.step(state._replace(x=bad, y=MAP.to_dual(bad)), NONE)
    assert info.nonfinite.tolist() == [False, False, True]
    assert torch.isfinite(state.x).all()


@pytest.mark.parametrize(("build", "error"), [
    (lambda: MSVGD(TARGET, M.BurgEntropy(D.Orthant(3))), DomainError),
    (lambda: MSVGD(TARGET, MAP, space="both"), DomainError),
    (lambda: SVMD(TARGET, MAP, space="dual"), DomainError),
    (lambda: SVMD(TARGET, MAP, truncation=0.0), DomainError),
    (lambda: SVGD(TARGET, TARGET.domain), DomainError),
    (lambda: SVNG(gaussian, SPACE, curvature, decay=1.0), DomainError),
    (lambda: ProjectedSVGD(TARGET, TARGET.domain, margin=0.0), DomainError),
    (lambda: RMSprop(0.0), DomainError),
    (lambda: GradientStep(0.1, total_steps=0), DomainError),
    (lambda: IMQ(-1.0), DomainError),
    (lambda: RBF("median"), DomainError),
    (lambda: IMQ(exact_up_to=1), DomainError),
    (lambda: MSVGD(TARGET, MAP, set_size=3).init(start("msvgd", 8)), ShapeError),
    (lambda: MSVGD(TARGET, MAP).init(start("msvgd", 8) + 1), DomainError),
])  # fmt: skip
def test_bad_input_is_refused(build, error):
    with pytest.raises(error):
        build()
