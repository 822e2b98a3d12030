"""Specifications: plain data, exact round trips, nothing foreign imported."""

import json

import pytest
import torch
import yaml

from mirrorgen import domains, mirror_maps
from mirrorgen.errors import DomainError
from mirrorgen.flows import MirrorFlow
from mirrorgen.nets import MLP
from mirrorgen.spec import from_spec, to_spec


def product():
    box = domains.Box(torch.tensor([0.1, 0.2]), torch.tensor([1.0, 3.0]))
    return domains.Product(box, domains.Simplex(3))


@pytest.mark.parametrize("through", [json, yaml])
def test_round_trip_through_text(through):
    domain = product()
    text = json.dumps(to_spec(domain)) if through is json else yaml.safe_dump(to_spec(domain))
    twin = from_spec(json.loads(text) if through is json else yaml.safe_load(text))
    assert to_spec(twin) == to_spec(domain)
    x = domain.sample_uniform(5)
    assert torch.equal(twin.slack(x), domain.slack(x))


def test_defaults_are_left_out_and_nested_objects_described():
    spec = to_spec(mirror_maps.RegularizedBarrier(domains.Ball(3), kappa=0.5))
    assert set(spec["init_args"]) == {"domain", "kappa"}
    assert spec["init_args"]["domain"]["class_path"].endswith("Ball")


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "builtins.eval",
        "mirrorgen.spec.importlib",
        "mirrorgen.numerics.torch",
        "mirrorgen.nosuch.Thing",
        "mirrorgen",
    ],
)
def test_foreign_and_missing_classes_are_refused(path):
    with pytest.raises(DomainError):
        from_spec({"class_path": path, "init_args": {}})


def test_other_packages_need_permission():
    spec = {"class_path": "fractions.Fraction", "init_args": {"numerator": 3}}
    with pytest.raises(DomainError, match="not allowed"):
        from_spec(spec)
    assert from_spec(spec, allow=("fractions.",)) == 3


def test_objects_without_plain_form_are_refused():
    class Holder:
        def __init__(self, value):
            self.value = value

    with pytest.raises(TypeError, match="plain-data"):
        to_spec(Holder(object()))


class OwnNet(MLP):
    """A user's network."""

    def __init__(self, dim, gain=2.0):
        super().__init__(dim, hidden=(8,))
        self.gain = gain


class Forgetful(MLP):
    """A user's network that does not keep its argument."""

    def __init__(self, size):
        super().__init__(size)


def test_own_networks_are_described_and_need_permission_to_load():
    flow = MirrorFlow(mirror_maps.BoxEntropy(domains.Box(0.0, 1.0, dim=2)), OwnNet(2, gain=3.0))
    spec = to_spec(flow)
    with pytest.raises(DomainError, match="not allowed"):
        from_spec(spec)
    assert from_spec(spec, allow=(f"{OwnNet.__module__}.",)).net.gain == 3.0
    with pytest.raises(TypeError, match="'size'"):
        to_spec(Forgetful(2))
