"""Bad input at every door of a flow: typed errors, nothing silent, densities never NaN."""

import math

import pytest
import torch

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.flows import MirrorFlow, OptimalTransport, RobustStandardize, StudentT
from mirrorgen.nets import MLP

from .test_mirror_flow import box_flow


@pytest.fixture
def x():
    return 2.9 * torch.rand(8, 2, generator=torch.Generator().manual_seed(0)) - 0.95


def test_loss_takes_batches_of_points_only(x):
    flow = box_flow()
    for bad in (x[0], x.view(2, 4, 2), x[:0], x.tolist(), None, x[:, :1], x.long()):
        with pytest.raises(ShapeError):
            flow.loss(bad)
    for value in (math.nan, math.inf, 2.0):
        outside = x.clone()
        outside[3, 1] = value
        with pytest.raises(DomainError, match="1 of 8 points"):
            flow.loss(outside)
    with pytest.raises(ShapeError, match="at least one point"):
        flow.fit_dual_transform(x[:0])
    with pytest.raises(ShapeError, match="at least one point"):
        MirrorFlow(flow.mirror_map, flow.net, coupling=OptimalTransport("sinkhorn")).loss(x[:0])


def test_conditions_are_checked_in_training_and_sampling_alike(x):
    flow = box_flow(num_classes=3)
    calls = (
        lambda c: flow.loss(x, condition=c),
        lambda c: flow.sample(8, condition=c),
        lambda c: flow.log_prob(x, condition=c),
    )
    for call in calls:
        for bad in (torch.zeros(3, dtype=torch.long), "cat", [0.5] * 8):
            with pytest.raises(ShapeError):
                call(bad)
        for bad in (7, [-1] * 8):
            with pytest.raises(DomainError, match="labels lie in"):
                call(bad)
        call([0, 1, 2, 0, 1, 2, 0, 1])
        call(2)


def test_guidance_needs_a_condition(x):
    flow = box_flow(num_classes=3)
    for call in (flow.sample, flow.sample_and_log_prob, lambda _, **options: flow.log_prob(x, **options)):
        with pytest.raises(DomainError, match="guidance_scale"):
            call(8, guidance_scale=2.0)
        with pytest.raises(DomainError, match="guidance_scale"):
            call(8, condition=1, guidance_scale=math.nan)
    with pytest.raises(DomainError, match="guidance_scale"):
        box_flow().sample(8, guidance_scale=2.0)


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"batch_size": -1}, {"steps": 0}, {"steps": 1.5}, {"t_end": math.nan}, {"n": 2.5}]
)
def test_sampling_options_are_checked(options):
    with pytest.raises(DomainError):
        box_flow().sample(**({"n": 4} | options))


def test_no_points_in_no_points_out(x):
    flow = box_flow()
    for method in ("midpoint", "dopri5"):
        assert flow.sample(0, method=method).shape == (0, 2)
        assert flow.log_prob(x[:0], method=method).shape == (0,)
        assert [t.shape for t in flow.sample_and_log_prob(0, method=method)] == [(0, 2), (0,)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_in_half_precision_moves_float32_states(dtype):
    flow = box_flow()
    full = flow.sample(500, generator=torch.Generator().manual_seed(0))
    flow.net.to(dtype)
    half = flow.sample(500, generator=torch.Generator().manual_seed(0))
    assert half.dtype == torch.float32
    assert flow.domain.contains(half).all()
    assert 0 < (half - full).abs().max() < 0.1


def test_networks_that_are_not_finite_raise(x):
    flow = box_flow()
    with torch.no_grad():
        for weight in flow.net.parameters():
            weight.fill_(torch.nan)
    for call in (lambda: flow.sample(4), lambda: flow.sample(4, method="dopri5"), lambda: flow.log_prob(x)):
        with pytest.raises(ConvergenceError, match="finite"):
            call()


def test_parts_of_the_wrong_kind_are_named():
    mirror_map, net = M.BoxEntropy(D.Box(0.0, 1.0, dim=2)), MLP(dim=2)
    for options in ({"prior": "student"}, {"coupling": 3}, {"dual_transform": StudentT()}):
        with pytest.raises(DomainError, match=next(iter(options))):
            MirrorFlow(mirror_map, net, **options)
    with pytest.raises(DomainError, match="mirror_map"):
        MirrorFlow(mirror_map.domain, net)
    with pytest.raises(ShapeError, match="at least one"):
        RobustStandardize().fit(torch.zeros(0, 2))


@pytest.mark.parametrize("df", [1e-3, 0.01, 0.05])
def test_density_of_far_draws_does_not_overflow(df):
    prior = StudentT(df)
    z = prior.sample(4000, 3, generator=torch.Generator().manual_seed(0))
    assert z.abs().max() > 1e16
    log_prob = prior.log_prob(z.requires_grad_())
    exact = prior.log_prob(z.detach().double())
    assert torch.allclose(log_prob.detach().double(), exact, rtol=1e-5)
    assert torch.isfinite(torch.autograd.grad(log_prob.sum(), z)[0]).all()
    with pytest.raises(DomainError, match="Gaussian"):
        StudentT(1e9)
