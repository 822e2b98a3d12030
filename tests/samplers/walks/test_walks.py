"""Walks against exact moments, closed forms and literal second implementations."""

import math

import pytest
import torch

from mirrorgen import domains as D
from mirrorgen import targets as T
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains.billiard import billiard
from mirrorgen.samplers import BilliardWalk, CoordinateHitAndRun, HitAndRun, resume, run
from mirrorgen.samplers.api import sample
from mirrorgen.samplers.base import Noise
from mirrorgen.samplers.walks.billiard import follow, reflections
from mirrorgen.samplers.walks.chord import slice_on_chord
from mirrorgen.samplers.walks.frame import make_frame
from mirrorgen.samplers.walks.scan import exchange_directions, make_scan

WALKS = {"hit_and_run": HitAndRun, "coordinate": CoordinateHitAndRun, "billiard": BilliardWalk}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def thin_box(k=6, decades=5.0):
    """A rotated box with sides from 1 down to ``e^-decades`` as a general polytope, and its covariance."""
    rotation = torch.linalg.qr(torch.randn(k, k, generator=generator(7), dtype=torch.float64))[0]
    half = torch.exp(-decades * torch.arange(k, dtype=torch.float64) / (k - 1))
    A = torch.cat([rotation, -rotation])
    return D.Polytope(A, torch.cat([half, half])), rotation.mT @ torch.diag(half.square() / 3) @ rotation


def scores(x, mean, variance):
    """z-scores of means and variances over independent rows of ``x``."""
    x = x.double()
    square = (x - mean).square()
    z_mean = (x.mean(0) - mean) / (x.std(0) / len(x) ** 0.5)
    z_variance = (square.mean(0) - variance) / (square.std(0) / len(x) ** 0.5)
    return torch.cat([z_mean, z_variance])


def last(kernel, x, steps, seed=1):
    """Points after ``steps`` steps: independent over chains."""
    return run(kernel, x, steps, thin=steps, generator=generator(seed)).positions[-1]


@pytest.mark.parametrize("name", WALKS)
@pytest.mark.parametrize("domain", [D.Box(-1.0, 1.0, dim=5), D.Simplex(6)], ids=repr)
def test_uniform_moments_from_one_point(name, domain):
    # All chains start in the same place and end as independent uniform draws.
    target = T.Uniform(domain)
    start = domain.sample_uniform(1, generator=generator(3), dtype=torch.float64)
    x = last(WALKS[name](None, domain), start.expand(6000, -1).clone(), 25)
    assert scores(x, target.mean, target.variance).abs().max() < 4.5


@pytest.mark.parametrize("name", ["coordinate", "billiard"])
@pytest.mark.parametrize(("n", "estimate"), [(4, 0.02964), (8, 0.01031)])
def test_variance_of_the_entries_of_doubly_stochastic_matrices(name, n, estimate):
    domain = D.Birkhoff(n)
    x = last(
        WALKS[name](None, domain), domain.interior_point().float().expand(1500, -1).clone(), 12 if name[0] == "b" else 6
    )
    per_chain = (x.double() - 1 / n).square().mean(-1)
    error = float(per_chain.std()) / len(x) ** 0.5
    # Half a unit of the digits of the estimate (another library, 36,000 draws) and its own error of about 0.2 percent.
    assert abs(float(per_chain.mean()) - estimate) < 4.5 * math.hypot(error, 0.002 * estimate) + 0.5e-5
    assert domain.contains(x).all()


def exact_variance_of_birkhoff_3():
    """Entry variance of uniform doubly stochastic 3 by 3 matrices, by triangulation.

    The three even and the three odd permutation matrices have the same sum, the only relation between them, so leaving
    out each even one in turn gives three simplices that tile the polytope, of equal volume by symmetry. On a simplex
    with vertices v_0..v_d, E x^2 = (sum v_i^2 + (sum v_i)^2) / ((d + 1) (d + 2)).
    """
    even, odd = [(0, 1, 2), (1, 2, 0), (2, 0, 1)], [(0, 2, 1), (1, 0, 2), (2, 1, 0)]
    second = 0.0
    for left_out in even:
        entry = [float(p[0] == 0) for p in [*(p for p in even if p != left_out), *odd]]
        second += (sum(v * v for v in entry) + sum(entry) ** 2) / 30 / 3
    return second - 1 / 9


@pytest.mark.parametrize("name", WALKS)
def test_exact_variance_of_three_by_three_doubly_stochastic_matrices(name):
    domain = D.Birkhoff(3)
    x = last(WALKS[name](None, domain), domain.interior_point().float().expand(20_000, -1).clone(), 12)
    variance = torch.full((9,), exact_variance_of_birkhoff_3(), dtype=torch.float64)
    assert float(variance[0]) == pytest.approx(2 / 45)
    assert scores(x, T.Uniform(domain).mean, variance).abs().max() < 4.5


@pytest.mark.parametrize(("name", "reversible"), [("hit_and_run", True), ("billiard", True), ("coordinate", False)])
def test_detailed_balance(name, reversible):
    # From exact draws, the pair (x, z) has the law of (z, x): skew-symmetric statistics have mean zero. A sweep in a
    # fixed order is stationary but not reversible, which the same statistics notice.
    domain = D.Simplex(3)
    x = domain.sample_uniform(60_000, generator=generator(1), dtype=torch.float64)
    z = last(WALKS[name](None, domain, **({"moves": 1} if name == "hit_and_run" else {})), x, 1)
    pairs = ((0, 1), (0, 2), (1, 2))
    skew = torch.stack([x[:, i] * z[:, j].square() - z[:, i] * x[:, j].square() for i, j in pairs])
    worst = (skew.mean(-1) / (skew.std(-1) / len(x) ** 0.5)).abs().max()
    assert (worst < 4.5) == reversible
    assert ((x - z).abs().amax(-1) > 1e-3).double().mean() > 0.9
    assert scores(z, T.Uniform(domain).mean, T.Uniform(domain).variance).abs().max() < 4.5


@pytest.mark.parametrize("name", WALKS)
def test_thin_polytope(name):
    # Sides from 1 to e^-5 at a random angle, in float32: mixes like a cube, right covariance, strictly inside.
    domain, covariance = thin_box()
    kernel = WALKS[name](None, domain)
    chain = run(kernel, domain.interior_point().float().expand(4000, -1).clone(), 10, thin=5, generator=generator(2))
    x = chain.positions[-1].double()
    assert domain.contains(chain.flatten()).all()
    whitened = x @ torch.linalg.inv(torch.linalg.cholesky(covariance)).mT
    assert scores(whitened, torch.zeros(6), torch.ones(6)).abs().max() < 4.5


def test_without_rounding_thin_polytopes_do_not_mix():
    # The test above has power: the same walk without rounding is far from the covariance after as many steps.
    domain, covariance = thin_box()
    kernel = HitAndRun(None, domain, rounding=None)
    x = last(kernel, domain.interior_point().expand(1000, -1).clone(), 10)
    whitened = x @ torch.linalg.inv(torch.linalg.cholesky(covariance)).mT
    assert scores(whitened, torch.zeros(6), torch.ones(6)).abs().max() > 20


@pytest.mark.parametrize("name", WALKS)
def test_strictly_inside_over_a_million_float32_steps(name):
    domain = D.Intersection(D.Box(100.0, 101.0, dim=3), D.Halfspace([1.0, 1.0, 1.0], 300.2))
    kernel = WALKS[name](None, domain)
    # The far corner of a set with coordinates near 100: float32 has 8e-6 between numbers.
    chain = run(kernel, domain.interior_point().float().expand(50_000, -1).clone(), 22, thin=2, generator=generator(5))
    rows, level = domain.halfspaces()
    assert chain.positions.dtype == torch.float32
    assert (chain.flatten().double() @ rows.mT < level).all()
    assert chain.positions.numel() / 3 * 2 > 1e6


@pytest.mark.parametrize("name", WALKS)
def test_densities_that_are_not_uniform(name):
    # Slices along chords, or Metropolis' test at the ends of paths.
    target = T.Dirichlet([0.7, 1.5, 3.0, 2.0])
    kernel = WALKS[name](target, target.domain)
    x = target.sample(8000, generator=generator(0))
    z = last(kernel, x, 4)
    assert scores(z, target.mean, target.variance).abs().max() < 4.5
    # Enough of the chains moved for the moments to mean something; Metropolis' test refuses most long paths.
    assert (z != x).any(-1).double().mean() > 0.5
    # And from a point mass.
    start = target.domain.interior_point().expand(3000, -1).clone()
    assert scores(last(kernel, start, 30), target.mean, target.variance).abs().max() < 4.5


def test_billiard_in_slacks_agrees_with_the_billiard_in_positions():
    # Two independent implementations, hundreds of bounces, float64.
    A = torch.nn.functional.normalize(torch.randn(12, 4, generator=generator(1), dtype=torch.float64), dim=-1)
    z = 0.05 * torch.randn(20, 4, generator=generator(2), dtype=torch.float64)
    step = 60 * torch.nn.functional.normalize(torch.randn(20, 4, generator=generator(3), dtype=torch.float64), dim=-1)
    A = torch.cat([A, -A])
    b = torch.ones(24, dtype=torch.float64)
    rows, kick, recover = reflections(A)
    length = step.norm(dim=-1, keepdim=True)
    slack = follow(1 - z @ rows.mT, step / length @ rows.mT, length, kick)
    torch.testing.assert_close((1 - slack) @ recover.mT, billiard(z, step, A, b), rtol=0, atol=1e-9)


def test_slice_moves_are_exact_for_any_number_of_tries():
    # On (0, 1) with density 2x, from exact draws, with so few tries that many fail.
    x = torch.rand(200_000, generator=generator(0), dtype=torch.float64).sqrt()
    for tries in (1, 3):
        u = torch.rand(len(x), 1 + tries, generator=generator(1), dtype=torch.float64)

        def evaluate(t, x=x):
            return (x + t).unsqueeze(-1), torch.log(2 * (x + t))

        draw = slice_on_chord(evaluate, x.unsqueeze(-1), torch.log(2 * x), -x, 1 - x, u)
        new = x + draw.t
        assert scores(new.unsqueeze(-1), torch.tensor(2 / 3), torch.tensor(1 / 18)).abs().max() < 4.5
        assert (new - x)[~draw.accepted].abs().max() == 0
        # Reversible: E f(x) g(z) = E g(x) f(z).
        skew = x * new.square() - new * x.square()
        assert abs(skew.mean() / (skew.std() / len(x) ** 0.5)) < 4.5
    assert 0.3 < draw.accepted.double().mean() < 1


def test_frame_is_affine_and_round():
    domain, _ = thin_box()
    frame = make_frame(domain, "barrier")
    x = domain.sample_uniform(5, generator=generator(0), dtype=torch.float64)
    w = frame.enter(x)
    torch.testing.assert_close(frame.leave(w), x)
    torch.testing.assert_close(frame.slack(w).mT, domain.slack(x) / domain.slack(domain.interior_point()))
    torch.testing.assert_close(frame.rows.mT @ frame.rows, torch.eye(6, dtype=torch.float64))
    covariance = torch.diag(torch.arange(1.0, 4.0))
    assert make_frame(D.Box(0.0, 1.0, dim=3), covariance).rows.shape == (6, 3)


@pytest.mark.parametrize(
    ("domain", "directions", "blocks"),
    [
        (D.Simplex(6), 15, 5),
        (D.Simplex(5), 10, 5),
        (D.Birkhoff(4), 36, 9),
        (D.TransportPolytope([1.0, 2.0, 3.0], [2.0, 4.0]), 3, 3),
    ],
    ids=repr,
)
def test_exchanges_move_few_coordinates_in_full_blocks(domain, directions, blocks):
    moves = exchange_directions(domain)
    frame = make_frame(domain, "barrier")
    scan = make_scan(moves @ frame.inverse, frame.rows)
    assert len(moves) == directions
    assert len(scan.blocks) == blocks
    moved = (scan.directions @ frame.matrix).abs() > 1e-9
    assert moved.sum(-1).unique().tolist() == [2 if isinstance(domain, D.Simplex) else 4]
    # Within a block no coordinate moves twice; all directions are used once.
    for block in scan.blocks:
        assert moved[block.first : block.first + block.size].sum(0).max() == 1
    assert sorted(scan.order.tolist()) == list(range(directions))


def test_sweeps_agree_with_moves_one_by_one():
    # The table of slacks with its reordering and padding against recomputing every slack for every direction.
    box, last_two = torch.eye(4), torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    domain = D.Polytope(torch.cat([box, -box, last_two]), torch.tensor([1.0] * 8 + [1.5]))
    kernel = CoordinateHitAndRun(None, domain, directions=torch.eye(4))
    assert [b.size for b in kernel.scan.blocks] != [1] * 4
    x = domain.sample_uniform(50, generator=generator(0), dtype=torch.float64)
    u = torch.rand(50, 4, generator=generator(1), dtype=torch.float64)
    new, _ = kernel.step(kernel.init(x), Noise(u[:, :0], u))
    z = x.clone()
    for n, i in enumerate(kernel.scan.order.tolist()):
        rate = domain.A[:, i] / domain.slack(z)
        # The direction is an axis of x, the frame may scale and flip it.
        z = z.clone()
        low, high = 1 / rate.amin(-1), 1 / rate.amax(-1)
        z[:, i] += low + u[:, n] * (high - low)
    torch.testing.assert_close(new.x, z, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", WALKS)
def test_by_name_and_from_a_checkpoint(name, tmp_path):
    target = T.Uniform(D.Birkhoff(3))
    by_name = sample(target, target.domain, 40, kernel=WALKS[name].__name__, num_chains=4, num_warmup=3, warn=False)
    assert target.domain.contains(by_name.flatten()).all()
    kernel, start = WALKS[name](None, target.domain), target.sample(4, generator=generator())
    whole = run(kernel, start, 8, generator=generator(3))

    def stop(step, state):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(kernel, start, 8, generator=generator(3), directory=tmp_path, callback=stop, checkpoint_every=2)
    assert torch.equal(resume(kernel, tmp_path).positions, whole.positions)


def test_bad_requests():
    for make in WALKS.values():
        with pytest.raises(DomainError, match="bounded"):
            make(None, D.Orthant(2))
        with pytest.raises(DomainError, match="half-spaces"):
            make(None, D.Ball(2))
        with pytest.raises(ShapeError, match="rounding"):
            make(None, D.Box(0.0, 1.0, dim=2), rounding=torch.eye(3))
    with pytest.raises(DomainError, match="span"):
        CoordinateHitAndRun(None, D.Box(0.0, 1.0, dim=2), directions=torch.tensor([[1.0, 0.0]]))
    with pytest.raises(ShapeError, match="directions"):
        CoordinateHitAndRun(None, D.Box(0.0, 1.0, dim=2), directions=torch.eye(3))
    with pytest.raises(DomainError, match="moves"):
        HitAndRun(None, D.Box(), moves=0)
    with pytest.raises(DomainError, match="mean_length"):
        BilliardWalk(None, D.Box(), mean_length=-1.0)
    with pytest.raises(DomainError, match="jitter"):
        BilliardWalk(None, D.Box(), jitter=1.5)
    with pytest.raises(DomainError, match="outside"):
        HitAndRun(None, D.Box()).init(torch.tensor([[2.0]]))
