"""The input-convex perceptron: convexity, closed derivatives against autograd, growth, initial size."""

import copy

import pytest
import torch

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.nets import InputConvexMLP
from mirrorgen.spec import from_spec, to_spec

F64 = torch.float64


@pytest.fixture(params=[(8,), (16, 8), (8, 8, 8)], ids=str)
def net(request):
    """Weights far from the initial ones, of any sign before the softplus."""
    made = InputConvexMLP(3, request.param, scale=0.7, center=[0.3, -1.0, 2.0], seed=2)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in made.parameters():
            weight.copy_(2 * torch.randn(weight.shape, generator=generator))
    return made


def points(n, size=3.0, seed=0):
    return size * torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=F64)


def test_it_is_convex_on_random_segments(net):
    p, q = points(4000), points(4000, seed=1)
    t = torch.rand(4000, generator=torch.Generator().manual_seed(2), dtype=F64)
    chord = t * net(p) + (1 - t) * net(q)
    inside = net(t.unsqueeze(-1) * p + (1 - t).unsqueeze(-1) * q)
    assert (chord - inside >= -1e-12 * (1 + chord.abs())).all()
    # Strictly so on most: a test that an affine function passes would say little.
    assert (chord - inside > 1e-3).float().mean() > 0.5


def test_derivatives_are_those_of_autograd(net):
    x = points(50)
    gradient = torch.func.vmap(torch.func.grad(net))(x)
    hessian = torch.func.vmap(torch.func.hessian(net))(x)
    torch.testing.assert_close(net.gradient(x), gradient, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(net.hessian(x), hessian, rtol=1e-10, atol=1e-10)
    assert torch.linalg.eigvalsh(net.hessian(x)).min() > -1e-12
    # Also in the weights, which training differentiates.
    for name in ("gradient", "hessian"):
        value = getattr(net, name)(x[:3])
        numbers = torch.autograd.grad(value.square().sum(), list(net.parameters()), allow_unused=True)
        assert all(torch.isfinite(g).all() for g in numbers if g is not None)


def test_the_gradient_is_bounded(net):
    far = net.gradient(1e6 * points(200))
    near = net.gradient(points(200))
    assert far.norm(dim=-1).max() < 100 * near.norm(dim=-1).max()
    assert torch.isfinite(net(1e6 * points(200))).all()


def test_it_starts_small_and_is_rebuilt_from_its_specification():
    net = InputConvexMLP(3, (16, 16), gain=1e-2)
    x = points(500, size=1.0)
    assert net.gradient(x).norm(dim=-1).max() < 1e-2
    assert torch.linalg.eigvalsh(net.hessian(x)).max() < 1e-2
    assert torch.equal(from_spec(to_spec(net))(x), net(x))
    assert not torch.equal(InputConvexMLP(3, (16, 16), seed=1)(x), net(x))


def test_it_computes_in_the_dtype_of_the_points(net):
    x = points(20)
    wide = copy.deepcopy(net).double()
    assert torch.equal(net(x), wide(x))
    assert net(x.float()).dtype == torch.float32
    torch.testing.assert_close(net(x.float()).double(), wide(x.float().double()), rtol=1e-5, atol=1e-5)
    assert net(x[0]).shape == ()
    assert net.hessian(x.reshape(4, 5, 3)).shape == (4, 5, 3, 3)


def test_bad_arguments_get_typed_errors(net):
    with pytest.raises(ShapeError, match="dim"):
        InputConvexMLP(0)
    with pytest.raises(ShapeError, match="center"):
        InputConvexMLP(2, center=[0.0])
    with pytest.raises(DomainError, match="gain"):
        InputConvexMLP(2, gain=0.0)
    with pytest.raises(ShapeError, match="floating point"):
        net(torch.zeros(3, 2))
