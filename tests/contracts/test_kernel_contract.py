"""What every sampler promises."""

import pytest
import torch

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.samplers import run
from mirrorgen.samplers.run import NoiseSource
from tests.contracts.kernels import KERNELS

CASES = {name: build() for name, build in sorted(KERNELS.items())}
EXACT = [name for name, case in CASES.items() if case.exact]
WITH_DENSITY = [name for name, case in CASES.items() if case.build is not None]


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def start(case, n, dtype=torch.float64, seed=0):
    return case.target.sample(n, generator=torch.Generator().manual_seed(seed)).to(dtype)


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def standard_scores(x, target):
    """z-scores of the means of ``x`` and of ``(x - mean)^2`` over independent draws."""
    square = (x - target.mean).square()
    z_mean = (x.mean(0) - target.mean) / (x.std(0) / len(x) ** 0.5)
    z_variance = (square.mean(0) - target.variance) / (square.std(0) / len(x) ** 0.5)
    return torch.cat([z_mean, z_variance])


@pytest.mark.parametrize("name", EXACT)
def test_exact_draws_stay_exact(name):
    # Independent chains from exact draws: after any number of steps they are independent draws again.
    case = CASES[name]
    x = start(case, 20_000)
    assert standard_scores(x, case.target).abs().max() < 4.5
    chain = run(case.kernel, x, 5, thin=5, generator=generator())
    assert (chain.positions[-1] != x).any(-1).double().mean() > 0.5
    assert standard_scores(chain.positions[-1], case.target).abs().max() < 4.5


def test_wrong_laws_are_noticed(case):
    # The test above has power: draws whose mean is off by a tenth of a standard deviation fail it.
    x = start(case, 20_000)
    shifted = x + 0.1 * case.target.variance.sqrt().to(x)
    assert standard_scores(shifted, case.target).abs().max() > 4.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_are_strictly_inside_in_their_own_dtype(case, dtype):
    chain = run(case.kernel, start(case, 200, dtype), 20, generator=generator())
    assert chain.positions.dtype == dtype
    assert case.kernel.domain.contains(chain.flatten()).all()
    assert chain.positions.shape == (20, 200, case.kernel.domain.dim)


def test_step_is_a_pure_function_of_state_and_noise(case):
    state = case.kernel.init(start(case, 7))
    before = [None if part is None else part.clone() for part in state]
    noise = NoiseSource(3, case.kernel, state.x).at(0)
    first, second = case.kernel.step(state, noise), case.kernel.step(state, noise)
    for a, b in zip([*first[0], *first[1]], [*second[0], *second[1]], strict=True):
        assert (a is None and b is None) or torch.equal(a, b)
    for a, b in zip(state, before, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def test_chains_do_not_see_each_other(case):
    state = case.kernel.init(start(case, 6))
    noise = NoiseSource(3, case.kernel, state.x).at(0)
    together, _ = case.kernel.step(state, noise)
    part = type(state)(*(None if p is None else p[2:4] if p.ndim else p for p in state))
    alone, _ = case.kernel.step(part, type(noise)(noise.normal[2:4], noise.uniform[2:4]))
    torch.testing.assert_close(together.x[2:4], alone.x, rtol=1e-9, atol=1e-12)


def test_same_seed_same_draws(case):
    x = start(case, 5)
    first, second = (run(case.kernel, x, 4, generator=generator(9)) for _ in range(2))
    assert torch.equal(first.positions, second.positions)
    other = run(case.kernel, x, 4, generator=generator(10))
    deterministic = not any(case.kernel.noise_shape)
    assert torch.equal(first.positions, other.positions) == deterministic


def test_infos_have_one_entry_per_chain(case):
    state = case.kernel.init(start(case, 5))
    new, info = case.kernel.step(state, NoiseSource(3, case.kernel, state.x).at(0))
    assert [part.shape for part in info] == [(5,)] * 3
    assert info.accepted.dtype == torch.bool
    assert info.nonfinite.dtype == torch.bool
    assert ((info.acceptance >= 0) & (info.acceptance <= 1)).all()
    assert type(new) is type(state)


def test_bad_starts_get_typed_errors(case):
    x = start(case, 3)
    with pytest.raises(ShapeError):
        case.kernel.init(x[0])
    with pytest.raises(ShapeError):
        case.kernel.init(torch.cat([x, x], -1))
    with pytest.raises(DomainError):
        case.kernel.init(x + torch.nan)


@pytest.mark.parametrize("name", WITH_DENSITY)
def test_nan_log_densities_are_rejected_and_counted(name):
    case = CASES[name]
    middle = float(case.target.mean[0])

    def broken(x):
        return torch.where(x[:, 0] > middle, torch.nan, case.target(x))

    x = start(case, 400)
    x = x[x[:, 0] < middle]
    chain = run(case.build(broken), x, 10, generator=generator())
    assert chain.stats["nonfinite"].sum() > 0
    assert torch.isfinite(chain.positions).all()
    assert (chain.positions[..., 0] <= middle).all()
    with pytest.raises(DomainError, match="log_density"):
        case.build(lambda points: torch.full_like(points[:, 0], torch.nan)).init(x)
