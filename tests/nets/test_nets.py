import math

import numpy as np
import pytest
import torch

from mirrorgen import nets
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.nets import MLP, Net, ResidualMLP, TimeEmbedding
from mirrorgen.spec import from_spec, to_spec


def _trained(net):
    """Give every parameter a random value, so that a zero-initialised output layer hides nothing."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return net


NETS = {
    "mlp": lambda **kw: _trained(MLP(dim=3, hidden=(16, 8), **kw)),
    "mlp_embedded_time": lambda **kw: _trained(MLP(dim=3, hidden=(16, 8), time_embedding=6, **kw)),
    "residual": lambda **kw: _trained(ResidualMLP(dim=3, width=16, depth=2, time_embedding=8, **kw)),
}
each_net = pytest.mark.parametrize("build", NETS.values(), ids=NETS.keys())


@each_net
@pytest.mark.parametrize("batch", [(), (5,), (2, 4)])
def test_batch_shapes_and_scalar_time(build, batch):
    net = build(num_classes=4)
    x = torch.randn(*batch, 3)
    t = torch.full(batch, 0.25)
    assert net(x, t).shape == x.shape
    torch.testing.assert_close(net(x, 0.25), net(x, t))
    torch.testing.assert_close(net(x, torch.tensor(0.25)), net(x, t))
    assert not torch.allclose(net(x, 0.75), net(x, t))


@each_net
def test_rows_are_independent(build):
    net = build(num_classes=4)
    x, t, labels = torch.randn(6, 3), torch.rand(6), torch.tensor([0, 1, 2, 3, 4, 0])
    rows = torch.stack([net(x[i], t[i], labels[i]) for i in range(6)])
    torch.testing.assert_close(net(x, t, labels), rows)


@each_net
def test_last_index_is_the_null_class(build):
    net = build(num_classes=4)
    x = torch.randn(6, 3)
    torch.testing.assert_close(net(x, 0.3, None), net(x, 0.3, torch.full((6,), 4)))
    torch.testing.assert_close(net(x, 0.3, torch.tensor(2)), net(x, 0.3, torch.full((6,), 2)))
    assert not torch.allclose(net(x, 0.3, None), net(x, 0.3, torch.full((6,), 3)))


@each_net
def test_missing_vector_is_the_null_condition_and_its_gradient_is_finite(build):
    net = build(condition_dim=2)
    x, condition = torch.randn(4, 3), torch.randn(4, 2)
    dropped = net.drop_condition(condition, torch.tensor([True, False, True, False]))
    mixed = net(x, 0.3, dropped)
    torch.testing.assert_close(mixed[::2], net(x, 0.3)[::2])
    torch.testing.assert_close(mixed[1::2], net(x, 0.3, condition)[1::2])
    mixed.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@each_net
def test_drop_condition_of_labels(build):
    net = build(num_classes=4)
    dropped = net.drop_condition(torch.tensor([0, 1, 2]), torch.tensor([True, False, True]))
    assert dropped.tolist() == [4, 1, 4]


@each_net
def test_every_parameter_learns(build):
    net = build(num_classes=2)
    net(torch.randn(8, 3), torch.rand(8), torch.arange(8) % 3).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


@each_net
def test_compiles_without_graph_breaks(build):
    net = build(num_classes=4)
    x, t, labels = torch.randn(5, 3), torch.rand(5), torch.arange(5)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, t, labels), net(x, t, labels))


@each_net
def test_vmap_and_jvp(build):
    net = build(num_classes=4)
    x, t, labels = torch.randn(5, 3), torch.rand(5), torch.arange(5)
    torch.testing.assert_close(torch.func.vmap(net)(x, t, labels), net(x, t, labels))
    tangent = torch.randn(5, 3)
    _, derivative = torch.func.jvp(lambda z: net(z, t, labels), (x,), (tangent,))
    step = 1e-4
    net, x, tangent = net.double(), x.double(), tangent.double()
    central = (net(x + step * tangent, t, labels) - net(x - step * tangent, t, labels)) / (2 * step)
    torch.testing.assert_close(derivative.double(), central, rtol=1e-3, atol=1e-4)


@each_net
def test_precisions(build):
    net = build()
    x = torch.randn(5, 3)
    exact = net(x, 0.3)
    double = net(x.double(), 0.3)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = net(x, 0.3)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, exact, rtol=0.1, atol=0.1 * float(exact.detach().abs().max()))
    assert not torch.equal(low, exact)
    assert build().double()(x.double(), 0.3).dtype == torch.float64


@each_net
def test_spec_round_trip(build):
    net = build(num_classes=4)
    spec = to_spec(net)
    twin = from_spec(spec)
    assert to_spec(twin) == spec
    twin.load_state_dict(net.state_dict())
    x = torch.randn(5, 3)
    torch.testing.assert_close(twin(x, 0.3), net(x, 0.3))


@each_net
def test_bad_input_is_named(build):
    net = build(num_classes=4)
    x = torch.randn(5, 3)
    with pytest.raises(ShapeError, match=r"\(\*, 3\)"):
        net(torch.randn(5, 4), 0.3)
    with pytest.raises(ShapeError, match="floating point"):
        net(torch.ones(5, 3, dtype=torch.long), 0.3)
    with pytest.raises(ShapeError, match="t must be"):
        net(x, torch.rand(4))
    with pytest.raises(ShapeError, match="t must be"):
        net(x, torch.rand(5, 1))
    with pytest.raises(ShapeError, match="labels"):
        net(x, 0.3, torch.rand(5))
    with pytest.raises(DomainError, match="null class"):
        net(x, 0.3, torch.tensor([0, 1, 2, 3, 5]))
    with pytest.raises(ShapeError, match="num_classes"):
        build()(x, 0.3, torch.arange(5))
    with pytest.raises(ShapeError, match="condition vectors"):
        build(condition_dim=2)(x, 0.3, torch.randn(5, 3))
    with pytest.raises(DomainError, match="not on both"):
        build(num_classes=2, condition_dim=2)


def test_constructors_check_their_arguments():
    with pytest.raises(DomainError, match="silu"):
        MLP(dim=2, activation="swish2")
    with pytest.raises(ShapeError):
        MLP(dim=0)
    with pytest.raises(ShapeError):
        MLP(dim=2, hidden=())
    with pytest.raises(ShapeError):
        ResidualMLP(dim=2, depth=0)
    with pytest.raises(ShapeError):
        TimeEmbedding(3)
    assert issubclass(MLP, Net)
    with pytest.raises(TypeError):
        Net(2, 0, 0, 1)


def test_residual_starts_at_the_zero_field():
    assert torch.equal(ResidualMLP(dim=3)(torch.randn(4, 3), 0.5), torch.zeros(4, 3))


def test_mlp_is_the_plain_network():
    net = NETS["mlp"]()
    x, t = torch.randn(5, 3), torch.rand(5)
    h = torch.cat([x, t[:, None]], dim=1)
    for layer in net.layers:
        h = torch.nn.functional.elu(h @ layer.weight.T + layer.bias)
    torch.testing.assert_close(net(x, t), h @ net.output.weight.T + net.output.bias)


def test_time_embedding_formula_and_precision():
    embed = TimeEmbedding(4, min_frequency=0.5, max_frequency=2.0)
    t = torch.tensor([0.3], dtype=torch.float64)
    phases = [math.tau * 0.5 * 0.3, math.tau * 2.0 * 0.3]
    expected = [[math.cos(p) for p in phases] + [math.sin(p) for p in phases]]
    torch.testing.assert_close(embed(t), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)
    assert embed(t.bfloat16()).dtype == torch.float32
    ends = TimeEmbedding(8)(torch.tensor([0.0, 1.0]))
    assert (ends[0] - ends[1]).norm() > 1


def test_cosine_features_and_their_damping():
    """Waves with flat ends; damped as a normal of deviation s damps them: the mean of cos(k pi (x + s z + 1) / 2)."""
    features = nets.CosineFeatures(3)
    x = torch.tensor([[-1.0, 0.25], [1.0, -0.4]], dtype=torch.float64)
    k = torch.arange(1, 4)
    expected = torch.cos(0.5 * math.pi * k * (x.unsqueeze(-1) + 1)).flatten(-2)
    torch.testing.assert_close(features(x), expected)
    damped = nets.CosineFeatures(3, damping=(0.1, 2.0))
    t = torch.tensor([0.0, 0.5], dtype=torch.float64)
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(60))
    spread = torch.tensor([0.1, math.sqrt(0.2)], dtype=torch.float64)
    moved = x.unsqueeze(-1) + spread[:, None, None] * nodes
    means = (torch.cos(0.5 * math.pi * k[:, None] * (moved.unsqueeze(-2) + 1)) * weights).sum(-1) / weights.sum()
    torch.testing.assert_close(damped(x, t), means.flatten(-2), rtol=1e-6, atol=1e-9)
    for arguments in ((0, (0.1, 1.0)), (3, (0.1,)), (3, (0.0, 1.0))):
        with pytest.raises(DomainError, match="damping"):
            nets.CosineFeatures(*arguments)
    net = nets.MLP(2, hidden=(8,), cosines=3, damping=(0.1, 2.0), time_embedding=4)
    again = from_spec(to_spec(net))
    again.load_state_dict(net.state_dict())
    points, times = torch.rand(5, 2), torch.rand(5)
    assert torch.equal(net(points, times), again(points, times))
