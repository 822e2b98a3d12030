"""Barriers over slacks: the inverse at any distance, derivatives in the set, the boundary layer, closed forms."""

import math

import mpmath
import pytest
import torch

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.errors import ConvergenceError, DomainError
from mirrorgen.geometry.mirror_maps import slack_newton
from mirrorgen.geometry.mirror_maps.slack_power import SlackPower

F64 = torch.float64
KAPPAS = [0.0, 0.05, 0.1, 0.3, 0.5, 0.9, 1.0]


@pytest.fixture(autouse=True)
def restore_digits():
    """The oracle in ``mpmath`` sets its digits per case."""
    digits = mpmath.mp.dps
    yield
    mpmath.mp.dps = digits


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def random_polytope(m, d, seed=0):
    normals = randn(m, d, seed=seed)
    offsets = 0.5 + torch.rand(m, generator=torch.Generator().manual_seed(seed + 1), dtype=F64)
    return D.Polytope(normals, offsets * normals.norm(dim=-1))


def pyramid():
    """Four facets meet in the apex: more active facets than dimensions."""
    rows = [[1.0, 0.0, 1.0], [-1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, -1.0, 1.0], [0.0, 0.0, -1.0]]
    return D.Polytope(rows, [1.0, 1.0, 1.0, 1.0, 0.0])


def dual_points(n, d, scale, seed=2):
    y = randn(n, d, seed=seed)
    return scale * y / y.norm(dim=-1, keepdim=True)


def residual(mirror_map, y, kappa, weight, quadratic):
    """The defect of ``weight A^T s^-kappa + quadratic z = y`` and of ``s = b - A z``, written out."""
    z, sigma = mirror_map._structure.solution(y)
    A, b = mirror_map.domain.halfspaces()
    force = -weight * sigma if kappa == 0 else weight * torch.exp(-kappa * sigma)
    first = (y - force @ A - quadratic * z).abs().amax(-1) / (1 + y.abs().amax(-1))
    second = (b - z @ A.T - sigma.exp()).abs().amax(-1)
    assert torch.equal(z, z.nan_to_num())
    return float(first.max()), float(second.max())


@pytest.mark.parametrize("kappa", KAPPAS)
def test_regularized_inverse_at_any_distance(kappa):
    mirror_map = M.RegularizedBarrier(random_polytope(40, 10), kappa=kappa)
    for scale in (1.0, 1e2, 1e4, 1e6, 1e8):
        y = dual_points(256 if scale == 1e6 else 64, 10, scale)
        first, second = residual(mirror_map, y, kappa, 1.0, 1.0)
        assert first < 1e-13
        assert second < 1e-13
        for dtype in (torch.float32, F64):
            assert mirror_map.domain.contains(mirror_map.to_primal(y.to(dtype))).all()


@pytest.mark.parametrize("kappa", [0.0, 0.1, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("build", [lambda: D.Birkhoff(3), pyramid])
def test_vertices_where_more_facets_meet_than_there_are_dimensions(build, kappa):
    mirror_map = M.RegularizedBarrier(build(), kappa=kappa)
    for scale in (1e2, 1e4, 1e6, 1e8):
        y = dual_points(32, mirror_map.domain.dual_dim, scale)
        first, second = residual(mirror_map, y, kappa, 1.0, 1.0)
        assert first < 1e-9
        assert second < 1e-9
        assert mirror_map.domain.contains(mirror_map.to_primal(y)).all()


@pytest.mark.parametrize("kind", ["log", "entropy"])
def test_pure_barriers_at_any_distance(kind):
    kappa = 1.0 if kind == "log" else 0.0
    mirror_map = (M.LogBarrier if kind == "log" else M.SlackEntropy)(random_polytope(40, 10))
    for scale in (1.0, 1e2, 1e4, 1e6, 1e8):
        first, second = residual(mirror_map, dual_points(128, 10, scale), kappa, 1.0, 0.0)
        assert first < 1e-13
        assert second < 1e-13


def test_log_barrier_needs_at_most_forty_iterations(monkeypatch):
    monkeypatch.setattr(slack_newton, "MAX_ITERATIONS", 40)
    mirror_map = M.LogBarrier(random_polytope(40, 10))
    for scale in (1.0, 10.0, 1e2, 1e3, 1e4):
        first, _ = residual(mirror_map, dual_points(1024, 10, scale), 1.0, 1.0, 0.0)
        assert first < 1e-9


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("kappa", [0.0, 0.3, 1.0])
def test_inverse_in_any_units(size, kappa):
    A, b = random_polytope(12, 3).halfspaces()
    center = 1e3 * size * torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    mirror_map = M.RegularizedBarrier(D.Polytope(A, size * b + A @ center), kappa=kappa)
    x = center + size * 0.3 * dual_points(64, 3, 1.0)
    assert ((mirror_map.to_primal(mirror_map.to_dual(x)) - x) / size).abs().max() < 1e-9


@pytest.mark.parametrize(
    "build", [M.LogBarrier, M.SlackEntropy, M.RegularizedBarrier, lambda p: M.RegularizedBarrier(p, kappa=0.05)]
)
def test_derivatives_in_the_dual_point_and_in_the_set(build):
    A = torch.tensor([[1.0, 0.2], [-0.7, 1.0], [-0.4, -1.0], [0.8, -0.9]], dtype=F64, requires_grad=True)
    b = torch.tensor([1.0, 0.8, 1.3, 0.9], dtype=F64, requires_grad=True)
    # The second point lies where the slacks of two facets are small.
    y = torch.tensor([[0.3, -0.8], [6.0, 4.0]], dtype=F64, requires_grad=True)

    def point(y, A, b):
        return build(D.Polytope(A, b)).to_primal(y)

    def log_det(y, A, b):
        return build(D.Polytope(A, b)).log_det_jacobian_dual(y)

    assert torch.autograd.gradcheck(point, (y, A, b))
    assert torch.autograd.gradgradcheck(point, (y, A, b))
    assert torch.autograd.gradcheck(log_det, (y, A, b))


def test_jacobian_of_the_inverse_stays_exact_in_the_boundary_layer():
    mirror_map = M.RegularizedBarrier(random_polytope(12, 3), kappa=0.1)
    y = dual_points(8, 3, 1e3)
    jacobian = torch.func.vmap(torch.func.jacrev(mirror_map.to_primal))(y)
    for row, matrix in zip(y, jacobian, strict=True):
        oracle = exact_hessian(mirror_map, row) ** -1
        exact = torch.tensor([[float(oracle[i, j]) for j in range(3)] for i in range(3)], dtype=F64)
        # Rounding of z itself leaves the soft directions, of size one, the only visible ones.
        assert (matrix - exact).abs().max() < 1e-10


def exact_hessian(mirror_map, y):
    """``quadratic I + A^T f''(s) A`` at the solution for ``y``, both in as many digits as the curvatures span."""
    structure = mirror_map._structure
    smallest = float(structure.solution(y)[1].min())
    mpmath.mp.dps = 60 + int(max(0.0, -2 * (1 + structure.power.kappa) * smallest / math.log(10)))
    kappa, weight = (mpmath.mpf(v) for v in (structure.power.kappa, structure.power.weight))
    quadratic = mpmath.mpf(structure.quadratic)
    A, b = (mpmath.matrix(t.tolist()) for t in mirror_map.domain.halfspaces())
    m, d = A.rows, A.cols
    z, sigma = (mpmath.matrix(t.tolist()) for t in structure.solution(y))
    target = mpmath.matrix(y.tolist())

    def force(u):
        return -weight * u if kappa == 0 else weight * mpmath.exp(-kappa * u)

    def curvature(u):
        return weight * (kappa or 1) * mpmath.exp(-(1 + kappa) * u)

    for _ in range(5):
        s = [mpmath.exp(u) for u in sigma]
        r_1 = target - quadratic * z - A.T * mpmath.matrix([force(u) for u in sigma])
        r_2 = b - A * z - mpmath.matrix(s)
        saddle = mpmath.zeros(d + m)
        for i in range(d):
            saddle[i, i] = quadratic
        for i in range(m):
            saddle[d + i, d + i] = -1 / curvature(sigma[i])
            for j in range(d):
                saddle[j, d + i] = saddle[d + i, j] = A[i, j]
        step = mpmath.lu_solve(saddle, mpmath.matrix(list(r_1) + list(r_2)))
        z = z + step[:d]
        for i in range(m):
            rate = weight if kappa == 0 else kappa * force(sigma[i])
            sigma[i] -= step[d + i] / rate
    return quadratic * mpmath.eye(d) + A.T * mpmath.diag([curvature(u) for u in sigma]) * A


def repeated(domain, count):
    A, b = domain.halfspaces()
    return D.Polytope(torch.cat([A, A[:count]]), torch.cat([b, b[:count]]))


@pytest.mark.parametrize("kappa", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4])
@pytest.mark.parametrize("name", ["simple", "repeated", "pyramid", "thin", "simplex"])
def test_log_determinant_in_the_boundary_layer(kappa, scale, name):
    domain = {
        "simple": lambda: random_polytope(12, 3),
        "repeated": lambda: repeated(random_polytope(8, 3), 3),
        "pyramid": pyramid,
        "thin": lambda: D.Polytope(randn(2, 4), [1.0, 2.0]),
        "simplex": lambda: D.Simplex(4),
    }[name]()
    mirror_map = M.RegularizedBarrier(domain, kappa=kappa, weight=0.7, quadratic=1.3)
    if kappa == 0:
        # Slacks of e^-1000 are as hard as those of e^-10000 and need a tenth of the oracle's digits.
        scale = min(scale, 1e3)
    y = torch.cat([dual_points(2, domain.dual_dim, scale), scale * torch.eye(domain.dual_dim, dtype=F64)[-1:]])
    ours = mirror_map._structure.hessian_dual(y)
    v = randn(len(y), domain.dual_dim, seed=8)
    solved = ours.solve(v)
    for i, row in enumerate(y):
        H = exact_hessian(mirror_map, row)
        exact = float(mpmath.log(mpmath.det(H)))
        assert abs(float(ours.logdet()[i]) - exact) < 1e-9 * (1 + abs(exact))
        oracle = mpmath.lu_solve(H, mpmath.matrix(v[i].tolist()))
        assert max(abs(float(oracle[j]) - float(solved[i, j])) for j in range(domain.dual_dim)) < 1e-9


@pytest.mark.parametrize("kappa", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("kind", ["box", "halfspace"])
def test_scalar_roots_agree_with_primal_dual_newton(kappa, kind):
    if kind == "box":
        domain = D.Box([-1.0, 0.0, 2.0], [1.0, 0.5, 7.0])
        general = D.Polytope(*domain.halfspaces())
    else:
        domain = D.Halfspace([3.0, -4.0, 0.5], -2.0)
        A, b = domain.halfspaces()
        # Twice the same face at half the weight.
        general = D.Polytope(torch.cat([A, A]), torch.cat([b, b]))
    ours = M.RegularizedBarrier(domain, kappa=kappa, weight=0.6 * (2 if kind == "halfspace" else 1), quadratic=0.8)
    theirs = M.RegularizedBarrier(general, kappa=kappa, weight=0.6, quadratic=0.8)
    assert ours.closed_form
    assert not theirs.closed_form
    for scale in (0.0, 1.0, 1e2, 1e4):
        y = dual_points(64, 3, scale) if scale else torch.zeros(1, 3, dtype=F64)
        x = ours._inverse(y)
        assert ((x - theirs._inverse(y)).abs() / (1 + x.abs())).max() < 1e-12
        a, b = ours.log_det_jacobian_dual(y), theirs.log_det_jacobian_dual(y)
        assert ((a - b).abs() / (1 + b.abs())).max() < 1e-10


@pytest.mark.parametrize("kappa", KAPPAS)
def test_ball_gradient_and_its_inverse(kappa):
    ball = D.Ball(3, radius=2.5, center=[1.0, -2.0, 0.5])
    mirror_map = M.RegularizedBarrier(ball, kappa=kappa, weight=0.7, quadratic=1.3)
    x = ball.sample_uniform(64, generator=torch.Generator().manual_seed(0), dtype=F64)
    x = torch.cat([x, ball.center.unsqueeze(0)])
    s = 2.5**2 - (x - ball.center).square().sum(-1, keepdim=True)
    force = -torch.log(s / 2.5**2) if kappa == 0 else s**-kappa
    assert torch.allclose(mirror_map.to_dual(x), 1.4 * force * (x - ball.center) + 1.3 * x, rtol=1e-12, atol=1e-12)
    assert torch.allclose(mirror_map.to_primal(mirror_map.to_dual(x)), x, rtol=1e-11, atol=1e-11)
    for scale in (1e2, 1e4, 1e6, 1e8):
        y = dual_points(32, 3, scale)
        r, sigma = mirror_map._structure._radial(y)
        spring = 1.4 * (-(sigma - 2 * math.log(2.5)) if kappa == 0 else torch.exp(-kappa * sigma)) + 1.3
        assert ((spring.unsqueeze(-1) * r + 1.3 * ball.center - y).abs() / scale).max() < 1e-12
        assert ((r.square().sum(-1) + sigma.exp() - 2.5**2).abs()).max() < 1e-11


def test_kappa_one_on_the_ball_is_its_log_barrier():
    ball = D.Ball(3, radius=2.5, center=[1.0, -2.0, 0.5])
    x = ball.sample_uniform(16, generator=torch.Generator().manual_seed(0), dtype=F64)
    ours = M.RegularizedBarrier(ball, kappa=1.0).to_dual(x) - x
    assert torch.allclose(ours, M.BallLogBarrier(ball).to_dual(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("build", [lambda: random_polytope(12, 3), lambda: D.Box(-1.0, 2.0, dim=3), lambda: D.Ball(3)])
def test_both_ends_of_kappa(build):
    domain = build()
    x = domain.sample_uniform(32, generator=torch.Generator().manual_seed(0), dtype=F64)
    log = M.RegularizedBarrier(domain, kappa=1.0)
    near_log = M.RegularizedBarrier(domain, kappa=1 - 1e-7)
    assert torch.allclose(near_log.to_dual(x), log.to_dual(x), rtol=1e-5)
    # (s^-kappa - 1) / kappa -> -log s: the weight grows as 1/kappa, and what remains is a constant on half-spaces
    # and a multiple of the quadratic on a ball of radius one.
    kappa = 1e-6
    near = M.RegularizedBarrier(domain, kappa=kappa, weight=1 / kappa)
    entropic = M.RegularizedBarrier(domain, kappa=0.0)
    shift = 2 * x / kappa if isinstance(domain, D.Ball) else domain.halfspaces()[0].sum(0) / kappa
    error = near.to_dual(x) - shift - entropic.to_dual(x)
    assert error.abs().max() < 3e-3 * (1 + entropic.to_dual(x).abs().max())
    for i in (0, 1):
        log_slack = torch.log(torch.tensor(0.3 + i, dtype=F64))
        power = SlackPower(kappa, 1 / kappa)
        assert abs(float(power.force(log_slack)) - 1 / kappa + float(log_slack)) < 1e-5


def test_slack_entropy_is_the_entropy_of_boxes_and_simplices():
    box = D.Box([-1.0, 0.0, 2.0], [1.0, 0.5, 7.0])
    x = box.sample_uniform(16, generator=torch.Generator().manual_seed(0), dtype=F64)
    y = 3 * randn(16, 3)
    assert torch.allclose(M.SlackEntropy(box).to_dual(x), M.BoxEntropy(box).to_dual(x), rtol=1e-12, atol=1e-12)
    assert torch.allclose(M.SlackEntropy(box).to_primal(y), M.BoxEntropy(box).to_primal(y), rtol=1e-12, atol=1e-12)
    log_dets = [m(box).log_det_jacobian_dual(400 * y) for m in (M.SlackEntropy, M.BoxEntropy)]
    assert torch.allclose(*log_dets, rtol=1e-12)
    simplex = D.Simplex(4)
    norm = math.sqrt(1 - 1 / 4)
    ours, theirs = M.SlackEntropy(simplex), M.SimplexEntropy(simplex)
    # Unit rows stretch every slack by 1 / norm, and with it the gradient.
    assert torch.allclose(ours.to_primal(y / norm), theirs.to_primal(y), rtol=1e-10, atol=1e-12)
    far = ours.to_primal(100 * y / norm)
    assert torch.allclose(far.log(), theirs.to_primal(100 * y).log(), rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_small_simplex_coordinates_keep_their_digits(dtype):
    simplex = D.Simplex(3)
    x = torch.tensor([[1e-9, 1e-4, 1 - 1e-4 - 1e-9], [1e-20, 0.5, 0.5]], dtype=dtype)
    ours = M.LogBarrier(simplex).to_dual(x)
    exact = -simplex.to_tangent(1 / x.double())
    assert ((ours.double() - exact).abs().amax(-1) / exact.abs().amax(-1)).max() < 1e-6


@pytest.mark.parametrize("kappa", KAPPAS)
@pytest.mark.parametrize("step", [1e-9, 1e-5, 1e-2, 0.3])
def test_divergence_of_slacks_against_many_digits(kappa, step):
    def value(u):
        k = mpmath.mpf(kappa)
        if k == 1:
            return -mpmath.log(u)
        return u * mpmath.log(u) - u if k == 0 else -(u ** (1 - k)) / (1 - k)

    power = SlackPower(kappa, 0.7)
    s = torch.tensor([1e-6, 0.02, 1.0, 30.0], dtype=F64)
    for sign in (-1, 1):
        gap = sign * step * s
        t = s - gap
        ours = power.divergence(t, s, gap)
        mpmath.mp.dps = 60

        for i in range(4):
            a, g = mpmath.mpf(float(s[i])), mpmath.mpf(float(gap[i]))
            slope = mpmath.log(a) if kappa == 0 else -(a ** -mpmath.mpf(kappa))
            exact = mpmath.mpf(0.7) * (value(a - g) - value(a) + slope * g)
            assert abs(float(float(ours[i]) / exact) - 1) < 1e-10


def test_unbounded_sets_need_the_quadratic_term():
    for domain in (D.Orthant(3), D.Halfspace([1.0, 2.0], 1.0)):
        for build in (M.LogBarrier, M.SlackEntropy):
            with pytest.raises(DomainError, match="RegularizedBarrier"):
                build(domain)
        y = dual_points(32, domain.dim, 1e3)
        assert domain.contains(M.RegularizedBarrier(domain).to_primal(y)).all()


def test_parameters_out_of_range_and_sets_without_half_spaces():
    box = D.Box(0.0, 1.0, dim=2)
    for kwargs, name in (
        ({"kappa": 1.5}, "kappa"),
        ({"kappa": -0.1}, "kappa"),
        ({"weight": 0.0}, "weight"),
        ({"quadratic": 0.0}, "quadratic"),
        ({"on_failure": "ignore"}, "on_failure"),
    ):
        with pytest.raises(DomainError, match=name):
            M.RegularizedBarrier(box, **kwargs)
    with pytest.raises(DomainError, match="half-spaces"):
        M.LogBarrier(D.Ball(2))
    with pytest.raises(DomainError, match="half-spaces"):
        M.RegularizedBarrier(D.PSD(2))
    with pytest.raises(DomainError, match="Quadratic"):
        M.RegularizedBarrier(D.Euclidean(2))


def test_rows_that_do_not_converge(monkeypatch):
    monkeypatch.setattr(slack_newton, "MAX_ITERATIONS", 6)
    domain = random_polytope(12, 3)
    y = torch.stack([torch.zeros(3, dtype=F64), torch.full((3,), 1e6, dtype=F64)])
    with pytest.raises(ConvergenceError, match="1 of 2 rows") as caught:
        M.LogBarrier(domain).to_primal(y)
    assert caught.value.residual > 1e-9
    x = M.LogBarrier(domain, on_failure="nan").to_primal(y)
    assert domain.contains(x).tolist() == [True, False]
    assert x[1].isnan().all()


def test_repeated_rows_count_twice():
    domain = random_polytope(8, 3)
    once, twice = M.RegularizedBarrier(domain, weight=2.0), M.RegularizedBarrier(repeated(domain, 8), weight=1.0)
    y = dual_points(32, 3, 50.0)
    assert torch.allclose(once.to_primal(y), twice.to_primal(y), rtol=1e-12, atol=1e-12)
    assert torch.allclose(once.log_det_jacobian_dual(y), twice.log_det_jacobian_dual(y), rtol=1e-10)


def test_large_batches_are_solved_in_parts(monkeypatch):
    mirror_map = M.RegularizedBarrier(random_polytope(12, 3))
    y = dual_points(50, 3, 10.0).reshape(5, 10, 3)
    whole = mirror_map.to_primal(y)
    monkeypatch.setattr(slack_newton, "BATCH_ENTRIES", 36 * 7)
    assert torch.allclose(mirror_map.to_primal(y), whole, rtol=1e-14, atol=1e-14)
    assert mirror_map.to_primal(y[:0]).shape == (0, 10, 3)


@pytest.mark.parametrize("build", [M.SlackEntropy, M.RegularizedBarrier, M.LogBarrier])
def test_forward_over_reverse_under_vmap(build):
    mirror_map = build(D.Polytope([[1.0, 2.0], [-3.0, 0.5], [0.2, -1.0], [-1.0, -1.0]], [2.0, 1.5, 0.8, 1.2]))
    y = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3

    def energy(v):
        return mirror_map.to_primal(v).square().sum()

    nested = torch.func.vmap(torch.func.jacfwd(torch.func.grad(energy)))(y)
    oracle = torch.stack([torch.autograd.functional.hessian(energy, row) for row in y])
    assert torch.allclose(nested, oracle, atol=1e-12)
