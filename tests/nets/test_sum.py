"""Two networks added."""

import pytest
import torch

from mirrorgen.errors import ShapeError
from mirrorgen.nets import MLP, ResidualMLP, Sum, guided
from mirrorgen.spec import from_spec, to_spec


def test_it_is_the_sum_also_with_conditions():
    first, second = MLP(3, hidden=(8,), num_classes=2), MLP(3, hidden=(4,), num_classes=2)
    net, x, labels = Sum(first, second), torch.randn(5, 3), torch.arange(5) % 2
    for condition in (None, labels):
        assert torch.equal(net(x, 0.3, condition), first(x, 0.3, condition) + second(x, 0.3, condition))
    dropped = net.drop_condition(labels, torch.ones(5, dtype=torch.bool))
    assert torch.equal(net(x, 0.3, dropped), net(x, 0.3))
    assert torch.allclose(
        guided(net, x, torch.tensor(0.3), labels, 2.0), 2 * net(x, 0.3, labels) - net(x, 0.3), atol=1e-6
    )
    assert to_spec(from_spec(to_spec(net))) == to_spec(net)


def test_unequal_networks_are_refused():
    with pytest.raises(ShapeError, match="same dim"):
        Sum(MLP(3), ResidualMLP(2))
    with pytest.raises(ShapeError, match="same dim"):
        Sum(MLP(3), MLP(3, num_classes=2))
