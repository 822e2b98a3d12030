"""The one-call interface."""

import pytest
import torch

import mirrorgen as mg
from mirrorgen import domains, samplers, targets
from mirrorgen.errors import DomainError, ShapeError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian(x):
    return -0.5 * x.square().sum(-1)


def test_truncated_normal_on_an_orthant_has_the_half_normal_moments():
    chain = mg.sample(gaussian, domains.Orthant(4), 40_000, dtype=torch.float64, generator=seeded(1), warn=False)
    x = chain.positions
    assert domains.Orthant(4).contains(x).all()
    means = x.mean(0)
    z = (means.mean(0) - (2 / torch.pi) ** 0.5) / (means.std(0) / means.shape[0] ** 0.5)
    assert z.abs().max() < 4.5
    spread = (x.square().mean(0).mean(0) - 1) / (x.square().mean(0).std(0) / means.shape[0] ** 0.5)
    assert spread.abs().max() < 4.5


@pytest.mark.parametrize(
    "domain",
    [domains.Box([-1.0, 0.0], [2.0, 5.0]), domains.Simplex(4), domains.Euclidean(2), domains.PSD(2),
     domains.Polytope([[1.0, 1.0], [-1.0, 0.3], [0.2, -1.0]], [1.0, 1.0, 1.0]),
     domains.Product(domains.Box(0.0, 1.0, dim=1), domains.Simplex(3))],
    ids=lambda domain: type(domain).__name__,
)  # fmt: skip
def test_every_kind_of_domain(domain):
    chain = mg.sample(gaussian, domain, 100, num_chains=10, num_warmup=30, generator=seeded(), warn=False)
    assert chain.positions.shape == (10, 10, domain.dim)
    assert chain.positions.dtype == torch.float32
    assert domain.contains(chain.positions).all()
    assert chain.stats["accepted"].mean() > 0.2


def test_draws_repeat_with_their_generator():
    a, b, c = (
        mg.sample(gaussian, domains.Ball(2), 20, num_chains=4, num_warmup=10, generator=seeded(s), warn=False)
        for s in (1, 1, 2)
    )
    assert torch.equal(a.positions, b.positions)
    assert not torch.equal(a.positions, c.positions)


def test_number_of_draws_is_rounded_up():
    chain = mg.sample(gaussian, domains.Simplex(3), 45, num_chains=10, thin=2, num_warmup=5, warn=False)
    assert chain.positions.shape[:2] == (5, 10)
    assert chain.steps == 15


def test_kernels_by_name_class_and_instance():
    domain, box = domains.Simplex(3), domains.Box(0.0, 1.0, dim=2)
    kernel = samplers.MirroredHMC(gaussian, mg.mirror_maps.default(domain))
    for choice in ("auto", "MirroredHMC", samplers.MirroredHMC, kernel):
        chain = mg.sample(gaussian, domain, 8, kernel=choice, num_chains=4, num_warmup=4, warn=False)
        assert isinstance(chain.kernel, samplers.MirroredHMC)
    with pytest.raises(DomainError, match="MirroredHMC"):
        mg.sample(gaussian, domain, 8, kernel="Hamilton")
    with pytest.raises(DomainError, match=r"kernel.*domain"):
        mg.sample(gaussian, box, 8, kernel=kernel)


def test_auto_takes_the_kernel_that_suits():
    triangle = domains.Polytope([[-1.0, 0.0], [0.0, -1.0], [1.0, 1.0]], [0.0, 0.0, 1.0])
    normal = targets.TruncatedNormal(triangle, torch.zeros(2))
    few = {"num_chains": 4, "num_warmup": 2, "warn": False}
    assert isinstance(mg.sample(None, triangle, 8, **few).kernel, samplers.BilliardWalk)
    assert isinstance(mg.sample(normal, triangle, 8, **few).kernel, samplers.TruncatedGaussianGibbs)
    for density, domain in ((gaussian, triangle), (None, domains.Box(0.0, 1.0, dim=2))):
        assert isinstance(mg.sample(density, domain, 8, **few).kernel, samplers.MirroredHMC)


def test_starting_points_are_spread_and_have_density():
    domain = domains.Box(-1.0, 1.0, dim=2)

    def half(x):
        return torch.where(x[:, 0] > -0.1, torch.zeros_like(x[:, 0]), -torch.inf)

    x = samplers.starting_points(half, mg.mirror_maps.default(domain), 500, generator=seeded())
    assert torch.isfinite(half(x)).all()
    assert (x.std(0) > 0.1).all()


@pytest.mark.parametrize("width", [1e-2, 1e-4])
def test_chains_that_start_far_above_a_narrow_law_find_it(width):
    # Without climbing first, chains fly into the tails of the dual, where the density is flat.
    center = torch.tensor([0.3, 0.9, 0.5])
    chain = mg.sample(
        lambda x: -0.5 * ((x - center) / width).square().sum(-1), domains.Box(0.0, 1.0, dim=3), 6000,
        num_warmup=200, generator=seeded(4), warn=False,
    )  # fmt: skip
    means = chain.positions.double().mean(0)
    z = (means.mean(0) - center) / (means.std(0) / len(means) ** 0.5)
    assert z.abs().max() < 4.5
    torch.testing.assert_close(chain.flatten().std(0), torch.full((3,), width), rtol=0.05, atol=0)


def test_thin_polytopes_need_no_tuning():
    # A parallelogram ten thousand times longer than wide, and a law that is uniform but for a slope along it.
    rows = [[1.0, 0.0], [-1.0, 0.0], [1e4, 1.0], [-1e4, -1.0]]
    domain = domains.Polytope(rows, [1.0, 1.0, 1.0, 1.0])
    chain = mg.sample(
        lambda x: 2 * x[:, 0], domain, 3000, num_warmup=100, dtype=torch.float64, generator=seeded(2), warn=False
    )
    # Density e^(2u) on [-1, 1]: mean coth(2) - 1/2.
    means = chain.positions[..., 0].mean(0)
    exact = 1 / torch.tanh(torch.tensor(2.0, dtype=torch.float64)) - 0.5
    assert abs(means.mean() - exact) < 4.5 * means.std() / len(means) ** 0.5
    assert chain.rhat().max() < 1.1


def test_initial_points_are_used():
    x = torch.full((3, 2), 0.25, dtype=torch.float64)
    chain = mg.sample(gaussian, domains.Box(0.0, 1.0, dim=2), 6, initial=x, num_warmup=0, warn=False)
    assert chain.num_chains == 3
    assert chain.positions.dtype == torch.float64
    with pytest.raises(DomainError, match="initial"):
        mg.sample(gaussian, domains.Box(0.0, 1.0, dim=2), 6, initial=x + 1)


def test_bad_densities_get_typed_errors():
    domain = domains.Simplex(3)
    with pytest.raises(ShapeError, match="log_density"):
        mg.sample(lambda x: x, domain, 10)
    with pytest.raises(ShapeError, match="got float"):
        mg.sample(lambda x: 0.0, domain, 10)
    with pytest.raises(ShapeError, match="got float"):
        mg.sample(lambda x: 0.0, domain, 10, initial=domain.interior_point().repeat(2, 1))
    with pytest.raises(DomainError, match="not finite"):
        mg.sample(lambda x: torch.full_like(x[:, 0], torch.nan), domain, 10)
    with pytest.raises(DomainError, match="unbounded"):
        mg.sample(None, domains.Orthant(2), 10)
    with pytest.raises(DomainError, match="num_samples"):
        mg.sample(gaussian, domain, 0)


def test_targets_bring_their_score():
    calls = []

    class Counting(targets.Dirichlet):
        def score(self, x):
            calls.append(len(x))
            return super().score(x)

    mg.sample(Counting([2.0, 3.0]), domains.Simplex(2), 8, num_chains=4, num_warmup=2, warn=False)
    assert calls
