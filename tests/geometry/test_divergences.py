"""Divergences between distributions against closed forms, torch.distributions, quadrature and mirror maps."""

import math

import pytest
import torch
from scipy import integrate, special
from scipy.spatial.distance import jensenshannon
from torch.distributions import Categorical, Independent, MultivariateNormal, Normal, kl_divergence

from mirrorgen import domains, mirror_maps
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry import divergences as div
from mirrorgen.geometry.gaussian_divergences import (
    CholeskyGaussian,
    DiagonalGaussian,
    gaussian_jeffreys,
    gaussian_kl,
    gaussian_renyi,
)

F64 = torch.float64
ORDERS = [-1.5, 0.0, 0.3, 1.0, 2.5]
FUNCTIONS = {
    "kl": div.kl,
    "reverse_kl": div.reverse_kl,
    "jeffreys": div.jeffreys,
    "chi2": div.chi2,
    "jensen_shannon": div.jensen_shannon,
    **{f"alpha_{a}": (lambda p, q, a=a: div.alpha_divergence(p, q, a)) for a in ORDERS},
    **{f"bregman_{a}": (lambda p, q, a=a: div.tsallis_bregman(p, q, a)) for a in ORDERS},
    **{f"tsallis_{a}": (lambda p, q, a=a: div.tsallis_kl(p, q, a)) for a in ORDERS if a > 0},
    **{f"renyi_{a}": (lambda p, q, a=a: div.renyi(p, q, a)) for a in ORDERS if a > 0},
}


def log_probs(*shape, scale=2.0, seed=0, dtype=F64):
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(scale * torch.randn(*shape, generator=generator, dtype=dtype), -1)


@pytest.fixture(params=sorted(FUNCTIONS))
def function(request):
    return FUNCTIONS[request.param]


def close(a, b, rtol=1e-11, atol=1e-13):
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype), rtol=rtol, atol=atol)


def test_kl_agrees_with_torch_and_scipy():
    lp, lq = log_probs(16, 7), log_probs(16, 7, seed=1)
    close(div.kl(lp, lq), kl_divergence(Categorical(logits=lp), Categorical(logits=lq)))
    close(div.kl(lp, lq), special.rel_entr(lp.exp().numpy(), lq.exp().numpy()).sum(-1))
    close(div.reverse_kl(lp, lq), special.rel_entr(lq.exp().numpy(), lp.exp().numpy()).sum(-1))
    p, q = lp.exp(), lq.exp()
    close(div.jeffreys(lp, lq), ((p - q) * (lp - lq)).sum(-1))
    close(div.chi2(lp, lq), ((p - q) ** 2 / q).sum(-1))
    close(div.jensen_shannon(lp, lq), jensenshannon(p.numpy(), q.numpy(), axis=-1) ** 2)


@pytest.mark.parametrize("a", [-1.5, 0.3, 0.7, 1.5, 3.0])
def test_power_families_by_definition(a):
    lp, lq = log_probs(16, 5, seed=2), log_probs(16, 5, seed=3)
    p, m = lp.exp(), lq.exp()
    overlap = (p**a * m ** (1 - a)).sum(-1)
    close(div.alpha_divergence(lp, lq, a), (overlap - 1) / (a * (a - 1)))
    close(div.alpha_divergence(lp, lq, a), div.alpha_divergence(lq, lp, 1 - a))
    bregman = (p**a - a * p * m ** (a - 1) + (a - 1) * m**a).sum(-1) / (a * (a - 1))
    close(div.tsallis_bregman(lp, lq, a), bregman)
    if a > 0:
        close(div.tsallis_kl(lp, lq, a), (overlap - 1) / (a - 1))
        close(div.renyi(lp, lq, a), overlap.log() / (a - 1))


def test_special_orders():
    lp, lq = log_probs(8, 5), log_probs(8, 5, seed=1)
    p, q = lp.exp(), lq.exp()
    close(div.alpha_divergence(lp, lq, 0.5), 2 * (p.sqrt() - q.sqrt()).square().sum(-1))
    close(div.tsallis_bregman(lp, lq, 2.0), 0.5 * (p - q).square().sum(-1))
    close(div.tsallis_bregman(lp, lq, 0.0), (p / q - (lp - lq) - 1).sum(-1))
    for family in (div.alpha_divergence, div.tsallis_kl, div.tsallis_bregman, div.renyi):
        close(family(lp, lq, 1.0), div.kl(lp, lq))
        for order in (1 - 1e-9, 1 + 1e-9):
            close(family(lp, lq, order), div.kl(lp, lq), rtol=1e-6)


def test_published_values_at_two_points():
    # Bernoulli(1/2) against Bernoulli(1/4), by hand.
    lp, lq = torch.tensor([0.5, 0.5], dtype=F64).log(), torch.tensor([0.25, 0.75], dtype=F64).log()
    close(div.kl(lp, lq), 0.5 * math.log(4 / 3))
    close(div.chi2(lp, lq), 1 / 3)
    close(div.renyi(lp, lq, 2.0), math.log(4 / 3))
    close(div.tsallis_kl(lp, lq, 2.0), 1 / 3)


def test_divergences_of_the_mirror_maps():
    lp, lq = log_probs(8, 4), log_probs(8, 4, seed=1)
    p, q = lp.exp(), lq.exp()
    simplex, orthant = domains.Simplex(4), domains.Orthant(4)
    close(div.kl(lp, lq), mirror_maps.SimplexEntropy(simplex).divergence(p, q))
    close(div.kl(lp, lq), mirror_maps.NegEntropy(orthant).divergence(p, q))
    close(div.tsallis_bregman(lp, lq, 0.0), mirror_maps.BurgEntropy(orthant).divergence(p, q))
    for index in (-0.5, 0.5, 0.9):
        for domain in (simplex, orthant):
            mirror_map = mirror_maps.TsallisEntropy(domain, q=index)
            close(div.tsallis_bregman(lp, lq, index), mirror_map.divergence(p, q))


def test_generalised_kl_of_positive_measures():
    lp, lq = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0), dtype=F64)
    close(div.kl(lp, lq), special.kl_div(lp.exp().numpy(), lq.exp().numpy()).sum(-1))


def test_zero_at_equality_and_positive_elsewhere(function):
    lp, lq = log_probs(64, 6), log_probs(64, 6, seed=1)
    extreme = torch.tensor([[0.0, -2000.0]], dtype=F64)
    assert function(lp, lp).abs().max() == function(extreme, extreme).abs().max() == 0
    assert function(lp, lq).min() > 0


def test_float32_of_near_distributions(function):
    lp = log_probs(64, 6, dtype=torch.float32)
    lq = lp + 1e-3 * log_probs(64, 6, seed=1, dtype=torch.float32).clamp(-3, 0)
    lq = (lq.double() - lq.double().logsumexp(-1, keepdim=True)).float()
    exact = function(lp.double(), lq.double())
    # The arguments themselves sum to one within 1e-7 only, which every formula sees to the same extent.
    assert ((function(lp, lq) - exact).abs() / exact).max() < 2e-5


def test_gradients(function):
    lp, lq = log_probs(2, 3).requires_grad_(), log_probs(2, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(function, (lp, lq))
    assert torch.autograd.gradgradcheck(function, (lp, lq))


def masked_pairs(dtype):
    lp, lq = log_probs(5, 5, dtype=dtype).clone(), log_probs(5, 5, seed=1, dtype=dtype).clone()
    minus = -torch.inf
    lp[0, 1] = lq[0, 1] = minus  # both forbid
    lp[1, 2] = minus  # only p forbids
    lq[2, 2] = minus  # only q forbids
    lp[3, :2], lq[3, 2:] = minus, minus  # disjoint
    lp[4], lq[4] = torch.tensor([0.0, -800.0, -900.0, -1e4, minus]), torch.tensor([-1e4, -700.0, 0.0, -1.0, minus])
    return torch.log_softmax(lp, -1), torch.log_softmax(lq, -1)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_forbidden_outcomes_never_give_nan(function, dtype):
    lp, lq = (x.requires_grad_() for x in masked_pairs(dtype))
    value = function(lp, lq)
    assert not value.isnan().any()
    assert (value >= 0).all()
    assert torch.isfinite(value[0])
    gradients = torch.autograd.grad(value.sum(), (lp, lq))
    assert all(torch.isfinite(g).all() for g in gradients)


def test_values_on_the_boundary():
    lp, lq = masked_pairs(F64)
    p, q = lp.exp(), lq.exp()
    inf = math.inf
    assert div.kl(lp, lq)[2:4].tolist() == [inf, inf]
    close(div.kl(lp, lq)[:2], special.rel_entr(p[:2].numpy(), q[:2].numpy()).sum(-1))
    assert div.reverse_kl(lp, lq)[1] == inf
    assert div.chi2(lp, lq)[2] == inf
    close(div.chi2(lp, lq)[1], ((p - q) ** 2 / q)[1].sum())
    close(div.jensen_shannon(lp, lq)[3], math.log(2.0))
    close(div.jensen_shannon(lp, lq)[:4], jensenshannon(p[:4].numpy(), q[:4].numpy(), axis=-1) ** 2)
    for a in (0.3, 0.7):
        overlap = (p**a * q ** (1 - a)).sum(-1)
        close(div.alpha_divergence(lp, lq, a)[:4], ((overlap - 1) / (a * (a - 1)))[:4])
        close(div.renyi(lp, lq, a)[:3], (overlap.log() / (a - 1))[:3])
        assert div.renyi(lp, lq, a)[3] == inf
    assert div.tsallis_bregman(lp, lq, 0.5)[2:4].tolist() == [inf, inf]
    close(div.tsallis_bregman(lp, lq, 2.0)[:4], 0.5 * (p - q).square().sum(-1)[:4])
    close(div.tsallis_bregman(lp, lq, 1.5)[2], ((p**1.5 - 1.5 * p * q**0.5 + 0.5 * q**1.5) / 0.75)[2].sum())


def test_broadcast_vmap_and_compile(function):
    lp, lq = log_probs(3, 1, 4), log_probs(2, 4, seed=1)
    value = function(lp, lq)
    assert value.shape == (3, 2)
    close(value[1, 0], function(lp[1, 0], lq[0]))
    pairs = torch.func.vmap(function)(lp.expand(3, 2, 4), lq.expand(3, 2, 4))
    close(pairs, value)
    torch._dynamo.reset()
    close(torch.compile(function, fullgraph=True, backend="eager")(lp, lq), value)


def test_bad_arguments_get_typed_errors():
    lp = log_probs(2, 3)
    with pytest.raises(ShapeError, match="last axes"):
        div.kl(lp, log_probs(2, 4))
    with pytest.raises(ShapeError, match="floating"):
        div.kl(lp, torch.zeros(2, 3, dtype=torch.long))
    for family in (div.renyi, div.tsallis_kl):
        with pytest.raises(DomainError, match="positive"):
            family(lp, lp, -0.5)


def gaussians(batch=(6,), d=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mean, log_scale = torch.randn(2, *batch, d, generator=generator, dtype=F64)
    tril = torch.randn(*batch, d, d, generator=generator, dtype=F64).tril(-1) + torch.diag_embed(
        torch.exp(0.5 * log_scale)
    )
    return DiagonalGaussian(mean, 0.5 * log_scale), CholeskyGaussian(mean, tril)


def as_torch(g):
    if isinstance(g, DiagonalGaussian):
        return Independent(Normal(g.mean, g.log_scale.exp()), 1)
    return MultivariateNormal(g.mean, scale_tril=g.scale_tril)


@pytest.mark.parametrize("kind", [0, 1])
def test_gaussian_kl_agrees_with_torch(kind):
    p, q = gaussians()[kind], gaussians(seed=1)[kind]
    close(gaussian_kl(p, q), kl_divergence(as_torch(p), as_torch(q)))
    close(gaussian_jeffreys(p, q), kl_divergence(as_torch(p), as_torch(q)) + kl_divergence(as_torch(q), as_torch(p)))
    assert gaussian_kl(p, p).abs().max() == 0


@pytest.mark.parametrize("alpha", [0.3, 1.0, 1.2, 3.0])
def test_diagonal_and_full_gaussians_agree(alpha):
    p, q = gaussians()[0], gaussians(seed=1)[0]
    expected = gaussian_renyi(p, q, alpha)
    for first, second in ((p.to_cholesky(), q.to_cholesky()), (p, q.to_cholesky()), (p.to_cholesky(), q)):
        close(gaussian_renyi(first, second, alpha), expected)


@pytest.mark.parametrize("alpha", [0.3, 0.9, 1.4])
@pytest.mark.parametrize(
    ("mean", "scale"), [((0.3, -0.2), (0.8, 1.1)), ((2.0, -1.0), (0.3, 2.0)), ((0.0, 0.1), (1.0, 1.0001))]
)
def test_gaussian_renyi_against_quadrature(alpha, mean, scale):
    def density(x, i):
        return math.exp(-0.5 * ((x - mean[i]) / scale[i]) ** 2) / (scale[i] * math.sqrt(2 * math.pi))

    def integrand(x):
        p, q = density(x, 0), density(x, 1)
        return p**alpha * q ** (1 - alpha) if p > 0 and q > 0 else 0.0

    total, _ = integrate.quad(integrand, -12, 12, limit=400, epsabs=1e-14, epsrel=1e-13, points=[*mean])
    p, q = (
        DiagonalGaussian(torch.tensor([m], dtype=F64), torch.tensor([s], dtype=F64).log())
        for m, s in zip(mean, scale, strict=True)
    )
    expected = math.log(total) / (alpha - 1)
    close(gaussian_renyi(p, q, alpha), expected, rtol=1e-9, atol=1e-13)
    close(gaussian_renyi(p.to_cholesky(), q.to_cholesky(), alpha), expected, rtol=1e-9, atol=1e-13)


def test_gaussian_renyi_limits_and_infinity():
    p, q = gaussians()[1], gaussians(seed=1)[1]
    close(gaussian_renyi(p, q, 1 - 1e-7), gaussian_kl(p, q), rtol=1e-5)
    # Symmetry alpha <-> 1 - alpha up to the factor alpha / (1 - alpha).
    close(gaussian_renyi(p, q, 0.3), 0.3 / 0.7 * gaussian_renyi(q, p, 0.7))
    zero = torch.zeros(2, dtype=F64)
    wide, narrow = DiagonalGaussian(zero, zero + math.log(3.0)), DiagonalGaussian(zero, zero)
    for first, second in ((wide, narrow), (wide.to_cholesky(), narrow.to_cholesky())):
        assert gaussian_renyi(first, second, 2.0) == math.inf
        assert torch.isfinite(gaussian_renyi(second, first, 2.0))
    with pytest.raises(DomainError, match="positive"):
        gaussian_renyi(wide, narrow, 0.0)


def test_far_apart_diagonal_scales_neither_overflow_nor_lose_gradients():
    zero = torch.zeros(2)
    for shift in (-200.0, 200.0):
        log_scale = torch.tensor([shift, 0.0], requires_grad=True)
        value = gaussian_renyi(DiagonalGaussian(zero, log_scale), DiagonalGaussian(zero, zero), 0.5)
        close(value, abs(shift) - math.log(2.0), rtol=1e-5)
        assert torch.isfinite(torch.autograd.grad(value, log_scale)[0]).all()


@pytest.mark.parametrize("kind", [0, 1])
def test_gaussian_gradients(kind):
    p, q = gaussians((2,), 3)[kind], gaussians((2,), 3, seed=1)[kind]
    leaves = [t.clone().requires_grad_() for t in (*p, *q)]
    cls = type(p)

    def rebuild(values):
        values = [v.tril() if v.ndim == 3 else v for v in values]
        return cls(*values[:2]), cls(*values[2:])

    for function in (gaussian_kl, gaussian_jeffreys, lambda a, b: gaussian_renyi(a, b, 0.4)):
        assert torch.autograd.gradcheck(lambda *v, f=function: f(*rebuild(v)), leaves)
    assert torch.autograd.gradgradcheck(lambda *v: gaussian_renyi(*rebuild(v), 0.4), leaves)


@pytest.mark.parametrize("kind", [0, 1])
def test_float32_of_near_gaussians(kind):
    p = [t.float() for t in gaussians()[kind]]
    step = gaussians(seed=2)[kind]
    q = [a + 1e-3 * b.float() for a, b in zip(p, step, strict=True)]
    cls = type(step)
    exact = gaussian_kl(cls(*(t.double() for t in p)), cls(*(t.double() for t in q)))
    assert ((gaussian_kl(cls(*p), cls(*q)) - exact).abs() / exact).max() < 1e-5
    if kind == 0:
        exact = gaussian_renyi(cls(*(t.double() for t in p)), cls(*(t.double() for t in q)), 0.5)
        assert ((gaussian_renyi(cls(*p), cls(*q), 0.5) - exact).abs() / exact).max() < 1e-5


def test_gaussian_broadcast_vmap_and_compile():
    for kind in (0, 1):
        p, q = gaussians((4,))[kind], gaussians((), seed=1)[kind]
        for function in (gaussian_kl, lambda a, b: gaussian_renyi(a, b, 0.5)):
            value = function(p, q)
            assert value.shape == (4,)
            close(torch.func.vmap(function, in_dims=(0, None))(p, q), value)
            torch._dynamo.reset()
            close(torch.compile(function, fullgraph=True, backend="eager")(p, q), value)
