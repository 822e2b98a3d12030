"""Mirror flow matching: exactness of sampling and likelihood, conditions, bad input."""

import copy

import pytest
import torch
from scipy import stats
from torch import nn

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.flows import Gaussian, MirrorFlow, OptimalTransport, StudentT
from mirrorgen.nets import MLP
from mirrorgen.nets.base import Net
from mirrorgen.spec import from_spec, to_spec

F64 = torch.float64


def box_flow(dim=2, **options):
    torch.manual_seed(0)
    domain = D.Box([-1.0] * dim, [2.0] * dim)
    return MirrorFlow(
        M.BoxEntropy(domain), MLP(dim=dim, hidden=(64, 64), num_classes=options.pop("num_classes", 0)), **options
    )


def train(flow, x, steps=200, condition=None):
    optimizer = torch.optim.Adam(flow.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(steps):
        rows = torch.randint(len(x), (128,), generator=generator)
        loss = flow.loss(x[rows], condition=None if condition is None else condition[rows], generator=generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


class GaussianVelocity(Net):
    """The exact marginal velocity from N(0, I) to N(m, s^2 I) along straight independent pairs."""

    def __init__(self, dim=2, mean=0.7, std=0.4):
        super().__init__(dim, 0, 0, 1)
        self.mean, self.std = mean, std
        self.anchor = nn.Parameter(torch.zeros(()))

    def _forward(self, x, t, embedding):
        t = t.unsqueeze(-1).to(x.dtype)
        variance = (1 - t) ** 2 + (t * self.std) ** 2
        return self.mean + (t * self.std**2 - (1 - t)) / variance * (x - t * self.mean) + 0 * self.anchor


def test_density_of_a_known_flow_is_the_logit_normal():
    flow = MirrorFlow(
        M.BoxEntropy(D.Box(0.0, 1.0, dim=2)), GaussianVelocity().double(), prior=Gaussian(), dual_transform=None
    )
    x = flow.mirror_map.domain.sample_uniform(200, generator=torch.Generator().manual_seed(0), dtype=F64)
    logit = torch.log(x) - torch.log1p(-x)
    oracle = (torch.distributions.Normal(0.7, 0.4).log_prob(logit) - torch.log(x) - torch.log1p(-x)).sum(-1)
    ours = flow.log_prob(x, steps=50, method="rk4")
    assert ((ours - oracle).abs() / (1 + oracle.abs())).max() < 1e-4
    samples = flow.sample(20_000, generator=torch.Generator().manual_seed(1), steps=50)
    y = torch.log(samples) - torch.log1p(-samples)
    assert (y.mean(0) - 0.7).abs().max() < 0.02
    assert (y.std(0) - 0.4).abs().max() < 0.01


def test_loss_at_the_exact_velocity_is_the_conditional_variance():
    # E|dx_t|^2 - E|v|^2 for independent Gaussians: Var(u_1 - u_0 | u_t) = s^2 / ((1-t)^2 + t^2 s^2), per coordinate.
    flow = MirrorFlow(
        M.BoxEntropy(D.Box(0.0, 1.0, dim=2)), GaussianVelocity().double(), prior=Gaussian(), dual_transform=None
    )
    y = 0.7 + 0.4 * torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    t = (torch.arange(10_000, dtype=F64) + 0.5) / 10_000
    expected = (0.16 / ((1 - t) ** 2 + 0.16 * t**2)).mean()
    loss = flow.loss(torch.sigmoid(y), generator=torch.Generator().manual_seed(1))
    assert loss.item() == pytest.approx(expected.item(), rel=0.01)


@pytest.mark.parametrize("coupling", [None, OptimalTransport()])
@pytest.mark.parametrize("prior", [Gaussian(), StudentT()])
def test_training_learns_the_law(prior, coupling):
    flow = box_flow(prior=prior, coupling=coupling)
    generator = torch.Generator().manual_seed(0)
    modes = 3.0 * (torch.rand(4000, 2, generator=generator) < 0.7) - 1.5
    x = 3 * torch.sigmoid(modes + 0.7 * torch.randn(4000, 2, generator=generator)) - 1
    flow.fit_dual_transform(x)

    def distance():
        draw = flow.sample(4000, generator=torch.Generator().manual_seed(5), steps=20)
        return max(stats.ks_2samp(a, b).statistic for a, b in zip(draw.T.numpy(), x.T.numpy(), strict=True))

    before = distance()
    train(flow, x, steps=1000)
    assert distance() < 0.5 * before


def test_samples_are_strictly_inside_and_reproducible():
    flow = box_flow()
    with torch.no_grad():
        for p in flow.net.parameters():
            p.mul_(6.0)  # a wild field that throws samples far out
    draws = [
        flow.sample(2000, generator=torch.Generator().manual_seed(3), steps=10, batch_size=b) for b in (700, 65_536)
    ]
    assert torch.allclose(*draws, atol=1e-5)
    assert flow.mirror_map.domain.contains(draws[0]).all()
    assert draws[0].dtype == torch.float32
    assert flow.sample(0).shape == (0, 2)


@pytest.mark.parametrize("method", ["euler", "midpoint", "heun", "rk4", "dopri5"])
def test_methods_agree(method):
    flow = box_flow().double()
    reference = flow.sample(64, generator=torch.Generator().manual_seed(0), steps=200, method="rk4")
    draw = flow.sample(64, generator=torch.Generator().manual_seed(0), steps=200, method=method)
    assert (draw - reference).abs().max() < (2e-2 if method == "euler" else 1e-4)


def test_forward_and_backward_likelihood_agree():
    for dtype, tolerance in ((F64, 1e-5), (torch.float32, 1e-4)):
        flow = box_flow().to(dtype)
        x, log_prob = flow.sample_and_log_prob(500, generator=torch.Generator().manual_seed(0), steps=60)
        back = flow.log_prob(x, steps=60)
        # Rounding x costs its dual eps/slack digits; compare where float32 still knows the dual.
        known = flow.mirror_map.domain.slack(x).amin(-1) > 1e-2
        assert ((log_prob - back).abs() / (1 + log_prob.abs()))[known].max() < tolerance
        assert known.float().mean() > 0.8


def test_hutchinson_is_unbiased():
    flow = box_flow().double()
    x = flow.mirror_map.domain.sample_uniform(4, generator=torch.Generator().manual_seed(0), dtype=F64).repeat(2000, 1)
    estimate = flow.log_prob(x, divergence="hutchinson", generator=torch.Generator().manual_seed(1), steps=10).view(
        2000, 4
    )
    exact = flow.log_prob(x[:4], steps=10)
    assert ((estimate.mean(0) - exact).abs() < 5 * estimate.std(0) / 2000**0.5 + 1e-12).all()


def test_log_prob_outside_is_minus_infinity_and_differentiable_inside():
    flow = box_flow()
    x = torch.tensor([[0.5, 0.5], [3.0, 0.0], [float("nan"), 0.0], [2.0, 0.0]], requires_grad=True)
    log_prob = flow.log_prob(x, steps=4)
    assert torch.isfinite(log_prob[0])
    assert (log_prob[1:] == -torch.inf).all()
    (gradient,) = torch.autograd.grad(log_prob[0], x)
    assert torch.isfinite(gradient).all()


def test_conditions_and_guidance():
    flow = box_flow(num_classes=2, condition_dropout=0.2)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (4000,), generator=generator)
    x = (labels.unsqueeze(-1) * 1.4 - 0.6 + 0.15 * torch.randn(4000, 2, generator=generator)).clamp(-0.95, 1.95)
    flow.fit_dual_transform(x)
    train(flow, x, steps=600, condition=labels)
    for label in (0, 1):
        draw = flow.sample(500, condition=label, generator=torch.Generator().manual_seed(1))
        assert (draw.mean(0) - x[labels == label].mean(0)).abs().max() < 0.1
        guided = flow.sample(500, condition=label, guidance_scale=3.0, generator=torch.Generator().manual_seed(1))
        assert (guided.mean(0) > draw.mean(0)).all() == bool(label)
    u = torch.randn(5, 2, generator=generator)
    some = torch.ones(5, dtype=torch.long)
    null, plain = flow.velocity(u, torch.tensor(0.3)), flow.velocity(u, torch.tensor(0.3), some)
    assert torch.allclose(flow.velocity(u, torch.tensor(0.3), some, 2.5), null + 2.5 * (plain - null), atol=1e-5)


def test_early_stop_and_callback():
    flow = box_flow()
    seen = []
    flow.sample(5, batch_size=2, steps=2, t_end=0.5, callback=seen.append)
    assert seen == [2, 4, 5]


def test_round_trips():
    flow = box_flow(prior=StudentT(4.0), coupling=OptimalTransport())
    flow.fit_dual_transform(flow.mirror_map.domain.sample_uniform(100))
    twin = from_spec(to_spec(flow))
    twin.load_state_dict(flow.state_dict())
    assert to_spec(twin) == to_spec(flow)
    for other in (twin, copy.deepcopy(flow)):
        draws = [f.sample(8, generator=torch.Generator().manual_seed(0), steps=3) for f in (flow, other)]
        assert torch.equal(*draws)


def test_autocast_keeps_geometry_in_float32():
    flow = box_flow()
    x = flow.mirror_map.domain.sample_uniform(32, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        loss = flow.loss(x, generator=torch.Generator().manual_seed(1))
        draw = flow.sample(16, steps=3)
    assert loss.dtype == draw.dtype == torch.float32
    assert flow.loss(x, generator=torch.Generator().manual_seed(1)).item() == pytest.approx(loss.item(), rel=0.05)


def test_bad_input():
    flow = box_flow()
    with pytest.raises(DomainError, match=r"x\[0\] < 2"):
        flow.loss(torch.tensor([[2.5, 0.0]]))
    with pytest.raises(DomainError, match="NaN"):
        flow.loss(torch.tensor([[float("nan"), 0.0]]))
    with pytest.raises(ShapeError):
        flow.loss(torch.zeros(3, 5))
    with pytest.raises(ShapeError, match=r"net\.dim"):
        MirrorFlow(flow.mirror_map, MLP(dim=3))
    for options in ({"t_end": 0.0}, {"method": "eulr"}, {"steps": 0}, {"n": -1}):
        with pytest.raises(DomainError):
            flow.sample(**{"n": 2, **options})
    with pytest.raises(ShapeError):
        flow.sample(3, condition=0)
    with pytest.raises(DomainError, match="divergence"):
        flow.log_prob(torch.zeros(1, 2), divergence="trace")
    with pytest.raises(DomainError, match="dual_transform"):
        MirrorFlow(flow.mirror_map, MLP(dim=2), dual_transform="whiten")
