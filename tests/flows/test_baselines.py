"""Flows without a mirror map: contract, exact velocities, confined steps, the gauge map."""

import math

import pytest
import torch
from scipy import stats
from torch import nn

from mirrorgen import domains as D
from mirrorgen.data import polytope10_domain
from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.flows import GaugeFlow, ReflectedFlow, RepairedFlow, SphereFlow
from mirrorgen.flows.baselines.confined import confined_integrate
from mirrorgen.geometry.gauge import GaugeMap, gauge
from mirrorgen.integrate import integrate
from mirrorgen.nets import MLP
from mirrorgen.nets.base import Net
from mirrorgen.spec import from_spec, to_spec

F64 = torch.float64
DOMAINS = {
    "box": D.Box([-1.0, 0.0, 2.0], [1.0, 3.0, 2.5]),
    "ball": D.Ball(3, 2.0, [1.0, 0.0, -1.0]),
    "simplex": D.Simplex(4),
    "polytope": polytope10_domain(),
    "product": D.Product(D.Box(0.0, 1.0, dim=2), D.Ball(2)),
}
FLOWS = {
    "reflected": ReflectedFlow,
    "projected": lambda domain, net: ReflectedFlow(domain, net, spread=0.3, boundary="project"),
    "gauge": GaugeFlow,
    "repaired": RepairedFlow,
    "rejected": lambda domain, net: RepairedFlow(domain, net, "reject"),
    "sphere": SphereFlow,
}
CASES = [(f, d) for f in FLOWS for d in DOMAINS if f != "sphere" or d == "simplex"]


def built(flow, domain, dtype=torch.float32):
    torch.manual_seed(0)
    x = domain.sample_uniform(200, generator=torch.Generator().manual_seed(1), dtype=dtype)
    width = domain.dim if flow == "sphere" else domain.dual_dim
    model = FLOWS[flow](domain, MLP(width, [16, 16], num_classes=2)).to(dtype)
    if hasattr(model, "fit_dual_transform"):
        model.fit_dual_transform(x)
    return model, x


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(("flow", "domain"), CASES)
def test_contract(flow, domain, dtype):
    model, x = built(flow, DOMAINS[domain], dtype)
    back = model.decode(model.encode(x))
    assert (back - x).abs().max() < 50 * torch.finfo(dtype).eps * (1 + x.abs().max())
    labels = torch.arange(200) % 2
    model.loss(x, condition=labels, generator=torch.Generator().manual_seed(2)).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() for g in gradients)
    with torch.no_grad():
        for p in model.net.parameters():
            p.mul_(1.5)  # a field that meets walls
    options = {"condition": 1, "guidance_scale": 1.5, "steps": 6, "generator": torch.Generator().manual_seed(3)}
    draws = model.sample(100, **options)
    assert draws.shape == (100, DOMAINS[domain].dim)
    assert draws.dtype == dtype
    assert DOMAINS[domain].contains(draws).all()
    again = from_spec(to_spec(model)).to(dtype)
    again.load_state_dict(model.state_dict())
    options["generator"] = torch.Generator().manual_seed(3)
    assert torch.equal(again.sample(100, **options), draws)
    assert model.sample(0).shape == (0, DOMAINS[domain].dim)


class UniformVelocity(Net):
    """The exact marginal velocity from the uniform law on (-1, 1) to that on (a, b) along straight pairs."""

    def __init__(self, a, b):
        super().__init__(1, 0, 0, 1)
        self.a, self.b = a, b
        self.anchor = nn.Parameter(torch.zeros((), dtype=F64))

    def _forward(self, x, t, embedding):
        t = t.unsqueeze(-1).to(x.dtype).clamp(1e-9, 1 - 1e-9)
        low = torch.maximum((x - t * self.b) / (1 - t), torch.tensor(-1.0, dtype=x.dtype))
        high = torch.minimum((x - t * self.a) / (1 - t), torch.tensor(1.0, dtype=x.dtype))
        start = 0.5 * (low + high)
        return (x - (1 - t) * start) / t - start + 0 * self.anchor


@pytest.mark.parametrize("flow", [ReflectedFlow, GaugeFlow])
@pytest.mark.parametrize("boundary", ["reflect", "project"])
def test_exact_velocity_gives_the_law(flow, boundary):
    model = flow(D.Box([-1.0], [1.0]), UniformVelocity(-0.9, 0.3), boundary=boundary)
    x = model.sample(4000, steps=200, generator=torch.Generator().manual_seed(0))
    assert stats.kstest(x.flatten().numpy(), stats.uniform(-0.9, 1.2).cdf).pvalue > 1e-3


def test_loss_at_the_exact_velocity_is_least():
    model = ReflectedFlow(D.Box([-1.0], [1.0]), UniformVelocity(-0.9, 0.3))
    x = -0.9 + 1.2 * torch.rand(100_000, 1, generator=torch.Generator().manual_seed(0), dtype=F64)
    generator = torch.Generator().manual_seed(1)
    least = model.loss(x, generator=generator)
    for shift in (-0.1, 0.1):
        moved = ReflectedFlow(D.Box([-1.0], [1.0]), UniformVelocity(-0.9 + shift, 0.3 + shift))
        assert moved.loss(x, generator=torch.Generator().manual_seed(1)) > least
    # At t = 0 velocities are those of independent pairs: E|v|^2 <= Var(x_1) + Var(x_0).
    assert least < 1.2**2 / 12 + 4 / 12


@pytest.mark.parametrize("method", ["euler", "midpoint", "heun", "rk4"])
def test_confined_steps_are_plain_steps_where_no_wall_is_met(method):
    box = D.Box(-10.0, 10.0, dim=2)
    x = torch.rand(50, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    field = lambda t, y: torch.stack([y[:, 1] * torch.cos(t), -y[:, 0]], -1)  # noqa: E731
    plain = integrate(field, x, 0.0, 1.0, steps=20, method=method)
    for confine in (box.reflect, lambda a, s: box.project(a + s)):
        assert (confined_integrate(field, x, 1.0, 20, method, confine) - plain).abs().max() < 1e-12


@pytest.mark.parametrize("boundary", ["reflect", "project"])
def test_pushed_against_a_wall_points_slide_along_it(boundary):
    # dx = (1, 1) dt from (0.5, 0) in the unit square: x stays at the wall from t = 0.5, y goes on.
    flow = ReflectedFlow(D.Box(0.0, 2.0, dim=2), MLP(2, [4]), boundary=boundary)
    x = confined_integrate(
        lambda t, y: torch.ones_like(y), torch.tensor([[1.5, 0.1]], dtype=F64), 1.0, 400, "midpoint", flow.confine
    )
    assert (x - torch.tensor([[2.0, 1.1]], dtype=F64)).abs().max() < 1 / 200


def test_confined_steps_refuse_what_they_cannot_do():
    x = torch.zeros(1, 2, dtype=F64)
    box = D.Box(-1.0, 1.0, dim=2)
    with pytest.raises(DomainError, match="adaptive"):
        confined_integrate(lambda t, y: y, x, 1.0, 5, "dopri5", box.reflect)
    with pytest.raises(DomainError, match="steps"):
        confined_integrate(lambda t, y: y, x, 1.0, 0, "euler", box.reflect)
    with pytest.raises(ConvergenceError):
        confined_integrate(lambda t, y: y * math.nan, x, 1.0, 2, "euler", lambda a, s: a + s)


@pytest.mark.parametrize("name", ["box", "ball", "simplex", "polytope", "product"])
def test_gauge_map(name):
    body = GaugeMap(DOMAINS[name])
    z = body.ball.sample_uniform(500, generator=torch.Generator().manual_seed(0), dtype=F64)
    x = body.from_ball(z)
    assert DOMAINS[name].contains(x).all()
    # The gauge of the image is the norm of the point, and directions are kept.
    assert (gauge(DOMAINS[name], x) - z.norm(dim=-1)).abs().max() < 1e-12
    ray = DOMAINS[name].to_chart(x) - DOMAINS[name].to_chart(DOMAINS[name].interior_point())
    assert (nn.functional.cosine_similarity(ray, z) - 1).abs().max() < 1e-12
    assert (body.to_ball(x) - z).abs().max() < 1e-12
    center = body.to_ball(DOMAINS[name].interior_point().unsqueeze(0))
    assert center.abs().max() < 1e-12
    assert torch.isfinite(body.from_ball(torch.zeros(1, body.ball.dim, dtype=F64))).all()


def test_sphere_path_is_the_great_circle():
    flow = SphereFlow(D.Simplex(4), MLP(4, [4]))
    draw = D.Simplex(4).sample_uniform(100, generator=torch.Generator().manual_seed(0), dtype=F64)
    u_0, u_1 = flow.encode(draw[:50]), flow.encode(draw[50:])
    t = torch.linspace(0, 1, 50, dtype=F64)
    path = flow._path(u_0, u_1, t)
    angle = torch.arccos((u_0 * u_1).sum(-1))
    assert (path.x_t.norm(dim=-1) - 1).abs().max() < 1e-13
    assert (torch.arccos(((u_0 * path.x_t).sum(-1)).clamp(max=1.0)) - t * angle)[1:].abs().max() < 1e-7
    _, rate = torch.func.jvp(lambda s: flow._path(u_0, u_1, s).x_t, (t,), (torch.ones_like(t),))
    assert (path.dx_t - rate).abs().max() < 1e-12
    same = flow._path(u_0, u_0, t)
    assert (same.x_t - u_0).abs().max() < 1e-15
    assert same.dx_t.abs().max() < 1e-15


class TowardsPoint(Net):
    """The exact velocity to an atom: along the great circle, at the speed that arrives at time 1."""

    def __init__(self, end):
        super().__init__(len(end), 0, 0, 1)
        self.end = end
        self.anchor = nn.Parameter(torch.zeros((), dtype=F64))

    def _forward(self, x, t, embedding):
        inner = (x * self.end).sum(-1, keepdim=True)
        tangent = self.end - inner * x
        angle = torch.arccos(inner.clamp(max=1.0))
        return (
            angle / (1 - t.unsqueeze(-1)).clamp_min(1e-9) * nn.functional.normalize(tangent, dim=-1) + 0 * self.anchor
        )


def test_sphere_flow_reaches_an_atom():
    x_1 = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=F64)
    flow = SphereFlow(D.Simplex(4), TowardsPoint(x_1.sqrt()))
    for steps in (10, 200):
        x = flow.sample(200, steps=steps, t_end=0.999, generator=torch.Generator().manual_seed(0))
        # A thousandth of the way, at most a quarter of a great circle, is left.
        assert torch.arccos((x.sqrt() * x_1.sqrt()).sum(-1).clamp(max=1.0)).max() < 2e-3


def test_repair():
    torch.manual_seed(0)
    box = D.Box(-1.0, 1.0, dim=2)
    flow = RepairedFlow(box, MLP(2, [16]))
    x = box.sample_uniform(500, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    flow.fit_dual_transform(x)
    draw = {r: flow.sample(2000, repair=r, generator=torch.Generator().manual_seed(1)) for r in ("none", "project")}
    inside = box.contains(draw["none"])
    assert 0.05 < inside.float().mean() < 0.95
    assert torch.equal(draw["none"][inside], draw["project"][inside])
    assert (draw["project"][~inside].abs().amax(-1) > 1 - 1e-5).all()
    kept = flow.sample(2000, repair="reject", generator=torch.Generator().manual_seed(1))
    assert torch.equal(draw["none"][inside], kept[inside])
    # The law of the kept is the free law inside.
    more = flow.sample(20_000, repair="none", generator=torch.Generator().manual_seed(2))
    more = more[box.contains(more)]
    assert all(stats.ks_2samp(a, b).pvalue > 1e-3 for a, b in zip(kept.T.numpy(), more.T.numpy(), strict=True))


def test_errors():
    box = D.Box(0.0, 1.0, dim=2)
    with pytest.raises(DomainError, match="unbounded"):
        ReflectedFlow(D.Orthant(2), MLP(2, [4]))
    with pytest.raises(DomainError, match="unbounded"):
        GaugeFlow(D.Halfspace([1.0, 0.0], 1.0), MLP(2, [4]))
    with pytest.raises(DomainError, match="boundary"):
        ReflectedFlow(box, MLP(2, [4]), boundary="bounce")
    with pytest.raises(DomainError, match="spread"):
        ReflectedFlow(box, MLP(2, [4]), spread=-1.0)
    with pytest.raises(DomainError, match="repair"):
        RepairedFlow(box, MLP(2, [4]), "fix")
    with pytest.raises(DomainError, match="domain"):
        SphereFlow(box, MLP(2, [4]))
    with pytest.raises(ShapeError, match=r"net\.dim"):
        ReflectedFlow(box, MLP(3, [4]))
    with pytest.raises(DomainError, match=r"x\[0\]"):
        ReflectedFlow(box, MLP(2, [4])).loss(torch.tensor([[2.0, 0.5]]))
    far = RepairedFlow(box, MLP(2, [4]), "reject", max_rounds=2)
    far.dual_transform.shift.fill_(50.0)
    with pytest.raises(ConvergenceError, match="2 rounds"):
        far.sample(10)
