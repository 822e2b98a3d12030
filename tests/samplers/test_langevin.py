"""Langevin kernels in the metric of a map: ratios against dense matrices, laws, bias, scaling, invariance."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen import samplers as S
from mirrorgen import targets as T
from mirrorgen.errors import DomainError
from mirrorgen.samplers.base import Noise


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def skewed(x):
    """A log-density without symmetries, positive on every bounded set."""
    weights = torch.arange(1.0, x.shape[-1] + 1).to(x)
    return (weights * x).sum(-1) - (x * x).sum(-1) + torch.sin(3 * x).sum(-1)


PENTAGON = D.Polytope([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 1.0]], [1.0, 1.0, 1.0, 0.5, 1.5])
MAPS = {
    "box_barrier": M.LogBarrier(D.Box([0.0, -1.0], [1.0, 3.0])),
    "box_entropy": M.BoxEntropy(D.Box([0.0, -1.0], [1.0, 3.0])),
    "simplex_barrier": M.LogBarrier(D.Simplex(3)),
    "simplex_alr": M.SimplexEntropy(D.Simplex(3), chart="alr"),
    "ball_barrier": M.BallLogBarrier(D.Ball(2)),
    "pentagon_barrier": M.LogBarrier(PENTAGON),
    "pentagon_entropy": M.SlackEntropy(PENTAGON),
    "birkhoff_barrier": M.LogBarrier(D.Birkhoff(3)),
    "orthant_burg": M.BurgEntropy(D.Orthant(2)),
}


def interior(mirror_map, n=6, seed=0):
    domain = mirror_map.domain
    if domain.bounded:
        return domain.sample_uniform(n, generator=generator(seed), dtype=torch.float64)
    return 0.5 + torch.rand(n, domain.dim, generator=generator(seed))


def forced(kernel, x, seed=1):
    """States before and after one step that is always accepted where its ratio is finite, and the step's ratio."""
    state = kernel.init(x)
    noise = Noise(torch.randn(len(x), kernel.noise_shape.normal, generator=generator(seed)), torch.zeros(len(x), 1))
    new, info = kernel.step(state, noise)
    return state, new, info


def hessian(mirror_map, z):
    """The Jacobian of ``grad phi`` in the coordinates of the map at one point, by autograd."""
    return torch.func.jacrev(lambda u: mirror_map._gradient(mirror_map.from_coordinates(u)))(z)


def dense_log_joint(mirror_map, z, target, h, metric):
    """One point's log-density (in the coordinates of the proposal), mean and covariance, from dense matrices."""
    H = hessian(mirror_map, z)
    value, score = target(mirror_map.from_coordinates(z)), None
    score = torch.func.grad(lambda u: target(mirror_map.from_coordinates(u)))(z)
    if metric == "dual":
        y = mirror_map._gradient(mirror_map.from_coordinates(z))
        return value - torch.logdet(H), y, MultivariateNormal(y + h * score, 2 * h * H)
    inverse = torch.linalg.inv(H)
    return value, z, MultivariateNormal(z + h * inverse @ score, 2 * h * (inverse + inverse.mT) / 2)


def literal_log_ratio(mirror_map, x, x_new, target, h, metric):
    """``log [p(w') q(w', w)] - log [p(w) q(w, w')]`` of one pair of points by ``MultivariateNormal.log_prob``."""
    z, z_new = mirror_map.coordinates(x), mirror_map.coordinates(x_new)
    log_p, w, forward = dense_log_joint(mirror_map, z, target, h, metric)
    log_p_new, w_new, backward = dense_log_joint(mirror_map, z_new, target, h, metric)
    return log_p_new + backward.log_prob(w) - log_p - forward.log_prob(w_new)


def check_ratio(kernel, mirror_map, target, h, metric):
    x = interior(mirror_map)
    state, new, info = forced(kernel, x)
    moved = info.accepted & (info.acceptance < 1)
    assert info.accepted.sum() >= 4
    assert moved.any()
    for i in moved.nonzero().flatten():
        expected = literal_log_ratio(mirror_map, state.x[i], new.x[i], target, h, metric)
        torch.testing.assert_close(info.acceptance[i].log(), expected, rtol=1e-7, atol=1e-7)
    for i in (info.accepted & (info.acceptance == 1)).nonzero().flatten():
        assert literal_log_ratio(mirror_map, state.x[i], new.x[i], target, h, metric) >= -1e-7


@pytest.mark.parametrize("name", MAPS)
def test_mamla_ratio_against_dense_matrices(name):
    # Two Gaussian densities of the dual and the law of y, with the Jacobian by autograd: the 3/2 comes out by itself.
    h = 0.03
    check_ratio(S.MirrorLangevin(skewed, MAPS[name], h), MAPS[name], skewed, h, "dual")


@pytest.mark.parametrize("name", MAPS)
def test_mapla_ratio_against_dense_matrices(name):
    h = 0.03
    check_ratio(S.MAPLA(skewed, MAPS[name], h), MAPS[name], skewed, h, "primal")


@pytest.mark.parametrize("name", ["simplex_barrier", "pentagon_barrier"])
def test_walks_leave_the_gradient_out_of_the_proposal_only(name):
    mirror_map = MAPS[name]
    x = interior(mirror_map)

    def proposals(target):
        return forced(S.MirrorLangevin(target, mirror_map, 0.02, drift=False), x)

    flat, tilted = (proposals(f) for f in (lambda x: 0 * x.sum(-1), lambda x: -50 * x[:, 0].square()))
    # The same noise gives the same proposals; acceptance differs by the ratio of the densities.
    both = flat[2].accepted & tilted[2].accepted & (flat[2].acceptance < 1) & (tilted[2].acceptance < 1)
    torch.testing.assert_close(flat[1].y[both], tilted[1].y[both])
    change = -50 * (tilted[1].x[:, 0].square() - x[:, 0].square())
    torch.testing.assert_close((tilted[2].acceptance.log() - flat[2].acceptance.log())[both], change[both])
    assert both.any()


def test_dikin_is_the_walk_of_radius_r():
    x = interior(MAPS["pentagon_barrier"], 200)
    r = 0.4
    state, new, info = forced(S.DikinWalk(lambda x: 0 * x.sum(-1), PENTAGON, r), x)
    step = (new.x - state.x)[info.accepted]
    G = torch.stack([hessian(MAPS["pentagon_barrier"], z) for z in x[info.accepted]])
    noise = torch.randn(200, 2, generator=generator(1))[info.accepted]
    size = torch.einsum("ni,nij,nj->n", step, G, step)
    torch.testing.assert_close(size, r**2 / 2 * noise.square().sum(-1))


def test_mala_on_the_dual_law_against_two_gaussians():
    simplex = D.Simplex(3)
    mirror_map, h = M.SimplexEntropy(simplex), 0.3
    target = T.Dirichlet([2.0, 1.0, 3.0])
    scale = torch.tensor([[0.9, 0.0], [0.3, 0.7]])
    state, new, info = forced(S.MirroredLangevin(target, mirror_map, h, scale=scale), target.sample(8))

    def log_dual(y):
        return target(mirror_map.to_primal(y)) + torch.logdet(torch.func.jacrev(mirror_map._inverse_chart)(y))

    mirror_map._inverse_chart = lambda y: simplex.to_chart(mirror_map._inverse(y))
    C = scale @ scale.mT
    for i in info.accepted.nonzero().flatten():
        y, z = state.y[i], new.y[i]
        forward = MultivariateNormal(y + h * C @ torch.func.grad(log_dual)(y), 2 * h * C)
        backward = MultivariateNormal(z + h * C @ torch.func.grad(log_dual)(z), 2 * h * C)
        ratio = log_dual(z) + backward.log_prob(y) - log_dual(y) - forward.log_prob(z)
        torch.testing.assert_close(info.acceptance[i].log(), ratio.clamp_max(0), rtol=1e-8, atol=1e-8)


def test_unadjusted_mirrored_langevin_keeps_the_proposals_of_the_adjusted_form():
    target = T.Dirichlet([2.0, 1.0, 3.0])
    x = target.sample(8)
    kernels = [S.MirroredLangevin(target, M.SimplexEntropy(target.domain), 0.1, adjusted=a) for a in (True, False)]
    (_, new, info), (_, free, all_kept) = (forced(k, x) for k in kernels)
    torch.testing.assert_close(new.y[info.accepted], free.y[info.accepted])
    assert all_kept.accepted.all()


def ratio_of_variance(chain, target):
    """Total variance about the exact mean in units of the exact one, with its standard error over chains."""
    square = (chain.positions - target.mean).square().sum(-1).mean(0) / target.variance.sum()
    return float(square.mean()), float(square.std() / math.sqrt(len(square)))


DIRICHLET = T.Dirichlet([4.0] * 6)
KINDS = {
    "mirrored": lambda: S.MirroredLangevin(DIRICHLET, M.SimplexEntropy(DIRICHLET.domain), 0.15),
    "mamla": lambda: S.MirrorLangevin(DIRICHLET, M.LogBarrier(DIRICHLET.domain), 0.05),
    "mamla_entropic": lambda: S.MirrorLangevin(DIRICHLET, M.SimplexEntropy(DIRICHLET.domain), 0.02),
    "mmrw": lambda: S.MirrorLangevin(DIRICHLET, M.LogBarrier(DIRICHLET.domain), 0.05, drift=False),
    "mapla": lambda: S.MAPLA(DIRICHLET, DIRICHLET.domain, 0.05),
    "dikin": lambda: S.DikinWalk(DIRICHLET, DIRICHLET.domain, 0.7),
}


@pytest.mark.parametrize("name", KINDS)
def test_moments_of_a_dirichlet_law(name):
    chain = S.run(KINDS[name](), DIRICHLET.sample(1000, generator=generator()), 60, generator=generator(1))
    ratio, error = ratio_of_variance(chain, DIRICHLET)
    assert abs(ratio - 1) < 4.5 * error
    assert error < 0.015  # the bias of unadjusted steps of this size is 0.25
    mean = chain.positions.mean(0)
    assert ((mean.mean(0) - DIRICHLET.mean) / (mean.std(0) / math.sqrt(1000))).abs().max() < 4.5


@pytest.mark.parametrize(("h", "measured"), [(0.022, 1.085), (0.05, 1.25)])
def test_unadjusted_mla_has_its_known_bias(h, measured):
    # From exact draws the bias needs a few relaxation times to build up; both values were measured independently.
    kernel = S.MirrorLangevin(DIRICHLET, M.LogBarrier(DIRICHLET.domain), h, adjusted=False)
    warm = S.run(kernel, DIRICHLET.sample(1000, generator=generator()), 40, thin=40, generator=generator(1))
    chain = S.run(kernel, warm.positions[-1], 120, generator=generator(2))
    ratio, error = ratio_of_variance(chain, DIRICHLET)
    assert abs(ratio - measured) < 4.5 * error + 0.005  # the reference has three digits
    assert ratio > 1 + 10 * error


@pytest.mark.parametrize("d", [5, 20, 50])
def test_acceptance_of_mamla_is_flat_in_the_dimension_at_its_scaling(d):
    target = T.Dirichlet([4.0] * (d + 1))
    kernel = S.MirrorLangevin(target, M.LogBarrier(target.domain), 0.25 * d**-1.5)
    chain = S.run(kernel, target.sample(200, generator=generator()), 10, generator=generator(1))
    assert 0.65 < chain.stats["acceptance"].mean() < 0.85


LINEAR = torch.tensor([[3.0, 0.2], [-40.0, 0.7]], dtype=torch.float64)
SHIFT = torch.tensor([1.0, -2.0], dtype=torch.float64)


def mapped_pentagon():
    A, b = PENTAGON.halfspaces()
    rows = A @ torch.linalg.inv(LINEAR)
    return D.Polytope(rows, b + rows @ SHIFT)


def acceptance_gap(make, metric, h):
    """By how many standard errors the acceptance changes when the set and the law are mapped.

    Other coordinates give other noise, so that an invariant kernel agrees in law: the means over chains are compared.
    """
    n = 20_000
    x = PENTAGON.sample_uniform(n, generator=generator(), dtype=torch.float64)
    image = mapped_pentagon()

    def pulled(y):
        return skewed((y - SHIFT) @ torch.linalg.inv(LINEAR).mT)

    first = forced(make(skewed, metric(PENTAGON), h), x)[2].acceptance
    second = forced(make(pulled, metric(image), h), x @ LINEAR.mT + SHIFT, seed=2)[2].acceptance
    error = torch.sqrt((first.var() + second.var()) / n)
    return float((first.mean() - second.mean()).abs() / error)


@pytest.mark.parametrize(("make", "h"), [(S.DikinWalk, 0.3), (S.MAPLA, 0.05), (S.MirrorLangevin, 0.05)])
def test_acceptance_is_invariant_under_affine_maps(make, h):
    assert acceptance_gap(make, M.LogBarrier, h) < 4.5


def test_metrics_with_a_quadratic_term_are_not_invariant():
    # The test above has power.
    assert acceptance_gap(S.MAPLA, lambda d: M.RegularizedBarrier(d, kappa=1.0), 0.05) > 10


@pytest.mark.parametrize("kind", ["dual", "primal"])
def test_detailed_balance_between_cells(kind):
    # From exact draws the flow between any two cells is the same in both directions.
    target = T.Dirichlet([2.0, 3.0, 4.0])
    x = target.sample(60_000, generator=generator())
    kernel = S.MirrorLangevin(target, M.LogBarrier(target.domain), 0.1)
    if kind == "primal":
        kernel = S.MAPLA(target, target.domain, 0.1)
    state = kernel.init(x)
    noise = Noise(torch.randn(len(x), 2, generator=generator(1)), torch.rand(len(x), 1, generator=generator(2)))
    new, _ = kernel.step(state, noise)
    edges = torch.tensor([0.12, 0.22, 0.35])
    flow = torch.zeros(4, 4).index_put(
        (torch.bucketize(x[:, 0].contiguous(), edges), torch.bucketize(new.x[:, 0].contiguous(), edges)),
        torch.ones(len(x)),
        accumulate=True,
    )
    upper = torch.triu_indices(4, 4, 1)
    up, down = flow[upper[0], upper[1]], flow[upper[1], upper[0]]
    enough = up + down > 100
    assert enough.sum() >= 3
    assert ((up - down) / torch.sqrt(up + down))[enough].abs().max() < 4.5


@pytest.mark.parametrize("name", ["box_barrier", "pentagon_barrier", "birkhoff_barrier", "pentagon_entropy"])
@pytest.mark.parametrize("make", [S.MAPLA, S.MirrorLangevin])
def test_float32_points_stay_strictly_inside(name, make):
    mirror_map = MAPS[name]
    x = interior(mirror_map, 64).float()
    chain = S.run(make(lambda x: 0 * x.sum(-1), mirror_map, 0.3), x, 30, generator=generator())
    assert chain.positions.dtype == torch.float32
    assert mirror_map.domain.contains(chain.flatten()).all()
    assert torch.isfinite(chain.stats["acceptance"]).all()
    assert (chain.positions[-1] != x).any()


def test_dual_vectors_without_points_are_rejected():
    # Burg's entropy: the dual is the negative orthant, a Gaussian step may leave it.
    kernel = S.MirrorLangevin(lambda x: -x.sum(-1), M.BurgEntropy(D.Orthant(1)), 2.0)
    chain = S.run(kernel, torch.rand(4000, 1, generator=generator()) + 0.5, 60, generator=generator(1))
    assert (chain.positions > 0).all()
    assert (chain.stats["acceptance"] == 0).any()
    assert chain.stats["nonfinite"].sum() == 0
    # The target is an exponential law: mean one, variance one.
    last = chain.positions[-1]
    assert ((last.mean() - 1) * math.sqrt(len(last)) / last.std()).abs() < 4.5


def test_a_map_that_fails_is_not_mistaken_for_a_flat_density():
    # A dual vector too large for its square has no point; the constant density must not accept it.
    box = D.Box(0.0, 1.0)
    kernel = S.MirrorLangevin(lambda x: 0 * x[:, 0].nan_to_num(), M.BoxEntropy(box), 1e308)
    state = kernel.init(torch.full((50, 1), 0.5))
    new, info = kernel.step(state, Noise(torch.randn(50, 1, generator=generator()), torch.zeros(50, 1)))
    assert torch.isfinite(new.x).all()
    assert info.nonfinite.any()
    assert not info.accepted[info.nonfinite].any()


def test_options_that_contradict_each_other_are_refused():
    box = M.BoxEntropy(D.Box(0.0, 1.0))
    with pytest.raises(DomainError, match="no proposal density"):
        S.MirrorLangevin(skewed, box, 0.1, discretization="forward")
    with pytest.raises(DomainError, match="discretization"):
        S.MirrorLangevin(skewed, box, 0.1, adjusted=False, discretization="backward")
    with pytest.raises(DomainError, match="adjusted=False"):
        S.MirrorLangevin(skewed, M.BurgEntropy(D.Orthant(2)), 0.1, adjusted=False)
    with pytest.raises(DomainError, match="MirroredHMC"):
        S.MirroredLangevin(skewed, M.BurgEntropy(D.Orthant(2)), 0.1)
    assert S.MirrorLangevin(skewed, box, 0.1, adjusted=False).target_acceptance is None
    assert S.MirrorLangevin(skewed, box, 0.1).target_acceptance == 0.574


def test_forward_discretisation_with_one_fine_step_of_a_flat_density_is_mla():
    # Without drift the half step is the identity; one inner step is then the Euler step.
    mirror_map = MAPS["pentagon_barrier"]
    flat = lambda x: 0 * x.sum(-1)  # noqa: E731
    x = interior(mirror_map)
    _, first, _ = forced(S.MirrorLangevin(flat, mirror_map, 0.02, adjusted=False), x)
    _, second, _ = forced(S.MirrorLangevin(flat, mirror_map, 0.02, False, "forward", inner_steps=1), x)
    torch.testing.assert_close(first.y, second.y)


def test_forward_discretisation_takes_the_gradient_step_first():
    mirror_map, h = MAPS["box_barrier"], 0.05
    x = interior(mirror_map)
    kernel = S.MirrorLangevin(skewed, mirror_map, h, False, "forward", inner_steps=2)
    state = kernel.init(x)
    normal = torch.randn(len(x), 4, generator=generator(1))
    new, _ = kernel.step(state, Noise(normal, torch.zeros(len(x), 0)))
    for i in range(len(x)):
        y = mirror_map.to_dual(x[i]) + h * torch.func.grad(skewed)(x[i])
        for part in normal[i].chunk(2):
            H = hessian(mirror_map, mirror_map.to_primal(y))
            y = y + math.sqrt(2 * h / 2) * H.diagonal().sqrt() * part
        torch.testing.assert_close(new.y[i], y, rtol=1e-9, atol=1e-9)
