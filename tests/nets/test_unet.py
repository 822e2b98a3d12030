"""The U-Net behind the contract of a network, and in the model that trains it."""

import socket
import sys

import pytest
import torch

from benchmarks import diffusion_step
from mirrorgen import diffusion, storage
from mirrorgen.errors import DomainError, MissingExtraError, ShapeError
from mirrorgen.geometry.domains import Box
from mirrorgen.integrate import divergence_exact
from mirrorgen.nets import UNet
from mirrorgen.spec import from_spec, to_spec

pytest.importorskip("diffusers")
SMALL = {"channels": 3, "height": 4, "width": 8, "widths": (8, 16), "groups": 4, "head_width": 8}
DIM = 96


def built(**options):
    """A small network whose output layer is not zero."""
    torch.manual_seed(0)
    net = UNet(**SMALL | options)
    torch.nn.init.normal_(net.unet.conv_out.weight, std=0.2)
    return net


def model_of(net, **options):
    return diffusion.ReflectedDiffusion(Box(0.0, 1.0, dim=net.dim), net, **options)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


VARIANTS = {"plain": {}, "labels": {"num_classes": 4}, "vectors": {"condition_dim": 2}, "cosines": {"cosines": 3}}
each_variant = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())


@each_variant
@pytest.mark.parametrize("batch", [(), (5,), (2, 3)])
def test_batch_shapes_and_scalar_time(options, batch):
    net = built(**options)
    x, t = torch.randn(*batch, DIM), torch.full(batch, 0.25)
    assert net(x, t).shape == x.shape
    torch.testing.assert_close(net(x, 0.25), net(x, t))
    assert not torch.allclose(net(x, 0.75), net(x, t), atol=1e-3)
    assert net(x[:0], t[:0]).shape == x[:0].shape if batch else True


@each_variant
def test_rows_are_independent(options):
    net = built(**options)
    x, t = torch.randn(4, DIM), torch.rand(4)
    rows = torch.stack([net(x[i], t[i]) for i in range(4)])
    torch.testing.assert_close(net(x, t), rows, rtol=1e-4, atol=1e-5)


class Echo(torch.nn.Module):
    """Stands in for the U-Net: remembers what it is given and returns the first channels, divided as diffusers does."""

    def forward(self, sample, timestep, class_labels, return_dict):
        self.sample, self.timestep, self.class_labels = sample, timestep, class_labels
        return (sample[:, :3] / timestep[:, None, None, None],)


def test_vectors_are_images_channel_after_channel():
    net = built(cosines=2, num_classes=4)
    net.unet = Echo()
    x, t = torch.rand(2, DIM), torch.tensor([0.0, 0.5])
    out = net(x, t, torch.tensor([1, 4]))
    assert net.unet.sample.shape == (2, 6, 4, 8)
    c, row, column = 1, 2, 5
    pixel = x[:, c * 32 + row * 8 + column]
    # Two waves per channel, side by side.
    for k in (1, 2):
        wave = torch.cos(k * torch.pi * (pixel + 1) / 2)
        torch.testing.assert_close(net.unet.sample[:, 2 * c + k - 1, row, column], wave)
    torch.testing.assert_close(out, net.unet.sample[:, :3].flatten(1))
    torch.testing.assert_close(net.unet.timestep.log(), t)
    assert torch.equal(net.unet.class_labels, net.embed_condition.table.weight[[1, 4]])


def test_last_index_is_the_null_class():
    net = built(num_classes=4)
    x = torch.randn(5, DIM)
    torch.testing.assert_close(net(x, 0.3, None), net(x, 0.3, torch.full((5,), 4)))
    assert not torch.allclose(net(x, 0.3, None), net(x, 0.3, torch.full((5,), 3)), atol=1e-4)
    vectors = built(condition_dim=2)
    torch.testing.assert_close(vectors(x, 0.3, torch.full((5, 2), float("nan"))), vectors(x, 0.3))
    with pytest.raises(ShapeError, match="takes no condition"):
        built()(x, 0.3, torch.zeros(5, dtype=torch.long))
    with pytest.raises(DomainError, match="null class"):
        net(x, 0.3, torch.full((5,), 5))


def test_training_forgets_conditions_as_the_null_class():
    x, labels, null = torch.rand(6, DIM), torch.arange(6) % 4, torch.full((6,), 4)
    net = built(num_classes=4)
    forgetful, faithful = (model_of(net, condition_dropout=p) for p in (1.0, 0.0))
    dropped = forgetful.loss(x, condition=labels, generator=seeded())
    assert torch.equal(dropped, faithful.loss(x, condition=null, generator=seeded()))
    assert not torch.equal(dropped, faithful.loss(x, condition=labels, generator=seeded()))
    dropped.backward()
    learned = net.embed_condition.table.weight.grad.abs().sum(1) > 0
    assert learned.tolist() == [False] * 4 + [True]


def test_sampling_uses_the_null_class():
    model = model_of(built(num_classes=4))
    labels = torch.arange(6) % 4
    options = {"steps": 3, "method": "ancestral"}
    free = model.sample(6, generator=seeded(), **options)
    unguided = model.sample(6, condition=labels, guidance_scale=0.0, generator=seeded(), **options)
    torch.testing.assert_close(unguided, free, rtol=1e-4, atol=1e-4)
    null = model.sample(6, condition=4, guidance_scale=7.0, generator=seeded(), **options)
    torch.testing.assert_close(null, free, rtol=1e-4, atol=1e-4)
    guided = model.sample(6, condition=labels, guidance_scale=7.0, generator=seeded(), **options)
    assert not torch.allclose(guided, free, atol=1e-2)


@torch.no_grad()
def test_bfloat16_is_the_networks_and_not_the_states():
    net = built()
    model, x = model_of(net), torch.rand(4, DIM)
    u, sigma = 2 * x - 1, torch.tensor(0.1)
    exact, score = net(u, 0.3), model.scaled_score(x, sigma)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low, low_score = net(u, 0.3), model.scaled_score(x, sigma)
        loss = model.loss(x, generator=seeded())
        samples = model.sample(4, steps=3, generator=seeded())
    assert {v.dtype for v in (low, low_score, loss, samples)} == {torch.float32}
    assert not torch.equal(low, exact)
    torch.testing.assert_close(low, exact, rtol=0, atol=0.05 * float(exact.abs().max()))
    torch.testing.assert_close(low_score, score, rtol=0, atol=0.05 * float(score.abs().max()))
    assert model.domain.contains(samples).all()
    # Eight bits of mantissa would show as few distinct values.
    assert samples.unique().numel() > 0.9 * samples.numel()


def test_double_precision():
    net = built()
    x = torch.randn(3, DIM)
    single = net(x, 0.3)
    assert net(x.double(), 0.3).dtype == torch.float64
    double = net.double()(x.double(), 0.3)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-4)


def test_forward_derivatives_and_vmap():
    net = built(num_classes=4).double()
    x, t, labels = torch.randn(3, DIM).double(), torch.rand(3).double(), torch.arange(3)
    torch.testing.assert_close(torch.func.vmap(net)(x, t, labels), net(x, t, labels))
    tangent = torch.randn(3, DIM, dtype=torch.float64)
    _, derivative = torch.func.jvp(lambda z: net(z, t, labels), (x,), (tangent,))
    step = 1e-5
    central = (net(x + step * tangent, t, labels) - net(x - step * tangent, t, labels)) / (2 * step)
    torch.testing.assert_close(derivative, central, rtol=1e-5, atol=1e-7)


def test_divergences_of_scores():
    model, x = model_of(built(height=2, width=2)).double(), torch.rand(2, 12, dtype=torch.float64)
    sigma = torch.tensor(0.2, dtype=torch.float64)
    forward = divergence_exact(lambda y: model.score(y, sigma), x)[1]
    rows = [torch.autograd.functional.jacobian(lambda y: model.score(y[None], sigma)[0], row) for row in x]
    torch.testing.assert_close(forward, torch.stack([row.trace() for row in rows]))
    assert torch.isfinite(model.log_prob(x, steps=1, divergence="hutchinson")).all()


def test_starts_as_the_zero_field():
    assert torch.equal(UNet(**SMALL)(torch.randn(2, DIM), 0.5), torch.zeros(2, DIM))


def test_every_parameter_learns():
    net = built(num_classes=2)
    net(torch.randn(6, DIM), torch.rand(6), torch.arange(6) % 3).square().sum().backward()
    for name, parameter in net.named_parameters():
        frequencies = name == "unet.time_proj.weight"
        assert parameter.requires_grad != frequencies, name
        # The bias of keys shifts all scores of a query alike, which attention does not see.
        assert frequencies or ".to_k.bias" in name or float(parameter.grad.abs().max()) > 0, name


def test_a_few_steps_learn_a_constant_image():
    torch.manual_seed(0)
    net = UNet(**SMALL)
    model, x = model_of(net), torch.full((16, DIM), 0.3)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    before = model.loss(x, generator=seeded(1)).item()
    for k in range(30):
        optimizer.zero_grad()
        model.loss(x, generator=seeded(100 + k)).backward()
        optimizer.step()
    assert model.loss(x, generator=seeded(1)).item() < 0.7 * before


def test_dropout_only_while_training():
    net, x = built(dropout=0.5), torch.randn(2, DIM)
    assert not torch.equal(net(x, 0.3), net(x, 0.3))
    assert torch.equal(net.eval()(x, 0.3), net(x, 0.3))


def test_compiles_without_graph_breaks():
    # One level: the time goes into tracing every block.
    net = built(num_classes=4, widths=(8,), attention=())
    x, t, labels = torch.randn(4, DIM), torch.rand(4), torch.arange(4)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, t, labels), net(x, t, labels))


@each_variant
def test_spec_and_storage_offline(options, tmp_path, monkeypatch):
    def refuse(*args):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    net, x = built(**options), torch.rand(2, DIM)
    spec = to_spec(net)
    assert to_spec(from_spec(spec)) == spec
    model = model_of(net)
    storage.save(model, tmp_path / "model")
    twin = storage.load(tmp_path / "model")
    torch.testing.assert_close(twin.scaled_score(x, torch.tensor(0.2)), model.scaled_score(x, torch.tensor(0.2)))


@pytest.mark.parametrize(("options", "count"), [({}, 10_008_195), ({"widths": (32, 64)}, 706_627)])
def test_parameter_counts_of_the_docstring(options, count):
    net = UNet(3, 32, 32, **options)
    assert sum(p.numel() for p in net.parameters()) == count
    assert f"{count:,}" in UNet.__doc__


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"height": 5}, "multiples of 2, got 5x8"),
        ({"widths": ()}, "at least 1"),
        ({"layers": 0}, "at least 1"),
        ({"attention": (2,)}, "levels from 0 to 1"),
        ({"groups": 3}, "groups=3 must divide"),
        ({"head_width": 12}, "head_width=12 must divide"),
    ],
)
def test_bad_arguments_are_named(options, words):
    with pytest.raises(ShapeError, match=words):
        UNet(**SMALL | options)


def test_without_diffusers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtraError, match=r"mirrorgen\[images\]"):
        UNet(**SMALL)


def test_the_share_of_kernel_and_loss_is_timed():
    rows = diffusion_step.run(quick=True)
    assert [row.operation for row in rows] == ["training step", "kernel and loss", "heat kernel"]
    assert all(row.seconds > 0 and row.error < 1e-5 and row.feasible == 1 for row in rows)
    assert rows[0].ratio == 1
