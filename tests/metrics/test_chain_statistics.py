"""Effective sample sizes, R-hat and Monte Carlo errors of chains."""

import math
import warnings

import pytest
import torch

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.metrics import effective_sample_size, mcse, rhat, weight_ess

KINDS = ("bulk", "tail", "mean")


def normals(n: int, seed: int) -> torch.Tensor:
    """Normal numbers from a congruential generator and Box-Muller: the same with every library and version."""
    state, uniform = seed, []
    for _ in range(2 * n):
        state = state * 48271 % (2**31 - 1)
        uniform.append(state / (2**31 - 1))
    u = torch.tensor(uniform, dtype=torch.float64).reshape(2, n)
    return (-2 * u[0].log()).sqrt() * torch.cos(2 * math.pi * u[1])


def autoregression(noise: torch.Tensor, rho: float) -> torch.Tensor:
    """Stationary chains with correlation ``rho^t`` and variance one from normal numbers ``(draws, ...)``."""
    x = [noise[0]]
    for e in noise[1:]:
        x.append(rho * x[-1] + math.sqrt(1 - rho**2) * e)
    return torch.stack(x)


# Draws, chains, autocorrelation.
CASES = {
    "independent": (200, 4, 0.0),
    "sticky": (200, 4, 0.9),
    "antithetic": (200, 4, -0.6),
    "cap": (120, 2, -0.97),
    "one chain": (301, 1, 0.5),
    "odd length": (101, 3, 0.3),
    "shifted": (200, 4, 0.3),
    "wider": (200, 4, 0.3),
    "ties": (200, 3, 0.6),
    "five draws": (5, 4, 0.0),
}


def case(name: str) -> torch.Tensor:
    draws, chains, rho = CASES[name]
    x = autoregression(normals(draws * chains, seed=len(name) * 7919).reshape(draws, chains), rho)
    if name == "shifted":
        x[:, 0] += 1
    if name == "wider":
        x[:, 0] *= 3
    # On a binary grid differences and halves are exact. The two draws next to the median are equally far from it up to
    # rounding, and whether they tie must not depend on the machine.
    return x.round() if name == "ties" else torch.round(x * 2**20) / 2**20


# Bulk, tail and mean effective sample size, R-hat, standard errors of mean and standard deviation; from ArviZ 0.23.4.
ARVIZ: dict[str, tuple[float, ...]] = {
    "independent": (705.429005587, 797.307750526, 704.133946807, 1.00016394406, 0.0369263442217, 0.023346521473),
    "sticky": (15.2662422585, 56.1623417453, 14.9213793617, 1.20407124891, 0.265742370069, 0.102836518549),
    "antithetic": (2322.47198959, 625.396803011, 2322.47198959, 0.9992794961, 0.020755630563, 0.0370302633727),
    "cap": (571.250698011, 21.6295988497, 571.250698011, 1.30128193658, 0.0422755873903, 0.274612757807),
    "one chain": (76.0854792381, 188.119884008, 66.729830748, math.nan, 0.116822882808, 0.0566623402186),
    "odd length": (187.111509453, 225.582727544, 189.625999215, 1.00188718124, 0.0724358928359, 0.0430040531041),
    "shifted": (23.7840965628, 100.67154614, 23.2457984434, 1.12558410328, 0.225751311568, 0.0424973085423),
    "wider": (361.688318185, 42.9690606353, 333.251658772, 1.18964818383, 0.100189493053, 0.475956547942),
    "ties": (77.4150824987, 267.086763547, 80.9245735492, 1.05828489494, 0.119250722489, 0.0471127150103),
    "five draws": (19.2659197225, 19.2659197225, 19.2659197225, 1.12451309069, 0.197366063402, 0.115620236711),
}


@pytest.mark.parametrize("name", CASES)
def test_values_of_arviz(name):
    x = case(name)
    ours = [effective_sample_size(x, kind) for kind in KINDS] + [rhat(x), mcse(x), mcse(x, "sd")]
    for value, expected in zip(ours, ARVIZ[name], strict=True):
        # ArviZ gives no R-hat for one chain; ours compares its halves.
        if not math.isnan(expected):
            assert float(value) == pytest.approx(expected, rel=1e-9)


def test_against_arviz_itself():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arviz = pytest.importorskip("arviz")
    for seed, rho in enumerate([0.0, 0.95, -0.5]):
        x = autoregression(torch.randn(250, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), rho)
        for kind in KINDS:
            options = {"prob": (0.05, 0.95)} if kind == "tail" else {}
            expected = float(arviz.ess(x.T.numpy(), method=kind, **options))
            assert float(effective_sample_size(x, kind)) == pytest.approx(expected, rel=1e-9)
        assert float(rhat(x)) == pytest.approx(float(arviz.rhat(x.T.numpy())), rel=1e-9)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, -0.3, -0.6])
def test_autoregression_has_its_exact_effective_sample_size(rho):
    """``N (1 - rho) / (1 + rho)`` for the mean; 64 repeats give the error of the average."""
    noise = torch.randn(4000, 4, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ess = effective_sample_size(autoregression(noise, rho), "mean")
    exact = 16000 * (1 - rho) / (1 + rho)
    error = float(ess.std()) / 8
    # The cut leaves a bias of a few per mille, as does the split of the chains.
    assert abs(float(ess.mean()) - exact) < 4 * error + 0.02 * exact
    assert error < 0.02 * exact


def test_standard_error_of_the_mean_is_the_spread_of_means():
    noise = torch.randn(1000, 4, 400, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x = 3 * autoregression(noise, 0.8)
    exact = 3 * math.sqrt(1.8 / 0.2 / 4000)
    assert float(mcse(x).mean()) == pytest.approx(exact, rel=0.03)
    means, deviations = x.flatten(0, 1).mean(0), x.flatten(0, 1).std(0)
    # 400 repeats: the standard deviation has a relative error of 1 / sqrt(800).
    assert float(means.std() / mcse(x).mean()) == pytest.approx(1, abs=4.5 / math.sqrt(800))
    assert float(deviations.std() / mcse(x, "sd").mean()) == pytest.approx(1, abs=4.5 / math.sqrt(800))


def test_chains_in_different_places_are_found():
    x = torch.randn(500, 4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x[:, 0, 1] += 2  # another place
    x[:, 0, 2] *= 5  # the same place, another scale: seen by the distances from the median only
    values = rhat(x)
    assert float(values[0]) < 1.01
    assert float(values[1]) > 1.2
    assert float(values[2]) > 1.1
    assert float(effective_sample_size(x)[1]) < 20


def test_drift_is_found_within_one_chain():
    x = torch.randn(400, 1, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert float(rhat(x)) < 1.02
    assert float(rhat(x + torch.linspace(0, 3, 400)[:, None])) > 1.3


def test_antithetic_chains_exceed_their_draws_up_to_the_cap():
    x = autoregression(normals(4000, 5).reshape(1000, 4), -0.5)
    assert float(effective_sample_size(x, "mean")) > 4000
    alternating = torch.tensor([1.0, -1.0]).repeat(500)[:, None].repeat(1, 4) + 1e-3 * x
    assert float(effective_sample_size(alternating, "mean")) == pytest.approx(4000 * math.log10(4000))


@pytest.mark.parametrize("statistic", [effective_sample_size, rhat, mcse])
def test_coordinates_are_independent_and_bad_ones_are_nan(statistic):
    x = torch.randn(100, 3, 5, generator=torch.Generator().manual_seed(6))
    x[:, :, 1] = 0.1
    x[7, 2, 2] = math.nan
    x[7, 2, 3] = math.inf
    values = statistic(x)
    assert values.dtype == torch.float64
    assert torch.isnan(values).tolist() == [False, True, True, True, False]
    for i in (0, 4):
        assert float(values[i]) == pytest.approx(float(statistic(x[..., i])), rel=1e-13)
    assert bool(torch.isnan(statistic(x[:3])).all())


@pytest.mark.parametrize("kind", ["bulk", "tail"])
def test_ranks_do_not_see_monotone_maps(kind):
    x = autoregression(normals(2000, 8).reshape(500, 4), 0.4)
    assert float(effective_sample_size(x.exp(), kind)) == pytest.approx(float(effective_sample_size(x, kind)))


def test_a_constant_tail_leaves_the_other_to_decide():
    # More than 5% of the draws share the largest value: "x <= quantile" holds for all.
    x = normals(400, 9).reshape(100, 4).clamp_max(0.5)
    assert math.isfinite(float(effective_sample_size(x, "tail")))


def test_blocks_of_coordinates_change_nothing(monkeypatch):
    x = normals(100 * 2 * 7, 10).reshape(100, 2, 7)
    whole = effective_sample_size(x)
    monkeypatch.setattr("mirrorgen.metrics.chain_statistics._BLOCK", 500)
    assert torch.equal(effective_sample_size(x), whole)


def test_stuck_chains_in_different_places_have_infinite_rhat():
    assert float(rhat(torch.arange(4.0).expand(50, 4))) == math.inf


def test_weights():
    equal = torch.full((50,), -1000.0)
    assert float(weight_ess(equal)) == pytest.approx(50)
    assert float(weight_ess(torch.tensor([3.0, -math.inf, -math.inf]))) == pytest.approx(1)
    w = torch.tensor([[1.0, 2.0], [3.0, 2.0], [0.5, 2.0]], dtype=torch.float64)
    assert torch.allclose(weight_ess(w.log()), w.sum(0) ** 2 / w.square().sum(0))
    assert math.isnan(float(weight_ess(torch.full((3,), -math.inf))))
    assert math.isnan(float(weight_ess(torch.tensor([0.0, math.nan]))))


def test_bad_input_is_refused():
    for bad in (torch.rand(10), torch.rand(2, 2, 2, 2), torch.ones(10, 2, dtype=torch.long), torch.rand(0, 2)):
        with pytest.raises(ShapeError, match=r"\(draws, chains\)"):
            effective_sample_size(bad)
    with pytest.raises(DomainError, match="bulk, tail, mean"):
        effective_sample_size(torch.rand(10, 2), "median")
    with pytest.raises(DomainError, match="mean or sd"):
        mcse(torch.rand(10, 2), "median")
