"""The preconditioned network against the exact velocity between Gaussians."""

import pytest
import torch

from mirrorgen.errors import DomainError
from mirrorgen.nets import MLP, Preconditioned, ResidualMLP
from mirrorgen.spec import from_spec, to_spec


@pytest.mark.parametrize(("noise_std", "data_std"), [(1.0, 1.0), (1.118, 0.6), (0.5, 3.0)])
def test_untrained_it_is_the_exact_velocity_between_centred_gaussians(noise_std, data_std):
    # ResidualMLP starts at zero, so only the linear part is left: E[x_1 - x_0 | x_t] of independent Gaussians.
    net = Preconditioned(ResidualMLP(3, width=16, depth=1), data_std, noise_std).double()
    generator = torch.Generator().manual_seed(0)
    x_0 = noise_std * torch.randn(100_000, 3, generator=generator, dtype=torch.float64)
    x_1 = data_std * torch.randn(100_000, 3, generator=generator, dtype=torch.float64)
    for t in (0.0, 0.3, 1.0):
        x_t = (1 - t) * x_0 + t * x_1
        error = x_1 - x_0 - net(x_t, t)
        # The residual of a conditional expectation is uncorrelated with the condition ...
        assert abs((error * x_t).mean() / (error.std() * x_t.std())) < 6e-3
        # ... and its deviation is the scale that the network's output is multiplied by.
        variance = ((1 - t) * noise_std) ** 2 + (t * data_std) ** 2
        assert error.std().item() == pytest.approx(noise_std * data_std / variance**0.5, rel=1e-2)


def test_the_network_sees_inputs_of_unit_deviation():
    seen = []
    net = Preconditioned(MLP(2, hidden=(4,)), data_std=2.0, noise_std=0.5)
    net.net.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].std().item()))
    generator = torch.Generator().manual_seed(0)
    noise, data = 0.5 * torch.randn(50_000, 2, generator=generator), 2.0 * torch.randn(50_000, 2, generator=generator)
    for t in (0.0, 0.5, 1.0):
        net((1 - t) * noise + t * data, t)
    assert seen == pytest.approx([1.0] * 3, rel=0.02)


def test_conditions_pass_through_and_specs_round_trip():
    net = Preconditioned(MLP(2, hidden=(4,), num_classes=3))
    x, labels = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.arange(5) % 3
    assert not torch.equal(net(x, 0.5, labels), net(x, 0.5))
    dropped = net.drop_condition(labels, torch.ones(5, dtype=torch.bool))
    assert torch.equal(net(x, 0.5, dropped), net(x, 0.5))
    assert to_spec(from_spec(to_spec(net))) == to_spec(net)
    with pytest.raises(DomainError, match="positive"):
        Preconditioned(MLP(2), data_std=0.0)
