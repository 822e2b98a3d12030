"""Langevin kernels for non-smooth and constrained laws: literal steps, exact laws, smoothed laws, atoms."""

import math

import pytest
import torch
from scipy import integrate

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen import targets as T
from mirrorgen.errors import DomainError
from mirrorgen.geometry.bregman import Indicator, L1Norm, bregman_envelope
from mirrorgen.samplers import (
    MYULA,
    BregmanMoreauLangevin,
    MirrorLangevin,
    Noise,
    ProjectedLangevin,
    ReflectedLangevin,
    run,
)

F64 = torch.float64


class Gaussian:
    """``-f`` of a normal law about ``(1, -2, 0.5)`` with scales, whose score is typed by hand."""

    centre, scale = torch.tensor([1.0, -2.0, 0.5], dtype=F64), torch.tensor([1.0, 0.5, 2.0], dtype=F64)

    def __call__(self, x):
        return -0.5 * ((x - self.centre) / self.scale).square().sum(-1)

    def score(self, x):
        return -(x - self.centre) / self.scale**2


WEIGHT = torch.tensor([0.5, 1.0, 3.0], dtype=F64)
SPACE = D.Euclidean(3)
H, LAMBDA = 0.03, 0.2


def draws(n=6, dim=3, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=F64)


def noise_for(kernel, n=6, seed=1):
    shape, generator = kernel.noise_shape, torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": F64}
    return Noise(torch.randn(n, shape.normal, **options), torch.rand(n, shape.uniform, **options))


def one_step(kernel, x, noise=None):
    return kernel.step(kernel.init(x), noise or noise_for(kernel, len(x)))


def generator(seed):
    return torch.Generator().manual_seed(seed)


def z_scores(values, expected):
    return (values.mean(0) - expected) / (values.std(0) / len(values) ** 0.5)


def test_myula_is_its_recursion():
    kernel, x = MYULA(Gaussian(), SPACE, H, nonsmooth=L1Norm(WEIGHT), smoothing=LAMBDA), draws()
    noise = noise_for(kernel)
    prox = torch.sign(x) * (x.abs() - LAMBDA * WEIGHT).clamp_min(0)
    expected = x + H * Gaussian().score(x) - H / LAMBDA * (x - prox) + math.sqrt(2 * H) * noise.normal
    state, info = one_step(kernel, x, noise)
    torch.testing.assert_close(state.x, expected)
    torch.testing.assert_close(state.log_density, Gaussian()(expected) - (WEIGHT * expected.abs()).sum(-1))
    assert info.accepted.all()


def test_quadratic_maps_give_myula():
    quadratic = M.Quadratic(SPACE)
    options = {"nonsmooth": L1Norm(WEIGHT), "smoothing": LAMBDA}
    mirror = BregmanMoreauLangevin(Gaussian(), quadratic, H, adjusted=False, **options)
    chains = [run(k, draws(), 20, generator=generator(4)) for k in (mirror, MYULA(Gaussian(), SPACE, H, **options))]
    torch.testing.assert_close(chains[0].positions, chains[1].positions)


@pytest.mark.parametrize("side", ["left", "right"])
def test_mirror_step_is_its_recursion(side):
    # Hypentropy of the dynamics, another one for the envelope, all by hand.
    beta, sigma = torch.tensor([0.5, 1.0, 4.0], dtype=F64), torch.tensor([2.0, 0.3, 1.0], dtype=F64)
    phi, psi = M.Hypentropy(SPACE, beta), M.Hypentropy(SPACE, sigma)
    options = {"nonsmooth": L1Norm(WEIGHT), "smoothing": LAMBDA, "envelope_map": psi, "side": side}
    kernel, x = BregmanMoreauLangevin(Gaussian(), phi, H, adjusted=False, **options), draws()
    noise, c = noise_for(kernel), LAMBDA * WEIGHT
    y = torch.asinh(x / sigma)
    if side == "left":
        prox = sigma * torch.sinh(torch.sign(y) * (y.abs() - c).clamp_min(0))
        slope = (x - prox) / torch.sqrt(x**2 + sigma**2) / LAMBDA
    else:
        size = (x.abs() - c * torch.sqrt(x**2 + sigma**2 * (1 - c**2))) / (1 - c**2)
        prox = torch.where(x.abs() <= c * sigma, 0.0, torch.sign(x) * size)
        slope = (y - torch.asinh(prox / sigma)) / LAMBDA
    root = (x**2 + beta**2) ** -0.25
    dual = torch.asinh(x / beta) + H * (Gaussian().score(x) - slope) + math.sqrt(2 * H) * root * noise.normal
    torch.testing.assert_close(one_step(kernel, x, noise)[0].x, beta * torch.sinh(dual))


def test_without_noise_a_step_follows_the_gradient_of_the_smoothed_potential():
    mirror_map = M.HellingerBall(D.Ball(1))
    function, x = L1Norm(2.0), torch.linspace(-0.9, 0.9, 7, dtype=F64).unsqueeze(-1)
    zero = Noise(torch.zeros(7, 1, dtype=F64), torch.zeros(7, 0, dtype=F64))
    kernel = BregmanMoreauLangevin(lambda v: -v.sum(-1), mirror_map, H, False, nonsmooth=function, smoothing=LAMBDA)
    moved = one_step(kernel, x, zero)[0].y - mirror_map.to_dual(x)
    potential = torch.func.grad(lambda v: (v.sum(-1) + bregman_envelope(mirror_map, function, v, LAMBDA)).sum())
    torch.testing.assert_close(moved, -H * potential(x))


def test_right_form_with_equal_steps_is_proximal_point_plus_noise():
    phi = M.NegEntropy(D.Orthant(3))
    options = {"nonsmooth": L1Norm(WEIGHT), "smoothing": H, "side": "right"}
    kernel, x = BregmanMoreauLangevin(lambda v: 0 * v.sum(-1), phi, H, adjusted=False, **options), draws().exp()
    noise = noise_for(kernel)
    expected = torch.log(x / (1 + H * WEIGHT)) + math.sqrt(2 * H) * x**-0.5 * noise.normal
    torch.testing.assert_close(one_step(kernel, x, noise)[0].y, expected)


@pytest.mark.parametrize("side", ["left", "right"])
def test_adjusted_chains_keep_exponential_laws_at_any_smoothing(side):
    # g is linear on the orthant; the entropic map, heavy smoothing, and the exact law all the same.
    rates = torch.tensor([0.5, 3.0], dtype=F64)
    x = torch.empty(20_000, 2, dtype=F64).exponential_(generator=generator(2)) / rates
    phi = M.NegEntropy(D.Orthant(2))
    kernel = BregmanMoreauLangevin(
        lambda v: 0 * v.sum(-1), phi, 0.02, nonsmooth=L1Norm(rates), smoothing=1.0, side=side
    )
    chain = run(kernel, x, 10, thin=10, generator=generator(3))
    end = chain.positions[-1]
    assert chain.stats["acceptance"].mean() > 0.5
    assert (end != x).any(-1).double().mean() > 0.9
    assert z_scores(end, 1 / rates).abs().max() < 4.5
    assert z_scores((end - 1 / rates) ** 2, 1 / rates**2).abs().max() < 4.5


def huber_variance(rate, smoothing):
    """The variance of the law ``exp(-env)``, ``env`` the Moreau envelope of ``rate |x|``: a Huber function."""

    def density(v):
        edge = smoothing * rate
        return math.exp(-(v * v / (2 * smoothing) if abs(v) <= edge else rate * abs(v) - smoothing * rate**2 / 2))

    total, second = (integrate.quad(lambda v, k=k: v**k * density(v), 0, 60)[0] for k in (0, 2))
    return second / total


def test_myula_samples_the_smoothed_law():
    target = T.AnisotropicLaplace([1.0])
    kernel = MYULA(target.smooth, target.domain, 0.02, nonsmooth=target.nonsmooth, smoothing=1.5)
    x = target.sample(20_000, generator=generator(5))
    end = run(kernel, x, 600, thin=600, generator=generator(6)).positions[-1]
    smoothed = huber_variance(1.0, 1.5)
    assert smoothed > 1.2 * float(target.variance)
    # The step adds a bias of order h / lambda, about one per cent.
    assert abs(float(end.var()) / smoothed - 1) < 0.01 + 4.5 * math.sqrt(5 / 20_000)


def test_unadjusted_chains_leave_the_set_of_an_indicator_and_adjusted_ones_do_not():
    box = D.Box(-1.0, 1.0, dim=2)
    options = {"nonsmooth": Indicator(box), "smoothing": 0.05}
    x = box.sample_uniform(500, generator=generator(7), dtype=F64)
    flat = T.Uniform(D.Box(-1e3, 1e3, dim=2))
    free = run(MYULA(flat, D.Euclidean(2), 0.01, **options), x, 50, thin=50, generator=generator(8))
    assert 0.5 < float(box.contains(free.positions[-1]).double().mean()) < 0.95
    kernel = BregmanMoreauLangevin(flat, M.Quadratic(D.Euclidean(2)), 0.01, **options)
    kept = run(kernel, x, 50, thin=50, generator=generator(8))
    assert box.contains(kept.positions).all()
    assert z_scores(kept.positions[-1], torch.zeros(2)).abs().max() < 4.5


def test_the_subgradient_baseline_coincides_with_small_smoothing_away_from_kinks():
    target = T.AnisotropicLaplace([1.0, 4.0])
    phi, x = M.Hypentropy(target.domain, 2.0), torch.tensor([[0.4, -0.2], [3.0, 1.0]], dtype=F64)
    plain = MirrorLangevin(target, phi, 1e-3, adjusted=False)
    smooth = BregmanMoreauLangevin(target.smooth, phi, 1e-3, False, nonsmooth=target.nonsmooth, smoothing=1e-6)
    noise = noise_for(plain, 2)
    torch.testing.assert_close(one_step(smooth, x, noise)[0].x, one_step(plain, x, noise)[0].x, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", [ProjectedLangevin, ReflectedLangevin])
def test_small_steps_on_the_simplex_are_euclidean_steps_in_its_plane(kind):
    simplex = D.Simplex(3)
    slope = torch.tensor([1.0, -2.0, 4.0], dtype=F64)
    kernel = kind(lambda v: (v * slope).sum(-1), simplex, 1e-3)
    x = torch.tensor([[0.2, 0.3, 0.5]], dtype=F64)
    still = Noise(torch.zeros(1, 2, dtype=F64), torch.zeros(1, 0, dtype=F64))
    torch.testing.assert_close(one_step(kernel, x, still)[0].x, x + 1e-3 * (slope - slope.mean()))
    # The noise is isotropic in the plane: covariance 2h (I - 1 1^T / 3).
    normal = torch.randn(40_000, 2, generator=generator(1), dtype=F64)
    kernel = kind(lambda v: 0 * v.sum(-1), simplex, 1e-6)
    step = one_step(kernel, x.expand(40_000, 3), Noise(normal, normal[:, :0]))[0].x - x
    expected = 2e-6 * (torch.eye(3, dtype=F64) - 1 / 3)
    # Variances have a relative standard error of sqrt(2 / n).
    assert ((torch.cov(step.T) - expected).abs() < 4.5 * math.sqrt(2 / 40_000) * 2e-6).all()


def test_reflected_steps_of_any_size_preserve_the_uniform_law():
    box = D.Box([-1.0, 0.0], [1.0, 4.0])
    target = T.Uniform(box)
    x = box.sample_uniform(20_000, generator=generator(11), dtype=F64)
    end = run(ReflectedLangevin(target, box, 3.0), x, 3, thin=3, generator=generator(12)).positions[-1]
    assert z_scores(end, torch.tensor([0.0, 2.0])).abs().max() < 4.5
    assert z_scores((end - torch.tensor([0.0, 2.0])) ** 2, torch.tensor([1 / 3, 4 / 3])).abs().max() < 4.5


def test_projected_steps_put_atoms_at_the_boundary():
    box, h = D.Box(0.0, 1.0), 1e-3
    x = box.sample_uniform(40_000, generator=generator(13), dtype=F64)
    end = run(ProjectedLangevin(T.Uniform(box), box, h), x, 1, generator=generator(14)).positions[-1]
    atoms = ((end < 1e-12) | (end > 1 - 1e-12)).double().squeeze(-1)
    # From a uniform point a step of scale s leaves an interval of length one with probability 2 s / sqrt(2 pi).
    expected = 2 * math.sqrt(2 * h) / math.sqrt(2 * math.pi)
    assert abs(float(atoms.mean()) - expected) < 4.5 * math.sqrt(expected / 40_000)
    assert box.contains(end).all()


def test_reflected_langevin_has_the_drift_of_the_target():
    # A truncated exponential law with rate 3 on (0, 1): bias O(h).
    box = D.Box(0.0, 1.0)
    kernel = ReflectedLangevin(lambda v: -3 * v.sum(-1), box, 2e-3)
    x = box.sample_uniform(10_000, generator=generator(15), dtype=F64)
    end = run(kernel, x, 400, thin=400, generator=generator(16)).positions[-1]
    mean = 1 / 3 - 1 / (math.exp(3) - 1)
    assert abs(float(end.mean()) - mean) < 2e-3 + 4.5 * float(end.std()) / 100


def test_options_that_do_not_go_together_are_refused():
    g = {"nonsmooth": L1Norm()}
    flat = Gaussian()
    with pytest.raises(DomainError, match="freely"):
        MYULA(flat, D.Box(0.0, 1.0, dim=3), H, **g)
    with pytest.raises(DomainError, match="lambda"):
        MYULA(flat, SPACE, H, smoothing=0.0, **g)
    with pytest.raises(DomainError, match="step must be positive"):
        BregmanMoreauLangevin(flat, M.Quadratic(SPACE), H, smoothing=-1.0, **g)
    with pytest.raises(DomainError, match="right proximity"):
        BregmanMoreauLangevin(flat, M.LogBarrier(D.Box(0.0, 1.0, dim=3)), H, side="right", **g)
    with pytest.raises(DomainError, match="coordinates"):
        BregmanMoreauLangevin(flat, M.Quadratic(SPACE), H, envelope_map=M.Quadratic(D.Euclidean(2)), **g)
    with pytest.raises(DomainError, match="BurgEntropy"):
        BregmanMoreauLangevin(flat, M.BurgEntropy(D.Orthant(3)), H, adjusted=False, **g)
