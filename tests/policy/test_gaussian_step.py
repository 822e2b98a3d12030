"""Gaussian steps against a generic optimiser, and natural gradients against the quadratic mirror map."""

import pytest
import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.geometry.domains import Euclidean
from mirrorgen.geometry.gaussian_divergences import CholeskyGaussian, DiagonalGaussian, gaussian_kl
from mirrorgen.geometry.mirror_maps import Quadratic
from mirrorgen.policy import gaussian_proximal_step, natural_gradient_step

F64 = torch.float64
DIM = 3


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def full(seed: int, *batch: int) -> CholeskyGaussian:
    scale = 0.3 * normal(*batch, DIM, DIM, seed=seed + 100).tril(-1)
    return CholeskyGaussian(
        normal(*batch, DIM, seed=seed), scale + torch.diag_embed((0.3 * normal(*batch, DIM, seed=seed + 1)).exp())
    )


def diagonal(seed: int, *batch: int) -> DiagonalGaussian:
    return DiagonalGaussian(normal(*batch, DIM, seed=seed), 0.3 * normal(*batch, DIM, seed=seed + 1))


def symmetric(seed: int, *batch: int) -> Tensor:
    a = normal(*batch, DIM, DIM, seed=seed)
    return 0.5 * (a + a.mT)


def unpack(vector: Tensor, like: CholeskyGaussian | DiagonalGaussian) -> CholeskyGaussian | DiagonalGaussian:
    """A law from free parameters: mean, logarithms of the diagonal, entries below."""
    mean, logs, rest = vector.split([DIM, DIM, len(vector) - 2 * DIM])
    if isinstance(like, DiagonalGaussian):
        return DiagonalGaussian(mean, logs)
    rows, columns = torch.tril_indices(DIM, DIM, -1)
    below = torch.zeros(DIM, DIM, dtype=F64).index_put((rows, columns), rest)
    return CholeskyGaussian(mean, below + torch.diag(logs.exp()))


def pack(law: CholeskyGaussian | DiagonalGaussian) -> Tensor:
    if isinstance(law, DiagonalGaussian):
        return torch.cat(law)
    rows, columns = torch.tril_indices(DIM, DIM, -1)
    return torch.cat([law.mean, law.scale_tril.diagonal().log(), law.scale_tril[rows, columns]])


def objective(vector: Tensor, prior, gradient, curvature, eta, magnet, alpha) -> Tensor:
    """``eta E[critic] - KL(., prior) - eta alpha KL(., magnet)``, or plus the entropy up to a constant."""
    law = unpack(vector, prior)
    scale = law.to_cholesky().scale_tril if isinstance(law, DiagonalGaussian) else law.scale_tril
    matrix = torch.diag(curvature) if curvature.ndim == 1 else curvature
    critic = gradient @ law.mean + 0.5 * (law.mean @ matrix @ law.mean + (matrix * (scale @ scale.mT)).sum())
    pull = -scale.diagonal().log().sum() if magnet is None else gaussian_kl(law, magnet)
    return eta * critic - gaussian_kl(law, prior) - eta * alpha * pull


def optimum(*problem) -> Tensor:
    """Quasi-Newton steps from the prior, then Newton's: no closed form anywhere."""
    x = pack(problem[0]).clone().requires_grad_()
    search = torch.optim.LBFGS([x], max_iter=300, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure() -> Tensor:
        search.zero_grad()
        loss = -objective(x, *problem)
        loss.backward()
        return loss

    search.step(closure)
    x = x.detach()
    for _ in range(3):
        slope = torch.func.grad(objective)(x, *problem)
        x = x - torch.linalg.solve(torch.func.hessian(objective)(x, *problem), slope)
    return x


@pytest.mark.parametrize("kind", [diagonal, full])
@pytest.mark.parametrize(("alpha", "with_magnet"), [(0.0, False), (0.7, True), (0.7, False)])
def test_the_step_is_the_maximiser(kind, alpha, with_magnet):
    prior, magnet = kind(1), kind(5) if with_magnet else None
    gradient = normal(DIM, seed=3)
    curvature = 0.5 * (normal(DIM, seed=4) if kind is diagonal else symmetric(4))
    new = gaussian_proximal_step(
        prior, gradient, step_size=0.4, curvature=curvature, magnet=magnet, magnet_weight=alpha
    )
    expected = optimum(prior, gradient, curvature, 0.4, magnet, alpha)
    assert float((pack(new) - expected).abs().max()) < 1e-8
    assert float((pack(new) - pack(prior)).abs().max()) > 0.05


def test_diagonal_and_full_agree_in_batches():
    prior, magnet, gradient = diagonal(1, 4), diagonal(3, 4), normal(4, DIM, seed=5)
    curvature, eta, alpha = 0.3 * normal(4, DIM, seed=6), torch.rand(4, dtype=F64), torch.rand(4, dtype=F64)
    narrow = gaussian_proximal_step(
        prior, gradient, step_size=eta, curvature=curvature, magnet=magnet, magnet_weight=alpha
    )
    wide = gaussian_proximal_step(
        prior.to_cholesky(), gradient, step_size=eta, curvature=torch.diag_embed(curvature),
        magnet=magnet.to_cholesky(), magnet_weight=alpha,
    )  # fmt: skip
    assert torch.allclose(wide.mean, narrow.mean)
    assert torch.allclose(wide.scale_tril, narrow.to_cholesky().scale_tril)
    # Row by row the same.
    row = gaussian_proximal_step(
        DiagonalGaussian(*(t[2] for t in prior)), gradient[2], step_size=eta[2], curvature=curvature[2],
        magnet=DiagonalGaussian(*(t[2] for t in magnet)), magnet_weight=alpha[2],
    )  # fmt: skip
    assert torch.allclose(row.mean, narrow.mean[2])


def test_natural_parameters_are_linear():
    prior, magnet, gradient, curvature = full(1), full(4), normal(DIM, seed=6), 0.3 * symmetric(7)
    new = gaussian_proximal_step(prior, gradient, step_size=0.5, curvature=curvature, magnet=magnet, magnet_weight=0.6)
    precision = [torch.cholesky_inverse(g.scale_tril) for g in (prior, magnet, new)]
    assert torch.allclose(precision[2], (precision[0] + 0.3 * precision[1] - 0.5 * curvature) / 1.3)
    linear = [p @ g.mean for p, g in zip(precision, (prior, magnet, new), strict=True)]
    assert torch.allclose(linear[2], (linear[0] + 0.3 * linear[1] + 0.5 * gradient) / 1.3)
    assert bool((new.scale_tril.triu(1) == 0).all() & (new.scale_tril.diagonal() > 0).all())


def test_limits_of_the_step():
    prior, magnet, gradient = full(1), full(4), normal(DIM, seed=6)
    still = gaussian_proximal_step(prior, gradient, step_size=0.0, curvature=symmetric(1))
    assert torch.allclose(still.mean, prior.mean)
    assert torch.allclose(still.scale_tril, prior.scale_tril)
    # A linear critic moves the mean by a natural gradient and keeps the scale.
    linear = gaussian_proximal_step(prior, gradient, step_size=0.3)
    move = natural_gradient_step(gradient, torch.cholesky_inverse(prior.scale_tril), 0.3)
    assert torch.allclose(linear.mean - prior.mean, move)
    assert torch.allclose(linear.scale_tril, prior.scale_tril)
    # An infinite step forgets the prior: one of size 1 / alpha from the magnet.
    forgotten = gaussian_proximal_step(prior, gradient, step_size=torch.inf, magnet=magnet, magnet_weight=0.5)
    from_magnet = gaussian_proximal_step(magnet, gradient, step_size=2.0)
    assert torch.allclose(forgotten.mean, from_magnet.mean)
    assert torch.allclose(forgotten.scale_tril, from_magnet.scale_tril)
    # With an entropy bonus, towards exp(critic / alpha).
    bowl = -torch.eye(DIM, dtype=F64)
    soft = gaussian_proximal_step(prior, gradient, step_size=torch.inf, curvature=bowl, magnet_weight=0.25)
    assert torch.allclose(soft.mean, gradient)
    assert torch.allclose(soft.scale_tril, 0.5 * torch.eye(DIM, dtype=F64))


def test_steps_have_derivatives():
    prior = full(1)

    def means(gradient: Tensor, curvature: Tensor, mean: Tensor) -> Tensor:
        bend = 0.5 * (curvature + curvature.mT)
        law = gaussian_proximal_step(CholeskyGaussian(mean, prior.scale_tril), gradient, step_size=0.3, curvature=bend)
        return torch.cat([law.mean, law.scale_tril.flatten()])

    inputs = (normal(DIM, seed=2), 0.3 * symmetric(3), prior.mean)
    assert torch.autograd.gradcheck(means, tuple(t.clone().requires_grad_() for t in inputs))


@pytest.mark.parametrize("kind", [diagonal, full])
def test_a_step_that_is_too_long_names_the_longest(kind):
    prior, gradient = kind(1), normal(DIM, seed=2)
    curvature = torch.ones(DIM, dtype=F64) if kind is diagonal else torch.eye(DIM, dtype=F64)
    with pytest.raises(DomainError, match="use a step_size below") as raised:
        gaussian_proximal_step(prior, gradient, step_size=50.0, curvature=curvature)
    named = float(str(raised.value).split()[-1])
    gaussian_proximal_step(prior, gradient, step_size=0.98 * named, curvature=curvature)
    with pytest.raises(DomainError, match="not positive definite"):
        gaussian_proximal_step(prior, gradient, step_size=1.02 * named, curvature=curvature)


def test_bad_gaussian_steps():
    prior, gradient = full(1), normal(DIM, seed=2)
    with pytest.raises(DomainError, match="at least 0"):
        gaussian_proximal_step(prior, gradient, step_size=-1.0)
    with pytest.raises(DomainError, match="infinite step_size"):
        gaussian_proximal_step(prior, gradient, step_size=torch.inf)
    with pytest.raises(DomainError, match="use a finite step_size"):
        gaussian_proximal_step(prior, gradient, step_size=torch.inf, magnet_weight=1.0)
    with pytest.raises(ShapeError, match="curvature"):
        gaussian_proximal_step(prior, gradient, step_size=1.0, curvature=gradient)
    with pytest.raises(ShapeError, match="diagonal"):
        gaussian_proximal_step(diagonal(1), gradient[:2], step_size=1.0)


def metric(*batch: int) -> Tensor:
    a = normal(*batch, 6, 6, seed=8)
    return a @ a.mT + torch.eye(6, dtype=F64)


def test_natural_gradients_are_steps_of_the_quadratic_map():
    matrix, gradient, x = metric(), normal(5, 6, seed=1), normal(5, 6, seed=2)
    quadratic = Quadratic(Euclidean(6), matrix)
    expected = quadratic.to_primal(quadratic.to_dual(x) + 0.7 * gradient)
    assert torch.allclose(x + natural_gradient_step(gradient, matrix.expand(5, 6, 6), 0.7), expected)


def test_conjugate_gradients_equal_the_dense_solve():
    matrix, gradient = metric(5), normal(5, 6, seed=1)
    gradient[3] = 0
    eta = torch.linspace(0.1, 1, 5, dtype=F64)
    product = lambda v: (matrix @ v.unsqueeze(-1)).squeeze(-1)  # noqa: E731
    dense = natural_gradient_step(gradient, matrix, eta)
    assert torch.allclose(natural_gradient_step(gradient, product, eta), dense, atol=1e-8)
    with pytest.raises(ConvergenceError, match="more iterations") as raised:
        natural_gradient_step(gradient, product, eta, iterations=2)
    assert 1e-10 < raised.value.residual < 10


def test_bad_metrics():
    gradient = normal(5, 6, seed=1)
    with pytest.raises(DomainError, match="damping"):
        natural_gradient_step(gradient, -metric(5))
    with pytest.raises(DomainError, match="damping"):
        natural_gradient_step(gradient, torch.neg)
    with pytest.raises(ShapeError, match="metric"):
        natural_gradient_step(gradient[:, :3], metric(5))
