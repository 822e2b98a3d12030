"""Heat kernels of the whole space, the orthant, the half-space and products against 60 digits and quadrature."""

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

from mirrorgen import domains as D
from mirrorgen.diffusion.heat_kernel.box import BoxHeatKernel
from mirrorgen.diffusion.heat_kernel.product import ProductHeatKernel
from mirrorgen.diffusion.heat_kernel.unbounded import EuclideanHeatKernel, HalfspaceHeatKernel, OrthantHeatKernel
from mirrorgen.errors import DomainError
from mirrorgen.spec import from_spec, to_spec

F32, F64 = torch.float32, torch.float64
NORMAL, OFFSET = [3.0, -4.0, 12.0], 6.5
DISTANCES = [0.0, 1e-9, 1e-3, 0.02, 0.4, 1.0, 7.0, 300.0]


def product_kernel():
    domain = D.Product(D.Box(-1.0, 0.5, dim=2), D.Orthant(2), D.Halfspace(NORMAL, OFFSET), D.Euclidean(1))
    makers = (BoxHeatKernel, OrthantHeatKernel, HalfspaceHeatKernel, EuclideanHeatKernel)
    return ProductHeatKernel(domain, [make(block) for make, block in zip(makers, domain.blocks, strict=True)])


KERNELS = {
    "euclidean": lambda: EuclideanHeatKernel(D.Euclidean(3)),
    "orthant": lambda: OrthantHeatKernel(D.Orthant(3)),
    "halfspace": lambda: HalfspaceHeatKernel(D.Halfspace(NORMAL, OFFSET)),
    "product": product_kernel,
}


@pytest.fixture(params=KERNELS)
def kernel(request):
    return KERNELS[request.param]()


def points(kernel, n=12, dtype=F64):
    """Pairs near a well-centred point, half of them close to a wall."""
    center = kernel.domain.interior_point().to(dtype)
    steps = torch.randn(2, n, kernel.domain.dim, generator=torch.Generator().manual_seed(0), dtype=F64).to(dtype)
    x = kernel.domain.reflect(center.expand(n, -1), steps[0])
    return x, kernel.domain.reflect(x, 0.5 * steps[1])


def half_line_reference(a, a_0, sigma):
    """Log-density and score in 60 digits."""
    near, far = (mpmath.exp(-((a + sign * a_0) ** 2) / (2 * sigma**2)) for sign in (-1, 1))
    log_k = mpmath.log((near + far) / (sigma * mpmath.sqrt(2 * mpmath.pi)))
    return log_k, -((a - a_0) * near + (a + a_0) * far) / (near + far) / sigma**2


@pytest.mark.parametrize("sigma", [1e-3, 0.03, 0.5, 2.0, 50.0])
@pytest.mark.parametrize(("dtype", "log_bar", "score_bar"), [(F64, 1e-14, 2e-15), (F32, 5e-7, 1e-6)])
def test_half_line_to_60_digits(sigma, dtype, log_bar, score_bar):
    grid = torch.tensor(DISTANCES, dtype=dtype)
    x, x_0 = (v.reshape(-1, 1) for v in torch.meshgrid(grid, grid, indexing="ij"))
    log_prob, score = OrthantHeatKernel(D.Orthant(1)).log_prob_and_score(x, x_0, sigma)
    assert (score[x == 0] == 0).all()
    with mpmath.workdps(60):
        s = mpmath.mpf(float(torch.tensor(sigma, dtype=dtype)))
        for a, a_0, value, slope in zip(*(v.flatten().tolist() for v in (x, x_0, log_prob, score)), strict=True):
            log_k, exact = half_line_reference(mpmath.mpf(a), mpmath.mpf(a_0), s)
            assert abs(value - log_k) <= log_bar * max(1, abs(log_k))
            assert abs(slope - exact) * s <= score_bar * max(1, abs(exact * s))


def test_whole_space_is_the_normal_law():
    x, x_0 = points(KERNELS["euclidean"]())
    log_prob, score = KERNELS["euclidean"]().log_prob_and_score(x, x_0, 0.3)
    expected = stats.norm.logpdf(x.numpy(), x_0.numpy(), 0.3).sum(-1)
    torch.testing.assert_close(log_prob, torch.from_numpy(expected), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(score, (x_0 - x) / 0.09)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 3.0])
def test_half_space_is_a_turned_half_line_times_free_motion(sigma):
    kernel = KERNELS["halfspace"]()
    x, x_0 = points(kernel)
    normal = torch.tensor(NORMAL, dtype=F64) / 13
    basis = torch.linalg.qr(torch.cat([normal.unsqueeze(-1), torch.eye(3, dtype=F64)[:, :2]], -1))[0]
    turned = D.Product(D.Orthant(1), D.Euclidean(2))
    oracle = ProductHeatKernel(turned, [OrthantHeatKernel(turned.blocks[0]), EuclideanHeatKernel(turned.blocks[1])])

    def turn(p):
        return torch.cat([OFFSET / 13 - (p * normal).sum(-1, keepdim=True), p @ basis[:, 1:]], -1)

    log_prob, score = kernel.log_prob_and_score(x, x_0, sigma)
    expected, slope = oracle.log_prob_and_score(turn(x), turn(x_0), sigma)
    torch.testing.assert_close(log_prob, expected, rtol=1e-12, atol=1e-12)
    back = slope[:, 1:] @ basis[:, 1:].mT - slope[:, :1] * normal
    torch.testing.assert_close(score, back, rtol=1e-10, atol=1e-10 / sigma)


@pytest.mark.parametrize("sigma", [1e-3, 0.1, 1.0])
def test_no_flux_through_the_face_of_a_half_space(sigma):
    kernel = KERNELS["halfspace"]()
    x, x_0 = points(kernel)
    normal = torch.tensor(NORMAL, dtype=F64) / 13
    wall = x + kernel.domain.slack(x) * normal
    along = (kernel.score(wall, x_0, sigma) * normal).sum(-1)
    # The distance of a point on the wall is a rounding error, with which the score grows by (1 + d_0^2/s^2)/s^2.
    depth = kernel.domain.slack(x_0)[:, 0]
    rounding = 8 * torch.finfo(F64).eps * wall.abs().amax(-1).clamp_min(1)
    assert (along.abs() <= rounding * (1 + (depth / sigma) ** 2) / sigma**2).all()


@pytest.mark.parametrize("sigma", [0.01, 0.4, 3.0])
def test_integral_and_semigroup_on_the_half_line(sigma):
    kernel = OrthantHeatKernel(D.Orthant(1))
    nodes, weights = np.polynomial.legendre.leggauss(40)
    ends = np.linspace(0, 26 * sigma, 27)
    x = torch.from_numpy((ends[:-1, None] + sigma * (nodes + 1) / 2).reshape(-1, 1))
    weight = torch.from_numpy(np.tile(weights * sigma / 2, 26))
    for start in (0.0, 0.1, 1.0, 5.0):
        x_0 = torch.tensor([start * sigma], dtype=F64)
        density = kernel.log_prob(x, x_0, sigma).exp()
        assert abs(float((weight * density).sum()) - 1) < 1e-12
        end = torch.tensor([0.7 * sigma], dtype=F64)
        path = (weight * density * kernel.log_prob(end, x, 2 * sigma).exp()).sum()
        direct = kernel.log_prob(end, x_0, 5**0.5 * sigma).exp()
        torch.testing.assert_close(path, direct, rtol=1e-12, atol=0)


def test_score_is_the_gradient_and_the_density_symmetric(kernel):
    x, x_0 = points(kernel)
    spread = torch.logspace(-2, 1, len(x), dtype=F64)
    log_prob, score = kernel.log_prob_and_score(x.requires_grad_(), x_0.requires_grad_(), spread)
    gradient, gradient_0 = torch.autograd.grad(log_prob.sum(), (x, x_0))
    back, score_0 = kernel.log_prob_and_score(x_0, x, spread)
    torch.testing.assert_close(gradient, score, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient_0, score_0, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(log_prob, back, rtol=1e-13, atol=1e-13)


def test_derivatives_of_both_values(kernel):
    x, x_0 = points(kernel, n=3)
    spread = torch.tensor([0.2, 0.5, 1.0], dtype=F64)
    arguments = [v.requires_grad_() for v in (x, x_0, spread)]
    assert torch.autograd.gradcheck(kernel.log_prob_and_score, arguments)


def test_transforms(kernel):
    x, x_0 = points(kernel)
    spread = torch.logspace(-1, 1, len(x), dtype=F64)
    expected = kernel.log_prob_and_score(x, x_0, spread)
    transformed = [torch.func.vmap(kernel.log_prob_and_score)]
    if isinstance(kernel, ProductHeatKernel):  # which holds the others
        transformed += [torch.compile(kernel.log_prob_and_score, fullgraph=True, backend="eager")]
    for function in transformed:
        torch.testing.assert_close(function(x, x_0, spread), expected, rtol=1e-12, atol=1e-12)
    _, along = torch.func.jvp(lambda p: kernel.log_prob(p, x_0, spread), (x,), (torch.ones_like(x),))
    torch.testing.assert_close(along, expected[1].sum(-1), rtol=1e-9, atol=1e-9)


def test_single_precision_follows_double(kernel):
    x, x_0 = points(kernel, dtype=F32)
    log_prob, score = kernel.log_prob_and_score(x, x_0, 0.5)
    expected, slope = kernel.log_prob_and_score(x.double(), x_0.double(), 0.5)
    assert (log_prob.dtype, score.dtype) == (F32, F32)
    torch.testing.assert_close(log_prob.double(), expected, rtol=1e-6, atol=2e-6)
    torch.testing.assert_close(score.double(), slope, rtol=1e-5, atol=1e-5)


def test_samples_have_the_score(kernel):
    """The mean of ``grad_{x_0} log p(X | x_0)`` over draws ``X`` is zero for the law itself, and for no other mean."""
    x_0 = points(kernel)[1][:1]
    draws = kernel.sample(x_0.expand(40_000, -1), 0.6, generator=torch.Generator().manual_seed(1))
    assert kernel.domain.contains(draws).all()
    other = kernel.score(x_0.expand_as(draws), draws, 0.6)
    error = other.std(0) / len(draws) ** 0.5
    assert (other.mean(0).abs() < 4.5 * error).all()


def test_product_adds_log_densities_and_joins_scores():
    kernel = product_kernel()
    x, x_0 = points(kernel)
    spread = torch.logspace(-1, 1, len(x), dtype=F64)
    log_prob, score = kernel.log_prob_and_score(x, x_0, spread)
    parts = zip(kernel.blocks, kernel.domain.split(x), kernel.domain.split(x_0), strict=True)
    alone = [k.log_prob_and_score(p, p_0, spread) for k, p, p_0 in parts]
    torch.testing.assert_close(log_prob, sum(value for value, _ in alone))
    torch.testing.assert_close(score, torch.cat([s for _, s in alone], -1))
    again = from_spec(to_spec(kernel))
    assert torch.equal(again.log_prob(x, x_0, spread), log_prob)


def test_wrong_domains_and_kernels():
    for make, good, bad in (
        (EuclideanHeatKernel, "Euclidean", D.Orthant(1)),
        (OrthantHeatKernel, "Orthant", D.Euclidean(1)),
        (HalfspaceHeatKernel, "Halfspace", D.Ball(2)),
        (ProductHeatKernel, "Product", D.Box(0.0, 1.0)),
    ):
        with pytest.raises(DomainError, match=good):
            make(bad, []) if make is ProductHeatKernel else make(bad)
    domain = D.Product(D.Orthant(1), D.Box(0.0, 1.0))
    orthant, box, other = (
        OrthantHeatKernel(D.Orthant(1)),
        BoxHeatKernel(D.Box(0.0, 1.0)),
        BoxHeatKernel(D.Box(0.0, 2.0)),
    )
    for kernels in ([], [orthant], [box, orthant], [orthant, other], [orthant, box, box]):
        with pytest.raises(DomainError, match="one for each"):
            ProductHeatKernel(domain, kernels)
    with pytest.raises(DomainError, match="HeatKernel"):
        ProductHeatKernel(domain, [D.Orthant(1), box])
    assert len(ProductHeatKernel(domain, [orthant, box]).blocks) == 2
