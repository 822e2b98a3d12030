from functools import partial

import pytest
import torch
from torch.func import jacrev, vmap

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.integrate import (
    Adaptive,
    divergence_exact,
    divergence_hutchinson,
    integrate_with_logdet,
    rademacher,
)
from mirrorgen.nets import MLP, ResidualMLP

MATRIX = torch.tensor([[0.3, -1.0, 0.2], [0.4, -0.5, 0.1], [0.0, 0.7, 0.9]], dtype=torch.float64)


def nonlinear(y):
    return torch.stack([y[..., 0] * y[..., 1], y[..., 1].sin() + y[..., 2], y[..., 2] ** 3 - y[..., 0]], dim=-1)


def points(*shape):
    return torch.randn(*shape, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("shape", [(), (5,), (2, 4)])
def test_exact_divergence_is_the_trace_of_the_jacobian(mode, chunk_size, shape):
    y = points(*shape)
    value, divergence = divergence_exact(nonlinear, y, mode=mode, chunk_size=chunk_size)
    closed = y[..., 1] + y[..., 1].cos() + 3 * y[..., 2] ** 2
    torch.testing.assert_close(value, nonlinear(y))
    torch.testing.assert_close(divergence, closed, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("build", [partial(MLP, hidden=(8,)), partial(ResidualMLP, width=8, depth=1)])
def test_exact_divergence_of_networks(build):
    net = build(dim=3).double()
    torch.nn.init.normal_(net.output.weight)
    y, t = points(4), torch.rand(4, dtype=torch.float64)
    _, divergence = divergence_exact(lambda z: net(z, t), y)
    jacobians = vmap(jacrev(lambda z, s: net(z, s)))(y, t)
    torch.testing.assert_close(divergence, jacobians.diagonal(dim1=-2, dim2=-1).sum(-1))
    divergence.sum().backward()
    assert all(torch.isfinite(p.grad).all() for n, p in net.named_parameters() if p.grad is not None)
    assert net.output.weight.grad.abs().max() > 0


def test_hutchinson_with_all_signs_is_exact():
    """Averaged over all 2^3 sign vectors, the off-diagonal terms cancel exactly."""
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)
    y = points(5)
    value, estimate = divergence_hutchinson(nonlinear, y, signs[:, None].expand(8, 5, 3))
    torch.testing.assert_close(value, nonlinear(y))
    torch.testing.assert_close(estimate, divergence_exact(nonlinear, y)[1])


def test_hutchinson_single_probe_and_rademacher():
    y = points(5)
    noise = rademacher(y, generator=torch.Generator().manual_seed(0))
    assert set(noise.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(noise, rademacher(y, generator=torch.Generator().manual_seed(0)))
    assert rademacher(y, probes=4).shape == (4, 5, 3)
    jacobians = vmap(jacrev(nonlinear))(y)
    expected = torch.einsum("bi,bij,bj->b", noise, jacobians, noise)
    torch.testing.assert_close(divergence_hutchinson(nonlinear, y, noise)[1], expected)


@pytest.mark.parametrize("method", ["euler", "midpoint", "heun", "rk4", Adaptive(rtol=1e-9, atol=1e-9)])
def test_linear_flow(method):
    """The log-determinant of exp(T A) is T trace(A) for every method, the state its order's accuracy."""
    y = points(4)
    end, logdet = integrate_with_logdet(lambda t, z: z @ MATRIX.T, y, 0, 2, steps=200, method=method)
    torch.testing.assert_close(logdet, torch.full((4,), 2 * float(MATRIX.trace()), dtype=torch.float64))
    tolerance = {"euler": 0.1, "midpoint": 1e-3, "heun": 1e-3}.get(method, 1e-6)
    torch.testing.assert_close(end, y @ torch.matrix_exp(2 * MATRIX).T, rtol=tolerance, atol=tolerance)


def test_nonlinear_flow_against_the_jacobian_of_the_solution_map():
    y = points(3)
    field = lambda t, z: z.sin() * (1 + t) + z.roll(1, -1).tanh()  # noqa: E731
    solve = partial(integrate_with_logdet, field, steps=60, method="rk4")
    end, logdet = solve(y)
    jacobians = torch.stack([torch.autograd.functional.jacobian(lambda z: solve(z[None])[0][0], row) for row in y])
    torch.testing.assert_close(logdet, torch.linalg.slogdet(jacobians).logabsdet, rtol=1e-6, atol=1e-6)
    back, minus = solve(end, 1.0, 0.0)
    torch.testing.assert_close(back, y, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(minus, -logdet, rtol=1e-6, atol=1e-6)


def test_hutchinson_estimate_averages_to_the_log_determinant():
    y = points(2)
    noise = rademacher(y, probes=4000, generator=torch.Generator().manual_seed(1))
    estimate = integrate_with_logdet(
        lambda t, z: z @ MATRIX.T, y, steps=4, divergence=partial(divergence_hutchinson, noise=noise)
    )[1]
    # Variance of one probe: sum over i != j of A_ij (A_ij + A_ji).
    off = MATRIX - MATRIX.diag().diag()
    deviation = float((off * (off + off.T)).sum().sqrt()) / 4000**0.5
    assert float((estimate - MATRIX.trace()).abs().max()) < 4 * deviation


@pytest.mark.parametrize("exact", [True, False])
def test_compiles_vmaps_and_differentiates(exact):
    y = points(4)
    noise = rademacher(y, generator=torch.Generator().manual_seed(0))

    def solve(z, probe):
        divergence = divergence_exact if exact else partial(divergence_hutchinson, noise=probe)
        return integrate_with_logdet(lambda t, s: nonlinear(s) * t, z, 0, 0.3, steps=2, divergence=divergence)

    expected = solve(y, noise)
    torch.testing.assert_close(torch.compile(solve, fullgraph=True, backend="eager")(y, noise), expected)
    torch.testing.assert_close(vmap(solve)(y, noise), expected)
    leaf = y[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: solve(z, noise[:2]), (leaf,))


def test_bad_arguments_are_named():
    y = points(4)
    with pytest.raises(DomainError, match="forward"):
        divergence_exact(nonlinear, y, mode="backward")
    with pytest.raises(ShapeError, match="returned shape"):
        divergence_exact(lambda z: z[..., :2], y)
    with pytest.raises(ShapeError, match="noise"):
        divergence_hutchinson(nonlinear, y, torch.ones(4, 2, dtype=torch.float64))
