"""Uniform and truncated normal targets against closed forms and high-precision integrals."""

import mpmath
import pytest
import torch
from scipy import stats

from mirrorgen import domains as D
from mirrorgen import targets as T
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.targets.normal_interval import interval_moments, interval_quantile

INF = float("inf")
# Around zero, one-sided, far and very far in the tail, narrow, mirrored.
INTERVALS = [
    (-1.0, 2.0), (0.5, INF), (-INF, INF), (2.9, INF), (3.1, INF), (3.5, 5.0), (10.0, INF), (10.0, 10.001),
    (-30.0, -20.0), (-12.0, 9.0), (1e4, INF), (-INF, -1e5), (3.0, 3.0 + 1e-9),
]  # fmt: skip


def integrals(low, high):
    """log mass, mean and variance by quadrature with 50 digits; substitution to the scale of the tail."""
    with mpmath.workdps(40):
        a, b = mpmath.mpf(low), mpmath.mpf(high)
        mode = max(a, min(b, mpmath.mpf(0)))
        reach = 60 / (2 + abs(mode)) + (20 if abs(mode) < 5 else 0)
        grid = mpmath.linspace(max(a, mode - reach), min(b, mode + reach), 12)
        moments = [
            mpmath.quad(lambda t, k=k: (t - mode) ** k * mpmath.exp(-(t * t - mode * mode) / 2), grid) for k in range(3)
        ]
        mean, square = moments[1] / moments[0], moments[2] / moments[0]
        log_mass = mpmath.log(moments[0] / mpmath.sqrt(2 * mpmath.pi)) - mode * mode / 2
        return float(log_mass), float(mode + mean), float(square - mean * mean)


@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_moments_of_an_interval(low, high):
    got = interval_moments(torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64))
    for value, exact in zip(got, integrals(low, high), strict=True):
        assert float(value) == pytest.approx(exact, rel=2e-14, abs=2e-15)


@pytest.mark.parametrize(("low", "high"), [i for i in INTERVALS if i[1] - i[0] > 1e-6])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 2e-13), (torch.float32, 5e-7)])
def test_quantiles_have_the_mass_they_should(low, high, dtype, tolerance):
    u = torch.tensor([1e-6, 0.01, 0.3, 0.5, 0.9, 0.999, 1 - 2**-20], dtype=dtype)
    low, high = torch.tensor(low, dtype=dtype), torch.tensor(high, dtype=dtype)
    t = interval_quantile(u, low, high)
    assert ((t >= low) & (t <= high)).all()
    assert (t.diff() >= 0).all()
    scale = integrals(float(low), float(high))[2] ** 0.5
    for p, point in zip(u.tolist(), t.tolist(), strict=True):
        # One unit in the last place of the answer is worth that many times the density at it.
        slop = 2 * abs(point) * torch.finfo(dtype).eps / scale
        if slop < 0.01:
            assert _mass_below(float(low), float(high), point) == pytest.approx(p, abs=tolerance + 4 * slop)


def _mass_below(low, high, point):
    with mpmath.workdps(40):
        if low + high < 0:
            return 1 - _mass_below(-high, -low, -point)
        tail = lambda t: mpmath.erfc(mpmath.mpf(t) / mpmath.sqrt(2)) / 2 if t != INF else mpmath.mpf(0)  # noqa: E731
        return float((tail(low) - tail(point)) / (tail(low) - tail(high)))


def standard_scores(x, target):
    square = (x - target.mean).square()
    z_mean = (x.mean(0) - target.mean) / (x.std(0) / len(x) ** 0.5)
    return torch.cat([z_mean, (square.mean(0) - target.variance) / (square.std(0) / len(x) ** 0.5)])


@pytest.mark.parametrize(
    "target",
    [
        T.Uniform(D.Box([-1.0, 0.0], [1.0, 5.0])),
        T.Uniform(D.Simplex(4)),
        T.Uniform(D.Ball(3, 2.0, [1.0, 0.0, -1.0])),
        T.Uniform(D.Product(D.Box(0.0, 1.0), D.Simplex(3))),
        T.TruncatedNormal(D.Box(-1.0, 2.0, dim=2), [0.5, 10.0], [1.0, 0.25]),
        T.TruncatedNormal(D.Orthant(2), [-12.0, 3.0]),
    ],
    ids=lambda target: f"{type(target).__name__}-{type(target.domain).__name__}",
)
def test_draws_have_the_stated_moments(target):
    x = target.sample(40_000, generator=torch.Generator().manual_seed(0))
    assert target.domain.contains(x).all()
    assert standard_scores(x, target).abs().max() < 4.5


def test_truncated_normal_moments_ten_standard_deviations_outside():
    target = T.TruncatedNormal(D.Box(0.0, 2.0, dim=3), [-10.0, 0.5, 12.0], [1.0, 4.0, 1.0])
    for i, (location, scale) in enumerate([(-10.0, 1.0), (0.5, 2.0), (12.0, 1.0)]):
        low, high = (0 - location) / scale, (2 - location) / scale
        _, mean, variance = integrals(low, high)
        assert float(target.mean[i]) == pytest.approx(location + scale * mean, rel=1e-13)
        assert float(target.variance[i]) == pytest.approx(scale**2 * variance, rel=1e-13)
    # And one against another library, where it is accurate.
    other = stats.truncnorm(-0.25, 0.75, loc=0.5, scale=2.0)
    assert float(target.mean[1]) == pytest.approx(other.mean(), rel=1e-10)
    assert float(target.variance[1]) == pytest.approx(other.var(), rel=1e-8)


def test_log_density_and_score_of_a_full_covariance():
    covariance = torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
    target = T.TruncatedNormal(D.Simplex(2), [0.3, -1.0], covariance)
    law = torch.distributions.MultivariateNormal(target.location, covariance)
    x = D.Simplex(2).sample_uniform(5, dtype=torch.float64)
    difference = target(x) - law.log_prob(x)
    torch.testing.assert_close(difference, difference[:1].expand(5))
    torch.testing.assert_close(target.score(x), torch.func.grad(lambda v: target(v).sum())(x))
    with pytest.raises(DomainError, match="diagonal"):
        _ = target.mean


def test_uniform_density_is_flat():
    target = T.Uniform(D.Birkhoff(3))
    x = target.sample(4, generator=torch.Generator().manual_seed(0))
    assert (target(x) == 0).all()
    assert (target.score(x) == 0).all()
    assert target.score(x).shape == x.shape
    torch.testing.assert_close(target.mean, torch.full((9,), 1 / 3, dtype=torch.float64))
    for name in ("mean", "variance"):
        with pytest.raises(DomainError, match="closed form"):
            getattr(T.Uniform(D.Polytope([[1.0], [-1.0]], [1.0, 2.0])), name)


@pytest.mark.parametrize(
    ("location", "covariance", "error"),
    [
        ([0.0], None, ShapeError),
        ([0.0, INF], None, DomainError),
        (0.0, [1.0, -1.0], DomainError),
        (0.0, [[1.0, 2.0], [2.0, 1.0]], DomainError),
        (0.0, [[1.0, 0.5], [0.0, 1.0]], DomainError),
        (0.0, [1.0, 1.0, 1.0], ShapeError),
    ],
)
def test_bad_parameters(location, covariance, error):
    with pytest.raises(error):
        T.TruncatedNormal(D.Orthant(2), location, covariance)
